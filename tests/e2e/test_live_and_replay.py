"""Strategies run live against a recorded venue, and again on the recording.

The commands are those that a user types. What the strategies have decided is the same,
and a bar that was revised in between is named.
"""

import json
import re
import signal
import subprocess
import sys

import pytest
from support.waiting import until

from shmfeed.manager import WebSocketManager
from shmfeed.simulator import Venue

SYMBOLS = [f"S{number:02}USDT" for number in range(8)]
STREAMS = ["--symbols", ",".join(SYMBOLS), "--frequency", "1s"]
AVERAGE = """
from wealthdata import decide, get_price

def handle_bar(context, bar):
    closes = get_price(bar.symbol, count=6, frequency="1s", fields="close")["close"]
    decide({"symbol": bar.symbol, "above": float(closes.iloc[-1] - closes.mean())})
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


def record_live(strategies, feed, folder, protocol):
    """Run the strategies live against a recorded venue; return recording and run."""
    frames, live = folder / "venue.frames", folder / "live.jsonl"
    with Venue(protocol=protocol, record=frames, history=20) as venue:
        manager = WebSocketManager(feed)
        settings = {"endpoint": venue.url, "protocol": protocol, "resolutions": ["1s"]}
        if protocol == "binance":
            settings |= {"market_type": "spot", "rest_endpoint": venue.rest_url}
            settings |= {"warmup": 20}
        manager.configure(symbols=SYMBOLS, **settings)
        try:
            manager.start(timeout=20)
            with subprocess.Popen(
                command("run", *strategies, *STREAMS, "--feed", feed, "--record", live),
                stderr=subprocess.PIPE,
                text=True,
            ) as child:
                try:
                    wanted = 3 * (len(SYMBOLS) + 1)
                    until(lambda: len(decisions(live)) >= wanted, 60.0)
                    child.send_signal(signal.SIGTERM)
                    _, said = child.communicate(timeout=30)
                finally:
                    child.kill()
            assert child.returncode == 0, said
        finally:
            manager.stop()
    return frames, live


@pytest.mark.parametrize("protocol", ["wealthai", "binance"])
def test_a_replay_decides_what_the_live_run_did(
    protocol, strategies, feed_name, tmp_path
):
    frames, live = record_live(strategies, feed_name, tmp_path, protocol)
    again = tmp_path / "again.jsonl"
    replayed = run("run", *strategies, *STREAMS, "--replay", frames, "--record", again)
    assert replayed.returncode == 0, replayed.stderr
    compared = run("compare", live, again)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    if protocol == "wealthai":
        _check_revised(frames, strategies, live, tmp_path)


def _check_revised(frames, strategies, live, folder):
    """Check that `compare` names a bar which has other values on replay."""
    times = [int(json.loads(line)["time"]) for line in decisions(live)]
    opened = sorted(set(times))[len(set(times)) // 2] - 1000
    wanted = f'"open_time":{opened},'
    lines = frames.read_text().splitlines(keepends=True)
    found = [
        number
        for number, line in enumerate(lines)
        if wanted in line and SYMBOLS[5] in line and '"closed":true' in line
    ]
    assert len(found) == 1
    old, high, low = (
        re.search(rf'"{name}":"([0-9.]+)"', lines[found[0]])[1]
        for name in ("close", "high", "low")
    )
    new = high if high != old else low
    lines[found[0]] = lines[found[0]].replace(f'"close":"{old}"', f'"close":"{new}"')
    changed, other = folder / "changed.frames", folder / "other.jsonl"
    changed.write_text("".join(lines))
    replayed = run("run", *strategies, *STREAMS, "--replay", changed, "--record", other)
    assert replayed.returncode == 0, replayed.stderr
    compared = run("compare", live, other)
    assert compared.returncode == 1, compared.stdout
    assert f"{SYMBOLS[5]} 1s, the bar that opens at" in compared.stdout
    assert "was revised: close" in compared.stdout
