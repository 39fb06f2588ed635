"""A host that reboots, and a /dev/shm that is lost: history again, store first.

Manager and feeder are real processes. A reboot kills both at once and clears /dev/shm;
the store's file stays. The venue goes on meanwhile.
"""

import json
import os
import signal
import time

import numpy as np
import pytest
from support.storing import stored
from support.waiting import until

import shmfeed
from shmfeed.bar import AFTER_GAP
from shmfeed.errors import FeedNotFoundError
from shmfeed.manager import WebSocketManager
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue

SECOND = 1000
STREAM = ("BTCUSDT", "1s")
HISTORY, WARMUP = 300, 60
OUTAGE = 2.0  # s

# A manager's process; it tells the feeder's pid and runs until it is killed.
MANAGER = """
import json, sys, shmfeed
manager = shmfeed.WebSocketManager(sys.argv[1])
manager.configure(**json.loads(sys.argv[2]))
manager.start(timeout=30)
print(manager.get_status()["pid"], flush=True)
sys.stdin.read()
"""


def settings_of(venue, **more):
    return {
        "symbols": ["BTCUSDT"],
        "resolutions": ["1s"],
        "protocol": "binance",
        "market_type": "spot",
        "endpoint": venue.url,
        "rest_endpoint": venue.rest_url,
        "history": HISTORY,
        "warmup": WARMUP,
        "reconnect_delay_base": 0.1,
        "dials_per_minute": 0,
        **more,
    }


@pytest.fixture
def venue():
    with Venue(protocol="binance") as running:
        yield running


def clear(feed) -> None:
    """Remove what a feed has in /dev/shm."""
    where = place(feed)
    for path in (where.segment, where.successor, where.lock, where.socket):
        path.unlink(missing_ok=True)


def rows_of(feed):
    return feed.ring(*STREAM).snapshot(HISTORY)


def differences(rows, venue):
    """Return the open times whose rows are not the venue's, and those that lack."""
    opens = rows.open_time.tolist()
    truth = {bar.open_time: bar for bar in venue.truth(*STREAM, opens[0], opens[-1])}
    wrong = [
        one
        for number, one in enumerate(opens)
        if one not in truth or rows.bar(number)[2:7] != truth[one][2:7]
    ]
    return wrong, sorted(truth.keys() - set(opens))


def run_until_reboot(feed_name, child, settings) -> list[int]:
    """Run a feed until its host reboots; return the open times of its last rows."""
    process = child(MANAGER, feed_name, json.dumps(settings))
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    with shmfeed.attach(feed_name, timeout=10) as feed:
        ring = feed.ring(*STREAM)
        until(lambda: ring.count >= WARMUP + 1)
        opens = rows_of(feed).open_time.tolist()
    if (path := settings.get("store")) is not None:  # it is written now and then
        until(lambda: {row[0] for row in stored(path)} >= set(opens))
    for pid in (process.pid, int(line)):
        os.kill(pid, signal.SIGKILL)
    process.wait(10)
    until(lambda: not os.path.exists(f"/proc/{line.strip()}"))  # noqa: PTH110
    clear(feed_name)
    return opens


def lie_down(seconds: float) -> None:
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end)


def test_after_a_reboot_store_and_rest_bring_all_rows(
    feed_name, venue, child, tmp_path
) -> None:
    settings = settings_of(venue, store=str(tmp_path / "bars.db"))
    opens = run_until_reboot(feed_name, child, settings)
    with pytest.raises(FeedNotFoundError):
        shmfeed.attach(feed_name)
    lie_down(OUTAGE)
    manager = WebSocketManager(feed_name)
    manager.configure(**settings | {"warmup": 20})
    try:
        manager.start(timeout=30)
        with shmfeed.attach(feed_name) as feed:
            until(lambda: feed.status()["health"] == "live")
            until(lambda: differences(rows_of(feed), venue) == ([], []))
            rows = rows_of(feed)
            assert rows.open_time[0] == opens[0]  # of the store: beyond the warm-up
            assert rows.open_time[-1] > opens[-1] + OUTAGE * SECOND
            assert np.all(np.diff(rows.open_time) == SECOND)
            assert feed.gaps() == []
            assert feed.status()["gaps"] == 0
    finally:
        manager.stop()


def test_after_a_reboot_without_rest_the_store_serves_at_once(
    feed_name, venue, child, tmp_path
) -> None:
    settings = settings_of(venue, store=str(tmp_path / "bars.db"))
    opens = run_until_reboot(feed_name, child, settings)
    lie_down(OUTAGE)
    venue.set_faults("rest-status:503")
    manager = WebSocketManager(feed_name)
    manager.configure(**settings | {"repair_grace": 1.0})
    try:
        manager.start(timeout=30)
        with shmfeed.attach(feed_name) as feed:
            assert rows_of(feed).open_time.tolist()[: len(opens)] == opens
            until(lambda: rows_of(feed).open_time[-1] > opens[-1] + OUTAGE * SECOND)
            rows = rows_of(feed)
            wrong, missing = differences(rows, venue)
            assert wrong == []
            assert missing
            first_after = rows.open_time.tolist().index(missing[-1] + SECOND)
            assert rows["flags"][first_after] & AFTER_GAP
            until(lambda: [hole.missing for hole in feed.gaps()] == [len(missing)])
            venue.set_faults("")
            until(lambda: differences(rows_of(feed), venue) == ([], []), 40)
            assert feed.gaps() == []
    finally:
        manager.stop()


def test_control_without_store_and_rest_the_rows_are_gone(
    feed_name, venue, child, tmp_path
) -> None:
    """The control: what the tests above look for."""
    settings = settings_of(venue, backfill="off")
    settings_before = settings | {"backfill": "auto"}
    opens = run_until_reboot(feed_name, child, settings_before)
    manager = WebSocketManager(feed_name)
    manager.configure(**settings)
    try:
        manager.start(timeout=30)
        with shmfeed.attach(feed_name) as feed:
            until(lambda: feed.ring(*STREAM).count >= 2)
            assert rows_of(feed).open_time[0] > opens[-1]
    finally:
        manager.stop()


@pytest.mark.parametrize("is_stored", [True, False], ids=["store", "REST alone"])
def test_a_lost_shm_under_running_processes_comes_back(
    feed_name, venue, tmp_path, is_stored
) -> None:
    """Feeder, manager and reader run; their files vanish, as by a remount."""
    more = {"store": str(tmp_path / "bars.db")} if is_stored else {}
    manager = WebSocketManager(feed_name)
    manager.configure(**settings_of(venue, **more))
    try:
        manager.start(timeout=30)
        with shmfeed.attach(feed_name, timeout=10) as feed:
            ring = feed.ring(*STREAM)
            until(lambda: ring.count >= WARMUP + 1)
            held, pid = ring.view(40), feed.status()["pid"]
            copied, first = held.values.copy(), int(rows_of(feed).open_time[0])
            clear(feed_name)
            until(lambda: feed.status()["pid"] not in (None, pid))
            until(lambda: feed.status()["health"] == "live")
            until(lambda: ring.view(1).close_time[-1] > held.close_time[-1])
            until(lambda: differences(rows_of(feed), venue) == ([], []))
            assert np.all(np.diff(rows_of(feed).open_time) == SECOND)
            assert not is_stored or rows_of(feed).open_time[0] == first
            assert len(rows_of(feed)) >= WARMUP
            assert feed.gaps() == []
            assert (held.values == copied).all()
            assert held.valid
    finally:
        manager.stop()
