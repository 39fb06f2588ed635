"""A feeder, its socket and its venue's REST: what is lost comes back, bar for bar."""

import os
import signal
import time
from contextlib import ExitStack

import numpy as np
import pytest
from support.waiting import until

import shmfeed
from shmfeed.bar import AFTER_GAP, BACKFILLED, POLLED, UNCONFIRMED
from shmfeed.manager import WebSocketManager
from shmfeed.simulator import Venue

SECOND = 1000
STREAM = ("BTCUSDT", "1s")


def start(manager, venue, wait=True, **more):
    settings = {
        "symbols": ["BTCUSDT"], "resolutions": ["1s"], "endpoint": venue.url,
        "rest_endpoint": venue.rest_url, "protocol": "binance", "market_type": "spot",
        "history": 200, "warmup": 50, "reconnect_delay_base": 0.1,
        "reconnect_delay_max": 0.3, "dials_per_minute": 0, **more,
    }  # fmt: skip
    manager.configure(**settings)
    manager.start(timeout=20, wait=wait)


@pytest.fixture
def manager(feed_name):
    manager = WebSocketManager(feed_name)
    yield manager
    manager.stop()


def rows_of(feed):
    return feed.ring(*STREAM).snapshot(200)


def differences(feed, venue):
    """Return the rows that are not the venue's, and the open times that are missing."""
    rows = rows_of(feed)
    first, last = int(rows.open_time[0]), int(rows.open_time[-1])
    truth = {bar.open_time: bar for bar in venue.truth(*STREAM, first, last)}
    wrong = [
        (bar, truth.get(bar.open_time))
        for bar in (rows.bar(n) for n in range(len(rows)))
        if bar.open_time not in truth or bar[2:7] != truth[bar.open_time][2:7]
    ]
    return wrong, sorted(truth.keys() - set(rows.open_time.tolist()))


def health(feed):
    return feed.status()["streams"][0]["health"]


def await_successor(feed, pid):
    until(lambda: feed.status()["pid"] not in (pid, None), what="a successor")


def await_bars(feed, count):
    """Wait until so many more bars have closed."""
    ring = feed.ring(*STREAM)
    last = ring.view(1).open_time[-1]
    until(lambda: ring.view(1).open_time[-1] >= last + count * SECOND)


def flags_of(feed):
    return rows_of(feed)["flags"]


def test_a_start_brings_history_before_the_first_bar(manager, feed_name):
    with Venue(protocol="binance") as venue:
        start(manager, venue)
        with shmfeed.attach(feed_name, timeout=10) as feed:
            ring = feed.ring(*STREAM)
            until(lambda: ring.count)
            assert len(rows_of(feed)) >= 50
            until(lambda: not flags_of(feed)[-1] & BACKFILLED)
            until(lambda: differences(feed, venue) == ([], []))
            assert not (flags_of(feed) & (AFTER_GAP | UNCONFIRMED)).any()
            assert feed.gaps() == []
            until(lambda: health(feed) == "live")


def test_an_outage_is_filled_before_the_stream_is_live_again(manager, feed_name):
    with Venue(protocol="binance") as venue:
        start(manager, venue)
        with shmfeed.attach(feed_name, timeout=10) as feed:
            ring = feed.ring(*STREAM)
            until(lambda: ring.count >= 52)
            venue.refuse(503)
            venue.drop_connections()
            time.sleep(4)  # bars close meanwhile
            venue.refuse(False)
            until(lambda: manager.get_status()["reconnects"], timeout=20)
            await_bars(feed, 2)
            until(lambda: differences(feed, venue) == ([], []))
            assert feed.gaps() == []
            assert feed.status()["gaps"] == 0


def test_a_killed_feeder_loses_and_doubles_no_bar(manager, feed_name):
    with Venue(protocol="binance") as venue:
        start(manager, venue)
        with shmfeed.attach(feed_name, timeout=10) as feed:
            ring = feed.ring(*STREAM)
            until(lambda: ring.count >= 52)
            for _ in range(3):
                pid = feed.status()["pid"]
                os.kill(pid, signal.SIGKILL)
                await_successor(feed, pid)
                await_bars(feed, 3)
            until(lambda: feed.gaps() == [] and differences(feed, venue) == ([], []))
            assert np.all(np.diff(rows_of(feed).open_time) == SECOND)


