"""Leases at a feeder in this process: what they hold, refuse, and leave."""

import asyncio
import gc
import logging
import os
import threading
import time
from contextlib import contextmanager

import pytest
from support.feeding import feeder, is_listening, settings, tell
from support.forks import Fork
from support.waiting import until

import shmfeed
import wealthdata
from shmfeed.control.lease_client import LeaseClaim, LeaseKeeper, keeper
from shmfeed.errors import (
    BadArgumentError,
    FeedNotFoundError,
    SegmentFullError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feeder.wants import Wants
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue
from wealthdata import choices, stand_ins

pytestmark = pytest.mark.usefixtures("no_settings")
OWN = ("BTCUSDT", "1m")
SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]
SOON = {"lease_linger": 0.1}


@pytest.fixture
def no_settings(monkeypatch):
    monkeypatch.delenv("SHMFEED_FEED", raising=False)
    monkeypatch.delenv("SHMFEED_OWNER", raising=False)
    choices.forget_choices()
    yield
    choices.forget_choices()
    assert threads() == []


def threads():
    """Return the threads of leases; the last one ends with the last lease."""
    found = [one for one in threading.enumerate() if one.name == "shmfeed-leases"]
    for one in found:
        one.join(10.0)
    return [one for one in found if one.is_alive()]


@pytest.fixture
def venue():
    with Venue(speed=None, symbols=SYMBOLS) as venue:
        yield venue


@contextmanager
def connected(feed, venue, **more):
    with feeder(feed, venue, **more) as one:
        until(lambda: is_listening(feed))
        until(lambda: tell(feed, "status")["state"] == "connected")
        yield one


@pytest.fixture
def feed(feed_name, venue):
    with connected(feed_name, venue, **SOON):
        yield feed_name


def streams(feed):
    with shmfeed.attach(feed) as attached:
        return set(attached.streams())


def wants(feed, kind="lease"):
    with shmfeed.attach(feed) as attached:
        found = attached.status()["wants"].values()
    return [one for one in found if one["kind"] == kind]


def symbols_wanted(feed):
    """Return the symbols of each lease, and whether it lingers, as status has them."""
    return [(one["symbols"], one["ends_in"] is None) for one in wants(feed)]


def test_a_lease_holds_its_streams_from_its_entry_on(feed):
    with shmfeed.lease(["ETHUSDT", "SOLUSDT"], "60m", feed) as held:
        assert held.is_held
        assert streams(feed) == {OWN, ("ETHUSDT", "1h"), ("SOLUSDT", "1h")}
        until(lambda: symbols_wanted(feed) == [(["ETHUSDT", "SOLUSDT"], True)])
    assert not held.is_held
    until(lambda: streams(feed) == {OWN})
    until(lambda: wants(feed) == [])


def test_what_a_lease_leaves_lingers(feed_name, venue):
    with connected(feed_name, venue, lease_linger=60):
        with shmfeed.lease("ETHUSDT", "1m", feed_name):
            pass
        until(lambda: symbols_wanted(feed_name) == [(["ETHUSDT"], False)])
        assert 0 < wants(feed_name)[0]["ends_in"] <= 60
        assert streams(feed_name) == {OWN, ("ETHUSDT", "1m")}


def test_leases_of_the_same_streams_hold_them_each_for_itself(feed):
    both = {OWN, ("ETHUSDT", "1m")}
    with shmfeed.lease("ETHUSDT", "1m", feed):
        with shmfeed.lease("ETHUSDT", "1m", feed):
            until(lambda: len(wants(feed)) == 2)
        until(lambda: len(wants(feed)) == 1)
        assert streams(feed) == both
    until(lambda: streams(feed) == {OWN})


def test_a_lease_may_be_entered_inside_itself_and_again(feed):
    one = shmfeed.lease("ETHUSDT", "1m", feed)
    with one, one:
        until(lambda: len(wants(feed)) == 2)
    assert not one.is_held
    with one:
        assert one.is_held


