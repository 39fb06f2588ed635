"""Status of a feed and its streams: every health, every key."""

import os
import time
from collections.abc import Callable, Iterator

import pytest
from support import cores
from support.ring_on_bytes import HOUR, prices

from shmfeed import marks, ringbuf, writer
from shmfeed.bar import TIMEFRAMES, duration, stale_after
from shmfeed.errors import SegmentFormatError
from shmfeed.feed import Feed, attach
from shmfeed.health import HEALTHS
from shmfeed.layout import (
    COUNTERS,
    E_SINCE,
    E_UPDATED,
    H_ALIVE,
    H_NOTE,
    H_STATE,
    H_TICK,
    SLOT_HEADER_WORDS,
    STATES,
    WORD,
)
from shmfeed.memory import liveness
from shmfeed.memory.words import boot_ns
from shmfeed.status import (
    ConnectionStatus,
    FeedStatus,
    StreamStatus,
    status_without_feed,
)
from shmfeed.writer import FeedWriter, create

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
KEYS = (
    "state health symbols resolutions last_error feed pid endpoint protocol market_type"
    " venue uptime state_since next_attempt_in reconnects messages bars malformed"
    " ignored unsubscribed late missed duplicates revisions disagreements gaps"
    " last_message_age clock_offset differs wants streams"
)
STREAM_KEYS = (
    "symbol timeframe count last_close_time age gaps health why messages dropped missed"
)


class Clock:
    """The boot clock of both halves, moved by hand."""

    def __init__(self) -> None:
        self.now = boot_ns()

    def __call__(self) -> int:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    cores.write_purely(monkeypatch.setattr)
    for module in (writer, marks, ringbuf):
        monkeypatch.setattr(module, "boot_ns", clock)
    cores.tell_time(monkeypatch.setattr, clock)
    return clock


@pytest.fixture
def feeder(feed_name: str, clock: Clock) -> Iterator[FeedWriter]:
    with create(feed_name, history=5, guard=3, max_streams=4) as feeder:
        yield feeder


@pytest.fixture
def feed(feeder: FeedWriter) -> Feed:
    return attach(feeder.name)


Health = Callable[[], str]


@pytest.fixture
def health(feed: Feed, feeder: FeedWriter) -> Health:
    """Return the health of A 1m, the same in ring, row and feed."""
    feeder.add_stream("A", "1m")

    def ask() -> str:
        whole = feed.status()
        (row,) = whole["streams"]
        found = feed.ring("A", "1m").status().health
        assert found == row["health"] == whole["health"]
        return found

    return ask


def live_on(feeder: FeedWriter, clock: Clock, seconds: float) -> None:
    """Let time pass, then beat."""
    clock.pass_(seconds)
    feeder.beat()


