"""A reader beside a writer that swaps and appends without a pause, on either core.

Each swap rewrites all rows with a new generation and fills the hole that the writer
left, so that a row number leads to another bar. Each cell of a row encodes its bar and
generation.

Permitted: rows of one generation, with at most the one hole; a slice that is not
`valid`; BusyRingError.
"""

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from racing import KEY, READY, STOP, WRITTEN, Track
from support import cores, forks, payload

from shmfeed import ringbuf
from shmfeed.errors import BusyRingError
from shmfeed.feed import attach
from shmfeed.layout import E_WORD, S_EPOCH, S_PUBLISHED, SLOT_MASK
from shmfeed.memory import swap
from shmfeed.memory.catalog import Catalog
from shmfeed.writer import create

WANTED = int(1500 * forks.SCALE)
HISTORY, GUARD = 64, 16
HELD = 24
PATIENCE = 60.0  # a control is seen within seconds
GENERATION = 1 << 28  # more bars than a race writes

Replace = Callable[[np.ndarray], object]


def bars(numbers: Iterable[int], generation: int) -> np.ndarray:
    return payload.block(numbers, generation * GENERATION)


class Script:
    """Appends and swaps of one stream: its bars, its hole, its generation."""

    def __init__(self, ring: Any, replace: Replace, seed: int) -> None:
        self._ring, self._replace = ring, replace
        self._chance = random.Random(seed)
        self._kept: deque[int] = deque(maxlen=HISTORY)
        self.newest = self.generation = 0
        self._hole = 0

    def append(self) -> None:
        self.newest += 1
        if not self._hole and self.newest > 1 and self._chance.random() < 0.05:
            self._hole, self.newest = self.newest, self.newest + 1
        cells = bars([self.newest], self.generation)
        values, flags = cells[2:8, 0].tolist(), int(cells.view(np.int64)[8, 0])
        self._ring.append(self.newest * payload.STEP, *values, flags)
        self._kept.append(self.newest)

    def swap(self) -> None:
        numbers = sorted({*self._kept, self._hole} - {0})[-HISTORY:]
        self.generation, self._hole = self.generation + 1, 0
        self._replace(bars(numbers, self.generation))
        self._kept = deque(numbers, HISTORY)

    def run(self, board: memoryview) -> None:
        while not board[STOP]:
            for _ in range(self._chance.randrange(1, 40)):
                self.append()
            self.swap()
            board[WRITTEN] = self.generation
            board[READY] = self.generation > 20


def write(track: Track, ring: Any) -> None:
    catalog = Catalog(track.words, track.geometry, 1)

    def replace(rows: np.ndarray) -> None:
        swap.replace_rows(catalog, track.index, rows, KEY[1], ring._enter_slot)

    Script(ring, replace, seed=7).run(track.board)


def wrong_rows(rows: Any) -> int:
    """Return how many rows are not as written, or more if they do not fit together."""
    if not len(rows):
        return 0
    numbers, marks = rows.open_time // payload.STEP, rows["flags"]
    generation = (marks - numbers) // GENERATION
    good = bars(numbers, int(generation[0])).view(np.int64)
    wrong = int((good != rows.copy().block.view(np.int64)).any(axis=0).sum())
    holes = np.diff(numbers) - 1
    # Bar n is row n - 1, or n - 2 behind the hole.
    behind = int(numbers[-1]) - rows.last
    fits = behind in (0, 1) and (holes >= 0).all() and holes.sum() <= behind
    return wrong + (not fits)


class Held(NamedTuple):
    rows: Any
    was: bytes

    def look(self, tally: Counter) -> None:
        now = self.rows.copy().block.tobytes()
        valid = self.rows.valid
        changed = now != self.was
        tally["valid" if valid else "ended", "changed" if changed else "same"] += 1


class Reading:
    """All verbs of one reader, judged; `tally` counts the outcomes."""

    def __init__(self, ring: Any) -> None:
        self.ring = ring
        self.tally: Counter = Counter()
        self._held: deque[Held] = deque()
        self._count = 0
        self._epoch = 0

    def read(self, n: int) -> None:
        view = self.ring.view(n)
        wrong, was = wrong_rows(view), view.copy().block.tobytes()
        if view.valid:
            self.tally["wrong"] += bool(wrong)
            self.tally["views"] += 1
            self._held.append(Held(view, was))
        copy = self.ring.snapshot(n)
        self.tally["wrong"] += bool(wrong_rows(copy))
        self._is_later(copy)
        bar = self.ring.latest("flags")
        newest = int(copy["flags"][-1])
        self.tally["wrong"] += bar % GENERATION < newest % GENERATION
        if len(self._held) > HELD:
            for held in self._held:
                held.look(self.tally)
            self._held.popleft()

    def hold_still(self, n: int = HISTORY) -> None:
        """Look at a slice until it ends; without a verb nothing is set aside."""
        view = self.ring.view(n)
        held = Held(view, view.copy().block.tobytes())
        looks = 0
        while view.valid and looks < 2000:
            held.look(self.tally)
            looks += 1
        held.look(self.tally)

    def _is_later(self, rows: Any) -> None:
        count, epoch = self.ring.count, self.ring.epoch
        self.tally["fell"] += count < rows.last or rows.last < self._count
        self.tally["fell"] += epoch < self._epoch
        self.tally["epochs"] += epoch > self._epoch
        self._count, self._epoch = rows.last, epoch

    def read_until(self, wanted: int) -> Counter:
        turn = 0
        while self.tally["views"] < wanted:
            turn += 1
            try:
                self.read(1 + turn * 7 % HISTORY)
                if turn % 50 == 0:
                    self.hold_still()
            except BusyRingError:
                self.tally["busy"] += 1
        return self.tally