def test_a_managers_unsubscribe_takes_nothing_from_a_lease(feed):
    name = {"manager": "other"}
    tell(feed, "subscribe", symbols=["ETHUSDT"], resolutions=["1m"], **name)
    with shmfeed.lease("ETHUSDT", "1m", feed):
        tell(feed, "subscribe", symbols=["SOLUSDT"], resolutions=["1m"], **name)
        assert {("ETHUSDT", "1m"), ("SOLUSDT", "1m")} <= streams(feed)
        tell(feed, "release", **name)
        until(lambda: streams(feed) == {OWN, ("ETHUSDT", "1m")})


def test_a_manager_keeps_what_a_lease_has_left(feed):
    tell(feed, "subscribe", manager="m", symbols=["ETHUSDT"], resolutions=["1m"])
    with shmfeed.lease(["ETHUSDT", "SOLUSDT"], "1m", feed):
        pass
    until(lambda: streams(feed) == {OWN, ("ETHUSDT", "1m")})


def test_a_refused_lease_raises_the_venues_words_and_holds_none(feed):
    before = streams(feed)
    with pytest.raises(WebSocketSubscriptionError, match="unknown symbols: NOSUCH"):
        shmfeed.lease(["ETHUSDT", "NOSUCH"], "1m", feed).__enter__()
    assert streams(feed) == before
    until(lambda: wants(feed) == [])
    with shmfeed.lease("ETHUSDT", "1m", feed):  # control
        assert streams(feed) == before | {("ETHUSDT", "1m")}


def test_a_stream_that_the_venue_refused_before_is_refused_to_a_lease(feed_name, venue):
    with feeder(feed_name, venue, symbols=["BTCUSDT", "NOSUCH"]):
        with shmfeed.attach(feed_name, timeout=20) as attached:
            until(lambda: attached.status()["state"] == "connected")
        with pytest.raises(WebSocketSubscriptionError, match="NOSUCH"):
            shmfeed.lease("NOSUCH", "1m", feed_name).__enter__()
        with shmfeed.lease("BTCUSDT", "1m", feed_name):
            pass


def test_without_a_feeder_it_waits_for_one(feed_name, venue):
    begun = time.monotonic()
    with pytest.raises(FeedNotFoundError, match=r"within 0\.2 s; start one"):
        shmfeed.lease("ETHUSDT", "1m", feed_name, timeout=0.2).__enter__()
    assert time.monotonic() - begun >= 0.2
    entered = threading.Event()

    def enter():
        with shmfeed.lease("ETHUSDT", "1m", feed_name, timeout=60):
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    with feeder(feed_name, venue, **SOON):
        assert entered.wait(60)
        thread.join()


def test_a_feeder_without_a_connection_is_named(feed_name):
    with feeder(feed_name, "ws://127.0.0.1:1"):
        until(lambda: is_listening(feed_name))
        with pytest.raises(WebSocketConnectionError, match="not connected now"):
            shmfeed.lease("ETHUSDT", "1m", feed_name, timeout=1).__enter__()


def test_a_venue_that_does_not_answer_is_named(feed, venue):
    venue.set_faults("ack-never")
    with pytest.raises(WebSocketSubscriptionError, match=r"within 0\.5 s"):
        shmfeed.lease("ETHUSDT", "1m", feed, timeout=0.5).__enter__()
    until(lambda: wants(feed) == [])


def test_a_lease_without_room_is_refused(feed_name, venue):
    with connected(feed_name, venue, max_streams=2, **SOON):
        with pytest.raises(SegmentFullError):
            shmfeed.lease(SYMBOLS, "1m", feed_name).__enter__()
        assert streams(feed_name) == {OWN}
        with shmfeed.lease("ETHUSDT", "1m", feed_name):
            assert len(streams(feed_name)) == 2


def test_a_lease_is_asked_for_again_after_a_restart(feed_name, venue):
    both = {OWN, ("ETHUSDT", "1m")}
    with connected(feed_name, venue) as first:
        held = shmfeed.lease("ETHUSDT", "1m", feed_name).__enter__()
        first.stop()
        first.thread.join()
    until(lambda: not held.is_held)
    with feeder(feed_name, venue, **SOON):
        until(lambda: held.is_held)
        assert streams(feed_name) == both
        held.__exit__()
        until(lambda: streams(feed_name) == {OWN})