class TestHealth:
    def test_waiting_without_a_bar(
        self, feeder: FeedWriter, clock: Clock, health: Health
    ) -> None:
        assert health() == "waiting"
        live_on(feeder, clock, 1e6)
        assert health() == "waiting"

    @pytest.mark.parametrize("verb", ["append", "update_forming"])
    def test_live_quiet_stale(
        self, feeder: FeedWriter, clock: Clock, health: Health, verb: str
    ) -> None:
        live_on(feeder, clock, 100)
        ring = feeder.add_stream("A", "1m")
        getattr(ring, verb)(0, *prices(0))
        assert health() == "live"
        live_on(feeder, clock, 61)
        assert health() == "live"
        live_on(feeder, clock, 2)
        assert health() == "quiet"
        live_on(feeder, clock, 116)
        assert health() == "quiet"
        live_on(feeder, clock, 2)
        assert health() == "stale"
        ring.append(HOUR, *prices(1))
        assert health() == "live"

    def test_dead_two_seconds_after_the_last_sign_of_life(
        self, feeder: FeedWriter, feed: Feed, clock: Clock, health: Health
    ) -> None:
        feeder.add_stream("A", "1m").append(0, *prices(0))
        clock.pass_(2.0)
        assert health() == "live"
        assert feed.alive()
        clock.pass_(0.001)
        assert health() == "dead"
        assert not feed.alive()
        assert feed.status()["state"] == "disconnected"
        assert feed.status()["pid"] is None
        assert feed.status()["uptime"] is None

    @pytest.mark.parametrize(
        "sign",
        [
            lambda feeder: feeder.beat(),
            lambda feeder: feeder.beat_alive(),
            lambda feeder: feeder.tick(),
            lambda feeder: feeder.add_stream("A", "1m").append(0, *prices(0)),
            lambda feeder: feeder.add_stream("A", "1m").update_forming(0, *prices(0)),
        ],
        ids=["beat", "beat_alive", "tick", "append", "update_forming"],
    )
    def test_any_sign_of_life_counts(
        self, feeder: FeedWriter, feed: Feed, clock: Clock, sign: Callable
    ) -> None:
        clock.pass_(10)
        assert not feed.alive()
        sign(feeder)
        assert feed.alive()

    def test_stuck_is_not_dead(
        self, feeder: FeedWriter, feed: Feed, clock: Clock, health: Health
    ) -> None:
        feeder.add_stream("A", "1m").append(0, *prices(0))
        clock.pass_(5.0)
        feeder.beat_alive()
        assert health() == "live"
        clock.pass_(0.1)
        feeder.beat_alive()
        assert health() == "stale"
        assert feed.alive()
        feeder.tick()
        assert health() == "live"

    def test_stuck_without_streams(
        self, feeder: FeedWriter, feed: Feed, clock: Clock
    ) -> None:
        assert feed.status()["health"] == "quiet"
        clock.pass_(6)
        feeder.beat_alive()
        assert feed.status()["health"] == "stale"

    @pytest.mark.parametrize("state", [s for s in STATES if s != "connected"])
    def test_a_connection_that_is_away(
        self, feeder: FeedWriter, feed: Feed, health: Health, state: str
    ) -> None:
        feeder.add_stream("A", "1m").append(0, *prices(0))
        feeder.set_state(state)
        feeder.mark_connection([("A", "1m")], is_connected=False)
        assert health() == ("stale" if state == "error" else "recovering")
        assert feed.status()["state"] == state
        assert feed.ring("A", "1m").status().state == state

    def test_recovering(self, feeder: FeedWriter, health: Health) -> None:
        feeder.add_stream("A", "1m").append(0, *prices(0))
        feeder.mark_stream(("A", "1m"), gaps=2, recovering=True)
        assert health() == "recovering"
        feeder.mark_stream(("A", "1m"), gaps=0, recovering=False)
        assert health() == "live"

    def test_an_unsubscribed_stream_is_stale_at_once(
        self, feeder: FeedWriter, feed: Feed
    ) -> None:
        feeder.add_stream("A", "1m").append(0, *prices(0))
        feeder.unsubscribe("A", "1m")
        assert feed.ring("A", "1m").status().health == "stale"
        assert feed.status()["health"] == "quiet"  # no stream that it carries is

    def test_subscribed_again_it_is_quiet_until_a_bar_comes(
        self, feeder: FeedWriter, clock: Clock, health: Health
    ) -> None:
        feeder.add_stream("A", "1m").append(0, *prices(0))
        feeder.unsubscribe("A", "1m")
        live_on(feeder, clock, 1000)
        feeder.add_stream("A", "1m")
        assert health() == "quiet"
        live_on(feeder, clock, 181)
        assert health() == "stale"

    def test_a_feed_has_the_worst_health_of_its_streams(
        self, feeder: FeedWriter, feed: Feed, clock: Clock
    ) -> None:
        feeder.add_stream("A", "1m").append(0, *prices(0))
        feeder.add_stream("B", "1h").append(0, *prices(0))
        feeder.add_stream("C", "1h")
        live_on(feeder, clock, 200)
        rows = feed.status()["streams"]
        assert [row["health"] for row in rows] == ["stale", "live", "waiting"]
        assert feed.status()["health"] == "stale"
        feeder.unsubscribe("A", "1m")
        assert feed.status()["health"] == "waiting"
        feeder.unsubscribe("C", "1h")
        assert feed.status()["health"] == "live"
        feeder.mark_stream(("B", "1h"), gaps=0, recovering=True)
        assert feed.status()["health"] == "recovering"

    def test_from_best_to_worst(self) -> None:
        assert " ".join(HEALTHS) == "live quiet polled recovering waiting stale dead"

    @pytest.mark.parametrize("timeframe", TIMEFRAMES)
    def test_stale_after_three_bars_at_least_30_s(self, timeframe: str) -> None:
        assert stale_after(timeframe) == max(30, 3 * duration(timeframe) / 1000)


