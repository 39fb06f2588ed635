"""A real feeder while its venue is silent, slow, closed, or has a wrong clock.

Only one watchdog is active: the other limits are far away. The controls run without it.
"""

import time
from contextlib import ExitStack, contextmanager

import pytest
from support.feeding import STREAM, feeder, push, tell
from support.waiting import until

import shmfeed
from shmfeed.bar import CLOSED_BY_VENUE
from shmfeed.errors import WebSocketSubscriptionError
from shmfeed.feeder import mute
from shmfeed.layout import E_REASON
from shmfeed.simulator import Venue, verify

SEED = 5
BOTH = pytest.mark.parametrize("protocol", ["wealthai", "binance"])
LIVE = {"speed": 300, "history": 100, "update_interval": 0.02, "seed": SEED}
LIMIT = 0.4
SLACK = 3.0  # of a busy machine
NEVER = {
    "data_timeout": 600.0,
    "heartbeat_interval": 0.05,
    "heartbeat_timeout": 600.0,
    "max_reconnect_attempts": None,
}
WATCHDOGS = {
    "no frame": {"heartbeat_timeout": LIMIT},
    "no bar": {"data_timeout": LIMIT},
}


@contextmanager
def live(feed_name, protocol="wealthai", faults="", **settings):
    """Yield the feed of a venue at 300 times the speed: five bars a second."""
    with Venue(protocol=protocol, faults=faults, **LIVE) as venue:
        options = {"protocol": protocol, "market_type": "spot", **NEVER, **settings}
        with feeder(feed_name, venue, **options):
            with shmfeed.attach(feed_name) as feed:
                yield venue, feed, feed.ring(*STREAM)


def health(feed):
    return feed.status()["streams"][0]["health"]


def state(feed):
    return feed.status()["state"]


def check_rows(ring):
    """Check that the rows are the market's, one bar after the other."""
    rows = ring.snapshot(100)
    assert verify(SEED, *STREAM, rows) == 0
    assert set((rows.open_time[1:] - rows.open_time[:-1]).tolist()) == {60_000}
    assert rows["flags"][-1] == CLOSED_BY_VENUE


# Silence


@pytest.mark.parametrize(
    ("fault", "watchdog", "protocol"),
    [
        ("half-open", "no frame", "wealthai"),
        ("half-open", "no bar", "binance"),
        ("mute", "no frame", "binance"),
        ("mute", "no bar", "wealthai"),
        ("mute-pongs", "no bar", "wealthai"),
        ("mute-pongs", "no bar", "binance"),
        ("trickle:20B/s", "no frame", "wealthai"),
        ("trickle:20B/s", "no bar", "binance"),
    ],
)
def test_silence_is_noticed_within_its_limit_and_ends(
    feed_name, fault, watchdog, protocol
):
    with live(feed_name, protocol, **WATCHDOGS[watchdog]) as (venue, feed, ring):
        until(lambda: ring.count >= 100)
        until(lambda: health(feed) == "live")
        before = int(ring.view(1).open_time[-1])
        began = time.monotonic()
        venue.set_faults(f"{fault},refuse")
        until(lambda: state(feed) == "reconnecting")
        elapsed = time.monotonic() - began
        assert LIMIT - 0.2 < elapsed < LIMIT + SLACK
        assert health(feed) == "recovering"
        assert len(ring.view(10)) == 10  # what there is stays readable
        until(lambda: "could not connect" in feed.status()["last_error"])
        venue.set_faults("")
        until(lambda: ring.view(1).open_time[-1] > before + 60_000)
        status = feed.status()
        assert (status["state"], health(feed)) == ("connected", "live")
        assert status["reconnects"] == 1
        assert status["gaps"] == status["malformed"] == status["revisions"] == 0
        check_rows(ring)


@pytest.mark.parametrize("watchdog", WATCHDOGS)
def test_the_last_error_names_the_loss(feed_name, watchdog):
    with live(feed_name, **WATCHDOGS[watchdog]) as (venue, feed, ring):
        until(lambda: ring.count >= 100)
        venue.half_open()  # new connections are served
        until(lambda: feed.status()["reconnects"] == 1)
        assert feed.status()["last_error"] == (
            f"lost {venue.url}: the venue sent {watchdog} for {LIMIT:g} s"
        )
        until(lambda: health(feed) == "live")
        check_rows(ring)


