"""A manager meets a feeder that runs already: it adopts it, or refuses it."""

import logging
import os
import socket

import pytest
from support.feeding import STREAM, feeder, managing, push, settings, tell
from support.forks import Fork
from support.waiting import until

import shmfeed
from shmfeed import BadArgumentError, FeedBusyError, WebSocketConnectionError
from shmfeed.codecs.identity import identity_of
from shmfeed.manager import adopted
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue
from shmfeed.writer import create

OTHERS = {
    "market": {"market_type": "binance"},
    "venue": {"venue": "elsewhere"},
    "protocol": {"protocol": "binance", "market_type": "spot"},
}
HERE = "wealthai/binance-testnet/127.0.0.1"
BOTH = f"{HERE}, and these settings are of "
TOKENS = "token-of-the-feeder", "token-of-the-manager"


@pytest.fixture
def venue():
    with Venue(speed=None, symbols=["BTCUSDT", "ETHUSDT"]) as venue:
        yield venue


def leave_bar(feed_name, venue):
    identity = identity_of(settings(feed_name, venue))
    with create(feed_name, 100, streams=[STREAM], identity=identity) as writer:
        writer.add_stream(*STREAM).append(0, 1, 2, 1, 2, 5)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_feeder_of_another_identity_is_not_adopted(feed_name, venue, other, replace):
    with feeder(feed_name, venue):
        venue.wait_subscribed()
        with managing(feed_name, venue, **other) as manager:
            with pytest.raises(FeedBusyError) as caught:
                manager.start(timeout=20, replace=replace)
            assert BOTH in str(caught.value)
            assert caught.value.pid == os.getpid()
            assert BOTH in manager.get_status()["last_error"]
        assert tell(feed_name, "status")["state"] == "connected"
        assert venue.connections == 1


def test_without_wait_the_refusal_stands_in_the_status(feed_name, venue):
    with feeder(feed_name, venue), managing(feed_name, venue, venue="x") as manager:
        manager.start(wait=False)
        until(lambda: BOTH in (manager.get_status()["last_error"] or ""))
        until(lambda: manager.get_status()["state"] == "error")


@pytest.mark.parametrize("wait", [True, False])
def test_a_refused_manager_ends_no_feeder_that_lost_its_own(feed_name, venue, wait):
    """The feeder's manager has ended: a release would stop it."""
    with Fork(lambda: None) as ended:
        ended.wait()
        with feeder(feed_name, venue, manager="ended", pid=ended.pid) as one:
            venue.wait_subscribed()
            with managing(feed_name, venue, venue="elsewhere") as manager:
                if wait:
                    with pytest.raises(FeedBusyError):
                        manager.start(timeout=20)
                else:
                    manager.start(wait=False)
                    until(lambda: BOTH in (manager.get_status()["last_error"] or ""))
                manager.stop()
            assert tell(feed_name, "status")["wanted"] is False
            assert one.thread.is_alive()
            # Control: a manager of the same identity does end it.
            with managing(feed_name, venue) as manager:
                manager.start(timeout=20)
            until(lambda: not one.thread.is_alive())


def test_a_refused_manager_removes_no_bars(feed_name, venue):
    leave_bar(feed_name, venue)
    with managing(feed_name, venue, venue="elsewhere") as manager:
        manager.start(wait=False)
        until(lambda: "holds bars of" in (manager.get_status()["last_error"] or ""))
        manager.stop()  # keep=False
    with shmfeed.attach(feed_name) as feed:
        assert len(feed.ring(*STREAM).view(5)) == 1
    create(feed_name, 100).close(unlink=True)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_bars_of_another_identity_are_refused_before_a_launch(
    feed_name, venue, other, monkeypatch
):
    leave_bar(feed_name, venue)
    launched = []
    monkeypatch.setattr("shmfeed.manager.lifecycle.FeederProcess", launched.append)
    with managing(feed_name, venue, **other) as manager:
        with pytest.raises(BadArgumentError, match="holds bars of") as caught:
            manager.start(timeout=20)
        assert BOTH in str(caught.value)
    assert launched == []
    with shmfeed.attach(feed_name) as feed:
        assert len(feed.ring(*STREAM).view(5)) == 1
    create(feed_name, 100).close(unlink=True)


