"""A reader beside a writer that never pauses accepts whole rows only, on either core.

Permitted: rows as they were written; a slice that is not `valid`; BusyRingError.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from racing import KEY, READY, SHARE, STOP, Track, write_bars
from support import cores, forks, payload
from support.compiling import NEEDS_BUILD, mutant_core
from support.slow_writer import WordByWord

from shmfeed.errors import BusyRingError, SegmentFormatError
from shmfeed.feed import attach
from shmfeed.layout import S_INTENT, S_PUBLISHED, SLOT_HEADER_WORDS
from shmfeed.memory.keeping import Area
from shmfeed.writer import create

# The rows that a reader of each core must accept.
ROWS = {"C": 100_000_000, "pure": 10_000_000}
HISTORY, GUARD = 1000, 32
WIDTHS = (1, 7, HISTORY, 100, HISTORY)


def read_views(ring, n: int, tally: Counter) -> None:
    view = ring.view(n)
    bad = payload.bad_rows(view)
    verdict = "accepted" if view.valid else "refused"
    tally[f"{verdict} rows"] += len(view)
    tally[f"{verdict} bad rows"] += bad


def read_snapshots(ring, n: int, tally: Counter) -> None:
    for include_now in (False, True):
        copy = ring.snapshot(n, include_now=include_now)
        tally["accepted rows"] += len(copy)
        tally["accepted bad rows"] += payload.bad_rows(copy)
        tally["forming rows"] += copy.forming


def read_values(ring, newest: int, tally: Counter) -> int:
    value = ring.latest("close")
    time_ = ring.latest("open_time")
    bar = ring.forming()
    tally["values"] += 1
    tally["bad values"] += value % 4 != 0 or time_ < newest or time_ % payload.STEP != 0
    if bar is not None:
        tally["bad values"] += not payload.is_whole_forming(bar)
    return int(time_)


def keep_until_lapped(ring, tally: Counter) -> None:
    """Read rows that changed, as a reader does that does not ask `valid`: a control."""
    view = ring.view(HISTORY)
    while view.valid:
        pass
    tally["lapped bad rows"] += payload.bad_rows(view)


def read_everything(ring, wanted: float) -> Counter:
    tally: Counter = Counter()
    newest, turn = 0, 0
    while tally["accepted rows"] < wanted:
        turn += 1
        n = WIDTHS[turn % len(WIDTHS)]
        try:
            read_views(ring, n, tally)
            if turn % 4 == 0:
                read_snapshots(ring, n, tally)
                newest = read_values(ring, newest, tally)
            if turn % 1000 == 0:
                keep_until_lapped(ring, tally)
        except BusyRingError:
            tally["busy"] += 1
    print(dict(tally))
    return tally


def check(tally: Counter, meets_forming: bool = True) -> None:
    assert tally["accepted bad rows"] == 0
    assert tally["bad values"] == 0
    assert tally["forming rows"] > 0 or not meets_forming
    assert tally["lapped bad rows"] > 0


@pytest.mark.parametrize(("writes", "reads"), cores.PAIRS, ids=str)
@pytest.mark.timeout(1200)
def test_no_torn_row_is_accepted(writes, reads):
    track = Track(HISTORY, GUARD)
    share = forks.SCALE if writes is reads else SHARE
    with track.race(writes, write_bars):
        ring = track.reader(reads)
        tally = read_everything(ring, ROWS[reads.name] * share)
        # Beside a writer in C, a bar closes before a pure reader has read both.
        check(tally, meets_forming=(writes.name, reads.name) != ("C", "pure"))


def write_a_feed(name, board) -> None:
    with create(name, HISTORY, GUARD) as writer:
        ring = writer.add_stream(*KEY)
        number = 0
        while not board[STOP]:
            number += 1
            payload.update_forming(ring, number, 1)
            payload.append(ring, number)
            board[READY] = number > 2 * HISTORY


def test_no_torn_row_of_a_feed_is_accepted(feed_name):
    """The whole way: a segment of a feed, and the core of this process."""
    board = forks.board()
    with forks.Fork(write_a_feed, feed_name, board) as writer:
        forks.wait_until(lambda: board[READY], 10, "the ring is full")
        with attach(feed_name) as feed:
            check(read_everything(feed.ring(*KEY), ROWS["pure"] * SHARE))
        board[STOP] = 1
        writer.result()
    create(feed_name, HISTORY, GUARD).close(unlink=True)


class Yielding(WordByWord):
    """The words of a pure writer that yields while a row is half written."""

    def __init__(self, ring) -> None:
        super().__init__(ring)
        self._intent = 0

    def pause(self, word: int) -> None:
        if word > self._slot + SLOT_HEADER_WORDS:
            os.sched_yield()


class LateIntent(Yielding):
    """A writer that stores intent after the row: A1 behind A3."""

    def store(self, word: int, value: int) -> None:
        if word == self._slot + S_INTENT:
            self._intent = value
            return
        if word == self._slot + S_PUBLISHED:
            self._ints[self._slot + S_INTENT] = self._intent
        self._ints[word] = value


class EarlyPublish(Yielding):
    """A writer that publishes a row before it writes it: A4 before A3."""

    def store(self, word: int, value: int) -> None:
        self._ints[word] = value
        if word == self._slot + S_INTENT:
            self._ints[self._slot + S_PUBLISHED] = value


def read_until(track: Track, reads: cores.Core, seconds: float) -> Counter:
    """Take views of two rows until one was wrong or the time is over."""
    tally: Counter = Counter()
    deadline = time.monotonic() + seconds
    ring = None
    while time.monotonic() < deadline and not tally["accepted bad rows"]:
        try:
            ring = ring or track.reader(reads)
            read_views(ring, 2, tally)
        except SegmentFormatError:
            tally["refused at the door"] += 1
        except BusyRingError:
            tally["busy"] += 1
    print(dict(tally))
    return tally


@pytest.mark.parametrize("reads", cores.EACH, ids=str)
@pytest.mark.parametrize(
    ("mutant", "torn"),
    [(None, False), (Yielding, False), (LateIntent, True), (EarlyPublish, True)],
)
def test_a_writer_that_breaks_the_order_is_seen(reads, mutant, torn):
    def adapt(ring) -> None:
        if mutant is not None:
            ring._ints = mutant(ring)

    track = Track(
        2, 1
    )  # the smallest ring: the writer always overwrites what is read next
    with track.race(cores.PURE, write_bars, adapt):
        tally = read_until(track, reads, 20 if torn else 0.5)
    assert (tally["accepted bad rows"] > 0) == torn
    assert torn or not tally["refused at the door"]
    assert tally["accepted rows"] > 0


@pytest.fixture(params=["pure", pytest.param("C", marks=NEEDS_BUILD)])
def unchecked(request, monkeypatch, tmp_path) -> Iterator[cores.Core]:
    """Return a core whose readers accept each row."""
    if request.param == "pure":
        monkeypatch.setattr(Area, "is_intact", lambda area, word, first: True)
        return cores.PURE
    return mutant_core("R4 and R5", tmp_path)


def test_without_the_check_rows_are_torn(unchecked):
    """The control: the same race with readers that leave out R4 and R5."""
    track = Track(2, 1)
    with track.race(unchecked, write_bars):
        tally = read_until(track, unchecked, 20)
    assert tally["accepted bad rows"] > 0
