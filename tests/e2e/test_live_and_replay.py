"""Strategies run live against a recorded venue, and again on the recording.

The commands are those that a user types. What the strategies have decided is the same,
and a bar that was revised in between is named.
"""

import signal
import subprocess
import sys

import pytest
from support.waiting import until

from shmfeed.manager import WebSocketManager
from shmfeed.simulator import Venue

SYMBOLS = [f"S{number:02}USDT" for number in range(12)]
AVERAGE = """
from wealthdata import decide, get_price

def handle_bar(context, bar):
    closes = get_price(bar.symbol, count=6, frequency="1s", fields="close")["close"]
    decide({"symbol": bar.symbol, "long": bool(closes.iloc[-1] > closes.mean())})
"""
CROSS_SECTION = """
from wealthdata import decide, get_price

def handle_data(context, data):
    frame = get_price(
        context.universe, count=4, frequency="1s", fields="close", wide=True, align=True
    )
    change = frame.iloc[-1] / frame.iloc[0] - 1
    decide({"best": change.idxmax(), "worst": change.idxmin()})
"""


@pytest.fixture
def strategies(tmp_path):
    files = {"average.py": AVERAGE, "cross_section.py": CROSS_SECTION}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in files]


def command(*words):
    return [sys.executable, "-m", "wealthdata", *map(str, words)]


def run(*words):
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=60, check=False
    )


def decisions(path):
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if '"what"' in line or '"decision"' in line]


@pytest.mark.parametrize("protocol", ["wealthai", "binance"])
def test_a_replay_decides_what_the_live_run_did(
    protocol, strategies, feed_name, tmp_path
):
    frames, live, again = (
        tmp_path / n for n in ("v.frames", "live.jsonl", "again.jsonl")
    )
    streams = ["--symbols", ",".join(SYMBOLS), "--frequency", "1s"]
    with Venue(protocol=protocol, record=frames, history=20) as venue:
        manager = WebSocketManager(feed_name)
        settings = {"endpoint": venue.url, "protocol": protocol, "resolutions": ["1s"]}
        if protocol == "binance":
            settings |= {"market_type": "spot", "rest_endpoint": venue.rest_url}
            settings |= {"warmup": 20}
        manager.configure(symbols=SYMBOLS, **settings)
        try:
            manager.start(timeout=20)
            child = subprocess.Popen(
                command(
                    "run", *strategies, *streams, "--feed", feed_name, "--record", live
                ),
                stderr=subprocess.PIPE,
                text=True,
            )
            until(lambda: len(decisions(live)) >= 4 * (len(SYMBOLS) + 1), 40.0)
            child.send_signal(signal.SIGTERM)
            _, said = child.communicate(timeout=20)
            assert child.returncode == 0, said
        finally:
            manager.stop()
    replayed = run("run", *strategies, *streams, "--replay", frames, "--record", again)
    assert replayed.returncode == 0, replayed.stderr
    compared = run("compare", live, again)
    assert compared.returncode == 0, compared.stdout + compared.stderr