class TestStatus:
    def test_has_the_keys_of_its_types(self, feed: Feed, feeder: FeedWriter) -> None:
        feeder.add_stream("A", "1h")
        found = feed.status()
        assert set(found) == FeedStatus.__required_keys__
        assert set(found["streams"][0]) == StreamStatus.__required_keys__
        assert set(status_without_feed(None)) == FeedStatus.__required_keys__
        assert ConnectionStatus.__required_keys__ <= set(feed.connection())
        assert set(ConnectionStatus.__annotations__) <= set(FeedStatus.__annotations__)

    def test_keys(self, feed: Feed, feeder: FeedWriter) -> None:
        feeder.add_stream("A", "1h")
        found = feed.status()
        assert set(KEYS.split()) <= set(found)
        assert set(STREAM_KEYS.split()) <= set(found["streams"][0])

    def test_of_a_new_feed(self, feed: Feed, clock: Clock) -> None:
        clock.pass_(1.5)
        found = feed.status()
        assert found.pop("state_since") <= time.time() * 1000
        assert {key: found[key] for key in found if key not in COUNTERS} == {
            "feed": feed.name,
            "state": "connected",
            "health": "quiet",
            "pid": os.getpid(),
            "writer": None,
            "uptime": 1.5,
            "symbols": [],
            "resolutions": [],
            "endpoint": None,
            "protocol": None,
            "market_type": None,
            "venue": None,
            "identity": None,
            "differs": [],
            "last_error": None,
            "last_message_age": None,
            "next_attempt_in": None,
            "clock_offset": None,
            "store": None,
            "relay": None,
            "wants": {},
            "streams": [],
        }
        assert [found[name] for name in COUNTERS] == [0] * len(COUNTERS)

    def test_of_streams(self, feed: Feed, feeder: FeedWriter, clock: Clock) -> None:
        a = feeder.add_stream("A", "1h")
        feeder.add_stream("B", "1h")
        feeder.add_stream("A", "1m")
        a.append(0, *prices(0))
        a.append(HOUR, *prices(1))
        feeder.mark_stream(("A", "1h"), gaps=3, recovering=False)
        feeder.mark_stream(("A", "1h"), gaps=2, recovering=False)
        for counter, count in ("messages", 7), ("dropped", 2), ("missed", 1):
            feeder.count_stream(("A", "1h"), counter, count)
        clock.pass_(1.25)
        found = feed.status()
        assert found["symbols"] == ["A", "B"]
        assert found["resolutions"] == ["1h", "1m"]
        assert found["bars"] == 2
        assert found["streams"][:2] == [
            {
                "symbol": "A",
                "timeframe": "1h",
                "count": 2,
                "last_close_time": 2 * HOUR,
                "age": 1.25,
                "gaps": 5,
                "health": "live",
                "why": "",
                "messages": 7,
                "dropped": 2,
                "missed": 1,
            },
            {
                "symbol": "B",
                "timeframe": "1h",
                "count": 0,
                "last_close_time": None,
                "age": None,
                "gaps": 0,
                "health": "waiting",
                "why": "no bar yet, subscribed 1.2 s ago",
                "messages": 0,
                "dropped": 0,
                "missed": 0,
            },
        ]
        assert found["last_message_age"] == 1.25

    def test_message_age(self, feed: Feed, feeder: FeedWriter, clock: Clock) -> None:
        feeder.add_stream("A", "1h").append(0, *prices(0))
        clock.pass_(1)
        feeder.mark_message()
        clock.pass_(0.5)
        assert feed.status()["last_message_age"] == 0.5

    def test_times_of_the_feeder(
        self, feed: Feed, feeder: FeedWriter, clock: Clock
    ) -> None:
        feeder.set_clock_offset(-1500)
        feeder.set_next_attempt(clock.now / SECOND + 4)
        clock.pass_(1)
        found = feed.status()
        assert found["clock_offset"] == -1.5
        assert found["next_attempt_in"] == pytest.approx(3, abs=0.001)
        clock.pass_(1)
        feeder.set_next_attempt(clock.now / SECOND - 1)
        assert feed.status()["next_attempt_in"] == 0
        feeder.set_next_attempt(0)
        assert feed.status()["next_attempt_in"] is None
        clock.pass_(5)  # dead: they are no longer true
        found = feed.status()
        assert (found["clock_offset"], found["state_since"]) == (None, None)
        feeder.close()
        assert feed.status()["state_since"] is not None

    def test_the_note(self, feed: Feed, feeder: FeedWriter) -> None:
        feeder.note({"endpoint": "wss://a", "protocol": "p", "last_error": "refused"})
        found = feed.status()
        assert found["endpoint"] == "wss://a"
        assert found["protocol"] == "p"
        assert found["last_error"] == "refused"

    def test_a_connection_is_part_of_it(self, feed: Feed, feeder: FeedWriter) -> None:
        feeder.note({"endpoint": "wss://a", "phase": "subscribing"})
        found = feed.status()
        part = feed.connection()
        assert {"state", "pid", "endpoint", "phase"} <= set(part)
        assert part.items() <= found.items()

    @pytest.mark.parametrize("number", [-1, len(STATES), 1 << 62])
    def test_a_state_out_of_range_is_disconnected(
        self, feed: Feed, feeder: FeedWriter, number: int
    ) -> None:
        feeder._words.ints[H_STATE] = number
        assert feed.status()["state"] == "disconnected"
        assert feed.status()["health"] == "stale"