@pytest.mark.parametrize(("writes", "reads"), cores.PAIRS, ids=str)
@pytest.mark.timeout(900)
def test_rows_of_one_generation_are_read_and_slices_stay(writes, reads):
    track = Track(HISTORY, GUARD)
    with track.race(writes, write):
        tally = Reading(track.reader(reads)).read_until(WANTED)
    print(dict(tally))
    assert tally["wrong"] == tally["fell"] == 0
    assert tally["valid", "changed"] == 0
    # It was a race: many swaps, slices that ended and slices that outlived a swap.
    assert tally["epochs"] > WANTED / 50
    assert tally["ended", "changed"] > 0
    assert tally["valid", "same"] > 0


def in_place(catalog: Catalog) -> tuple[int, int]:
    """Return the stream's own slot as the free one: a mutant."""
    entry = catalog.geometry.entry_word(0)
    slot = catalog.words.ints[entry + E_WORD] & SLOT_MASK
    return slot, catalog.words.ints[catalog.geometry.slot_word(slot) + S_EPOCH]


def last_slot(catalog: Catalog) -> tuple[int, int]:
    """Return the slot that was retired last: slices of it are not lapped yet."""
    slot, epoch = free_slot(catalog)
    retired = catalog.slots._retired
    return (retired[-1] if retired else slot), epoch


def same_epoch(catalog: Catalog) -> tuple[int, int]:
    """Return a slot that was used before with the epoch that it had: a mutant."""
    slot, _ = last_slot(catalog)
    epoch = catalog.words.ints[catalog.geometry.slot_word(slot) + S_EPOCH]
    return slot, max(epoch, 1)


free_slot = Catalog.free_slot


def first_store(*arguments: Any) -> None:
    """Build the rows before the epoch is raised: a mutant of the order of S1 and S3."""
    words, geometry, slot, epoch, last, cells = arguments
    at = geometry.slot_word(slot)
    build_rows(words, geometry, slot, words.ints[at + S_EPOCH], last, cells)
    time.sleep(0.001)  # as a writer that loses its CPU here
    words.ints[at + S_EPOCH] = epoch


def enter_any_slot(ring: Any, before: int, *place: int) -> bool:
    ring._row = ring._ints[ring._slot + S_PUBLISHED] = before
    entered = enter_slot(ring, before, *place)
    ring._ints[ring._slot + S_PUBLISHED] = place[1]
    return entered


build_rows = swap.build_rows
enter_slot = ringbuf.RingWriter._enter_slot
CONTROLS = {
    "in place": ((Catalog, "free_slot", in_place), "wrong"),
    "the same epoch": ((Catalog, "free_slot", same_epoch), ("valid", "changed")),
    "rows first": ((swap, "build_rows", first_store), ("valid", "changed")),
}


@pytest.mark.parametrize(("mutant", "seen"), CONTROLS.values(), ids=CONTROLS)
def test_a_wrong_swap_is_seen(mutant, seen):
    """The controls: the same race with a swap that leaves a rule out."""
    track = Track(HISTORY, GUARD)
    reader = Reading(track.reader(cores.SERVING))

    core = cores.SERVING

    def adapt(ring: Any) -> None:
        Catalog.free_slot = last_slot
        setattr(*mutant)
        if core is cores.PURE:
            ringbuf.RingWriter._enter_slot = enter_any_slot

    if mutant[2] is in_place:
        # A writer notices that the rows of its slot are not its own; only the pure one
        # can be kept from it.
        core = cores.PURE
    with track.race(core, write, adapt):
        deadline = time.monotonic() + PATIENCE
        while not reader.tally[seen] and time.monotonic() < deadline:
            reader.read_until(reader.tally["views"] + 20)
            reader.hold_still(1 + reader.tally["views"] % HISTORY)
    print(dict(reader.tally))
    assert reader.tally[seen] > 0


def feed(name: str, board: memoryview) -> int:
    with create(name, HISTORY, GUARD) as writer:
        ring = writer.add_stream(*KEY)
        script = Script(ring, partial(writer.replace_rows, *KEY), seed=8)
        script.run(board)
        return ring.reader.count


def test_waiting_readers_of_a_feed_follow_the_swaps(feed_name):
    board = forks.board()
    with forks.Fork(feed, feed_name, board) as feeder:
        forks.wait_until(lambda: board[READY], 20, "the feed is there")
        with attach(feed_name) as attached:
            ring = attached.ring(*KEY)
            reading, seen = Reading(ring), ring.count
            while reading.tally["views"] < WANTED / 5:
                newer = ring.wait(seen, timeout=10)
                assert newer > seen
                seen = newer
                reading.read(1 + seen % HISTORY)
            board[STOP] = 1
            assert feeder.result() >= seen
    create(feed_name, HISTORY, GUARD).close(unlink=True)
    print(dict(reading.tally))
    assert reading.tally["wrong"] == reading.tally["fell"] == 0
    assert reading.tally["valid", "changed"] == 0
    assert reading.tally["epochs"] > 10
