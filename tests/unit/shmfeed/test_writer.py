"""The writing half: create, reuse, recreate; streams; state."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import Child
from support.ring_on_bytes import HOUR, prices

import shmfeed
from shmfeed.errors import (
    BadArgumentError,
    FeedBusyError,
    FeedLostError,
    SegmentFormatError,
    SegmentFullError,
)
from shmfeed.layout import (
    BEAT_SECONDS,
    COUNTERS,
    DEAD_NS,
    E_RECOVERING,
    H_ALIVE,
    H_STATE,
    H_STREAMS,
    H_TICK,
    H_WAKE,
    H_WRITER_EPOCH,
    MAX_HISTORY,
    MAX_STREAMS,
    STATES,
    WORD,
    Geometry,
)
from shmfeed.memory import swap, wakeup
from shmfeed.memory.words import boot_ns
from shmfeed.ringbuf import RingWriter
from shmfeed.segment import recovery
from shmfeed.segment.mapping import open_segment, place
from shmfeed.segment.ownership import SegmentOwner
from shmfeed.writer import FeedWriter, create

Make = Callable[..., FeedWriter]


@pytest.fixture
def make(feed_name: str) -> Iterator[Make]:
    """Return a maker of writers of this test's feed, which are closed at its end."""
    made: list[FeedWriter] = []

    def start(history: int = 5, **options: object) -> FeedWriter:
        made.append(create(feed_name, history, **options))  # type: ignore[arg-type] # the test's
        return made[-1]

    yield start
    for writer in made:
        writer.close()


@pytest.fixture
def writer(make: Make) -> FeedWriter:
    return make(guard=3, max_streams=2)


def close(ring: RingWriter, *numbers: int) -> None:
    for number in numbers:
        ring.append(number * HOUR, *prices(number))


def header(writer: FeedWriter, word: int) -> int:
    return open_segment(place(writer.name)).words.ints[word]


class TestArguments:
    @pytest.mark.parametrize("value", [0, -1, True, 1.0, "5", None, MAX_HISTORY + 1])
    def test_a_bad_history_is_refused(self, feed_name: str, value: int) -> None:
        with pytest.raises(BadArgumentError, match="history is") as caught:
            create(feed_name, history=value)
        assert repr(value) in str(caught.value)

    @pytest.mark.parametrize("value", [0, -1, True, 1.0, "5", MAX_HISTORY + 1])
    def test_a_bad_guard_is_refused(self, feed_name: str, value: int) -> None:
        with pytest.raises(BadArgumentError, match="guard is"):
            create(feed_name, guard=value)

    @pytest.mark.parametrize("value", [0, -1, False, 1.5, "5", None, MAX_STREAMS + 1])
    def test_a_bad_max_streams_is_refused(self, feed_name: str, value: int) -> None:
        with pytest.raises(BadArgumentError, match="max_streams is"):
            create(feed_name, max_streams=value)

    @pytest.mark.parametrize("name", ["", "a/b", "..", "a" * 33, None, 5])
    def test_a_bad_name_is_refused(self, name: str) -> None:
        with pytest.raises(BadArgumentError, match="feed name"):
            create(name)

    def test_a_bad_state_is_refused(self, feed_name: str) -> None:
        with pytest.raises(BadArgumentError, match="state is 'online'"):
            create(feed_name, state="online")
        create(feed_name).close(unlink=True)

    def test_a_refusal_leaves_nothing(self, feed_name: str) -> None:
        with pytest.raises(BadArgumentError):
            create(feed_name, history=0)
        assert not place(feed_name).segment.exists()

    def test_more_than_dev_shm_holds_is_refused(self, feed_name: str) -> None:
        with pytest.raises(SegmentFullError, match="MiB"):
            create(feed_name, history=MAX_HISTORY, max_streams=MAX_STREAMS)
        assert not place(feed_name).segment.exists()

    @pytest.mark.parametrize(
        ("history", "guard"), [(1, 16), (64, 16), (68, 17), (1000, 250)]
    )
    def test_guard_is_a_quarter_at_least_16(
        self, make: Make, history: int, guard: int
    ) -> None:
        assert make(history).geometry == Geometry(16, history, guard)

    def test_a_guard_of_one_is_accepted(self, make: Make) -> None:
        assert make(1, guard=1).geometry.capacity == 2


