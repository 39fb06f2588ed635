"""The examples of README and docs/, run as a new user would run them."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import until

import shmfeed

T0 = 1_767_225_600_000
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


def test_a_manager_of_the_old_sdk(child, env, venue):
    path = f"import sys; sys.path.insert(0, {str(ROOT / 'examples')!r})\n"
    code = python_block("docs/porting-sdk.md", "engine.python_sdk")
    manager = child(path + code, env=env)
    out, err = manager.communicate(timeout=30)
    assert (manager.returncode, err) == (0, "")
    assert out == "True ['BTCUSDT', 'ETHUSDT']\n"


def command(env, folder, *words):
    done = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_strategy_of_the_guide(env, feeder, tmp_path):
    """Live until it has decided, then in a backtest on what the feed has."""
    (tmp_path / "first.py").write_text(python_block("docs/guide.md", "def handle_bar"))
    run = ["wealthdata", "run", "first.py", "--symbols", "BTCUSDT", "--frequency", "1s"]
    live = tmp_path / "live.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", *run, "--record", live],
        env=env,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: live.exists() and live.read_text().count('"what"') >= 2, 40)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
    finally:
        process.kill()
        process.wait()
    command(env, tmp_path, "shmfeed", "export", "BTCUSDT", "1s", "-o", "btc.csv")
    again = ["--backtest", "btc.csv", "--record", "backtest.jsonl"]
    assert "BTCUSDT" in command(env, tmp_path, *run, *again)
    words = ["wealthdata", "compare", "live.jsonl", "backtest.jsonl"]
    assert "the decisions are the same" in command(env, tmp_path, *words)


def test_the_port_of_the_joinquant_page(env, tmp_path):
    block = python_block("docs/joinquant.md", "from jqdata import")
    (tmp_path / "port.py").write_text(block)
    head = "symbol,timeframe,open_time,open,high,low,close,volume"
    rows = [
        f"{symbol},1m,{T0 + minute * 60_000},1,2,1,{1 + (minute % 10 == 9)},1"
        for minute in range(30)
        for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    (tmp_path / "bars.csv").write_text("\n".join([head, *rows]) + "\n")
    run = ["wealthdata", "run", "port.py", "--symbols", "BTCUSDT,ETHUSDT"]
    told = command(
        env, tmp_path, *run, "--frequency", "1m", "--backtest", "bars.csv"
    ).splitlines()
    assert len(told) == 2 * 3  # the close of each tenth bar is above the mean
    assert told[0].endswith("INFO - buy BTCUSDT")


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