def test_control_without_history_the_gap_stays_and_is_flagged(manager, feed_name):
    with Venue(protocol="binance") as venue:
        start(manager, venue, backfill="off")
        with shmfeed.attach(feed_name, timeout=10) as feed:
            ring = feed.ring(*STREAM)
            until(lambda: ring.count >= 2)
            pid = feed.status()["pid"]
            os.kill(pid, signal.SIGSTOP)
            time.sleep(3)
            os.kill(pid, signal.SIGKILL)
            await_successor(feed, pid)
            until(lambda: (flags_of(feed) & AFTER_GAP).any())
            until(lambda: [h.state for h in feed.gaps()] == ["given_up"])
            assert differences(feed, venue)[1]
            assert not venue.rest_requests


def test_a_mute_socket_is_polled_and_left(manager, feed_name):
    with Venue(protocol="binance") as venue:
        start(manager, venue, repair_grace=1.0, data_timeout=60.0)
        with shmfeed.attach(feed_name, timeout=10) as feed:
            ring = feed.ring(*STREAM)
            until(lambda: ring.count >= 52)
            venue.mute()
            until(lambda: health(feed) == "polled")
            assert "REST" in feed.status()["streams"][0]["why"]
            # The health says it before the first such row is written.
            until(lambda: (flags_of(feed) & POLLED).any())
            until(lambda: "has not sent" in (manager.get_status()["last_error"] or ""))
            venue.mute(on=False)
            until(lambda: health(feed) == "live", timeout=30)
            until(lambda: differences(feed, venue) == ([], []))


def healths_of(ring, seen):
    if not seen or seen[-1] != ring.status().health:
        seen.append(ring.status().health)
    return seen


@pytest.mark.parametrize("fault", ["mute-stream:BTCUSDT", "mute"])
def test_a_silent_stream_is_not_quiet_before_it_was_compared(feed_name, fault):
    """The control is a second feed of the venue, without history to compare with."""
    with ExitStack() as stack:
        venue = stack.enter_context(
            Venue(protocol="binance", symbols=["BTCUSDT", "ETHUSDT"])
        )
        rings = []
        for name, backfill in ((feed_name, "auto"), (f"{feed_name}-control", "off")):
            manager = WebSocketManager(name)
            stack.callback(manager.stop)
            start(
                manager, venue, symbols=["BTCUSDT", "ETHUSDT"], backfill=backfill,
                repair_grace=4.0, data_timeout=60.0,
            )  # fmt: skip
            feed = stack.enter_context(shmfeed.attach(name, timeout=10))
            rings.append(feed.ring(*STREAM))
        until(lambda: all(ring.status().health == "live" for ring in rings))
        venue.set_faults(fault)
        seen, control = [], []
        until(lambda: healths_of(rings[0], seen)[-1] == "polled")
        assert seen == ["live", "recovering", "polled"]
        until(lambda: healths_of(rings[1], control)[-1] == "quiet")


def test_a_silence_of_which_rest_does_not_tell_is_not_quiet(manager, feed_name):
    with Venue(protocol="binance") as venue:
        start(manager, venue, repair_grace=1.0, data_timeout=60.0, stale_after=5.0)
        with shmfeed.attach(feed_name, timeout=10) as feed:
            ring = feed.ring(*STREAM)
            until(lambda: ring.status().health == "live" and ring.count > 50)
            venue.set_faults("mute,rest-status:503")
            seen = []
            until(lambda: healths_of(ring, seen)[-1] == "stale")
            assert seen == ["live", "recovering", "stale"]