class TestDamage:
    """Words that no feeder writes mislead no reader for ever."""

    @pytest.fixture
    def ints(self, feeder: FeedWriter) -> memoryview:
        feeder.add_stream("A", "1m").append(0, *prices(0))
        return feeder._words.ints

    @pytest.mark.parametrize("sign", [1 << 62, (1 << 63) - 1, -1 << 63])
    def test_impossible_signs_of_life_do_not_count(
        self, feed: Feed, ints: memoryview, sign: int
    ) -> None:
        assert feed.alive()
        ints[H_TICK] = ints[H_ALIVE] = sign
        assert not feed.alive()
        assert feed.status()["health"] == "dead"
        ring = feed.ring("A", "1m")
        assert ring.wait(ring.count) is None  # else it would sleep for ever

    def test_without_the_bound_it_would_be_alive_for_ever(
        self, feed: Feed, ints: memoryview, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control."""
        monkeypatch.setattr(liveness, "AHEAD_NS", 1 << 64)
        ints[H_TICK] = ints[H_ALIVE] = 1 << 62
        assert feed.alive()
        assert feed.status()["health"] == "live"

    def test_a_clock_that_is_a_little_ahead_is_alive(
        self, feed: Feed, ints: memoryview, clock: Clock
    ) -> None:
        ints[H_TICK] = ints[H_ALIVE] = clock.now + 60 * SECOND
        assert feed.alive()

    @pytest.mark.parametrize("word", [E_SINCE, E_UPDATED])
    def test_an_impossible_moment_makes_no_stream_fresh(
        self, feed: Feed, ints: memoryview, feeder: FeedWriter, word: int
    ) -> None:
        assert feed.ring("A", "1m").status().health == "live"
        ints[feeder.geometry.entry_word(0) + word] = 1 << 62
        found = feed.ring("A", "1m").status()
        assert found.health == "stale"
        assert (found.age is None) == (word == E_UPDATED)

    def test_a_damaged_note_costs_no_bars(self, feed: Feed, feeder: FeedWriter) -> None:
        feeder.note({"endpoint": "wss://a"})
        feeder._words.raw[(H_NOTE + 1) * WORD :][: 300 * WORD] = b"\xff" * 300 * WORD
        found = feed.status()
        assert found["endpoint"] is None
        assert "note in the segment is damaged" in found["last_error"]
        assert "damaged" in feed.connection()["last_error"]

    def test_a_bar_outside_the_calendar(
        self, feed: Feed, feeder: FeedWriter, ints: memoryview
    ) -> None:
        ints[feeder.geometry.slot_word(0) + SLOT_HEADER_WORDS] = 1 << 61
        with pytest.raises(SegmentFormatError, match="A 1m: a bar opens at"):
            feed.status()
