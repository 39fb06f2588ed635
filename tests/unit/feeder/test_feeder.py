"""The feeder in this process, against a real venue and a real segment."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.feeding import STREAM, feeder, push, settings, tell
from support.waiting import until

import shmfeed
from shmfeed.errors import (
    BadArgumentError,
    FeedBusyError,
    FeedLostError,
    SegmentFullError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feeder.feeder import Feeder
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue
from shmfeed.writer import create

ME = os.getpid()


@pytest.fixture
def venue():
    with Venue(speed=None, symbols=["BTCUSDT", "ETHUSDT", "SOLUSDT"]) as venue:
        yield venue


def subscribe(feed, manager, *symbols, timeout=10.0):
    return tell(
        feed,
        "subscribe",
        timeout,
        manager=manager,
        pid=ME,
        symbols=symbols,
        resolutions=["1m"],
    )


def test_bars_go_from_the_venue_into_the_ring(feed_name, venue):
    with feeder(feed_name, venue), shmfeed.attach(feed_name) as feed:
        venue.wait_subscribed()
        for number in range(5):
            push(venue, number, price=100.0 + number)
        ring = feed.ring(*STREAM)
        assert ring.wait(4, timeout=10) == 5
        assert ring.view(5)["close"].tolist() == [100, 101, 102, 103, 104]
        status = feed.status()
        assert (status["state"], status["pid"]) == ("connected", ME)
        assert status["endpoint"] == venue.url
    assert not place(feed_name).segment.exists()
    assert not place(feed_name).socket.exists()


def test_malformed_messages_are_counted_and_cost_nothing_else(feed_name, venue):
    row = '{"type":"BAR","symbol":"BTCUSDT","timeframe":"1m","open_time":%d'
    values = '"open":%s,"high":%s,"low":%s,"close":%s,"volume":%s}'
    bad = [
        "{",
        "\xff",
        b"\xff\xfe",
        "[]",
        "null",
        "nothing",
        f"{row % 1_700_000_100_000},{values % ('NaN', 2, 1, 1, 1)}",
        f"{row % 1_700_000_100_000},{values % (1, 2, 1, chr(34) + 'nan' + chr(34), 1)}",
        f"{row % 1_700_000_100_000},{values % (1, 1, 2, 1, 1)}",  # high < low
        f"{row % 1_700_000_100_000},{values % (1, 2, 1, 3, 1)}",  # close > high
        f"{row % 1_700_000_100_000},{values % (1, 2, 1, 1, -1)}",
        f"{row % 1_700_000_100_001},{values % (1, 2, 1, 1, 1)}",  # off the grid
    ]
    with feeder(feed_name, venue), shmfeed.attach(feed_name) as feed:
        venue.wait_subscribed()
        ring = feed.ring(*STREAM)
        for number, text in enumerate(bad):
            push(venue, number)
            venue.send(text)
        push(venue, len(bad))
        assert ring.wait(len(bad), timeout=10)
        until(lambda: feed.status()["malformed"] == len(bad))
        rows = ring.snapshot(50)
        assert (rows.open_time[1:] - rows.open_time[:-1] == 60_000).all()
        status = feed.status()
        assert (status["gaps"], status["ignored"], status["reconnects"]) == (0, 0, 0)
        assert status["state"] == "connected"


def test_requests_change_the_streams(feed_name, venue):
    with feeder(feed_name, venue), shmfeed.attach(feed_name) as feed:
        venue.wait_subscribed()
        until(lambda: feed.status()["state"] == "connected")
        assert tell(feed_name, "status") == {
            "epoch": 1,
            "pid": ME,
            "state": "connected",
            "identity": "wealthai/binance-testnet/127.0.0.1",
            "source_feed": None,
            "wanted": True,
        }
        assert subscribe(feed_name, "m", "ETHUSDT") == {"streams": 2}
        assert feed.streams() == [STREAM, ("ETHUSDT", "1m")]
        push(venue, 0, stream=("ETHUSDT", "1m"))
        assert feed.ring("ETHUSDT", "1m").wait(0, timeout=10)
        answer = tell(feed_name, "release", manager="m")
        assert answer == {"stopping": False, "pid": ME}
        until(lambda: feed.streams() == [STREAM])
        # The foreground run still wants its streams; only `stop` ends the feeder.
        assert tell(feed_name, "stop") == {"stopping": True, "pid": ME}
        until(lambda: not place(feed_name).socket.exists())


def test_a_refused_change_leaves_the_old_streams(feed_name, venue):
    with feeder(feed_name, venue), shmfeed.attach(feed_name) as feed:
        until(lambda: feed.status()["state"] == "connected")
        with pytest.raises(WebSocketSubscriptionError, match="unknown symbols: XRP"):
            subscribe(feed_name, "m", "XRP")
        with pytest.raises(BadArgumentError, match="BTC USDT"):
            subscribe(feed_name, "m", "BTC USDT")
        assert feed.streams() == [STREAM]
        push(venue, 0)
        assert feed.ring(*STREAM).wait(0, timeout=10)
        assert subscribe(feed_name, "m", "ETHUSDT") == {"streams": 2}


def test_more_streams_than_a_feed_can_have_cost_the_loop_nothing(feed_name, venue):
    with feeder(feed_name, venue), shmfeed.attach(feed_name) as feed:
        until(lambda: feed.status()["state"] == "connected")
        many = dict.fromkeys(("symbols", "resolutions"), ["1m"] * 30_000)
        with pytest.raises(BadArgumentError, match="900000000 streams; a feed has at"):
            tell(feed_name, "subscribe", manager="m", pid=ME, **many)
        assert tell(feed_name, "status", 1.0)["state"] == "connected"


def test_managers_that_ask_at_once_get_their_own_answers(feed_name, venue):
    with feeder(feed_name, venue), shmfeed.attach(feed_name) as feed:
        until(lambda: feed.status()["state"] == "connected")
        with ThreadPoolExecutor(6) as pool:
            asked = {
                name: pool.submit(subscribe, feed_name, name, name)
                for name in ("ETHUSDT", "XRP", "SOLUSDT", "ADA")
            }
            for name in ("ETHUSDT", "SOLUSDT"):
                assert asked[name].result(10)
            for name in ("XRP", "ADA"):
                with pytest.raises(WebSocketSubscriptionError, match=name):
                    asked[name].result(10)
        assert {symbol for symbol, _ in feed.streams()} == {
            "BTCUSDT",
            "ETHUSDT",
            "SOLUSDT",
        }


def test_a_change_fails_when_the_connection_is_lost(feed_name, venue):
    with feeder(feed_name, venue), shmfeed.attach(feed_name) as feed:
        until(lambda: feed.status()["state"] == "connected")
        with ThreadPoolExecutor() as pool:
            venue.mute()
            asked = pool.submit(subscribe, feed_name, "m", "ETHUSDT")
            venue.wait_asked(2)
            venue.refuse()
            venue.drop_connections()
            with pytest.raises(WebSocketConnectionError, match="lost before"):
                asked.result(10)
        with pytest.raises(WebSocketConnectionError, match="not connected now"):
            subscribe(feed_name, "m", "ETHUSDT")
        venue.mute(False)
        venue.refuse(False)
        tell(feed_name, "start")
        until(lambda: feed.status()["state"] == "connected")
        assert feed.status()["reconnects"] == 1
        until(lambda: feed.streams() == [STREAM])


def test_a_symbol_that_is_left_out_reaches_the_last_error(feed_name, venue):
    symbols = ["BTCUSDT", "ABCUSDT"]
    with (
        feeder(feed_name, venue, symbols=symbols),
        shmfeed.attach(feed_name, timeout=10) as feed,
    ):
        until(lambda: feed.status()["last_error"])
        said = feed.status()["last_error"]
        assert "the venue refused ABCUSDT 1m, which are left out: " in said
        why = {one["symbol"]: one["why"] for one in feed.status()["streams"]}
        assert why["ABCUSDT"].startswith("left out: ")
        assert "left out" not in why["BTCUSDT"]


def test_a_change_beyond_the_capacity_is_refused(feed_name, venue):
    with feeder(feed_name, venue, max_streams=2), shmfeed.attach(feed_name) as feed:
        until(lambda: feed.status()["state"] == "connected")
        with pytest.raises(SegmentFullError, match="capacity for 2 streams"):
            subscribe(feed_name, "m", "ETHUSDT", "SOLUSDT")
        assert feed.streams() == [STREAM]
        assert subscribe(feed_name, "m", "ETHUSDT")


def test_managers_that_spell_a_symbol_in_two_ways_are_told(feed_name, venue):
    with feeder(feed_name, venue), shmfeed.attach(feed_name) as feed:
        until(lambda: feed.status()["state"] == "connected")
        with pytest.raises(BadArgumentError, match="'BTCUSDT' and 'btcusdt' differ in"):
            subscribe(feed_name, "m", "ETHUSDT", "btcusdt")
        assert feed.streams() == [STREAM]
        assert subscribe(feed_name, "m", "BTCUSDT", "ETHUSDT") == {"streams": 2}


def test_a_codec_maps_them_to_one_stream_where_its_venue_has_one_case(feed_name):
    market = {"protocol": "binance", "market_type": "spot"}
    with (
        Venue(protocol="binance", speed=None) as venue,
        feeder(feed_name, venue, **market),
        shmfeed.attach(feed_name) as feed,
    ):
        until(lambda: feed.status()["state"] == "connected")
        assert subscribe(feed_name, "m", "btcusdt") == {"streams": 1}
        assert feed.streams() == [STREAM]


def test_a_segment_full_of_unwanted_streams_is_recreated_with_the_wanted_bars(
    feed_name, venue
):
    with feeder(feed_name, venue, symbols=["BTCUSDT", "ETHUSDT"], max_streams=2) as one:
        venue.wait_subscribed()
        with shmfeed.attach(feed_name) as feed:
            for number in range(3):
                push(venue, number)
            assert feed.ring(*STREAM).wait(2, timeout=10)
            one.stop()
            one.thread.join()
            with (
                feeder(feed_name, venue, symbols=["BTCUSDT", "SOLUSDT"], max_streams=2),
            ):
                venue.wait_subscribed(2)
                assert feed.streams() == [STREAM, ("SOLUSDT", "1m")]
                assert feed.ring(*STREAM).count == 3
                push(venue, 3)
                assert feed.ring(*STREAM).wait(3, timeout=10)


def test_more_streams_than_planned_before_do_not_replace_the_segment(feed_name, venue):
    with feeder(feed_name, venue) as one:
        segment = place(feed_name).segment.stat().st_ino
        one.stop()
        one.thread.join()
        many = [f"S{number}" for number in range(10)]
        with Venue(speed=None) as open_venue:
            with feeder(feed_name, open_venue, symbols=many):
                assert place(feed_name).segment.stat().st_ino == segment


def test_a_retry_hides_what_failed_before(feed_name, venue):
    venue.refuse()
    with feeder(feed_name, venue, max_reconnect_attempts=1):
        with shmfeed.attach(feed_name) as feed:
            until(lambda: feed.connection()["state"] == "error")
            assert feed.connection()["error_kind"] == "connection"
            venue.refuse(False)
            tell(feed_name, "start")
            assert feed.connection()["error_kind"] == ""
            until(lambda: feed.connection()["state"] == "connected")


@pytest.mark.parametrize("taken", ["segment", "lock"])
def test_a_removed_feed_ends_the_feeder(feed_name, venue, taken):
    with feeder(feed_name, venue) as one:
        venue.wait_subscribed()
        getattr(place(feed_name), taken).unlink()
        one.thread.join(5)
        assert not one.thread.is_alive()
        (error,) = one.failure
        assert isinstance(error, FeedLostError)
    create(feed_name).close(unlink=True)


def test_a_feeder_that_cannot_be_made_holds_nothing(feed_name, venue):
    with pytest.raises(BadArgumentError, match="no streams to subscribe"):
        Feeder(settings(feed_name, venue, symbols=[]))
    with create(feed_name) as writer:
        with pytest.raises(FeedBusyError) as caught:
            Feeder(settings(feed_name, venue))
        assert caught.value.pid == ME
        writer.close(unlink=True)
    market = {"protocol": "binance", "market_type": "testnet"}
    other = settings(feed_name, venue, symbols=["BTC/USDT"], **market)
    with pytest.raises(BadArgumentError, match="BTC/USDT"):
        Feeder(other)
    assert not place(feed_name).segment.exists()


def test_a_feeder_can_be_stopped_before_it_runs(feed_name, venue):
    one = Feeder(settings(feed_name, venue))
    one.stop(unlink=True)
    one.run()
    assert not place(feed_name).segment.exists()
    assert venue.connections == 0


def test_a_fault_in_the_loop_ends_it_and_answers_every_request(
    feed_name, venue, monkeypatch
):
    with feeder(feed_name, venue) as one:
        venue.wait_subscribed()
        with shmfeed.attach(feed_name) as feed:
            until(lambda: feed.status()["state"] == "connected")
        venue.mute()
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(subscribe, feed_name, "m", "ETHUSDT")
            venue.wait_asked(2)
            monkeypatch.setattr(one._intake, "tick", lambda _: 1 // 0)
            with pytest.raises(WebSocketConnectionError, match="stopping"):
                asked.result(10)
        one.thread.join(5)
        assert isinstance(one.failure[0], ZeroDivisionError)
        venue.wait_connections(0)
        assert place(feed_name).segment.exists()  # what there is stays readable
    assert threading.active_count() <= 2
    create(feed_name, 100, None, 16).close(unlink=True)
