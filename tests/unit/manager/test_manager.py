"""Every call of a manager, with real feeders and a real venue."""

import inspect
import itertools
import os
import re
import threading
import time

import pytest
from support.feeding import QUICK, STREAM, feeder, managing, push, settings, tell
from support.waiting import until

import shmfeed
from shmfeed import (
    BadArgumentError,
    FeedBusyError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
    get_websocket_manager,
)
from shmfeed.manager import WebSocketManager
from shmfeed.manager import manager as manager_module
from shmfeed.manager.adopted import AdoptedFeeder
from shmfeed.manager.lifecycle import FeederLifecycle
from shmfeed.segment.mapping import place
from shmfeed.settings.loading import CONFIG_FILE
from shmfeed.settings.schema import SETTINGS
from shmfeed.simulator import Venue
from shmfeed.writer import create

KEYS = {
    *("state", "health", "symbols", "resolutions", "last_error", "feed", "pid"),
    *("endpoint", "protocol", "uptime", "reconnects", "messages", "bars", "malformed"),
    *("ignored", "late", "gaps", "last_message_age", "streams"),
}
STREAM_KEYS = {"symbol", "timeframe", "count", "last_close_time", "age", "gaps"}
NOWHERE = "ws://127.0.0.1:9/market_data"


@pytest.fixture
def venue():
    with Venue(speed=None, symbols=["BTCUSDT", "ETHUSDT", "SOLUSDT"]) as venue:
        yield venue


