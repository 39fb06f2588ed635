"""The reading half: attach, streams, rings, and following a re-created feed."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Child
from support.ring_on_bytes import HOUR, prices
from support.waiting import until

from shmfeed import attached_segment, core
from shmfeed.bar import Bar
from shmfeed.errors import (
    BadArgumentError,
    FeedNotFoundError,
    SegmentFormatError,
    StreamNotFoundError,
)
from shmfeed.feed import Feed, Ring, attach, wait
from shmfeed.layout import COLUMNS, H_ALIVE, H_TICK, H_WAKE, LOOKUP_NS
from shmfeed.memory.words import boot_ns
from shmfeed.ringbuf import RingWriter
from shmfeed.segment.mapping import (
    Mapping,
    Place,
    identity_at,
    open_segment,
    place,
)
from shmfeed.writer import FeedWriter, create


@pytest.fixture
def writer(feed_name: str) -> Iterator[FeedWriter]:
    with create(feed_name, history=5, guard=3, max_streams=4) as writer:
        yield writer


@pytest.fixture
def feed(writer: FeedWriter) -> Iterator[Feed]:
    with attach(writer.name) as feed:
        yield feed


@pytest.fixture
def hourly(writer: FeedWriter) -> RingWriter:
    return writer.add_stream("A", "1h")


@pytest.fixture
def ring(feed: Feed, hourly: RingWriter) -> Ring:
    return feed.ring("A", "1h")


def close(ring: RingWriter, *numbers: int) -> None:
    for number in numbers:
        ring.append(number * HOUR, *prices(number))


def starve(writer: FeedWriter, seconds: float = 10.0) -> None:
    """Set the feeder's last heartbeat back by this long."""
    then = boot_ns() - int(seconds * 1e9)
    writer._words.ints[H_ALIVE] = writer._words.ints[H_TICK] = then


class TestAttach:
    def test_attach_raises_feed_not_found(self, feed_name: str) -> None:
        with pytest.raises(FeedNotFoundError, match=f"shmfeed run --feed {feed_name}"):
            attach(feed_name)
        with pytest.raises(FileNotFoundError):
            attach(feed_name)

    def test_attach_waits_until_the_deadline(self, feed_name: str) -> None:
        with pytest.raises(FeedNotFoundError):
            attach(feed_name, timeout=0.05)

    def test_attach_waits_for_a_feed_to_appear(self, feed_name: str) -> None:
        made: list[FeedWriter] = []
        timer = threading.Timer(0.05, lambda: made.append(create(feed_name, 5)))
        timer.start()
        try:
            assert attach(feed_name, timeout=10).name == feed_name
        finally:
            timer.join()
            made[0].close()

    @pytest.mark.parametrize("timeout", ["1", None, True, [1]])
    def test_bad_timeouts_are_refused(self, feed_name: str, timeout: float) -> None:
        with pytest.raises(BadArgumentError, match="timeout is"):
            attach(feed_name, timeout)

    @pytest.mark.parametrize("name", ["", "a/b", "..", None, 3])
    def test_bad_names_are_refused(self, name: str) -> None:
        with pytest.raises(BadArgumentError, match="feed name"):
            attach(name)

    def test_a_foreign_file_is_not_waited_for(self, feed_name: str) -> None:
        path = place(feed_name).segment
        path.touch(0o600)
        path.write_bytes(b"foreign " * 1000)
        with pytest.raises(SegmentFormatError):
            attach(feed_name, timeout=10)

    def test_the_default_name(self) -> None:
        assert attach.__defaults__ == ("default", 0.0, None)


