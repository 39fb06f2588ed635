"""A feed in /dev/shm, its writers killed at any step, against a plain list.

Each run is a series of commands to a writer process, of its deaths, successions and
recreations with another geometry, and of readers that come, go and keep slices.
"""

import itertools
import math
import traceback
from collections import Counter
from contextlib import suppress
from typing import Any, NamedTuple

import hypothesis
import nursery
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import cores, forks
from support.waiting import until
from truth import SECOND, Stream, Truth

from shmfeed.bar import Bar, StreamKey, close_time
from shmfeed.errors import (
    FeedBusyError,
    FeedNotFoundError,
    ShmfeedError,
    StreamNotFoundError,
)
from shmfeed.feed import Feed, Ring, attach
from shmfeed.layout import (
    E_AWAY,
    E_RECOVERING,
    E_SINCE,
    E_UPDATED,
    H_ALIVE,
    H_BARS,
    H_RETIRED,
    H_STATE,
    H_TICK,
    STATES,
    Geometry,
)
from shmfeed.memory.keeping import KEEP_VARIABLE
from shmfeed.memory.rows import Rows, Slice
from shmfeed.segment import locking
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import remove_unheld
from shmfeed.writer import create

RUNS, STEPS, PARTS = int(500 * forks.SCALE), 50, 5
MUTANT_RUNS = 100
POOL: list[StreamKey] = [("A", "1m"), ("B", "1h"), ("C", "1M"), ("D", "1m")]
GEOMETRIES = [(1, 1, 1), (2, 1, 2), (4, 2, 3), (3, 5, 4)]
JUMPS = [SECOND // 2, 2 * SECOND, 2 * SECOND + 1, 6 * SECOND, 70 * SECOND, 200 * SECOND]
BEGINNING = 1_000 * SECOND  # of each run, since the boot
KEPT = 6  # slices a reader keeps

WRITES = ["append", "append", "append", "lap", "update", "update"]
SAYINGS = [
    ("unsubscribe",),
    ("recover", True),
    ("recover", False),
    ("state", "reconnecting"),
    ("state", "connected"),
    ("beat",),
    ("beat",),
]
FIRST = ["nothing", "swap", "lap", "exchange", "torn update"]
ENDS = ["kill", "kill", "kill", "close", "unlink"]

streams = st.integers(0, len(POOL) - 1)
deaths = st.integers(1, 24)  # an append has 24 steps, an update 12
maybe_death = st.sampled_from([0, 0, 0, 1, 2, 3, 5, 8, 13, 20])
counts = st.integers(1, 8)
gaps = st.integers(1, 3)


class Taken(NamedTuple):
    """A slice, its segment and stream, its bars, and the swaps before it."""

    rows: Slice
    segment: int
    key: StreamKey
    expected: list[Bar]
    generation: int


class Reader:
    """An attachment, and the segment of the feed that it must be in."""

    def __init__(self, feed: Feed, segment: int) -> None:
        self.feed = feed
        self.segment = segment
        self.rings = {key: feed.ring(*key) for key in carried(feed)}
        self.slices: list[Taken] = []


def carried(feed: Feed) -> list[StreamKey]:
    """Return all streams that a feed can be asked for, unsubscribed ones too."""
    found = []
    for key in POOL:
        with suppress(StreamNotFoundError):
            feed.ring(*key)
            found.append(key)
    return found


class FeedModel(RuleBasedStateMachine):
    name = ""
    keeps = True  # rows are set aside before they are overwritten
    nursery: nursery.Nursery
    clock: nursery.Clock
    tally: Counter

    @initialize(geometry=st.sampled_from(GEOMETRIES), first=st.sampled_from(FIRST))
    def begin(self, geometry: tuple[int, int, int], first: str) -> None:
        self.clock.now = BEGINNING
        self.segments: list[Truth] = []  # all of them so far, in their last state
        self.current: int | None = None  # the one that has the feed's name
        self.readers: list[Reader] = []
        self.serial = 0
        self.open(geometry, 0)
        self.add(0, 0)
        self.write_until(0, 0, 1, "append")
        self.come()
        # An order that a seed may never draw by chance.
        self.slice(0, 0, 1)
        if first == "swap":
            self.repair(0, 0, False, 0)
        elif first == "lap":
            self.write_until(0, 0, 1, "lap")
        elif first == "exchange":
            self.exchange(0, 0)
        elif first == "torn update":
            self.write_until(6, 0, 1, "update")

    # The writer's.

    @property
    def truth(self) -> Truth:
        assert self.current is not None
        return self.segments[self.current]

    @property
    def writing(self) -> bool:
        return self.nursery.pid is not None

    def tell(self, step: int, op: str, *arguments: Any) -> None:
        """Send a command. With a step, the writer may die in it."""
        before = self.truth
        now = self.tick()
        answer = self.nursery.ask(op, *arguments, now=now, step=step)
        if answer == [nursery.ENDED, -9]:
            self.tally[f"killed in {op}"] += 1
            self.settle(list(before.outcomes(op, [*arguments], now)))
            return
        assert answer[0] in ("done", nursery.ENDED), answer
        self.tally[op] += 1
        before.apply(op, [*arguments], now)
        if op == "close" and arguments[0]:
            self.current = None

    def tick(self) -> int:
        self.clock.now += SECOND // 1000
        return self.clock.now

    def bar(self, key: StreamKey, opened: int) -> Bar:
        self.serial += 1
        floats = (self.serial * factor for factor in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
        return Bar(opened, close_time(opened, key[1]), *floats, flags=self.serial)

    def named(self, number: int) -> StreamKey | None:
        subscribed = [
            n for n, stream in self.truth.streams.items() if stream.subscribed
        ]
        return subscribed[number % len(subscribed)] if subscribed else None

    @precondition(lambda self: self.writing)
    @rule(number=streams, gap=gaps, kind=st.sampled_from(WRITES))
    def write(self, number: int, gap: int, kind: str) -> None:
        self.write_until(0, number, gap, kind)

    @precondition(lambda self: self.writing)
    @rule(number=streams, gap=gaps, kind=st.sampled_from(WRITES))
    def write_on(self, number: int, gap: int, kind: str) -> None:
        self.write_until(0, number, gap, kind)

    @precondition(lambda self: self.writing)
    @rule(number=streams, gap=gaps, kind=st.sampled_from(WRITES), step=deaths)
    def die_writing(self, number: int, gap: int, kind: str, step: int) -> None:
        self.write_until(step, number, gap, kind)

    def write_until(self, step: int, number: int, gap: int, kind: str) -> None:
        key = self.named(number)
        if key is None:
            return
        opened = self.truth.streams[key].next_open(gap)
        if kind == "update":
            if step:  # a whole bar first, which a death may tear
                self.tell(0, "update", key, self.bar(key, opened))
                step = 1 + step % 12
            self.tell(step, "update", key, self.bar(key, opened))
            return
        bars = []
        for _ in range(self.truth.capacity + 1 if kind == "lap" else 1):
            bars.append(self.bar(key, opened))
            opened = bars[-1].close_time
        self.tell(step * len(bars), "append", key, bars)

    @precondition(lambda self: self.writing)
    @rule(
        number=streams, change=st.integers(0, 7), fill=st.booleans(), step=maybe_death
    )
    def repair(self, number: int, change: int, fill: bool, step: int) -> None:
        """Change one row, drop an older one, fill a gap, and perhaps add a row."""
        key = self.named(number)
        stream = self.truth.streams[key] if key else None
        if key is None or stream is None or not stream.last_closed():
            return
        bars = stream.last(99, self.truth.history)
        place = change % len(bars)
        bars[place] = self.bar(key, bars[place].open_time)
        if fill:
            ends = {bar.close_time for bar in bars}
            missing = ends - {bar.open_time for bar in bars}
            bars += [self.bar(key, opened) for opened in sorted(missing)[:2]]
            bars.sort(key=lambda bar: bar.open_time)
        elif change > 5 and len(bars) > 1:
            del bars[0]
        self.tell(step, "replace", key, bars)

    @precondition(lambda self: self.writing)
    @rule(number=streams, step=maybe_death)
    def add(self, number: int, step: int) -> None:
        self.add_key(POOL[number], step)

    @precondition(lambda self: self.writing)
    @rule(number=streams, step=maybe_death)
    def exchange(self, number: int, step: int) -> None:
        """Unsubscribe a stream and add another one, which may take its entry."""
        old = self.named(number)
        new = next((key for key in POOL if key not in self.truth.streams), None)
        if old and new:
            self.tell(0, "unsubscribe", *old)
            self.add_key(new, step)

    def add_key(self, key: StreamKey, step: int) -> None:
        if not self.truth.has_room_for(key):
            answer = self.nursery.ask("add_stream", *key, now=self.tick())
            assert answer[:2] == ["refused", "SegmentFullError"]
            self.tally["full"] += 1
        else:
            self.tally["given away"] += bool(
                key not in self.truth.streams and self.truth.displaced
            )
            self.tell(step, "add_stream", *key)

    @precondition(lambda self: self.writing)
    @rule(number=streams, what=st.sampled_from(SAYINGS), step=maybe_death)
    def say(self, number: int, what: tuple, step: int) -> None:
        op, *arguments = what
        key = self.named(number)
        if op in ("state", "beat"):
            self.tell(0, op, *arguments)
        elif key and op == "unsubscribe":
            self.tell(step, op, *key)
        elif key:
            self.tell(0, op, key, *arguments)

    @precondition(lambda self: self.writing)
    @rule(number=streams)
    def refuse(self, number: int) -> None:
        """Try a bar that is not newer, and a second writer."""
        with pytest.raises(FeedBusyError, match=str(self.nursery.pid)) as caught:
            create(self.name, *self.truth.geometry)
        assert caught.value.pid == self.nursery.pid
        key = self.named(number)
        last = key and self.truth.streams[key].last_closed()
        if key and last:
            for op, bars in (("append", [last]), ("update", last)):
                answer = self.nursery.ask(op, key, bars, now=self.tick())
                assert answer[:2] == ["refused", "BadArgumentError"]

    @precondition(lambda self: self.writing)
    @rule(how=st.sampled_from(ENDS), step=maybe_death)
    def end(self, how: str, step: int) -> None:
        if how == "kill":
            self.nursery.kill()
            self.tally["killed at rest"] += 1
        else:
            self.tell(step, "close", how == "unlink")

    @precondition(lambda self: not self.writing)
    @rule(step=st.just(0) | deaths)
    def restart(self, step: int) -> None:
        if self.current is None:
            self.open(GEOMETRIES[1], step)
        else:
            self.open(self.truth.geometry, step)

    @precondition(lambda self: not self.writing)
    @rule(geometry=st.sampled_from(GEOMETRIES), step=st.just(0) | st.integers(1, 250))
    def open(self, geometry: tuple[int, int, int], step: int) -> None:
        now = self.tick()
        answer = self.nursery.ask("open", self.name, *geometry, now=now, step=step)
        done = answer[0] == "done"
        assert done or answer == [nursery.ENDED, -9], answer
        self.tally["opened" if done else "killed in open"] += 1
        old = None if self.current is None else self.truth
        if old is not None and not old.retired and old.geometry == geometry:
            after = next(old.outcomes("beat", [], now))
            after.taken(now)
            self.settle([after] if done else [old, after])
            return
        keeps = old is not None and not old.retired
        new = old.replaced(geometry, now) if keeps and old else Truth(*geometry)
        new.taken(now)
        self.succeed(old, new, done)

    def succeed(self, old: Truth | None, new: Truth, done: bool) -> None:
        """Check after a recreation: the new segment is there, or nothing changed."""
        before = self.current
        try:
            with attach(self.name) as feed:
                words, geometry, _ = feed.current()
                found = (
                    geometry == Geometry(new.max_streams, new.history, new.guard)
                    and not words.ints[H_RETIRED]
                )
        except FeedNotFoundError:
            assert not done
            assert old is None or old.retired  # only a removed one may be absent
            self.current = None
            found = False
        else:
            if found:
                self.segments.append(new)
                self.current = len(self.segments) - 1
        assert found or not done
        if before is not None and self.current != before:
            assert old is not None
            old.retired = done or old.retired or self.is_retired(before)
        if self.current is not None:
            self.settle([self.truth])

    def is_retired(self, segment: int) -> bool:
        """Return whether a segment is retired whose successor's creator died."""
        for reader in self.readers:
            if reader.segment == segment:
                assert reader.feed._segment is not None
                return reader.feed._segment.mapping.words.ints[H_RETIRED] == 1
        return True  # no reader will ask

    def settle(self, outcomes: list[Truth]) -> None:
        """Find the outcome of a command that a death interrupted."""
        try:
            feed = attach(self.name)
        except FeedNotFoundError:
            assert outcomes[-1].retired
            assert self.current is not None
            self.segments[self.current] = outcomes[-1]
            self.current = None
            return
        with feed:
            seen = {key: self.rows(feed.ring(*key)) for key in carried(feed)}
            subscribed = feed.streams()
            for truth in outcomes:
                if subscribed == [
                    n for n, s in truth.streams.items() if s.subscribed
                ] and (
                    seen
                    == {
                        n: self.expected_rows(truth, s)
                        for n, s in truth.streams.items()
                    }
                ):
                    break
            else:
                raise AssertionError(
                    f"{seen} and {subscribed} match no outcome of {outcomes}"
                )
            self.read_words(feed, truth, outcomes)
        assert self.current is not None
        self.segments[self.current] = truth

    def rows(self, ring: Ring) -> tuple:
        rows = ring.view(99)
        return [rows.bar(n) for n in range(len(rows))], rows.last, ring.forming()

    def expected_rows(self, truth: Truth, stream: Stream) -> tuple:
        return stream.last(99, truth.history), stream.count, stream.unfinished()

    def read_words(self, feed: Feed, truth: Truth, outcomes: list[Truth]) -> None:
        """Check the words after a half-done command: each is the old or the new one."""
        assert feed._segment is not None
        words, geometry, _ = feed._segment.mapping
        first, last = outcomes[0], outcomes[-1]
        state = STATES[words.ints[H_STATE]]
        assert state in (first.state, last.state)
        assert words.ints[H_ALIVE] in (first.alive, last.alive)
        assert words.ints[H_TICK] in (first.tick, last.tick)
        truth.state, truth.alive, truth.tick = (
            state,
            words.ints[H_ALIVE],
            words.ints[H_TICK],
        )
        # A row that was begun is counted, and again by its next writer.
        bars = words.ints[H_BARS]
        assert bars in (truth.bars, truth.bars + 1)
        truth.bars = bars
        truth.retired = words.ints[H_RETIRED] == 1
        assert truth.retired in (first.retired, last.retired)
        for key, stream in truth.streams.items():
            at = geometry.entry_word(truth.entries.index(key))
            known = [t.streams[key] for t in outcomes if key in t.streams]
            stream.away = words.ints[at + E_AWAY] != 0
            assert words.ints[at + E_UPDATED] in [one.updated for one in known]
            assert words.ints[at + E_SINCE] in [one.since for one in known]
            stream.updated, stream.since = (
                words.ints[at + E_UPDATED],
                words.ints[at + E_SINCE],
            )
            stream.recovering = bool(words.ints[at + E_RECOVERING]) and any(
                one.recovering for one in known
            )
            stream.torn = stream.torn or not self.writing

    # The readers'.

    @precondition(lambda self: len(self.readers) < 2)
    @rule()
    def come(self) -> None:
        try:
            feed = attach(self.name)
        except FeedNotFoundError:
            assert self.current is None
        else:
            assert self.current is not None
            self.readers.append(Reader(feed, self.current))

    @precondition(lambda self: self.readers)
    @rule(which=st.integers(0, 1))
    def go(self, which: int) -> None:
        self.readers.pop(which % len(self.readers)).feed.close()

    def read_by(
        self, which: int, number: int
    ) -> tuple[Reader, Truth, StreamKey] | None:
        if not self.readers:
            return None
        reader = self.readers[which % len(self.readers)]
        truth = self.seen_by(reader)
        known = [*truth.streams]
        return (reader, truth, known[number % len(known)]) if known else None

    def seen_by(self, reader: Reader) -> Truth:
        truth = self.segments[reader.segment]
        given_up = truth.retired or not truth.lives(self.clock.now)
        if given_up and self.current not in (None, reader.segment):
            reader.segment = self.current  # type: ignore[assignment] # not None
            truth = self.segments[reader.segment]
        return truth

    @rule(which=st.integers(0, 1), number=streams, n=counts)
    def slice_on(self, which: int, number: int, n: int) -> None:
        self.slice(which, number, n)

    @rule(which=st.integers(0, 1), number=streams, n=counts)
    def slice(self, which: int, number: int, n: int) -> None:
        if found := self.read_by(which, number):
            reader, truth, key = found
            rows = reader.feed.ring(*key).view(n)
            self.tally["slices"] += 1
            self.tally["rows"] += len(rows)
            stream = truth.streams[key]
            expected = stream.last(n, truth.history)
            assert rows.valid
            agree(rows, expected, stream.count)
            taken = Taken(rows, reader.segment, key, expected, stream.generation)
            reader.slices = [*reader.slices, taken][-KEPT:]

    @rule(which=st.integers(0, 1), number=streams, n=counts, include_now=st.booleans())
    def snapshot(self, which: int, number: int, n: int, include_now: bool) -> None:
        if found := self.read_by(which, number):
            reader, truth, key = found
            stream = truth.streams[key]
            rows = reader.feed.ring(*key).snapshot(n, include_now)
            expected, last = stream.last(n, truth.history), stream.count
            unfinished = stream.unfinished() if include_now else None
            if unfinished:
                shown = min(n, truth.history) - 1
                expected = [*(stream.last(shown, shown) if shown else []), unfinished]
                last += 1
            assert rows.forming == bool(unfinished)
            agree(rows, expected, last)

    @precondition(lambda self: self.readers)
    @rule(which=st.integers(0, 1), fork=st.integers(0, 7))
    def fork(self, which: int, fork: int) -> None:
        """Check that a forked child of a reader reads the same; forks are slow."""
        if fork:
            return
        reader = self.readers[which % len(self.readers)]
        self.seen_by(reader)
        with forks.Fork(self.look, reader) as child:
            assert child.result() == "agreed"
        self.tally["forked readers"] += 1

    def look(self, reader: Reader) -> str:
        self.compare(reader)
        self.judge(reader)
        return "agreed"

    @rule(jump=st.sampled_from(JUMPS))
    def time_passes(self, jump: int) -> None:
        self.clock.now += jump

    @invariant()
    def readers_see_the_truth(self) -> None:
        for reader in getattr(self, "readers", []):
            self.look(reader)

    def compare(self, reader: Reader) -> None:
        truth, now = self.seen_by(reader), self.clock.now
        feed = reader.feed
        assert feed.streams() == [n for n, s in truth.streams.items() if s.subscribed]
        status = feed.status()
        assert status["health"] == truth.health(now)
        assert status["bars"] == truth.bars
        assert status["state"] == (truth.state if truth.lives(now) else "disconnected")
        for key, stream in truth.streams.items():
            ring = reader.rings.get(key) or feed.ring(*key)
            last, unfinished = stream.last_closed(), stream.unfinished()
            assert ring.count == stream.count
            assert (ring.history, ring.guard) == truth.geometry[:2]
            assert ring.forming() == unfinished
            newest = unfinished or last
            found = ring.latest("close")
            assert math.isnan(found) if newest is None else found == newest.close
            assert ring.status().health == truth.stream_health(stream, now)
            self.compare_epoch(reader, key, ring)
        for key in reader.rings.keys() - truth.streams.keys():
            with pytest.raises(StreamNotFoundError):
                _ = reader.rings[key].count

    def compare_epoch(self, reader: Reader, key: StreamKey, ring: Ring) -> None:
        """Check that an epoch is higher after a swap and in a new segment."""
        epochs = self.__dict__.setdefault("epochs", {})
        now = reader.segment, self.segments[reader.segment].streams[key].generation
        epoch = epochs.setdefault((key, now), ring.epoch)
        assert ring.epoch == epoch
        for (other, then), earlier in epochs.items():
            if other == key and then < now:
                assert earlier < epoch

    def judge(self, reader: Reader) -> None:
        for rows, segment, key, expected, generation in reader.slices:
            truth = self.segments[segment]
            stream = truth.streams.get(key)
            if stream is None or stream.generation != generation:
                self.judge_replaced(rows, expected)
                continue
            over = stream.count - rows.first - truth.capacity
            held = over <= 0
            may_be_begun = stream.torn and over == 0  # a row that is written over it
            if not may_be_begun and (held or not self.keeps):
                assert rows.valid == held
            if rows.valid:
                agree(rows, expected, rows.last)
            self.tally["slices held" if rows.valid else "slices lapped"] += 1

    def judge_replaced(self, rows: Slice, expected: list[Bar]) -> None:
        """Check a slice of rows that were replaced or given up: they do not change."""
        if rows.valid:
            agree(rows, expected, rows.last)
        self.tally["replaced held" if rows.valid else "replaced lapped"] += 1

    def teardown(self) -> None:
        for reader in getattr(self, "readers", []):
            reader.feed.close()
        if self.writing:
            self.nursery.kill()
            self.nursery.kills -= 1
        # Another test may list all feeds now, and hold each lock for a moment.
        segment = place(self.name).segment
        until(lambda: remove_unheld(place(self.name)) or not segment.exists())
        place(self.name).successor.unlink(missing_ok=True)


def agree(rows: Rows, expected: list[Bar], last: int) -> None:
    assert [rows.bar(number) for number in range(len(rows))] == expected
    assert rows.last == last


def run(machine: type[FeedModel], runs: int, *phases: Phase) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            phases=phases or (Phase.generate, Phase.shrink),
            print_blob=False,
        ),
    )