class TestCreate:
    def test_the_header_of_a_new_feed(self, writer: FeedWriter) -> None:
        now = boot_ns()
        assert now - header(writer, H_ALIVE) < 10**9
        assert now - header(writer, H_TICK) < 10**9
        assert shmfeed.attach(writer.name).status()["pid"] == os.getpid()

    def test_it_is_connected_by_default(self, writer: FeedWriter) -> None:
        assert shmfeed.attach(writer.name).status()["state"] == "connected"

    @pytest.mark.parametrize("state", STATES)
    def test_another_state_is_there_from_the_start(
        self, make: Make, state: str
    ) -> None:
        writer = make(state=state)
        assert STATES[header(writer, H_STATE)] == state

    @pytest.mark.parametrize("first", [True, False])
    def test_streams_are_there_when_the_feed_appears(
        self, make: Make, monkeypatch: pytest.MonkeyPatch, first: bool
    ) -> None:
        """The control: streams added later are missing for a moment."""
        seen: list[list[tuple[str, str]]] = []
        publish = SegmentOwner.publish

        def publish_and_look(owner: SegmentOwner) -> None:
            publish(owner)
            seen.append(shmfeed.attach(owner.where.name).streams())

        monkeypatch.setattr(SegmentOwner, "publish", publish_and_look)
        writer = make(streams=[("A", "60m")] if first else [])
        writer.add_stream("A", "1h")
        assert seen == [[("A", "1h")] if first else []]
        assert writer.streams() == [("A", "1h")]

    def test_streams_that_do_not_fit_are_not_added(self, make: Make) -> None:
        writer = make(max_streams=1, streams=[("A", "1h"), ("B", "1h")])
        assert writer.streams() == []

    def test_beats_are_closer_than_death(self) -> None:
        assert BEAT_SECONDS == 0.5
        assert DEAD_NS == 2 * 10**9

    def test_a_second_writer_is_refused_with_the_first_pid(
        self, writer: FeedWriter, make: Make, child: Child
    ) -> None:
        code = """
import sys, shmfeed
try:
    shmfeed.create(sys.argv[1])
except shmfeed.FeedBusyError as error:
    print(error.pid, str(error.pid) in str(error))
"""
        process = child(code, writer.name)
        assert process.communicate() == (f"{os.getpid()} True\n", "")
        with pytest.raises(FeedBusyError):
            make(guard=3, max_streams=2)
        writer.beat()

    def test_a_context_manager(self, feed_name: str) -> None:
        with create(feed_name, 5) as writer:
            close(writer.add_stream("A", "1h"), 0)
        with pytest.raises(FeedLostError):
            writer.beat()
        assert shmfeed.attach(feed_name).ring("A", "1h").count == 1


class TestStreams:
    def test_names_are_checked(self, writer: FeedWriter) -> None:
        with pytest.raises(BadArgumentError, match="symbol 'a b'"):
            writer.add_stream("a b", "1h")
        with pytest.raises(BadArgumentError, match="timeframe '7m'"):
            writer.add_stream("A", "7m")
        assert writer.streams() == []

    def test_an_alias_is_the_same_stream(self, writer: FeedWriter) -> None:
        assert writer.add_stream("A", "60m") is writer.add_stream("A", "1h")
        assert writer.streams() == [("A", "1h")]

    def test_a_full_catalog_refuses_a_stream(self, writer: FeedWriter) -> None:
        writer.add_stream("A", "1h")
        writer.add_stream("B", "1h")
        with pytest.raises(
            SegmentFullError, match=r"capacity for 2 .*C 1h.*max_streams"
        ):
            writer.add_stream("C", "1h")
        assert writer.streams() == [("A", "1h"), ("B", "1h")]

    def test_a_segment_that_is_damaged_meanwhile(self, writer: FeedWriter) -> None:
        writer.add_stream("A", "1h")
        writer._words.ints[H_STREAMS] = -1 << 40
        with pytest.raises(SegmentFormatError, match="cannot be added to its catalog"):
            writer.add_stream("B", "1h")
        writer._words.ints[H_STREAMS] = 1
        writer.add_stream("B", "1h")

    def test_has_capacity_for(self, writer: FeedWriter) -> None:
        a, b, c = [(symbol, "1h") for symbol in "ABC"]
        assert writer.has_capacity_for([a, b])
        writer.add_stream(*a)
        writer.unsubscribe(*a)
        assert writer.has_capacity_for([a, b])
        assert writer.has_capacity_for([b])
        assert writer.has_capacity_for([b, c])
        writer.add_stream(*a)
        assert not writer.has_capacity_for([b, c])

    def test_an_unsubscribed_stream_is_readable(self, writer: FeedWriter) -> None:
        close(writer.add_stream("A", "1h"), 0, 1)
        writer.unsubscribe("A", "1h")
        feed = shmfeed.attach(writer.name)
        assert feed.streams() == writer.streams() == []
        assert feed.ring("A", "1h").count == 2
        close(writer.add_stream("A", "1h"), 2)
        assert feed.streams() == [("A", "1h")]
        assert feed.ring("A", "1h").count == 3