class TestStreams:
    def test_a_new_feed_has_no_streams(self, feed: Feed) -> None:
        assert feed.streams() == []
        with pytest.raises(StreamNotFoundError, match="carries: nothing yet"):
            feed.ring("A", "1h")

    def test_streams_added_later_are_seen(self, feed: Feed, writer: FeedWriter) -> None:
        writer.add_stream("A", "1h")
        assert feed.streams() == [("A", "1h")]
        feed.ring("A", "1h")
        writer.add_stream("B", "1m")
        assert feed.streams() == [("A", "1h"), ("B", "1m")]
        assert feed.ring("B", "minute").timeframe == "1m"

    def test_a_stream_that_is_not_carried_raises_stream_not_found(
        self, feed: Feed, hourly: RingWriter
    ) -> None:
        with pytest.raises(StreamNotFoundError) as caught:
            feed.ring("B", "1h")
        assert isinstance(caught.value, KeyError)
        assert str(caught.value) == (
            f"feed {feed.name!r} does not carry B 1h; it carries: A 1h"
        )

    def test_bad_names_are_refused(self, feed: Feed) -> None:
        with pytest.raises(BadArgumentError, match="symbol"):
            feed.ring("a b", "1h")
        with pytest.raises(BadArgumentError, match="timeframe"):
            feed.ring("A", "1H")


class TestRing:
    def test_a_ring_has_the_sizes_of_its_feed(self, ring: Ring) -> None:
        assert (ring.capacity, ring.history, ring.guard) == (8, 5, 3)
        assert (ring.symbol, ring.timeframe) == ("A", "1h")
        assert "A 1h" in repr(ring)

    def test_reads_return_the_bars(self, ring: Ring, hourly: RingWriter) -> None:
        close(hourly, *range(10))
        hourly.update_forming(10 * HOUR, *prices(10), 4.0, 3)
        assert ring.count == 10
        assert ring.view(2)["close"].tolist() == [prices(8)[3], prices(9)[3]]
        assert ring.snapshot(2).open_time.tolist() == [8 * HOUR, 9 * HOUR]
        assert ring.snapshot(2, include_now=True).open_time[-1] == 10 * HOUR
        assert ring.latest("high") == prices(10)[1]
        assert ring.forming() == Bar(10 * HOUR, 11 * HOUR, *prices(10), 4.0, 3)
        assert ring.status().health == "live"

    @pytest.mark.parametrize("n", [0, -1, True, 1.5, None, "1"])
    def test_bad_counts_are_refused(self, ring: Ring, n: int) -> None:
        for read in (ring.view, ring.snapshot):
            with pytest.raises(BadArgumentError, match="n is"):
                read(n)

    @pytest.mark.parametrize("field", [*COLUMNS, "values", "floats"])
    def test_arrays_cannot_be_written(
        self, ring: Ring, hourly: RingWriter, field: str
    ) -> None:
        close(hourly, 0)
        rows = ring.view(1)
        array = rows[field] if field in COLUMNS else getattr(rows, field)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        while isinstance(array, np.ndarray):
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.setflags(write=True)
            array = array.base

    def test_a_lapped_slice_is_invalid(self, ring: Ring, hourly: RingWriter) -> None:
        close(hourly, *range(5))
        rows = ring.view(5)
        close(hourly, 5, 6, 7)
        assert rows.valid
        close(hourly, 8)
        assert not rows.valid

    def test_a_closed_bar_is_never_forming(
        self, ring: Ring, hourly: RingWriter
    ) -> None:
        hourly.update_forming(0, *prices(0))
        close(hourly, 0)
        assert ring.forming() is None
        assert not ring.snapshot(2, include_now=True).forming