def test_a_renewal_that_is_refused_is_logged_once_and_tried_again(
    feed_name, venue, caplog, monkeypatch
):
    monkeypatch.setattr("shmfeed.control.lease_client.REFUSED_SECONDS", 0.05)
    with connected(feed_name, venue) as first:
        held = shmfeed.lease("XRPUSDT", "1m", feed_name).__enter__()
        first.stop(unlink=True)
        first.thread.join()
    refused = "was not renewed"
    with caplog.at_level(logging.WARNING), Venue(symbols=SYMBOLS[:2]) as other:
        with feeder(feed_name, other, venue="127.0.0.1"):
            until(lambda: refused in caplog.text)
            until(lambda: len(other.subscriptions) > 3)
            assert caplog.text.count(refused) == 1
            assert not held.is_held
    with feeder(feed_name, venue, **SOON):
        until(lambda: held.is_held)
        held.__exit__()


def test_the_feed_of_a_lease_is_the_one_that_is_read(feed, monkeypatch):
    monkeypatch.setenv("SHMFEED_FEED", feed)
    with shmfeed.lease("ETHUSDT", "1m") as held:
        assert held.is_held
    monkeypatch.setenv("SHMFEED_FEED", "another")
    wealthdata.use(feed=feed)
    with shmfeed.lease("SOLUSDT", "1m") as held:
        assert held.is_held


@pytest.mark.parametrize("how", ["off", "context_only", "replay"])
def test_a_process_that_reads_no_feed_holds_nothing(feed, monkeypatch, how):
    if how == "off":
        monkeypatch.setenv("SHMFEED_FEED", "off")
    elif how == "context_only":
        wealthdata.use(context_only=True)
    else:
        monkeypatch.setenv(stand_ins.VARIABLE, f"{feed}=segment")
    with shmfeed.lease("NOSUCH", "1m", feed) as held:
        assert not held.is_held
        assert wants(feed) == []


@pytest.mark.parametrize("how", ["the environment", "use"])
def test_a_process_that_reads_another_users_feeds_is_refused(feed, monkeypatch, how):
    """A lease would concern a feed of this user, which the process does not read."""
    other = os.geteuid() + 12_345
    if how == "use":
        wealthdata.use(owner=other)
    else:
        monkeypatch.setenv("SHMFEED_OWNER", str(other))
    with pytest.raises(BadArgumentError, match=f"the feeds of user {other}, whose"):
        with shmfeed.lease("ETHUSDT", "1m", feed):
            pass
    monkeypatch.setenv("SHMFEED_OWNER", str(os.geteuid()))
    wealthdata.use(owner=os.geteuid())
    assert wants(feed) == []
    with shmfeed.lease("ETHUSDT", "1m", feed):
        assert ("ETHUSDT", "1m") in streams(feed)


def test_a_forked_child_holds_nothing(feed):
    with shmfeed.lease("ETHUSDT", "1m", feed) as held:

        def child():
            assert not held.is_held
            held.__exit__()

        with Fork(child) as forked:
            assert forked.wait() == 0
        assert held.is_held
        assert symbols_wanted(feed) == [(["ETHUSDT"], True)]


def test_a_lease_that_is_dropped_is_given_back(feed):
    shmfeed.lease("ETHUSDT", "1m", feed).__enter__()
    gc.collect()
    until(lambda: wants(feed) == [])


