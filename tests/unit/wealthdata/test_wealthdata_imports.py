"""The modules that a strategy process loads, and when."""

from pathlib import Path

import pytest
from support.numbered_bars import SYMBOL, append

import wealthdata
from shmfeed.ringbuf import RingWriter

pytest_plugins = ["support.strategy_process"]

PACKAGE = Path(wealthdata.__file__).parent
HEAVY = (
    "pandas",
    "websocket",
    "websockets",
    "msgspec",
    "asyncio",
    "shmfeed.manager",
    "wealthdata.runner",
)

LOADED = """
import sys
import wealthdata
heavy = sys.argv[1].split(",")
print([name for name in heavy if name in sys.modules])
wealthdata.use(feed=sys.argv[2])
wealthdata.set_context(wealthdata.Context())
try:
    wealthdata.get_price("BTCUSDT", on_stale="ignore")
except RuntimeError as error:
    print(error)
print([name for name in heavy if name in sys.modules])
"""


def test_importing_loads_neither_pandas_nor_a_socket_library(
    ring: RingWriter, strategy: str, child
) -> None:
    append(ring, 0)
    process = child(LOADED, ",".join(HEAVY), strategy)
    output, errors = process.communicate(timeout=30)
    assert errors == ""
    assert output.splitlines() == ["[]", "['pandas']"]  # control: a read loads it


def test_one_module_uses_private_names_of_pandas() -> None:
    inside = ("pandas.core", "pandas._libs")
    users = [
        path.name
        for path in PACKAGE.glob("*.py")
        if any(name in path.read_text() for name in inside)
    ]
    assert users == ["frame.py"]


def test_every_public_name_has_a_docstring() -> None:
    assert wealthdata.__all__
    for name in wealthdata.__all__:
        assert getattr(wealthdata, name).__doc__, name


@pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")
def test_a_forked_child_reads_what_it_inherited(
    ring: RingWriter, child, strategy
) -> None:
    append(ring, *range(5))
    code = """
import os, sys, wealthdata
wealthdata.use(feed=sys.argv[1])
before = wealthdata.get_price("BTCUSDT", on_stale="ignore")
pid = os.fork()
if pid == 0:
    again = wealthdata.get_price("BTCUSDT", on_stale="ignore")
    os._exit(0 if again.equals(before) and len(again) == 5 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    output, errors = child(code, strategy).communicate(timeout=30)
    assert (output.strip(), errors) == ("0", "")
    assert len(wealthdata.get_price(SYMBOL)) == 5