class TestClose:
    def test_reads_raise_and_slices_stay(
        self, feed: Feed, ring: Ring, hourly: RingWriter
    ) -> None:
        close(hourly, 0)
        rows = ring.view(1)
        feed.close()
        feed.close()
        reads: list[Callable[[], object]] = [
            feed.streams,
            feed.status,
            feed.alive,
            lambda: feed.ring("A", "1h"),
            lambda: ring.view(1),
            lambda: ring.count,
            lambda: ring.capacity,
        ]
        for read in reads:
            with pytest.raises(FeedNotFoundError, match="closed"):
                read()
        assert rows["close"].tolist() == [prices(0)[3]]
        assert rows.valid

    def test_closing_changes_nothing_for_others(
        self, feed: Feed, ring: Ring, hourly: RingWriter, writer: FeedWriter
    ) -> None:
        attach(writer.name).close()
        close(hourly, 0)
        writer.beat()
        assert ring.count == 1

    def test_the_descriptor_goes_at_once(self, feed_name: str) -> None:
        with create(feed_name, 5) as writer:
            close(writer.add_stream("A", "1h"), 0)
            before = len([*Path("/proc/self/fd").iterdir()])
            feed = attach(feed_name)
            assert len([*Path("/proc/self/fd").iterdir()]) == before + 1
            rows = feed.ring("A", "1h").view(1)
            array = rows.values
            feed.close()
            assert len([*Path("/proc/self/fd").iterdir()]) == before
            assert rows.valid
            assert array.tolist() == rows.copy().values.tolist()


FEEDER = """
import sys, shmfeed
writer = shmfeed.create(sys.argv[1], history=5)
writer.add_stream("A", "1h").append(0, 1, 2, 0.5, 1.5, 9)
print("fed", flush=True)
while True:
    writer.beat()
"""