def test_the_health_of_a_stream_by_its_limit_of_silence(feed_name):
    """Live, recovering while the connection is away, then stale, then live again."""
    with live(feed_name, stale_after={"1m": 1.5}, **WATCHDOGS["no frame"]) as (
        venue,
        feed,
        ring,
    ):
        until(lambda: health(feed) == "live")
        venue.set_faults("half-open,refuse")
        until(lambda: health(feed) == "recovering")
        (row,) = feed.status()["streams"]
        assert row["why"].startswith("connection away for 0.")
        until(lambda: health(feed) == "stale")
        assert ring.status().age > 1.5
        assert ring.why().startswith("connection away for ")
        assert feed.status()["state"] == "reconnecting"
        venue.set_faults("")
        until(lambda: health(feed) == "live")
        assert ring.why() == ""


def test_a_stream_that_is_mute_says_what_is_done_for_it(feed_name, monkeypatch):
    monkeypatch.setattr(mute, "limit_of", lambda key: 0.5)
    monkeypatch.setattr(mute, "CHECK_SECONDS", 0.05)
    settings = {"symbols": ["BTCUSDT", "ETHUSDT"], "stale_after": 0.3}
    with live(feed_name, **settings) as (venue, feed, ring):
        other = feed.ring("ETHUSDT", "1m")
        until(lambda: other.status().health == ring.status().health == "live")
        venue.set_faults("mute-stream:ETHUSDT")
        until(lambda: "; mute while others speak, asked for again" in other.why())
        until(lambda: "; still mute, moved to a new connection" in other.why())
        assert feed.status()["health"] == "stale"
        assert ring.status().health == "live"
        venue.set_faults("")
        until(lambda: other.status().health == "live")
        reader = other._current_reader()
        until(lambda: not reader.words.ints[reader.entry + E_REASON])


def test_a_stream_without_a_bar_is_waiting_however_long(feed_name):
    with Venue(speed=None) as venue:  # it pushes what the test pushes
        with feeder(feed_name, venue, **NEVER, stale_after=0.1):
            with shmfeed.attach(feed_name) as feed:
                until(lambda: health(feed) == "waiting")
                until(lambda: feed.status()["uptime"] > 0.5)
                assert (state(feed), health(feed)) == ("connected", "waiting")
                push(venue, 0)
                until(lambda: health(feed) != "waiting")
                until(lambda: health(feed) == "stale")
                why = feed.ring(*STREAM).why()
                assert why.startswith("silent for ")
                assert why.endswith("limit 0.1 s")


UNWATCHED = {
    "half-open": {},
    "mute": {},
    "mute-pongs": WATCHDOGS["no frame"],  # a pong is one
    "trickle:20B/s": {},
}


def test_control_without_its_watchdog_silence_goes_unnoticed(feed_name):
    """All of them at once, and for three times the limit."""
    with ExitStack() as stack:
        feeds = []
        for number, (fault, settings) in enumerate(UNWATCHED.items()):
            venue, feed, ring = stack.enter_context(
                live(f"{feed_name}{number}", **settings)
            )
            until(lambda ring=ring: ring.count >= 100)
            venue.set_faults(f"{fault},refuse")
            feeds.append(feed)
        for feed in feeds:
            until(lambda one=feed: one.status()["last_message_age"] > 3 * LIMIT)
            status = feed.status()
            assert (status["state"], status["reconnects"]) == ("connected", 0)
            assert status["last_error"] is None


def test_a_mute_that_ends_in_time_costs_no_connection(feed_name):
    with live(feed_name, heartbeat_timeout=5.0, data_timeout=5.0) as (venue, feed, _):
        until(lambda: state(feed) == "connected")
        venue.set_faults("mute-pongs@0+0.3")
        until(lambda: feed.status()["last_message_age"] > 0.2)
        until(lambda: feed.status()["last_message_age"] < 0.1)
        assert feed.status()["reconnects"] == 0


# Answers to a subscription


def test_a_late_acknowledgement_is_waited_for_and_bars_behind_it_are_kept(feed_name):
    with live(feed_name, faults="ack-late:500ms") as (venue, feed, ring):
        venue.wait_sent(20)
        assert (state(feed), ring.count) == ("connecting", 0)
        until(lambda: ring.count >= 100)
        assert state(feed) == "connected"
        check_rows(ring)


