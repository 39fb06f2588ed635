"""The examples of README and docs/, run as a new user would run them."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
from support.waiting import until

import shmfeed

ROOT = Path(__file__).parents[2]
EXAMPLE_URL = "ws://127.0.0.1:18000"


def python_block(page, word):
    """Return the one Python example of a page that contains a word."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    found = [block for block in blocks if word in block]
    assert len(found) == 1, (page, word)
    return found[0]


@pytest.fixture
def venue(child):
    """Start `shmfeed simulate` as a process; return its address."""
    arguments = ["simulate", "--port", "0", "--history", "300", "--json"]
    process = child(
        "from shmfeed.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))",
        *arguments,
    )
    return json.loads(process.stdout.readline())["url"]


@pytest.fixture
def env(venue, feed_name):
    base = {k: v for k, v in os.environ.items() if not k.startswith("SHMFEED_")}
    return base | {"WEBSOCKET_ENDPOINT": venue, "SHMFEED_FEED": feed_name}


@pytest.fixture
def feeder(child, env, feed_name):
    """Start `shmfeed run` as a process; return it with its history in the ring."""
    arguments = ["run", "--symbols", "BTCUSDT,ETHUSDT", "--resolutions", "1s,1m"]
    process = child(
        "from shmfeed.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))",
        *arguments,
        env=env,
    )
    with shmfeed.attach(feed_name, timeout=20) as feed:
        until(lambda: ("BTCUSDT", "1m") in feed.streams())
        ring = feed.ring("BTCUSDT", "1m")
        until(lambda: ring.count >= 300, what="the history in the ring")
    return process


def test_a_strategy_of_five_lines(child, env, feeder):
    code = python_block("README.md", "import time, wealthdata")
    assert len(code.split("\n\n")[1].splitlines()) + 1 == 5
    strategy = child(code, env=env | {"PYTHONUNBUFFERED": "1"})
    printed = [strategy.stdout.readline() for _ in range(4)]
    assert printed[0].split() == ["open", "high", "low", "close", "volume"]
    assert printed[3].split()[-1] == "live"


def test_the_low_level(child, env, feeder, feed_name):
    code = python_block("docs/reading.md", "ring.view").replace(
        '"default"', repr(feed_name)
    )
    code = code.replace('"1m"', '"1s"')  # a bar closes within a second
    reader = child(code, env=env)
    out, err = reader.communicate(timeout=30)
    assert (reader.returncode, err) == (0, "")
    assert out.split()[-1] == "live"


def test_waiting_in_asyncio(child, env, feeder, feed_name):
    code = python_block("docs/reading.md", "shmfeed.aio").replace(
        '"default"', repr(feed_name)
    )
    code = code.replace('"1m"', '"1s"')
    reader = child(code, env=env | {"PYTHONUNBUFFERED": "1"})
    lines = [reader.stdout.readline().split() for _ in range(6)]
    assert {words[0] for words in lines} == {"BTCUSDT", "ETHUSDT"}
    assert all(words[2] == "closed:" and float(words[3]) > 0 for words in lines)
    reader.send_signal(signal.SIGINT)
    assert reader.communicate(timeout=10)[1].endswith("KeyboardInterrupt\n")


def test_the_manager(child, env, venue):
    code = python_block("docs/managers.md", "get_websocket_manager").replace(
        EXAMPLE_URL, venue
    )
    manager = child(code, env=env)
    out, err = manager.communicate(timeout=30)
    assert (manager.returncode, err) == (0, "")
    # Another thread prints the changes: in order, with other lines between them.
    changes = [line for line in out.splitlines() if "->" in line]
    assert changes == [
        "disconnected -> connecting",
        "connecting -> connected",
        "connected -> disconnected",
    ]
    (status,) = [line for line in out.splitlines() if "->" not in line]
    assert status.startswith("connected ['BTCUSDT', 'ETHUSDT', 'SOLUSDT'] ")


def test_a_venue_in_the_test_itself(child):
    process = child(
        python_block("docs/testing.md", "from shmfeed.simulator import Venue")
    )
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("ws://127.0.0.1:")


def test_a_backtest(child, env):
    bar = {"open_time": 0, "open": 1, "high": 2, "low": 1, "close": 2, "volume": 5}
    code = f"""
from datetime import UTC, datetime
import wealthdata
bars = [{{**{bar}, "open_time": hour * 3_600_000}} for hour in range(5)]
{python_block("docs/strategies.md", "run_params")}
frame = wealthdata.get_price("BTCUSDT", count=9)
print(len(frame), frame.attrs["shmfeed"].source, frame.attrs["shmfeed"].feed)
"""
    process = child(code, env=env)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out == "5 context None\n"


def test_a_feed_of_your_own(child, env, feed_name):
    code = python_block("docs/reading.md", "shmfeed.create").replace(
        '"own"', repr(feed_name)
    )
    writer = child(f"{code}print(ring.symbol)", env=env)
    out, err = writer.communicate(timeout=30)
    assert (writer.returncode, err, out) == (0, "", "BTCUSDT\n")


@pytest.mark.parametrize(
    ("page", "word", "columns"),
    [
        ("README.md", "count=20", "open high low close volume"),
        (
            "docs/strategies.md",
            'frame = wealthdata.get_price("BTC',
            "open high low close volume",
        ),
        ("docs/joinquant.md", "count=20", "close volume"),
    ],
)
def test_the_first_call_of_a_page(child, env, feeder, page, word, columns):
    call = re.search(r"get_price\(.*\)", python_block(page, word))[0]
    code = f"""
from wealthdata import get_price
frame = {call}
print(len(frame), *frame.columns)
"""
    process = child(code, env=env)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err, out) == (0, "", f"20 {columns}\n")