def test_a_stuck_feeder_is_not_taken_for_stored_bars(feed_name, venue, monkeypatch):
    """It does not answer, but it may hold the feed: the lock decides."""

    def launch(*_):
        raise FeedBusyError("the lock is held", 1)

    leave_bar(feed_name, venue)
    monkeypatch.setattr("shmfeed.manager.lifecycle.FeederProcess", launch)
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(str(place(feed_name).socket))
        stuck.listen()
        with managing(feed_name, venue, venue="elsewhere") as manager:
            with pytest.raises(FeedBusyError, match="the lock is held"):
                manager.start(timeout=20)
    place(feed_name).socket.unlink()
    create(feed_name, 100).close(unlink=True)


def test_replace_drops_bars_of_another_identity_once(feed_name, venue):
    leave_bar(feed_name, venue)
    with managing(feed_name, venue, venue="elsewhere") as manager:
        manager.start(timeout=20, replace=True)
        status = manager.get_status()
        assert status["bars"] == 0
        assert status["identity"] == "wealthai/binance-testnet/elsewhere"
        assert status["venue"] == "elsewhere"
        manager.stop(keep=True)
        push_one(feed_name, manager, venue)
    create(feed_name, 100).close(unlink=True)


def push_one(feed_name, manager, venue):
    """Restart it without `replace`: its own bars are kept."""
    manager.start(timeout=20)
    push(venue, 0)
    with shmfeed.attach(feed_name) as feed:
        assert feed.ring(*STREAM).wait(0, timeout=10) == 1
    manager.stop(keep=True)
    manager.start(timeout=20)
    assert manager.get_status()["bars"] == 1
    manager.stop()


def test_replace_is_no_setting(monkeypatch):
    manager = shmfeed.manager.WebSocketManager()
    with pytest.raises(BadArgumentError, match="replace"):
        manager.configure(replace=True)
    monkeypatch.setenv("SHMFEED_REPLACE", "1")
    with pytest.raises(BadArgumentError, match="SHMFEED_REPLACE"):
        manager.configure()


@pytest.mark.parametrize("replace", ["yes", None, 2])
def test_replace_is_true_or_false(replace):
    with pytest.raises(BadArgumentError, match="replace"):
        shmfeed.manager.WebSocketManager().start(replace=replace)


def test_its_own_feeder_is_replaced_by_another_identity_on_request(feed_name, venue):
    with managing(feed_name, venue) as manager:
        manager.start(timeout=20)
        first = manager.get_status()["pid"]
        more = {"symbols": ["BTCUSDT"], "resolutions": ["1m"], "history": 100}
        manager.configure(endpoint=venue.url, venue="elsewhere", **more)
        with pytest.raises(FeedBusyError) as caught:
            manager.start(timeout=20)
        assert BOTH in str(caught.value)
        assert manager.is_connected()
        assert manager.get_status()["pid"] == first
        manager.start(timeout=20, replace=True)
        assert manager.get_status()["pid"] != first
        assert manager.get_status()["venue"] == "elsewhere"


def test_what_cannot_be_handed_over_is_named(feed_name, venue, caplog):
    with feeder(feed_name, venue):
        venue.wait_subscribed()
        more = {"history": 200, "close_grace": 1.0, "stuck_timeout": 9.0}
        with managing(feed_name, venue, symbols=["ETHUSDT"], **more) as manager:
            assert manager.get_status()["differs"] == []
            manager.start(timeout=20)
            assert sorted(manager.get_status()["differs"]) == ["close_grace", "history"]
            assert "keeps its own values of: " in caplog.text
            with shmfeed.attach(feed_name) as feed:
                assert feed.status()["differs"] == []
            manager.stop()
            assert manager.get_status()["differs"] == []