def test_bars_that_the_venue_lacks_are_given_up_with_a_reason(manager, feed_name):
    with Venue(protocol="binance", faults="hole:0.2") as venue:
        start(manager, venue)
        with shmfeed.attach(feed_name, timeout=10) as feed:
            until(lambda: any(h.state == "given_up" for h in feed.gaps()), timeout=40)
            until(lambda: differences(feed, venue) == ([], []))


def test_an_unknown_symbol_is_refused_and_named(manager, feed_name):
    with Venue(protocol="binance", symbols=["BTCUSDT", "ETHUSDT"]) as venue:
        start(manager, venue, symbols=["BTCUSDT", "ETHUSD"])
        with shmfeed.attach(feed_name, timeout=10) as feed:

            def why():
                streams = feed.status()["streams"]
                return {one["symbol"]: one["why"] for one in streams}

            until(lambda: "ETHUSDT" in why()["ETHUSD"], what="the nearest symbol")
            assert "ETHUSD" in manager.get_status()["last_error"]
            with pytest.raises(shmfeed.WebSocketSubscriptionError, match="BTCUSDT"):
                manager.update_subscription(symbols=["BTCUSDT", "BTCUSD"])
            manager.update_subscription(symbols=["BTCUSDT", "ETHUSDT"])
            until(lambda: feed.ring("ETHUSDT", "1s").count)


def test_an_unknown_symbol_fails_a_feed_that_serves_all_or_none(manager, feed_name):
    with Venue(protocol="binance", symbols=["BTCUSDT", "ETHUSDT"]) as venue:
        start(
            manager,
            venue,
            wait=False,  # else it raises, if the answer about the symbols is early
            symbols=["BTCUSDT", "ETHUSD"],
            on_refused="fail",
            max_reconnect_attempts=2,
            reconnect_delay_base=0.05,
            reconnect_delay_max=0.2,
            dials_per_minute=0,
        )
        with shmfeed.attach(feed_name, timeout=10) as feed:
            said = set()

            def state():
                status = feed.status()
                said.add(status["last_error"])
                return status["state"]

            until(lambda: state() == "error")
            assert not any("left out" in text for text in said if text)
            assert "ETHUSDT" in manager.get_status()["last_error"]
            assert all(one["health"] == "stale" for one in feed.status()["streams"])
            assert "ETHUSDT" in feed.status()["streams"][1]["why"]


def test_a_symbol_that_does_not_trade_is_closed(manager, feed_name):
    with Venue(protocol="binance", faults="halt:BTCUSDT") as venue:
        start(manager, venue)
        with shmfeed.attach(feed_name, timeout=10) as feed:
            until(lambda: health(feed) == "closed")
            assert feed.status()["streams"][0]["why"]


def test_a_socket_that_repeats_itself_is_left(manager, feed_name):
    with Venue(protocol="binance") as venue:
        start(manager, venue, repair_grace=1.0)
        with shmfeed.attach(feed_name, timeout=10) as feed:
            ring = feed.ring(*STREAM)
            until(lambda: ring.count >= 52)
            venue.set_faults("freeze")
            until(lambda: health(feed) == "polled")
            until(lambda: "has not sent" in (manager.get_status()["last_error"] or ""))
            venue.set_faults("")
            until(lambda: health(feed) == "live", timeout=30)
            until(lambda: differences(feed, venue) == ([], []))


def test_the_history_of_another_market_is_not_believed(manager, feed_name):
    with Venue(protocol="binance", faults="rest-prices:1.5") as venue:
        start(manager, venue, warmup=0)
        with shmfeed.attach(feed_name, timeout=10) as feed:
            ring = feed.ring(*STREAM)
            until(lambda: ring.count >= 4)
            venue.refuse(503)
            venue.drop_connections()
            time.sleep(3)
            venue.refuse(False)
            until(lambda: "believed" in (manager.get_status()["last_error"] or ""))
            until(lambda: (flags_of(feed) & AFTER_GAP).any())
            venue.set_faults("")
            # A bar that the outage cut off has lost its last updates, and says so.
            wrong, _ = differences(feed, venue)
            assert [bar for bar, _ in wrong if not bar.flags & UNCONFIRMED] == []
