"""The names of the package, and the modules that an import of it loads."""

import math

import pytest
from conftest import Child

import shmfeed
from shmfeed import core, errors


def test_names() -> None:
    public = {"attach", "create", "wait", "get_websocket_manager", "ShmfeedError"}
    types = {"Bar", "Feed", "Ring", "Slice", "Rows", "FeedWriter", "RingWriter"}
    types |= {"FeedStatus", "StreamStatus", "Timeframe", "Field", "Health", "State"}
    assert public | types <= set(shmfeed.__all__)
    assert set(shmfeed.__all__) <= set(dir(shmfeed))
    assert sorted(shmfeed.__all__) == shmfeed.__all__
    for name in shmfeed.__all__:
        assert getattr(shmfeed, name) is not None


def test_every_error_is_exported() -> None:
    tree = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert tree <= set(shmfeed.__all__)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="'shmfeed' has no attribute 'attacj'"):
        _ = shmfeed.attacj


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("BadArgumentError", ValueError),
        ("WebSocketConnectionError", ConnectionError),
        ("WebSocketSubscriptionError", Exception),
        ("FeedNotFoundError", FileNotFoundError),
        ("StreamNotFoundError", KeyError),
        ("FeedBusyError", Exception),
        ("BusyRingError", Exception),
        ("StaleFeedError", Exception),
        ("NoDataError", RuntimeError),
        ("UnsupportedPlatformError", Exception),
        ("SegmentFullError", OSError),
    ],
)
def test_errors(name: str, builtin: type[Exception]) -> None:
    kind = getattr(shmfeed, name)
    assert issubclass(kind, shmfeed.ShmfeedError)
    assert issubclass(kind, builtin)


def test_a_stream_not_found_is_shown_without_quotes() -> None:
    assert str(shmfeed.StreamNotFoundError("no 'A' here")) == "no 'A' here"
    assert str(shmfeed.StreamNotFoundError()) == ""


def test_bar() -> None:
    bar = shmfeed.Bar(0, 1, 1.0, 2.0, 0.5, 1.5, 9.0)
    assert (bar.open_time, bar.close_time, bar.flags) == (0, 1, 0)
    assert math.isnan(bar.money)


def test_the_types_are_those_of_the_core_that_serves() -> None:
    assert shmfeed.Slice is core.Slice
    assert shmfeed.Rows is core.Rows
    assert shmfeed.RingWriter is core.RingWriter


LOADED = """
import sys
{code}
print(*sorted(sys.modules))
"""
NEEDLESS = {
    "argparse",
    "asyncio",
    "http",
    "msgspec",
    "multiprocessing",
    "pandas",
    "shmfeed.codecs",
    "shmfeed.manager",
    "shmfeed.writer",
    "socket",
    "ssl",
    "websocket",
    "websockets",
}


@pytest.mark.parametrize(
    "code", ["import shmfeed", "import shmfeed; shmfeed.attach, shmfeed.wait"]
)
def test_a_reader_loads_no_socket_and_no_writer(child: Child, code: str) -> None:
    process = child(LOADED.format(code=code))
    loaded, complaint = process.communicate()
    assert complaint == ""
    assert "shmfeed.errors" in loaded.split()
    assert not NEEDLESS & set(loaded.split())


def test_the_package_alone_loads_errors_and_bars(child: Child) -> None:
    process = child(LOADED.format(code="import shmfeed"))
    names = process.communicate()[0].split()
    ours = {name for name in names if name.partition(".")[0] == "shmfeed"}
    leaves = {"bar", "errors", "text"}
    assert ours == {"shmfeed", *(f"shmfeed.{leaf}" for leaf in leaves)}


def test_a_writer_loads_the_writing_half(child: Child) -> None:
    """Control: the check above would see it."""
    process = child(LOADED.format(code="import shmfeed; shmfeed.create"))
    loaded, _ = process.communicate()
    assert {"shmfeed.segment.locking", "shmfeed.writer"} <= set(loaded.split())