def test_a_reloaded_feeder_is_compared_again(feed_name, venue, monkeypatch):
    monkeypatch.setattr(adopted, "COMPARE_SECONDS", 0.05)
    with feeder(feed_name, venue, csrf_token=TOKENS[0]):
        venue.wait_subscribed()
        with managing(feed_name, venue, csrf_token=TOKENS[0]) as manager:
            manager.start(timeout=20)
            assert manager.get_status()["differs"] == []
            tell(feed_name, "token", token=TOKENS[1])
            until(lambda: manager.get_status()["differs"] == ["csrf_token"])
            tell(feed_name, "token", token=TOKENS[0])
            until(lambda: manager.get_status()["differs"] == [])


def test_equal_settings_differ_in_nothing(feed_name, venue, caplog):
    with feeder(feed_name, venue), managing(feed_name, venue) as manager:
        manager.start(timeout=20)
        assert manager.get_status()["differs"] == []
    assert "keeps its own" not in caplog.text


def test_a_new_token_reaches_an_adopted_feeder(feed_name, caplog):
    caplog.set_level(logging.DEBUG)
    with Venue(speed=None, token=TOKENS[1], symbols=["BTCUSDT"]) as venue:
        endless = {"max_reconnect_attempts": None}
        with feeder(feed_name, venue, csrf_token=TOKENS[0], **endless):
            with shmfeed.attach(feed_name) as feed:
                until(lambda: feed.connection().get("error_kind"))
            # The venue refuses the feeder's token, and takes the manager's.
            with managing(feed_name, venue, csrf_token=TOKENS[1], **endless) as manager:
                manager.start(timeout=20)
                assert manager.get_status()["differs"] == []
    assert not any(token in caplog.text for token in TOKENS)


def test_a_connected_feeder_takes_the_token_to_a_new_connection(feed_name, venue):
    with feeder(feed_name, venue, csrf_token=TOKENS[0]):
        venue.wait_subscribed()
        with shmfeed.attach(feed_name) as feed:
            until(lambda: feed.connection()["state"] == "connected")
            with managing(feed_name, venue, csrf_token=TOKENS[1]) as manager:
                manager.start(timeout=20)
                until(lambda: venue.subscriptions[-1]["csrf_token"] == TOKENS[1])
                push(venue, 0)  # the old connection goes once the new one has data
                until(lambda: venue.connections == 1)
                assert feed.status()["reconnects"] == 0  # planned changes do not count
                assert manager.is_connected()
            segment = place(feed_name).segment.read_bytes()
    assert not any(token.encode() in segment for token in TOKENS)


def test_a_feeder_shows_no_setting(feed_name, venue):
    with feeder(feed_name, venue, csrf_token=TOKENS[0]):
        venue.wait_subscribed()
        answers = [tell(feed_name, "settings", nonce=n) for n in ("a", "b", "a")]
    assert TOKENS[0] not in str(answers)
    assert venue.url not in str(answers)
    first, second, third = (answer["digests"] for answer in answers)
    assert first == third
    assert all(first[name] != second[name] for name in first)


def test_launch_never_adopts_only(feed_name, venue):
    with managing(feed_name, venue, launch="never") as manager:
        with pytest.raises(WebSocketConnectionError) as caught:
            manager.start(timeout=0.5)
        assert f"no feeder of feed {feed_name!r} runs" in str(caught.value)
        assert f"shmfeed run --feed {feed_name}" in str(caught.value)
        manager.start(wait=False)
        with feeder(feed_name, venue):
            until(manager.is_connected)
            assert manager.get_status()["pid"] == os.getpid()
        until(lambda: not manager.is_connected())
        assert manager.get_status()["pid"] is None


def test_losses_stand_in_the_managers_log(feed_name, venue, caplog):
    caplog.set_level(logging.INFO, "shmfeed.manager")
    with managing(feed_name, venue) as manager:
        manager.start(timeout=20)
        venue.drop_connections()
        until(lambda: "reconnecting, before connected" in caplog.text)
        until(manager.is_connected)
    levels = {
        record.getMessage().split(": ")[1]: record.levelname
        for record in caplog.records
        if "before" in record.getMessage()
    }
    assert levels["reconnecting, before connected"] == "WARNING"
    assert levels["connected, before reconnecting"] == "INFO"
