"""A reader beside a writer that never pauses meets whole rows only.

Permitted: rows as they were written; a slice that says it is not valid; BusyRingError.
"""

import mmap
import os
import time
from collections import Counter

import cores
import forks
import payload
import pytest

from shmfeed.errors import BusyRingError, SegmentFormatError
from shmfeed.feed import Ring, attach
from shmfeed.layout import S_INTENT, S_PUBLISHED, SLOT_HEADER_WORDS, WORD
from shmfeed.memory.ringwriter import RingWriter
from shmfeed.memory.words import CellPair, Words
from shmfeed.writer import create

SECONDS = 4.0 * forks.SCALE
HISTORY, GUARD = 1000, 16
WIDTHS = (1, 7, HISTORY, 100, HISTORY)
STOP, READY = 0, 1


def leave(ring):
    """As it is."""


def write_without_pause(name, board, geometry, adapt=leave):
    if adapt is not leave:
        cores.write_purely()  # the mutants are of its words
    with create(name, *geometry) as writer:
        ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
        adapt(ring)
        number = 0
        while not board[STOP]:
            number += 1
            for revision in range(number % 3):
                payload.update_forming(ring, number, revision)
            payload.append(ring, number)
            board[READY] = number > 2 * sum(geometry[:2])
    return number


def attached(name, board):
    forks.wait_until(lambda: board[READY], 10, "the ring is full")
    return attach(name)


def read_views(ring: Ring, n: int, tally: Counter) -> None:
    rows = ring.view(n)
    bad = payload.bad_rows(rows)
    verdict = "accepted" if rows.valid else "refused"
    tally[f"{verdict} rows"] += len(rows)
    tally[f"{verdict} bad rows"] += bad


def read_snapshots(ring: Ring, n: int, tally: Counter) -> None:
    for include_now in (False, True):
        rows = ring.snapshot(n, include_now=include_now)
        tally["accepted rows"] += len(rows)
        tally["accepted bad rows"] += payload.bad_rows(rows)
        tally["forming rows"] += rows.forming


def read_values(ring: Ring, newest: int, tally: Counter) -> int:
    value = ring.latest("close")
    time_ = ring.latest("open_time")
    bar = ring.forming()
    closed = ring.reader().last_closed()
    tally["values"] += 1
    tally["bad values"] += not payload.is_whole(closed)
    tally["bad values"] += value % 4 != 0 or time_ < newest or time_ % payload.STEP != 0
    if bar is not None:
        tally["bad values"] += not payload.is_whole_forming(bar)
    return int(time_)


def read_everything(ring: Ring, seconds: float) -> Counter:
    tally: Counter = Counter()
    newest, turn = 0, 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        turn += 1
        n = WIDTHS[turn % len(WIDTHS)]
        try:
            read_views(ring, n, tally)
            if turn % 4 == 0:
                read_snapshots(ring, n, tally)
                newest = read_values(ring, newest, tally)
        except BusyRingError:
            tally["busy"] += 1
    return tally


def test_no_torn_row_is_accepted(feed_name):
    board = forks.board()
    with forks.Fork(write_without_pause, feed_name, board, (HISTORY, GUARD)) as writer:
        with attached(feed_name, board) as feed:
            tally = read_everything(
                feed.ring(payload.SYMBOL, payload.TIMEFRAME), SECONDS
            )
        board[STOP] = 1
        tally["rows written"] = writer.result()
    create(feed_name, HISTORY, GUARD).close(unlink=True)
    print(dict(tally))
    assert tally["accepted bad rows"] == 0
    assert tally["bad values"] == 0
    assert tally["accepted rows"] > 50_000 * SECONDS
    assert tally["forming rows"] > 0
    # The control: a reader that does not ask `valid` would have taken these.
    assert tally["refused bad rows"] > 0


class Unhurried:
    """The words of a writer that lets others run while a row is half written."""

    def __init__(self, ring: RingWriter) -> None:
        self._ints, self._slot = ring._ints, ring._slot
        self._intent = 0

    def __getitem__(self, word: int) -> int:
        return self._ints[word]

    def __setitem__(self, word: int, value: int) -> None:
        if word > self._slot + SLOT_HEADER_WORDS:
            os.sched_yield()
        self.store(word, value)

    def store(self, word: int, value: int) -> None:
        self._ints[word] = value


class LateIntent(Unhurried):
    """One that says what it overwrites only when it has done it."""

    def store(self, word: int, value: int) -> None:
        if word == self._slot + S_INTENT:
            self._intent = value
            return
        if word == self._slot + S_PUBLISHED:
            self._ints[self._slot + S_INTENT] = self._intent
        self._ints[word] = value