@pytest.fixture
def make(child, feed_name, monkeypatch):
    def machine(mutant: str) -> type[FeedModel]:
        clock = nursery.Clock()
        cores.tell_time(monkeypatch.setattr, clock)
        # A second writer is refused at once: no other process lists the feed meanwhile.
        monkeypatch.setattr(locking, "_LOCK_TIMEOUT_SECONDS", 0.0)
        writers = nursery.Nursery(child(nursery.PROGRAM, mutant))
        facts = {
            "name": feed_name,
            "nursery": writers,
            "clock": clock,
            "tally": Counter(),
        }
        return type("Machine", (FeedModel,), facts)

    return machine


@pytest.mark.timeout(max(300, RUNS))
@pytest.mark.parametrize("part", range(PARTS))  # most of its time is waiting
def test_no_run_diverges_from_a_plain_list(make, seed, monkeypatch, part):
    machine, runs = hypothesis.seed(seed)(make("none")), RUNS // PARTS
    machine.keeps = bool(part % 2)
    if not machine.keeps:
        monkeypatch.setenv(KEEP_VARIABLE, "0")
    run(machine, runs)
    kills, tally = machine.nursery.kills, machine.tally
    print(f"{runs} runs of {STEPS} steps, {kills} kills: {dict(tally)}")
    assert kills > runs
    assert tally["slices held"] > runs
    assert tally["replaced held"] > 0
    assert tally["given away"] > 0


def found(machine: type[FeedModel]) -> bool:
    """Return whether fewer runs find that something is wrong."""
    try:
        run(machine, MUTANT_RUNS, Phase.generate)
    except (AssertionError, ShmfeedError) as error:
        traceback.clear_frames(error.__traceback__)  # they have mappings
        return True
    finally:
        print(dict(machine.tally))
    return False


@pytest.mark.parametrize("mutant", [*nursery.MUTANTS][1:])
def test_a_wrong_writer_is_found(make, mutant):
    assert found(make(mutant))


def test_a_slice_that_is_always_valid_is_found(make, monkeypatch):
    cores.tell_valid(monkeypatch.setattr, itertools.repeat(True))
    monkeypatch.setenv(KEEP_VARIABLE, "0")
    assert found(make("none"))


def test_a_reader_without_the_forming_bar_is_found(make, monkeypatch):
    monkeypatch.setattr(Ring, "forming", lambda ring: None)
    assert found(make("none"))
