"""A strategy waits for bars of a real feeder, which is killed; one stream is mute."""

import os
import signal
import time
from typing import NamedTuple

import pytest
from support.waiting import until

import wealthdata
from shmfeed.manager import WebSocketManager
from shmfeed.simulator import Venue
from wealthdata import attachment, handed

NAMES = ["BTCUSDT", "SOLUSDT", "ETHUSDT"]
MUTE = "SOLUSDT"
SILENCE = 1.5  # seconds: its limit


class Round(NamedTuple):
    ready: list[str]
    missing: list[str]
    seconds: float


@pytest.mark.timeout(120)
def test_no_bar_is_missed_and_a_mute_stream_holds_up_no_other(feed_name: str) -> None:
    manager = WebSocketManager(feed_name)
    faults = f"mute-stream:{MUTE}@0"
    with Venue(
        protocol="wealthai", speed=1, seed=3, history=20, faults=faults
    ) as venue:
        manager.configure(
            symbols=NAMES,
            resolutions=["1s"],
            endpoint=venue.url,
            stale_after=SILENCE,
            reconnect_delay_base=0.05,
        )
        try:
            manager.start(timeout=20)
            rounds, closes = run_strategy(feed_name, manager)
        finally:
            manager.stop()
            attachment.detach()
    live = [name for name in NAMES if name != MUTE]
    for symbol in live:
        handed_over = closes[symbol]
        assert handed_over == sorted(set(handed_over)), "none is handed over twice"
    late = [r for r in rounds[3:] if r.ready == live and r.missing == [MUTE]]
    assert len(late) >= len(rounds) - 5  # but around the kill
    assert max(r.seconds for r in rounds) < 10


def run_strategy(
    feed: str, manager: WebSocketManager
) -> tuple[list[Round], dict[str, list[int]]]:
    """Return the rounds of a strategy, and the bars that each symbol had in them."""
    wealthdata.wait_bar(NAMES, "1s", 0, feed=feed)
    record, rounds = handed.current_record(), []
    closes: dict[str, list[int]] = {name: [] for name in NAMES}
    for number in range(10):
        if number == 4:
            kill(manager)
        begun = time.monotonic()
        ready, missing = wealthdata.wait_bar(NAMES, "1s", 20, feed=feed)
        rounds.append(Round(ready, missing, time.monotonic() - begun))
        for name in ready:
            closes[name].append(record.handed[feed, name, "1s"])
    ring_of = attachment.attached_feed(feed)
    assert ring_of is not None
    for name in ("BTCUSDT", "ETHUSDT"):
        rows = ring_of.ring((name, "1s")).snapshot(1000).close_time.tolist()
        there = [
            close for close in rows if closes[name][0] <= close <= closes[name][-1]
        ]
        assert set(closes[name]) <= set(there)
        assert len(there) - len(closes[name]) <= 3  # some close together after a kill
    return rounds, closes


def kill(manager: WebSocketManager) -> None:
    pid = manager.get_status()["pid"]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: manager.get_status()["pid"] not in (None, pid))