class EarlyPublish(Unhurried):
    """One that publishes a row before it writes it."""

    def store(self, word: int, value: int) -> None:
        self._ints[word] = value
        if word == self._slot + S_INTENT:
            self._ints[self._slot + S_PUBLISHED] = value


@pytest.mark.parametrize(
    ("mutant", "torn"),
    [(None, False), (Unhurried, False), (LateIntent, True), (EarlyPublish, True)],
)
def test_a_writer_that_breaks_the_order_is_seen(feed_name, mutant, torn):
    def adapt(ring):
        if mutant:
            ring._ints = mutant(ring)

    board = forks.board()
    geometry = (2, 1)  # the tightest ring: the writer is always at the reader's heels
    deadline = time.monotonic() + (10 if torn else 0.5)
    tally: Counter = Counter()
    with forks.Fork(write_without_pause, feed_name, board, geometry, adapt) as writer:
        with attached(feed_name, board) as feed:
            ring = None
            while time.monotonic() < deadline and not tally["accepted bad rows"]:
                try:
                    ring = ring or feed.ring(payload.SYMBOL, payload.TIMEFRAME)
                except SegmentFormatError:
                    tally["refused at the door"] += 1
                    continue
                read_views(ring, 2, tally)
        board[STOP] = 1
        writer.result()
    create(feed_name, *geometry).close(unlink=True)
    print(dict(tally))
    assert (tally["accepted bad rows"] > 0) == torn
    assert torn or not tally["refused at the door"]
    assert tally["accepted rows"] > 0


CELL_WORDS = 9


class SlowPair(CellPair):
    """The same protocol, unhurried: a tear, if it can happen, happens often."""

    copies = 0

    def write(self, value: bytes) -> None:
        counter = self._words.ints[self._counter] + 1
        self._fill(self._first + (counter & 1) * self._bytes, value)
        self._words.ints[self._counter] = counter

    def _fill(self, start: int, value: bytes) -> None:
        for at in range(0, self._bytes, WORD):
            self._words.raw[start + at : start + at + WORD] = value[at : at + WORD]

    def _copy(self, start: int) -> bytes:
        raw = self._words.raw
        value = b""
        self.copies += 1
        for at in range(start, start + self._bytes, WORD):
            value += bytes(raw[at : at + WORD])
            if len(value) == 2 * WORD and self.copies % 8 == 0:
                os.sched_yield()  # where there is one CPU, the writer's turn
        return value

    def read(self) -> bytes:
        while True:
            counter = self._words.ints[self._counter]
            value = self._copy(self._first + (counter & 1) * self._bytes)
            if self._words.ints[self._counter] == counter:
                return value


class NoSecondLook(SlowPair):
    """Its reader takes what it copied."""

    def read(self) -> bytes:
        counter = self._words.ints[self._counter]
        return self._copy(self._first + (counter & 1) * self._bytes)


class SingleCell(SlowPair):
    """Its writer fills the cell that is being read."""

    def write(self, value: bytes) -> None:
        counter = self._words.ints[self._counter]
        self._fill(self._first + (counter & 1) * self._bytes, value)
        self._words.ints[self._counter] = counter + 2


def write_cells(kind, words, board):
    pair = kind(words, 0, CELL_WORDS)
    number = 0
    while not board[STOP]:
        number += 1
        pair.write(number.to_bytes(WORD, "little") * CELL_WORDS)
        board[READY] = 1
    return number


def torn_cells(writes: type[CellPair], reads: type[CellPair], seconds: float) -> int:
    """How many accepted values were mixtures; stops early when it has seen some."""
    words = Words(mmap.mmap(-1, 4096))
    board = forks.board()
    pair = reads(words, 0, CELL_WORDS)
    tally: Counter = Counter()
    with forks.Fork(write_cells, writes, words, board) as writer:
        forks.wait_until(lambda: board[READY], 10, "the first value")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and tally["torn"] < 10:
            value = pair.read()
            tally["reads"] += 1
            tally["torn"] += value != value[:WORD] * CELL_WORDS
        board[STOP] = 1
        tally["writes"] = writer.result()
    print(writes.__name__, reads.__name__, dict(tally))
    assert tally["reads"]
    return tally["torn"]


@pytest.mark.parametrize(
    ("writes", "reads", "torn"),
    [
        (CellPair, CellPair, False),
        (SlowPair, CellPair, False),
        (SlowPair, SlowPair, False),
        (SlowPair, NoSecondLook, True),
        (SingleCell, CellPair, True),
    ],
)
def test_cells_are_whole(writes, reads, torn):
    seconds = 10.0 if torn else 0.7 * forks.SCALE
    assert (torn_cells(writes, reads, seconds) > 0) == torn