class TestState:
    def test_counters_are_added_up(self, writer: FeedWriter) -> None:
        for number, name in enumerate(COUNTERS):
            writer.count(name, number)
            writer.count(name)
        status = shmfeed.attach(writer.name).status()
        assert [status[name] for name in COUNTERS] == [*range(1, len(COUNTERS) + 1)]

    def test_states_are_stored(self, writer: FeedWriter) -> None:
        feed = shmfeed.attach(writer.name)
        for state in STATES:
            writer.set_state(state)
            assert feed.status()["state"] == state
        with pytest.raises(BadArgumentError, match="state is 'Connected'"):
            writer.set_state("Connected")

    def test_a_note_is_stored(self, writer: FeedWriter) -> None:
        feed = shmfeed.attach(writer.name)
        writer.note({"endpoint": "wss://a", "last_error": "x" * 9999})
        status = feed.status()
        assert status["endpoint"] == "wss://a"
        assert status["last_error"].strip("x") == ""
        assert 100 < len(status["last_error"]) < 1100

    def test_wake_bumps_a_32_bit_word(self, writer: FeedWriter) -> None:
        raw = writer._words.raw
        raw[H_WAKE * WORD : H_WAKE * WORD + 4] = b"\xff" * 4
        writer.wake()
        assert bytes(raw[H_WAKE * WORD : (H_WAKE + 1) * WORD]) == bytes(8)
        writer.wake()
        assert header(writer, H_WAKE) == 1

    def test_a_close_wakes(self, writer: FeedWriter) -> None:
        ring = writer.add_stream("A", "1h")
        before = header(writer, H_WAKE)
        ring.append(0, *prices(0))
        ring.append(HOUR, *prices(1), wake=False)
        ring.update_forming(2 * HOUR, *prices(2))
        assert header(writer, H_WAKE) == before + 1

    def test_wake_with_streams_wakes_their_readers(
        self, writer: FeedWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        woken: list[int] = []
        monkeypatch.setattr(wakeup, "futex_wake", lambda *a: woken.append(a[-1]))
        writer._eventcount = wakeup.Eventcount(writer._words)
        for symbol in "AB":
            writer.add_stream(symbol, "1h")
        writer.wake([("B", "1h"), ("A", "1h"), ("B", "1h")])
        writer.wake(iter([("B", "60m")]))  # an alias
        writer.wake([])
        writer.wake()
        writer.wake(None)
        assert woken == [0b11, 0b10, 0xFFFFFFFF, 0xFFFFFFFF]

    @pytest.mark.parametrize(
        ("streams", "said"),
        [
            ([("D", "1h")], "no stream D 1h to wake; there are: A 1h"),
            ([("A", "1h"), ("A", "1m")], "no stream A 1m to wake; there are: A 1h"),
            ([("A", "7m")], "timeframe '7m'"),
            ([("A", [])], "timeframe"),
            ("A", "streams is"),
            (7, "streams is 7"),
            ([7], "streams is"),
            ([("A", "1h", "x")], "streams is"),
        ],
    )
    def test_streams_that_cannot_be_woken(
        self, writer: FeedWriter, streams: Any, said: str
    ) -> None:
        writer.add_stream("A", "1h")
        before = header(writer, H_WAKE)
        with pytest.raises(BadArgumentError, match=said):
            writer.wake(streams)
        assert header(writer, H_WAKE) == before

    @pytest.mark.parametrize(
        ("verb", "words"),
        [
            ("beat", {H_ALIVE, H_TICK}),
            ("beat_alive", {H_ALIVE}),
            ("tick", {H_TICK}),
        ],
    )
    def test_heartbeats_are_stored(
        self, writer: FeedWriter, verb: str, words: set[int]
    ) -> None:
        before = {word: header(writer, word) for word in (H_ALIVE, H_TICK)}
        getattr(writer, verb)()
        assert words == {word for word in before if header(writer, word) > before[word]}

    @pytest.mark.parametrize("verb", ["beat", "beat_alive"])
    @pytest.mark.parametrize("what", ["segment", "lock"])
    def test_a_beat_notices_a_removed_file(
        self, writer: FeedWriter, verb: str, what: str
    ) -> None:
        getattr(place(writer.name), what).unlink()
        with pytest.raises(FeedLostError, match="restart the feeder"):
            getattr(writer, verb)()


class TestClose:
    def test_the_segment_stays_and_is_dead(self, writer: FeedWriter) -> None:
        close(writer.add_stream("A", "1h"), 0)
        feed = shmfeed.attach(writer.name)
        writer.close()
        status = feed.status()
        assert status["health"] == "dead"
        assert status["state"] == "disconnected"
        assert feed.ring("A", "1h").latest("close") == prices(0)[3]

    def test_unlink_removes_it_and_slices_stay(self, writer: FeedWriter) -> None:
        close(writer.add_stream("A", "1h"), 0)
        feed = shmfeed.attach(writer.name)
        rows = feed.ring("A", "1h").view(1)
        writer.close(unlink=True)
        with pytest.raises(shmfeed.FeedNotFoundError):
            shmfeed.attach(writer.name)
        assert not place(writer.name).segment.exists()
        assert place(writer.name).lock.exists()
        assert rows["close"].tolist() == [prices(0)[3]]
        assert rows.valid
        assert feed.status()["health"] == "dead"

    @pytest.mark.parametrize("unlink", [False, True])
    def test_closing_twice_does_nothing(
        self, writer: FeedWriter, make: Make, unlink: bool
    ) -> None:
        writer.close(unlink=unlink)
        successor = make(guard=3, max_streams=2)
        writer.close(unlink=True)
        writer.close()
        successor.beat()
        assert shmfeed.attach(writer.name).status()["health"] == "quiet"

    def test_a_closed_writer_stores_nothing(
        self, writer: FeedWriter, make: Make
    ) -> None:
        ring = writer.add_stream("A", "1h")
        writer.close()
        successor = make(guard=3, max_streams=2)
        before = bytes(successor._words.raw)
        calls: list[Callable[[], object]] = [
            lambda: close(ring, 0),
            lambda: ring.update_forming(0, *prices(0)),
            lambda: writer.add_stream("B", "1h"),
            lambda: writer.unsubscribe("A", "1h"),
            lambda: writer.count("bars"),
            lambda: writer.note({}),
            lambda: writer.set_state("error"),
            lambda: writer.set_next_attempt(1.0),
            lambda: writer.set_repair_grace(1.0),
            lambda: writer.set_clock_offset(1.0),
            lambda: writer.set_silence(("A", "1h"), 1.0),
            lambda: writer.mark_stream(("A", "1h"), gaps=1, recovering=True),
            lambda: writer.mark_connection([("A", "1h")], is_connected=False),
            lambda: writer.count_stream(("A", "1h"), "dropped"),
            lambda: writer.explain(("A", "1h"), "dropped", "all 3 messages"),
            writer.mark_message,
            writer.beat,
            writer.beat_alive,
            writer.tick,
            writer.wake,
        ]
        for call in calls:
            with pytest.raises(FeedLostError, match="closed"):
                call()
        assert bytes(successor._words.raw) == before


class TestReuse:
    def test_a_segment_of_the_same_geometry_is_reused(
        self, writer: FeedWriter, make: Make
    ) -> None:
        close(writer.add_stream("A", "1h"), *range(20))
        writer.add_stream("A", "1h").update_forming(20 * HOUR, *prices(20))
        feed = shmfeed.attach(writer.name)
        ring = feed.ring("A", "1h")
        epoch, rows = ring.epoch, ring.view(3)
        writer.close()
        successor = make(guard=3, max_streams=2)
        assert successor.reused
        assert successor.streams() == [("A", "1h")]
        going_on = successor.add_stream("A", "1h")
        assert ring.forming().open_time == 20 * HOUR
        with pytest.raises(BadArgumentError, match="not newer"):
            close(going_on, 19)
        close(going_on, 20)
        assert (ring.count, ring.epoch) == (21, epoch)
        assert ring.view(3).open_time.tolist() == [i * HOUR for i in (18, 19, 20)]
        assert rows.valid
        assert feed.status()["bars"] == 21

    def test_raises_the_writer_epoch(self, writer: FeedWriter, make: Make) -> None:
        before = header(writer, H_WRITER_EPOCH)
        writer.close()
        assert header(make(guard=3, max_streams=2), H_WRITER_EPOCH) == before + 1

    def test_a_new_writer_holds_no_bars_back(
        self, writer: FeedWriter, make: Make
    ) -> None:
        writer.add_stream("A", "1h")
        writer.mark_stream(("A", "1h"), gaps=2, recovering=True)
        writer.close()
        successor = make(guard=3, max_streams=2)
        at = successor.geometry.entry_word(0)
        assert header(successor, at + E_RECOVERING) == 0
        assert shmfeed.attach(writer.name).status()["streams"][0]["gaps"] == 2


class TestRecreation:
    """Another geometry: a new segment with the old one's bars and numbers."""

    @pytest.fixture
    def old(self, make: Make) -> FeedWriter:
        writer = make(8, guard=3, max_streams=3)
        close(writer.add_stream("A", "1h"), *range(20))
        writer.add_stream("A", "1h").update_forming(20 * HOUR, *prices(20), 6.0, 3)
        close(writer.add_stream("GONE", "1h"), 0)
        writer.add_stream("B", "1m")
        writer.unsubscribe("GONE", "1h")
        writer.count("messages", 77)
        return writer

    @pytest.mark.parametrize("history", [3, 8, 50])
    def test_bars_are_copied(self, old: FeedWriter, make: Make, history: int) -> None:
        feed = shmfeed.attach(old.name)
        ring = feed.ring("A", "1h")
        epoch, rows = ring.epoch, ring.view(8)
        old.close()
        successor = make(history, guard=4, max_streams=2)
        assert not successor.reused
        assert ring.epoch > epoch
        assert (ring.history, ring.guard, ring.capacity) == (history, 4, history + 4)
        assert ring.count == 20
        taken = min(history, 8)
        fresh = ring.view(50)
        assert (fresh.first, fresh.last) == (20 - taken, 20)
        assert (fresh.values == rows.values[:, -taken:]).all()
        assert fresh.open_time.tolist() == rows.open_time[-taken:].tolist()
        assert not np.shares_memory(fresh["close"], rows["close"])
        assert ring.forming()[2:] == (*prices(20), 6.0, 3)

    def test_writing_continues(self, old: FeedWriter, make: Make) -> None:
        ring = shmfeed.attach(old.name).ring("A", "1h")
        old.close()
        writer = make(50).add_stream("A", "1h")
        with pytest.raises(BadArgumentError, match="not newer"):
            close(writer, 19)
        close(writer, 20)
        assert ring.count == 21
        assert ring.forming() is None

    def test_counters_and_ages_continue(self, old: FeedWriter, make: Make) -> None:
        feed = shmfeed.attach(old.name)
        before = feed.status()
        old.close()
        make(50)
        after = feed.status()
        assert {name: after[name] for name in COUNTERS} == {
            name: before[name] for name in COUNTERS
        }
        for then, now in zip(before["streams"], after["streams"], strict=True):
            assert (then["age"] is None) == (now["age"] is None)
            assert then["age"] is None or now["age"] > then["age"]

    def test_the_count_of_missing_bars_stays(self, old: FeedWriter, make: Make) -> None:
        old.mark_stream(("A", "1h"), gaps=3, recovering=False)
        old.close()
        streams = shmfeed.attach(make(50).name).status()["streams"]
        assert {row["symbol"]: row["gaps"] for row in streams}["A"] == 3

    def test_only_subscribed_streams_are_copied(
        self, old: FeedWriter, make: Make
    ) -> None:
        feed = shmfeed.attach(old.name)
        old.close()
        assert make(50).streams() == [("A", "1h"), ("B", "1m")]
        with pytest.raises(shmfeed.StreamNotFoundError):
            feed.ring("GONE", "1h")

    def test_streams_that_do_not_fit_are_dropped(
        self, old: FeedWriter, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        old.close()
        assert make(50, max_streams=1).streams() == [("A", "1h")]
        (said,) = caplog.messages
        assert (
            f"{old.name} is recreated with max_streams 1 and drops 1 of its streams"
            in said
        )
        assert "the first of them B 1m" in said

    @pytest.mark.parametrize(("history", "lost"), [(3, 5), (8, 0), (50, 0)])
    def test_bars_that_a_shorter_history_drops_are_reported(
        self,
        old: FeedWriter,
        make: Make,
        caplog: pytest.LogCaptureFixture,
        history: int,
        lost: int,
    ) -> None:
        old.close()
        make(history, guard=4)
        told = [
            f"history {history} and drops {lost} older bars" in m
            for m in caplog.messages
        ]
        assert told == ([True] if lost else [])

    def test_wanted_streams_are_copied_first(self, old: FeedWriter, make: Make) -> None:
        old.close()
        writer = make(50, max_streams=1, streams=[("B", "1m")])
        assert writer.streams() == [("B", "1m")]

    def test_nothing_is_reported_when_all_fits(
        self, old: FeedWriter, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        old.close()
        make(50, max_streams=2)
        assert caplog.messages == []

    def test_readers_reattach_to_a_whole_segment_only(
        self, old: FeedWriter, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A reader gets all its bars at any moment of the change."""
        feed = shmfeed.attach(old.name)
        ring = feed.ring("A", "1h")
        old.close()
        seen: list[tuple[int, int]] = []

        def read_and_fill(*arguments: Any) -> None:
            seen.append((ring.count, len(ring.view(100))))
            swap.fill_rows(*arguments)
            seen.append((ring.count, len(ring.view(100))))

        monkeypatch.setattr(recovery, "fill_rows", read_and_fill)
        make(50)
        assert seen == [(20, 8)] * 4

    def test_a_failed_creation_holds_no_lock(
        self, old: FeedWriter, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old.close()

        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(recovery, "fill_rows", fail)
            with pytest.raises(KeyboardInterrupt):
                make(50)
        kept = make(8, guard=3, max_streams=3)
        assert kept.reused
        assert kept.streams() == [("A", "1h"), ("B", "1m")]

    def test_epochs_rise_however_fast_feeds_are_recreated(self, feed_name: str) -> None:
        last = 0
        for _ in range(10):
            writer = create(feed_name, 1, 1, 16)
            for number in range(16):
                writer.add_stream(f"S{number}", "1h")
            feed = shmfeed.attach(feed_name)
            epochs = [feed.ring(*key).epoch for key in feed.streams()]
            assert epochs[0] > last
            last = max(epochs)
            writer.close(unlink=True)


def test_all_streams_can_be_exchanged_at_once(feed_name: str) -> None:
    """Each that goes frees its slot: more than the spare slots are not needed."""
    with create(feed_name, 1, 1, 16) as writer:
        for round_ in range(3):
            streams = [(f"S{round_}-{number}", "1h") for number in range(16)]
            for key in writer.streams():
                writer.unsubscribe(*key)
            writer.reserve_for(streams)
            for key in streams:
                writer.add_stream(*key).append(0, *[1.0] * 5)
            assert set(writer.streams()) == set(streams)
        writer.close(unlink=True)


SYSTEM_WITHOUT = """
import os, sys
sys.modules["fcntl"] = None
del os.geteuid, os.register_at_fork, os.fork, os.posix_fallocate
import shmfeed
from shmfeed.segment import platform
platform.SHARED_MEMORY = platform.Path("/nowhere")
for call in (shmfeed.attach, shmfeed.create):
    try:
        call("a")
    except shmfeed.UnsupportedPlatformError as error:
        print("POSIX shared memory" in str(error))
"""


def test_a_platform_without_posix_shared_memory(child: Child) -> None:
    process = child(SYSTEM_WITHOUT)
    assert process.communicate() == ("True\nTrue\n", "")