class TestReattaching:
    """The next read finds a feed that was re-created, or one 10 ms later."""

    def again(self, writer: FeedWriter, history: int = 9) -> FeedWriter:
        return create(writer.name, history=history, guard=3, max_streams=4)

    def test_the_old_bars_are_read_until_there_is_a_new_segment(
        self, feed: Feed, ring: Ring, hourly: RingWriter, writer: FeedWriter
    ) -> None:
        close(hourly, 0, 1)
        rows, epoch = ring.view(2), ring.epoch
        writer.close(unlink=True)
        assert ring.count == 2  # the old bars are read until there is a successor
        assert not feed.alive()
        with self.again(writer) as successor:
            # B is where A was.
            close(successor.add_stream("B", "1h"), 7)
            close(successor.add_stream("A", "1h"), 5)
            until(lambda: ring.count == 1)  # a read has just looked up the name
            assert ring.view(9).open_time.tolist() == [5 * HOUR]
            assert ring.epoch > epoch
            assert ring.history == 9
            assert feed.alive()
            assert feed.streams() == [("B", "1h"), ("A", "1h")]
        assert rows.valid
        assert rows.open_time.tolist() == [0, HOUR]

    def test_a_recreated_feed_is_found(
        self, ring: Ring, hourly: RingWriter, writer: FeedWriter
    ) -> None:
        close(hourly, 0, 1)
        writer.close()
        with self.again(writer) as successor:
            assert ring.history == 9
            close(successor.add_stream("A", "1h"), 2)
            assert ring.count == 3

    def test_a_recreated_feed_is_found_just_after_a_kill(
        self, feed_name: str, child: Child
    ) -> None:
        feeder = child(FEEDER, feed_name)
        assert feeder.stdout.readline() == "fed\n"
        ring = attach(feed_name).ring("A", "1h")
        feeder.kill()
        feeder.wait(10)
        with create(feed_name, history=9, guard=3, max_streams=4):
            # The old feeder's last beat is less than two seconds ago.
            assert ring.history == 9
            assert ring.latest("close") == 1.5

    def test_a_new_segment_is_found_once_the_old_feeder_is_dead(
        self, ring: Ring, hourly: RingWriter, writer: FeedWriter
    ) -> None:
        close(hourly, 0)
        place(writer.name).segment.unlink()
        place(writer.name).lock.unlink()
        with self.again(writer, history=5) as successor:
            close(successor.add_stream("A", "1h"), 7)
            assert ring.latest("open_time") == 0  # its own feeder lives
            starve(writer)
            assert ring.latest("open_time") == 7 * HOUR

    def test_the_successor_may_lack_the_stream(
        self, ring: Ring, hourly: RingWriter, writer: FeedWriter
    ) -> None:
        writer.close(unlink=True)
        with (
            self.again(writer) as successor,
            pytest.raises(StreamNotFoundError, match="nothing yet"),
        ):
            ring.view(1)
        assert successor.name == writer.name

    def test_a_feed_closed_meanwhile_stays_closed(
        self,
        feed: Feed,
        ring: Ring,
        writer: FeedWriter,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def slowly(where: Place) -> Mapping:
            found = open_segment(where)
            feed.close()  # another thread
            return found

        writer.close(unlink=True)
        with self.again(writer) as successor:
            successor.add_stream("A", "1h")
            monkeypatch.setattr("shmfeed.segment.mapping.open_segment", slowly)
            for read in (feed.streams, lambda: ring.count):
                with pytest.raises(FeedNotFoundError, match="is closed"):
                    read()

    def test_rings_that_other_threads_attach_meanwhile(
        self, feed: Feed, ring: Ring, hourly: RingWriter
    ) -> None:
        close(hourly, 0)
        over = threading.Event()
        kept = [feed.ring("A", "1h") for _ in range(500)]

        def make() -> None:
            while not over.is_set():
                kept.append(feed.ring("A", "1h"))
                del kept[500:]

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        maker = threading.Thread(target=make)
        maker.start()
        try:
            for _ in range(1000):
                feed._detach_rings()
                assert ring.count == 1
        finally:
            over.set()
            maker.join()
            sys.setswitchinterval(interval)

    def test_a_file_that_is_not_a_segment_is_ignored(
        self, ring: Ring, hourly: RingWriter, writer: FeedWriter
    ) -> None:
        close(hourly, 0)
        writer.close(unlink=True)
        path = place(writer.name).segment
        path.write_bytes(b"foreign")
        assert ring.count == 1

    def test_a_live_read_makes_no_system_call(
        self,
        ring: Ring,
        hourly: RingWriter,
        writer: FeedWriter,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        close(hourly, 0)

        def ask(*_: object) -> None:
            raise AssertionError("a system call")

        monkeypatch.setattr("shmfeed.segment.mapping.identity_at", ask)
        assert ring.view(1).valid
        starve(writer)
        with pytest.raises(AssertionError, match="a system call"):
            ring.view(1)

    @pytest.fixture
    def lookups(self, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        """Record each look at the feed's name."""
        paths: list[Path] = []

        def look(path: Path) -> object:
            paths.append(path)
            return identity_at(path)

        monkeypatch.setattr("shmfeed.segment.mapping.identity_at", look)
        return paths

    @pytest.mark.parametrize("unlink", [False, True])
    def test_reads_of_a_dead_feed_seldom_look_up_its_name(
        self, ring: Ring, hourly: RingWriter, writer: FeedWriter, lookups, unlink
    ) -> None:
        close(hourly, 0)
        writer.close(unlink=unlink)
        start = time.monotonic_ns()
        for _ in range(2000):
            assert ring.count == 1
        passed = time.monotonic_ns() - start
        assert 1 <= len(lookups) <= 2 + passed // LOOKUP_NS
        assert len(lookups) < 200

    @pytest.mark.skipif(core.build == "C", reason="it changes the pure core")
    def test_the_control_looks_at_each_read(
        self, ring: Ring, writer: FeedWriter, lookups, monkeypatch
    ) -> None:
        monkeypatch.setattr("shmfeed.follower.is_lookup_due", lambda *_: True)
        writer.close()
        for _ in range(200):
            assert ring.count == 0
        assert len(lookups) == 200

    def test_a_notification_makes_the_next_read_look(
        self, ring: Ring, writer: FeedWriter, lookups
    ) -> None:
        ints = writer._words.ints
        writer.close()
        for number in range(1, 50):
            ints[H_WAKE] += 1
            assert ring.count == 0
            assert len(lookups) >= number

    def test_the_first_look_after_a_recreation_finds_it(
        self, ring: Ring, hourly: RingWriter, writer: FeedWriter, lookups
    ) -> None:
        close(hourly, 0)
        writer.close(unlink=True)
        assert ring.count == 1
        with self.again(writer) as successor:
            successor.add_stream("A", "1h")
            del lookups[:]
            until(lambda: ring.count == 0)
            assert len(lookups) == 1

    def test_numbers_of_one_segment_are_never_looked_up_in_another(
        self,
        feed: Feed,
        hourly: RingWriter,
        writer: FeedWriter,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """One thread looks a stream up while another one reattaches."""
        writer.add_stream("B", "1h")
        writer.close(unlink=True)
        with self.again(writer) as successor:
            close(successor.add_stream("B", "1h"), 7)
            close(successor.add_stream("A", "1h"), 5)
            old = feed._segment
            with monkeypatch.context() as patch:
                patch.setattr(feed, "_current", lambda: old)
                assert feed.locate(("B", "1h")) == (old, 1)
            assert feed.ring("A", "1h").latest("open_time") == 5 * HOUR
            assert feed.ring("B", "1h").latest("open_time") == 7 * HOUR


class TestWait:
    def test_a_bar_that_is_there_ends_the_wait_at_once(
        self, ring: Ring, hourly: RingWriter
    ) -> None:
        close(hourly, 0, 1)
        assert ring.wait(0) == 2
        assert ring.wait(np.int64(0)) == 2
        assert ring.wait(-1, timeout=0) == 2

    def test_the_deadline_ends_a_wait(self, ring: Ring, hourly: RingWriter) -> None:
        close(hourly, 0)
        assert ring.wait(1, timeout=0) is None
        assert ring.wait(1, timeout=0.02) is None

    def test_a_closed_bar_ends_a_wait(self, ring: Ring, hourly: RingWriter) -> None:
        timer = threading.Timer(0.05, close, (hourly, 0))
        timer.start()
        assert ring.wait(0, timeout=10) == 1
        timer.join()

    def test_any_iterable_of_rings_is_accepted(
        self, ring: Ring, hourly: RingWriter
    ) -> None:
        timer = threading.Timer(0.05, close, (hourly, 0))
        timer.start()
        assert wait(iter([ring]), timeout=None) == [ring]
        timer.join()

    def test_a_forming_bar_does_not_end_a_wait(
        self, ring: Ring, hourly: RingWriter
    ) -> None:
        hourly.update_forming(0, *prices(0))
        assert ring.wait(0, timeout=0.02) is None

    def test_without_a_deadline_a_death_ends_it(
        self, ring: Ring, writer: FeedWriter
    ) -> None:
        timer = threading.Timer(0.05, starve, (writer,))
        timer.start()
        assert ring.wait(0) is None
        timer.join()

    def test_without_a_deadline_a_closed_writer_ends_it(
        self, ring: Ring, writer: FeedWriter
    ) -> None:
        timer = threading.Timer(0.05, writer.close, (True,))
        timer.start()
        assert ring.wait(0) is None
        timer.join()

    @pytest.mark.parametrize("timeout", [-1, "1", True, float("nan"), [1]])
    def test_bad_timeouts_are_refused(self, ring: Ring, timeout: float) -> None:
        with pytest.raises(BadArgumentError, match="timeout is"):
            ring.wait(0, timeout)
        with pytest.raises(BadArgumentError, match="timeout is"):
            wait([ring], timeout)

    @pytest.mark.parametrize("after", [1.0, "1", None, True])
    def test_bad_numbers_are_refused(self, ring: Ring, after: int) -> None:
        with pytest.raises(BadArgumentError, match="after is"):
            ring.wait(after, 0)


class TestWaitForMany:
    @pytest.fixture
    def writers(self, writer: FeedWriter) -> list[RingWriter]:
        return [writer.add_stream(symbol, "1h") for symbol in "ABC"]

    @pytest.fixture
    def rings(self, feed: Feed, writers: list[RingWriter]) -> list[Ring]:
        return [feed.ring(symbol, "1h") for symbol in "ABC"]

    def test_the_deadline_ends_the_wait(self, rings: list[Ring]) -> None:
        assert wait(rings, 0.02) == []
        assert wait([], None) == []

    def test_rings_that_closed_are_returned_in_the_order_given(
        self, rings: list[Ring], writers: list[RingWriter]
    ) -> None:
        a, b, c = rings
        timer = threading.Timer(0.05, close, (writers[2], 0))
        timer.start()
        assert wait([c, a, b], 10) == [c]
        timer.join()

    def test_the_death_of_the_feeder_ends_the_wait(
        self, rings: list[Ring], writer: FeedWriter
    ) -> None:
        timer = threading.Timer(0.05, starve, (writer,))
        timer.start()
        assert wait(rings) == []
        timer.join()


def test_a_status_is_json(feed: Feed, hourly: RingWriter) -> None:
    close(hourly, 0)
    status = feed.status()
    assert json.loads(json.dumps(status)) == status
    assert feed.ring("A", "1h").status().state == "connected"
    assert feed.ring("A", "60m").status().state == "connected"
    with pytest.raises(BadArgumentError, match=r"timeframe \[\]"):
        feed.ring("A", [])
    with pytest.raises(StreamNotFoundError):
        feed.ring("B", "1h")


FORKED = """
import os, sys
import shmfeed
feed = shmfeed.attach(sys.argv[1])
ring = feed.ring("A", "1h")
rows = ring.view(1)
pid = os.fork()
good = rows["close"].tolist() == [7.0] and rows.valid and ring.count == 1
if not pid:
    feed.close()
    sys.exit(0 if good else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print(good, ring.count)
"""


def test_inherited_rings_can_be_read(
    hourly: RingWriter, writer: FeedWriter, child: Child
) -> None:
    close(hourly, 0)
    process = child(FORKED, writer.name)
    assert process.communicate() == ("True 1\n", "")
    writer.beat()


READ_AND_DIE = """
import os, signal, sys
import shmfeed
ring = shmfeed.attach(sys.argv[1]).ring("A", "1h")
assert ring.view(1)["close"].tolist() == [7.0]
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_reader_s_crash_changes_nothing(
    hourly: RingWriter, writer: FeedWriter, child: Child
) -> None:
    close(hourly, 0)
    before = bytes(writer._words.raw)
    identity = identity_at(place(writer.name).segment)
    assert child(READ_AND_DIE, writer.name).wait(10) == -9
    assert bytes(writer._words.raw) == before
    assert identity_at(place(writer.name).segment) == identity


class TestAttachments:
    def test_a_verb_of_one_attachment_keeps_the_slices_of_another(
        self, feed: Feed, hourly: RingWriter
    ) -> None:
        close(hourly, *range(20))
        ring = feed.ring("A", "1h")
        held = ring.view(5)
        before = held.values.copy()
        with attach(feed.name) as other:
            again = other.ring("A", "1h")
            for number in range(20, 20 + 3 * ring.capacity):
                close(hourly, number)
                assert again.count == number + 1
        assert held.valid
        assert np.array_equal(held.values, before)

    def test_without_the_shared_reader_they_are_overwritten(
        self, feed: Feed, hourly: RingWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control."""
        close(hourly, *range(20))
        ring = feed.ring("A", "1h")
        held = ring.view(5)
        monkeypatch.setattr(attached_segment, "_segments", {})
        with attach(feed.name) as other:
            again = other.ring("A", "1h")
            for number in range(20, 20 + 3 * ring.capacity):
                close(hourly, number)
                assert again.count == number + 1
        assert not held.valid

    def test_the_segment_is_mapped_once(self, feed: Feed) -> None:
        with attach(feed.name) as other:
            assert other.current() is feed.current()

    def test_one_attachment_is_closed_the_other_reads_on(
        self, feed: Feed, hourly: RingWriter
    ) -> None:
        close(hourly, 0)
        ring = feed.ring("A", "1h")
        attach(feed.name).close()
        assert ring.count == 1