@pytest.fixture
def fresh(monkeypatch):
    """Forget all managers of this process and the settings of its environment."""
    monkeypatch.setattr(manager_module, "_managers", {})
    for name in ("SHMFEED_FEED", "WEBSOCKET_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def test_the_help_of_configure_names_all_settings() -> None:
    text = inspect.getdoc(WebSocketManager.configure)
    section = re.search(r"^Settings:\n((?:    .*\n)+)", text, re.MULTILINE)[1]
    groups = [line.partition(": ")[2].split(", ") for line in section.splitlines()]
    assert sorted(itertools.chain(*groups)) == sorted([*SETTINGS, CONFIG_FILE])


def test_there_is_one_manager_for_each_feed(fresh, monkeypatch):
    one = get_websocket_manager("a")
    assert get_websocket_manager("a") is one
    assert get_websocket_manager("b") is not one
    unbound = get_websocket_manager()
    assert get_websocket_manager(None) is unbound
    unbound.configure(feed="c")
    assert get_websocket_manager("c") is unbound
    with pytest.raises(BadArgumentError, match="'a' already has a manager"):
        unbound.configure(feed="a")
    with pytest.raises(BadArgumentError, match=r"get_websocket_manager\('x'\)"):
        one.configure(feed="x")
    with pytest.raises(BadArgumentError, match="a/b"):
        get_websocket_manager("a/b")
    assert unbound.feed == "c"


def test_without_a_name_the_settings_name_the_feed(fresh, monkeypatch):
    monkeypatch.setenv("SHMFEED_FEED", "named")
    named = get_websocket_manager("named")
    assert get_websocket_manager() is named
    assert named.get_status()["feed"] == "named"


def test_the_environment_can_be_passed_to_configure(monkeypatch):
    monkeypatch.setenv("WEBSOCKET_SYMBOLS", "BTCUSDT, ETHUSDT")
    monkeypatch.setenv("SHMFEED_HISTORY", "77")
    manager = WebSocketManager("x")
    given = manager.load_config_from_env()
    assert list(given["symbols"]) == ["BTCUSDT", "ETHUSDT"]
    assert given["history"] == 77
    manager.configure(**given)


TESTNET = {"protocol": "binance", "market_type": "testnet"}
BAD = [
    ({"symbols": ["BTC USDT"]}, "BTC USDT"),
    ({"resolutions": ["7m"]}, "7m"),
    ({"symbls": ["A"]}, "symbls"),
    ({"history": 0}, "history"),
    ({"endpoint": "http://x"}, "http://x"),
    ({"endpoint": "ws://example.com/"}, "allow_insecure"),
    ({"symbols": ["A:B"], "resolutions": ["1m"], **TESTNET}, "A:B"),
    ({"protocol": "binance"}, "spot usdm coinm testnet"),
    ({"symbols": ["BTCUSDT", "A", "btcusdt"]}, "'BTCUSDT' and 'btcusdt'"),
    ({"max_streams": 1, "symbols": ["A", "B"], "resolutions": ["1m"]}, "max_streams"),
    ({"feed": "another"}, "another"),
]


@pytest.mark.parametrize(("given", "told"), BAD)
def test_a_refused_configuration_leaves_the_old_one(given, told):
    manager = WebSocketManager("x")
    manager.configure(symbols=["GOOD"], resolutions=["1m"], endpoint=NOWHERE)
    with pytest.raises(BadArgumentError, match=told):
        manager.configure(**given)
    assert manager.get_status()["symbols"] == ["GOOD"]


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5", None, True])
def test_a_timeout_is_a_number_of_seconds(timeout):
    manager = WebSocketManager("x")
    manager.configure(symbols=["A"], resolutions=["1m"], endpoint=NOWHERE)
    with pytest.raises(BadArgumentError, match="timeout"):
        manager.start(timeout=timeout)
    with pytest.raises(BadArgumentError, match="timeout"):
        manager.update_subscription(symbols=["B"], timeout=timeout)


def test_a_process_that_reads_another_users_feeds_is_warned(fresh, monkeypatch, caplog):
    other = os.geteuid() + 12_345
    for name in ("SYMBOLS", "RESOLUTIONS"):
        monkeypatch.delenv(f"WEBSOCKET_{name}", raising=False)
    for owner, warned in ((other, 1), (os.geteuid(), 1), ("", 1), ("no such one", 1)):
        monkeypatch.setenv("SHMFEED_OWNER", str(owner))
        with pytest.raises(BadArgumentError, match="no streams to subscribe"):
            WebSocketManager("x").start()
        said = [line for line in caplog.messages if "reads the feeds of user" in line]
        assert len(said) == warned
    assert f"of user {other} (SHMFEED_OWNER), and its manager runs" in said[0]


def test_bad_calls_are_refused_without_a_feeder(fresh, monkeypatch):
    manager = WebSocketManager("x")
    with pytest.raises(BadArgumentError, match="callback"):
        manager.on_state_change("callback")
    for name in ("SYMBOLS", "RESOLUTIONS"):
        monkeypatch.delenv(f"WEBSOCKET_{name}", raising=False)
    with pytest.raises(BadArgumentError, match="no streams to subscribe"):
        manager.start()
    manager.configure(symbols=["A"], resolutions=["1m"])
    with pytest.raises(BadArgumentError, match="leaves no streams"):
        manager.update_subscription(symbols=[])
    assert manager.get_status()["symbols"] == ["A"]


def test_an_update_before_start_changes_the_configuration():
    manager = WebSocketManager("x")
    manager.configure(symbols=["A"], resolutions=["1m"], endpoint=NOWHERE)
    manager.update_subscription(symbols=["B", "C"])
    assert manager.get_status()["symbols"] == ["B", "C"]
    manager.update_subscription(resolutions=["1h"])
    manager.update_subscription()
    status = manager.get_status()
    assert (status["symbols"], status["resolutions"]) == (["B", "C"], ["1h"])
    with pytest.raises(BadArgumentError, match="7m"):
        manager.update_subscription(resolutions=["7m"])
    manager.stop()
    assert manager.get_status()["resolutions"] == ["1h"]


def test_configure_start_update_and_stop(feed_name, venue):
    states = []
    with managing(feed_name, venue, csrf_token="secret") as manager:
        manager.on_state_change(lambda old, new: 1 // 0)  # stops nothing
        manager.on_state_change(lambda old, new: states.append((old, new)))
        status = manager.get_status()
        assert status.keys() >= KEYS
        assert (status["state"], status["health"]) == ("disconnected", "dead")
        assert not manager.is_connected()

        manager.start(timeout=20)
        assert manager.is_connected()
        status = manager.get_status()
        assert status.keys() >= KEYS
        (stream,) = status["streams"]
        assert stream.keys() >= STREAM_KEYS
        assert (status["state"], status["endpoint"]) == ("connected", venue.url)
        assert status["last_error"] is None
        first = status["pid"]

        manager.start(timeout=20)  # a second start has nothing to do
        assert manager.get_status()["pid"] == first
        assert len(venue.subscriptions) == 1

        manager.update_subscription(symbols=["BTCUSDT", "ETHUSDT"])
        assert manager.get_status()["symbols"] == ["BTCUSDT", "ETHUSDT"]
        manager.configure(
            symbols=["SOLUSDT"],
            resolutions=["1m"],
            endpoint=venue.url,
            history=100,
            csrf_token="secret",
            **QUICK,
        )
        manager.start(timeout=20)  # with other streams: the difference
        status = manager.get_status()
        assert (status["symbols"], status["pid"]) == (["SOLUSDT"], first)

        manager.stop()
        manager.stop()
        status = manager.get_status()
        assert status.keys() >= KEYS
        assert (status["state"], status["pid"]) == ("disconnected", None)
        assert not manager.is_connected()
    assert not place(feed_name).segment.exists()
    assert states == [
        ("disconnected", "connecting"),
        ("connecting", "connected"),
        ("connected", "disconnected"),
    ]


def test_start_without_wait_returns_and_keeps_trying(feed_name, venue):
    venue.refuse()
    with managing(feed_name, venue, max_reconnect_attempts=None) as manager:
        begun = time.monotonic()
        manager.start(wait=False)
        assert time.monotonic() - begun < 1
        until(lambda: "could not connect" in (manager.get_status()["last_error"] or ""))
        assert manager.get_status()["state"] in ("connecting", "reconnecting")
        venue.refuse(False)
        until(manager.is_connected)
        manager.configure(
            symbols=["ETHUSDT"],
            resolutions=["1m"],
            endpoint=venue.url,
            history=100,
            max_reconnect_attempts=None,
            **QUICK,
        )
        manager.start(wait=False)
        until(lambda: manager.get_status()["symbols"] == ["ETHUSDT"])


def test_another_endpoint_launches_another_feeder_of_the_feed(feed_name, venue):
    with managing(feed_name, venue) as manager, Venue(speed=None) as other:
        manager.start(timeout=20)
        first = manager.get_status()["pid"]
        push(venue, 0)
        with shmfeed.attach(feed_name) as feed:
            ring = feed.ring(*STREAM)
            assert ring.wait(0, timeout=5) == 1
            manager.configure(
                symbols=["BTCUSDT"],
                resolutions=["1m"],
                endpoint=other.url,
                history=100,
                **QUICK,
            )
            manager.start(timeout=20)
            status = manager.get_status()
            assert status["endpoint"] == other.url
            assert status["pid"] != first
            venue.wait_connections(0)
            push(other, 1)
            assert ring.wait(1, timeout=5) == 2


def test_update_applies_only_streams_and_start_the_rest(feed_name, venue):
    with managing(feed_name, venue) as manager, Venue(speed=None) as other:
        manager.start(timeout=20)
        given = {"symbols": ["BTCUSDT"], "resolutions": ["1m"], "history": 100}
        manager.configure(**given, endpoint=other.url, **QUICK)
        manager.update_subscription(symbols=["ETHUSDT"], timeout=20)
        assert manager.get_status()["endpoint"] == venue.url
        manager.start(timeout=20)
        status = manager.get_status()
        assert (status["endpoint"], status["symbols"]) == (other.url, ["ETHUSDT"])


def test_start_reloads_its_own_feeder_where_no_restart_is_needed(feed_name, venue):
    with managing(feed_name, venue, log_level="info") as manager:
        manager.start(timeout=20)
        first = manager.get_status()["pid"]
        given = {"symbols": ["ETHUSDT"], "resolutions": ["1m"], "history": 100}
        given |= {"endpoint": venue.url, "csrf_token": "another", "log_level": "debug"}
        manager.configure(**given | QUICK)
        manager.start(timeout=20)
        status = manager.get_status()
        assert (status["pid"], status["symbols"]) == (first, ["ETHUSDT"])
        until(lambda: len(venue.subscriptions) > 1)  # by a connection of its own
        manager.configure(**given | QUICK | {"history": 200})
        manager.start(timeout=20)
        assert manager.get_status()["pid"] != first


def test_a_reload_that_is_refused_leaves_the_feeder_as_it_is(
    feed_name, venue, tmp_path
):
    with managing(feed_name, venue) as manager:
        manager.start(timeout=20)
        first = manager.get_status()["pid"]
        given = {"symbols": ["BTCUSDT"], "resolutions": ["1m"], "history": 100}
        given |= {"endpoint": venue.url, "log_file": tmp_path / "none" / "log"}
        manager.configure(**given | QUICK, csrf_token=lambda: "another")
        with pytest.raises(BadArgumentError, match="log_file"):
            manager.start(timeout=20)
        assert manager.is_connected()
        assert manager._supervisor.token_source is None
        assert manager.get_status()["pid"] == first


def test_a_configuration_made_during_an_update_stays(feed_name, venue):
    with managing(feed_name, venue) as manager:
        manager.start(timeout=20)
        venue.mute()
        asked = threading.Thread(target=manager.update_subscription, args=[["ETHUSDT"]])
        asked.start()
        venue.wait_asked(2)
        manager.configure(symbols=["SOLUSDT"], resolutions=["5m"], endpoint=venue.url)
        venue.drop_connections()
        venue.mute(False)
        asked.join()
        manager.start(timeout=20)
        status = manager.get_status()
        assert (status["symbols"], status["resolutions"]) == (["SOLUSDT"], ["5m"])


def test_stop_can_keep_the_segment_for_the_next_start(feed_name, venue):
    with managing(feed_name, venue) as manager:
        manager.start(timeout=20)
        for number in range(3):
            push(venue, number)
        with shmfeed.attach(feed_name) as feed:
            ring = feed.ring(*STREAM)
            assert ring.wait(2, timeout=5) == 3
            inode = place(feed_name).segment.stat().st_ino
            manager.stop(keep=True)
            assert len(ring.view(10)) == 3
            assert ring.status().health == "dead"
            manager.start(timeout=20)
            assert place(feed_name).segment.stat().st_ino == inode
            push(venue, 3)
            assert ring.wait(3, timeout=5) == 4
            assert ring.view(4).open_time.tolist()[-1] - ring.view(4).open_time[0] == (
                3 * 60_000
            )


def test_a_refused_update_leaves_the_old_streams(feed_name, venue):
    with managing(feed_name, venue, max_streams=2) as manager:
        manager.start(timeout=20)
        with pytest.raises(WebSocketSubscriptionError, match="unknown symbols: XRP"):
            manager.update_subscription(symbols=["BTCUSDT", "XRP"])
        with pytest.raises(BadArgumentError, match="max_streams"):
            manager.update_subscription(symbols=["BTCUSDT", "ETHUSDT", "SOLUSDT"])
        with pytest.raises(BadArgumentError, match="7m"):
            manager.update_subscription(resolutions=["7m"])
        status = manager.get_status()
        assert (status["symbols"], status["state"]) == (["BTCUSDT"], "connected")
        push(venue, 0)
        with shmfeed.attach(feed_name) as feed:
            assert feed.ring(*STREAM).wait(0, timeout=5)
        manager.update_subscription(symbols=["ETHUSDT"])
        assert manager.get_status()["symbols"] == ["ETHUSDT"]
        # BTCUSDT, which is no longer wanted, gives its entry to SOLUSDT.
        manager.update_subscription(symbols=["ETHUSDT", "SOLUSDT"])
        assert manager.get_status()["symbols"] == ["SOLUSDT", "ETHUSDT"]


def test_an_unacknowledged_update_is_undone(feed_name, venue):
    with managing(feed_name, venue) as manager:
        manager.start(timeout=20)
        venue.mute()
        with pytest.raises(WebSocketSubscriptionError, match=r"within 0\.5 s"):
            manager.update_subscription(symbols=["ETHUSDT"], timeout=0.5)
        venue.mute(False)
        venue.drop_connections()
        until(lambda: manager.get_status()["reconnects"] == 1)
        until(manager.is_connected)
        assert manager.get_status()["symbols"] == ["BTCUSDT"]
        manager.update_subscription(symbols=["SOLUSDT"], timeout=10)


def test_an_update_waits_for_the_connection(feed_name, venue):
    with managing(feed_name, venue, max_reconnect_attempts=None) as manager:
        manager.start(timeout=20)
        venue.refuse()
        venue.drop_connections()
        until(lambda: not manager.is_connected())
        with pytest.raises(WebSocketConnectionError, match=r"within 0\.3 s"):
            manager.update_subscription(symbols=["ETHUSDT"], timeout=0.3)
        assert manager.get_status()["symbols"] == ["BTCUSDT"]
        threading.Timer(0.3, venue.refuse, [False]).start()
        manager.update_subscription(symbols=["ETHUSDT"], timeout=20)
        assert manager.get_status()["symbols"] == ["ETHUSDT"]


def test_an_update_in_the_error_state_raises_the_reason(feed_name, venue):
    with managing(feed_name, venue, max_reconnect_attempts=1) as manager:
        manager.start(timeout=20)
        venue.refuse()
        venue.drop_connections()
        until(lambda: manager.get_status()["state"] == "error")
        with pytest.raises(WebSocketConnectionError, match=re.escape(venue.url)):
            manager.update_subscription(symbols=["ETHUSDT"])
        venue.refuse(False)
        manager.start(timeout=20)
        assert manager.get_status()["symbols"] == ["BTCUSDT"]


def test_a_refused_subscription_can_be_corrected(feed_name, venue):
    with managing(feed_name, venue, symbols=["XRP"]) as manager:
        manager.start(wait=False)
        until(lambda: manager.get_status()["state"] == "error")
        assert "unknown symbols: XRP" in manager.get_status()["last_error"]
        manager.configure(
            symbols=["ETHUSDT"],
            resolutions=["1m"],
            endpoint=venue.url,
            history=100,
            **QUICK,
        )
        manager.start(timeout=20)
        assert manager.get_status()["symbols"] == ["ETHUSDT"]


def test_a_new_feeder_does_not_inherit_its_predecessors_error(feed_name):
    writer = create(feed_name, state="disconnected")
    try:
        lifecycle = FeederLifecycle(settings(feed_name, NOWHERE), "m")
        lifecycle._adopted = AdoptedFeeder(
            place(feed_name), {"pid": os.getpid()}, lifecycle.ask
        )
        refusal = {"error_kind": "subscription", "last_error": "unknown: XRP"}
        writer.note(refusal | {"writer": 1})
        assert lifecycle.evaluate() == ("connecting", 0)
        assert lifecycle.error is None
        writer.note(refusal | {"writer": os.getpid()})
        lifecycle.evaluate()
        assert str(lifecycle.error) == "unknown: XRP"
    finally:
        writer.close(unlink=True)


def test_a_callback_may_call_the_manager(feed_name, venue):
    done = threading.Event()
    threads = []
    with managing(feed_name, venue) as manager:

        def callback(old, new):
            threads.append(threading.current_thread().name)
            manager.get_status()
            if new == "connected":
                manager.update_subscription(symbols=["ETHUSDT"])
                manager.stop()
                done.set()

        manager.on_state_change(callback)
        manager.start(wait=False)
        assert done.wait(20)
        until(lambda: "shmfeed-notifier" not in _threads())
        assert set(threads) == {"shmfeed-notifier"}
        assert manager.get_status()["state"] == "disconnected"
    assert not place(feed_name).segment.exists()


def test_a_callback_that_hangs_delays_no_supervision(feed_name, venue):
    hangs = threading.Event()
    with managing(feed_name, venue) as manager:
        manager.on_state_change(lambda old, new: hangs.wait(20))
        manager.start(timeout=20)
        assert manager.is_connected()
        venue.refuse()
        venue.drop_connections()
        until(lambda: manager.get_status()["state"] == "error")
        hangs.set()


def test_a_reconnect_between_two_polls_is_reported(feed_name, venue):
    states = []
    with managing(feed_name, venue) as manager:
        manager.start(timeout=20)
        manager.on_state_change(lambda old, new: states.append((old, new)))
        for count in (1, 2, 3):
            venue.wait_subscribed(count)
            push(venue, count)
            until(lambda n=count: manager.get_status()["messages"] == n)
            venue.drop_connections()
            until(lambda n=count: manager.get_status()["reconnects"] == n)
            until(lambda n=count: states.count(("reconnecting", "connected")) == n)
        for one, other in itertools.pairwise(states):
            assert one[1] == other[0]


def test_stop_ends_a_start_that_waits(feed_name, venue):
    venue.mute()
    caught = []
    with managing(feed_name, venue, ack_timeout=30.0) as manager:

        def start():
            try:
                manager.start(timeout=30)
            except WebSocketConnectionError as error:
                caught.append(error)

        thread = threading.Thread(target=start)
        thread.start()
        venue.wait_asked(1)
        begun = time.monotonic()
        manager.stop()
        thread.join()
        assert time.monotonic() - begun < 5
        (error,) = caught
        assert "stopped" in str(error)
    assert not place(feed_name).segment.exists()


def test_many_threads_can_use_a_manager_at_once(feed_name, venue):
    with managing(feed_name, venue) as manager:
        failures = []

        def work(number):
            try:
                if number % 2:
                    manager.start(timeout=20)
                    manager.get_status()
                    manager.update_subscription(symbols=["BTCUSDT", "ETHUSDT"])
                else:
                    manager.start(timeout=20)
                    manager.is_connected()
            except Exception as error:  # noqa: BLE001 - none is expected
                failures.append(error)

        threads = [threading.Thread(target=work, args=[n]) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert venue.connections == 1
        enders = [threading.Thread(target=manager.stop) for _ in range(4)]
        for thread in enders:
            thread.start()
        for thread in enders:
            thread.join()
        assert not manager.is_connected()
    assert not place(feed_name).segment.exists()


def test_supervision_costs_less_than_two_percent_of_a_core(feed_name):
    symbols = [f"S{number}" for number in range(200)]
    with Venue(speed=None) as venue, managing(feed_name, venue, symbols=symbols) as one:
        one.start(timeout=20)
        (watch,) = [t for t in threading.enumerate() if t.name == "shmfeed-supervisor"]
        clock = time.pthread_getcpuclockid(watch.ident)
        before, begun = time.clock_gettime(clock), time.monotonic()
        time.sleep(1.0)  # measured, not awaited
        spent = time.clock_gettime(clock) - before
        assert spent / (time.monotonic() - begun) < 0.02


def test_stop_leaves_an_adopted_feeder_of_a_foreground_run(feed_name, venue):
    with feeder(feed_name, venue, symbols=["BTCUSDT"]):
        venue.wait_subscribed()
        with managing(feed_name, venue, symbols=["ETHUSDT"]) as manager:
            manager.start(timeout=20)
            with shmfeed.attach(feed_name) as feed:
                assert feed.streams() == [STREAM, ("ETHUSDT", "1m")]
                manager.stop()
                until(lambda: feed.streams() == [STREAM])
                assert feed.alive()
        # A refused update leaves the streams unchanged.
        with managing(feed_name, venue, symbols=["XRP"]) as manager:
            with pytest.raises(WebSocketSubscriptionError, match="XRP"):
                manager.start(timeout=20)
            assert tell(feed_name, "status")["state"] == "connected"


def test_the_status_keeps_the_error_of_a_failed_start(feed_name, venue):
    venue.refuse()
    with managing(feed_name, venue, max_reconnect_attempts=1) as manager:
        with pytest.raises(WebSocketConnectionError) as caught:
            manager.start(timeout=20)
        status = manager.get_status()
        assert status["last_error"] == str(caught.value)
        assert (status["state"], status["pid"]) == ("disconnected", None)
        venue.refuse(False)
        manager.start(timeout=20)
        assert manager.get_status()["last_error"] is None


def test_a_failed_start_leaves_what_was_there(feed_name, venue):
    with managing(feed_name, venue) as manager:
        manager.start(timeout=20)
        push(venue, 0)
        with shmfeed.attach(feed_name) as feed:
            assert feed.ring(*STREAM).wait(0, timeout=5)
            manager.stop(keep=True)
            venue.refuse()
            with pytest.raises(WebSocketConnectionError):
                manager.start(timeout=20)
            assert len(feed.ring(*STREAM).view(5)) == 1
        venue.refuse(False)
        manager.start(timeout=20)


def test_feed_busy_error_names_the_pid(feed_name):
    writer = shmfeed.create(feed_name)
    try:
        with managing(feed_name, NOWHERE) as manager:
            for timeout in (2.5, 20.0):
                with pytest.raises(FeedBusyError) as caught:
                    manager.start(timeout=timeout)
                assert caught.value.pid is not None
                assert str(caught.value.pid) in str(caught.value)
    finally:
        writer.close(unlink=True)


def _threads():
    return {thread.name for thread in threading.enumerate()}