def test_threads_hold_leases_of_their_own(feed):
    together, failures = threading.Barrier(8), []

    def hold(number):
        try:
            with shmfeed.lease(SYMBOLS[number % 4], "1m", feed) as held:
                together.wait(30)
                assert held.is_held
                assert len(streams(feed)) == 4
                together.wait(30)
        except Exception as error:  # noqa: BLE001 # the test names it
            failures.append(error)

    running = [threading.Thread(target=hold, args=[n]) for n in range(8)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert failures == []
    until(lambda: streams(feed) == {OWN})


def test_control_an_unsubscribe_that_starves_another(feed, monkeypatch):
    with shmfeed.lease("ETHUSDT", "1m", feed):
        monkeypatch.setattr(Wants, "union", _of_the_last)
        fields = {"manager": "m", "symbols": ["SOLUSDT"], "resolutions": ["1m"]}
        tell(feed, "subscribe", **fields)
        assert ("ETHUSDT", "1m") not in streams(feed)
        monkeypatch.undo()


def test_control_a_lease_that_leaks(feed, monkeypatch):
    monkeypatch.setattr(Wants, "due", lambda *_: [])
    with shmfeed.lease("ETHUSDT", "1m", feed):
        pass
    with pytest.raises(AssertionError, match="not within"):
        until(lambda: streams(feed) == {OWN}, timeout=1.0)


def _of_the_last(wants):
    managers = [one for _, one in wants.claimants() if one.kind == "manager"]
    return managers[-1].streams if managers else (OWN,)


class TestAsyncio:
    def test_a_lease_in_a_task(self, feed):
        async def main():
            async with shmfeed.lease("ETHUSDT", "1m", feed) as held:
                assert held.is_held
                assert ("ETHUSDT", "1m") in streams(feed)
            with pytest.raises(WebSocketSubscriptionError, match="NOSUCH"):
                async with shmfeed.lease("NOSUCH", "1m", feed):
                    pass
            with pytest.raises(FeedNotFoundError):
                async with shmfeed.lease("A", "1m", f"{feed}-not", timeout=0.1):
                    pass

        asyncio.run(main())
        until(lambda: streams(feed) == {OWN})

    @pytest.mark.parametrize("faults", ["", "ack-never"])
    def test_a_cancelled_task_holds_nothing(self, feed, venue, faults):
        venue.set_faults(faults)

        async def main():
            for pause in (0, 0.001, 0.01, 0.05):
                one = shmfeed.lease("ETHUSDT", "1m", feed)
                task = asyncio.create_task(one.__aenter__())
                await asyncio.sleep(pause)
                if task.cancel():
                    with pytest.raises(asyncio.CancelledError):
                        await task
                else:
                    await one.__aexit__()
                assert not one.is_held

        asyncio.run(main())
        until(lambda: wants(feed) == [])
        until(lambda: streams(feed) == {OWN})

    def test_the_loop_runs_while_a_lease_waits(self, feed_name):
        async def main():
            task = asyncio.create_task(
                shmfeed.lease("A", "1m", feed_name, timeout=0.3).__aenter__()
            )
            turns = 0
            while not task.done():
                await asyncio.sleep(0.01)
                turns += 1
            assert turns > 3
            with pytest.raises(FeedNotFoundError):
                task.result()

        asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], "1m"), "symbols is []"),
        (("A", ()), "resolutions is ()"),
        ((5, "1m"), "symbols is 5"),
        (("no such", "1m"), "'no such'"),
        (("A", "7m"), "7m"),
        (("A", "1m", "no such feed!"), "no such feed!"),
        (("A", "1m", None, 0), "timeout is 0"),
        (("A", "1m", None, "soon"), "timeout is 'soon'"),
        ((["A"] * 3 + [f"S{n}" for n in range(10_000)], "1m"), "10001 streams"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(BadArgumentError) as caught:
        shmfeed.lease(*arguments)
    assert words in str(caught.value)
    assert keeper._claims == []


def test_the_feeders_codec_checks_the_symbols(feed_name, venue):
    with connected(feed_name, venue):
        with pytest.raises(BadArgumentError, match="case"):
            shmfeed.lease("btcusdt", "1m", feed_name).__enter__()


def test_settings_of_the_linger_are_checked(feed_name, venue):
    for wrong in ({"lease_linger": -1}, {"manager_linger": "x"}, {"name": " a"}):
        with pytest.raises(BadArgumentError, match=next(iter(wrong))):
            settings(feed_name, venue, **wrong)


def test_a_lease_that_is_collected_in_the_keepers_thread_blocks_nothing(feed_name):
    """The garbage collector runs in any thread, at any step."""
    leases = LeaseKeeper()

    class CollectingClaim(LeaseClaim):
        @property
        def is_over(self):  # the keeper's thread asks under its lock
            leases.drop(other)
            return self.is_dropped

        @is_over.setter
        def is_over(self, value):
            self.is_dropped = value

    path = place(feed_name).socket
    other = LeaseClaim(feed_name, path, {}, lambda: None)
    claim = CollectingClaim(feed_name, path, {}, lambda: None)
    leases.add(claim)
    until(lambda: other.is_over, what="the collection")
    dropping = threading.Thread(target=leases.drop, args=(claim,), daemon=True)
    dropping.start()
    until(lambda: not dropping.is_alive(), what="a lease that is given back")