@pytest.mark.parametrize("fault", ["ack-never", "ack-wrong", "ack-late:600s"])
def test_without_an_acknowledgement_the_state_is_never_connected(feed_name, fault):
    limits = {"ack_timeout": 0.2, "max_reconnect_attempts": 2}
    with live(feed_name, faults=fault, **limits) as (venue, feed, ring):
        began = time.monotonic()
        until(lambda: state(feed) == "error")
        assert time.monotonic() - began < 2 * 0.2 + SLACK
        told = feed.connection()
        assert told["error_kind"] == "subscription"
        assert "did not acknowledge the subscription within 0.2 s" in told["last_error"]
        assert (ring.count, health(feed)) == (0, "stale")
        assert feed.status()["reconnects"] == 0
        venue.set_faults("")
        tell(feed_name, "start")
        until(lambda: state(feed) == "connected")
        until(lambda: ring.count >= 100)
        check_rows(ring)


@BOTH
@pytest.mark.parametrize("fault", ["ack-never", "ack-wrong"])
def test_a_change_that_is_not_acknowledged_is_refused(feed_name, protocol, fault):
    with live(feed_name, protocol, ack_timeout=0.3) as (venue, feed, ring):
        until(lambda: state(feed) == "connected")
        venue.set_faults(fault)
        with pytest.raises(WebSocketSubscriptionError, match=r"within 0\.3 s"):
            change = {"symbols": ["ETHUSDT"], "resolutions": ["1m"]}
            tell(feed_name, "subscribe", manager="m", pid=1, **change)
        venue.set_faults("")
        until(lambda: state(feed) == "connected")
        assert feed.streams() == [STREAM]
        until(lambda: health(feed) == "live")
        check_rows(ring)


# New connections


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("refuse", "the server closed the connection|reset"),
        ("refuse:503", "the server answered 503"),
        ("unanswered", "the handshake timed out after 0.3 s"),
    ],
)
def test_a_refused_feeder_gives_up_and_names_the_reason(feed_name, fault, words):
    limits = {"connect_timeout": 0.3, "max_reconnect_attempts": 3}
    with live(feed_name, faults=fault, **limits) as (venue, feed, ring):
        until(lambda: state(feed) == "error")
        error = feed.status()["last_error"]
        assert "after 3 attempts" in error
        assert any(word in error for word in words.split("|")), error
        assert health(feed) == "stale"
        venue.set_faults("")
        tell(feed_name, "start")
        until(lambda: ring.count >= 100)
        check_rows(ring)


def test_a_refusal_that_ends_is_outlived(feed_name):
    with live(feed_name, faults="refuse@0+0.5") as (_, feed, ring):
        until(lambda: state(feed) == "connected")
        until(lambda: ring.count >= 100)
        assert feed.status()["reconnects"] == 0  # it had not been connected before
        check_rows(ring)


# The venue's clock


CLOCKS = [  # protocol, fault, whether bars say that they are closed
    ("wealthai", "skew:+90s", True),
    ("wealthai", "skew:-90s", True),
    ("wealthai", "skew:+90s", False),
    ("wealthai", "skew:-90s", False),
    ("binance", "skew:-90s", True),
    ("binance", "skew-events:+90s", True),
    ("binance", "skew-events:-90s", True),
]


def test_the_venues_clock_counts(feed_name):
    """All of them at once: at the venue's own pace a bar takes a second."""
    with ExitStack() as stack:
        feeds = []
        for number, (protocol, fault, flag) in enumerate(CLOCKS):
            options = {"protocol": protocol, "closed_flag": flag, "seed": SEED}
            options |= {"faults": fault, "history": 5, "update_interval": 0.1}
            venue = stack.enter_context(Venue(**options))
            name = f"{feed_name}{number}"
            more = {"protocol": protocol, "market_type": "spot", "resolutions": ["1s"]}
            stack.enter_context(feeder(name, venue, **NEVER, **more))
            feeds.append(stack.enter_context(shmfeed.attach(name)))
        rings = [feed.ring("BTCUSDT", "1s") for feed in feeds]
        for (_, fault, _), feed, ring in zip(CLOCKS, feeds, rings, strict=True):
            until(lambda ring=ring: ring.count >= 9)
            rows = ring.snapshot(100)
            status = feed.status()
            # The date of the venue's handshake tells its clock before the first bar.
            assert verify(SEED, "BTCUSDT", "1s", rows) == 0
            assert status["revisions"] == 0
            assert set((rows.open_time[1:] - rows.open_time[:-1]).tolist()) == {1000}
            assert (status["state"], health(feed)) == ("connected", "live")
            assert status["malformed"] == status["gaps"] == 0
            shift = 0 if "events" in fault else float(fault.split(":")[1][:-1])
            age = time.time() + shift - rows.close_time[-1] / 1000
            assert -1 < age < SLACK + 1
