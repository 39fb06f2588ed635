"""Cuts beside a writer that closes the bars of many rings at full speed, on each core.

The writer closes bar after bar, each for ring 0, 1, .. in this order. So at any instant
the counts never rise from one ring to the next, and differ by at most one. A value
follows from its ring and its bar.

Permitted: cuts as of one instant; BusyRingError.
"""

import mmap
import os
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from racing import READY, SHARE, STOP
from support import cores, forks
from support.compiling import NEEDS_BUILD, built_core, checkout, loaded_extension
from support.cutting import FIELDS, Rings
from support.ring_on_bytes import HOUR, prices

from shmfeed import core as serving
from shmfeed import cutting
from shmfeed.errors import BusyRingError
from shmfeed.layout import Geometry
from shmfeed.memory.words import Words

RINGS, HISTORY, GUARD = 8, 50, 16
CUTS = {"C": 100_000, "pure": 3_000}


@contextmanager
def racing_rings(writes, reads, pause, extension=serving):
    """Yield rings of the core `reads`, which a child of the core `writes` fills."""
    words = Words(mmap.mmap(-1, Geometry(RINGS, HISTORY, GUARD).size))
    made = Rings(writes, RINGS, HISTORY, GUARD, words)
    board = forks.board()
    with forks.Fork(close_bars, made, board, pause) as child:
        forks.wait_until(lambda: board[READY], 20, "the rings are full")
        yield Rings(reads, RINGS, HISTORY, GUARD, words, extension)
        board[STOP] = 1
        child.result()


def close_bars(rings: Rings, board, pause: int) -> None:
    number = 0
    while not board[STOP]:
        for k in range(RINGS):
            rings.close(k, number)
        number += 1
        board[READY] = number > 2 * (HISTORY + GUARD)
        for _ in range(pause):
            os.sched_yield()


def judge(found, align: bool, tally: Counter) -> int:
    """Count a cut and its faults; return its newest bar's number."""
    values, times, missing = found
    rows = values.shape[2]
    tally["rows"] += RINGS * rows
    tally["bad"] += bool(missing)
    last = times[-1] if align else times[:, -1]
    tally["torn"] += not align and bool(
        (np.diff(last) > 0).any() or last[0] - last[-1] > HOUR
    )
    numbers = np.broadcast_to(times // HOUR - 1, (RINGS, rows))
    tally["bad"] += bool((np.diff(numbers) != 1).any())
    for field, value in enumerate(prices(0)):
        expected = value + 10.0 * numbers + np.arange(RINGS)[:, None] / 16
        tally["bad"] += bool((values[field] != expected).any())
    return int(np.min(last)) // HOUR - 1


def read_cuts(rings: Rings, align: bool, wanted: float, seconds: float) -> Counter:
    tally: Counter = Counter()
    newest, deadline = 0, time.monotonic() + seconds
    while tally["cuts"] < wanted and time.monotonic() < deadline:
        tally["cuts"] += 1
        n = (1, 7, HISTORY)[tally["cuts"] % 3]
        try:
            number = judge(rings.cut(n, align), align, tally)
        except BusyRingError:
            tally["busy"] += 1
            continue
        tally["bad"] += number < newest
        newest = number
    print(dict(tally))
    return tally


@pytest.mark.parametrize(("writes", "reads"), cores.PAIRS, ids=str)
@pytest.mark.timeout(1200)
def test_an_aligned_cut_is_whole_and_never_waits(writes, reads):
    wanted = CUTS[reads.name] * SHARE
    with racing_rings(writes, reads, pause=0) as rings:
        tally = read_cuts(rings, True, wanted, seconds=600)
    assert tally["bad"] == 0
    assert tally["rows"] > wanted * RINGS
    assert tally["busy"] < tally["cuts"] / 2


@pytest.mark.parametrize(("writes", "reads"), cores.PAIRS, ids=str)
@pytest.mark.timeout(1200)
def test_a_cut_that_is_not_aligned_is_of_one_instant(writes, reads):
    wanted = CUTS[reads.name] * SHARE / 4
    with racing_rings(writes, reads, pause=20) as rings:
        tally = read_cuts(rings, False, wanted, seconds=60 * forks.SCALE)
    assert tally["bad"] == tally["torn"] == 0
    assert tally["rows"] > RINGS


def judge_list(found: cutting.ListArrays, bounds, tally: Counter) -> int:
    """Count the rows of a list and its faults; return its newest bar's number."""
    start, end = bounds
    newest = found.newest
    tally["torn"] += bool((np.diff(newest) > 0).any() or newest[0] - newest[-1] > HOUR)
    held = found.close_time > 0
    tally["rows"] += np.count_nonzero(held)
    times = found.close_time[held]
    tally["bad"] += bool(((times < start) | (times > end)).any())
    ring = np.broadcast_to(np.arange(RINGS)[:, None], held.shape)[held]
    for field, value in enumerate(prices(0)):
        expected = value + 10.0 * (times // HOUR - 1) + ring / 16
        tally["bad"] += bool((found.values[field][held] != expected).any())
    return int(newest.min()) // HOUR - 1


@pytest.mark.parametrize(("writes", "reads"), cores.PAIRS, ids=str)
@pytest.mark.timeout(1200)
def test_a_list_of_a_range_is_of_one_instant(writes, reads):
    wanted, newest = CUTS[reads.name] * SHARE / 4, 0
    tally: Counter = Counter()
    with racing_rings(writes, reads, pause=20) as rings:
        deadline = time.monotonic() + 60 * forks.SCALE
        while tally["cuts"] < wanted and time.monotonic() < deadline:
            tally["cuts"] += 1
            back = (1, 7, HISTORY)[tally["cuts"] % 3]
            bounds = (newest - back) * HOUR, (newest + tally["cuts"] % 4) * HOUR
            try:
                newest = judge_list(rings.listed(20, bounds), bounds, tally)
            except BusyRingError:
                tally["busy"] += 1
    print(dict(tally))
    assert tally["bad"] == tally["torn"] == 0
    assert tally["rows"] > RINGS


GENERATION = 1e6
SWAPPED = 3


def swap_in_turn(rings: Rings, board) -> None:
    """Give ring 0, 1, 2 new rows in turn: opens are of one generation."""
    generation, slot = 0, SWAPPED
    while not board[STOP]:
        generation += 1
        for k in range(SWAPPED):
            rings.swap(k, range(20), slot, shift=generation * GENERATION)
            slot = SWAPPED + (slot - SWAPPED + 1) % 8
        board[READY] = generation


def read_generations(rings: Rings, wanted: float) -> Counter:
    tally: Counter = Counter()
    deadline = time.monotonic() + 60 * forks.SCALE
    while time.monotonic() < deadline and (
        tally["cuts"] < wanted or not tally["turns"]
    ):
        tally["cuts"] += 1
        try:
            values, _, _ = rings.cut(7, True)
        except BusyRingError:
            tally["busy"] += 1
            continue
        found = values[0] // GENERATION
        tally["bad"] += bool((found != found[:, :1]).any())
        first, last = found[0, 0], found[-1, 0]
        tally["torn"] += bool((np.diff(found[:, 0]) > 0).any() or first - last > 1)
        tally["turns"] += bool(first != last)
    print(dict(tally))
    return tally


@contextmanager
def swapped_rings(reads):
    words = Words(mmap.mmap(-1, Geometry(SWAPPED, 20, GUARD).size))
    made = Rings(cores.PURE, SWAPPED, 20, GUARD, words)
    board = forks.board()
    with forks.Fork(swap_in_turn, made, board) as child:
        forks.wait_until(lambda: board[READY], 20, "the rings were swapped")
        yield Rings(reads, SWAPPED, 20, GUARD, words)
        board[STOP] = 1
        child.result()


@pytest.mark.parametrize("reads", cores.EACH, ids=str)
@pytest.mark.timeout(1200)
def test_an_aligned_cut_beside_swaps_is_of_one_instant(reads):
    with swapped_rings(reads) as rings:
        tally = read_generations(rings, CUTS[reads.name] * SHARE / 4)
    assert tally["bad"] == tally["torn"] == 0
    assert tally["turns"] > 0


def take_slowly(monkeypatch) -> None:
    """Let a pure reader yield before each ring, and take none again for a swap."""
    take = cutting._Window.take

    def take_after_a_pause(window: cutting._Window, reach: int, most: int) -> bool:
        os.sched_yield()
        take(window, reach, most)
        return True

    monkeypatch.setattr(cutting._Window, "take", take_after_a_pause)


def test_without_the_look_at_catalog_words_a_cut_is_torn(monkeypatch):
    """The control: rows are whole, but a ring may be swapped after it was read."""

    def held(window: cutting._Window, with_count: bool) -> bool:
        return window.first <= window.last and window._slot.is_intact(
            window._word, window.first
        )

    monkeypatch.setattr(cutting._Window, "held", held)
    take_slowly(monkeypatch)
    with swapped_rings(cores.PURE) as rings:
        tally: Counter = Counter()
        deadline = time.monotonic() + 60
        while not tally["torn"] and time.monotonic() < deadline:
            tally += read_generations(rings, 200)
    assert tally["torn"] > 0
    assert tally["bad"] == 0


def test_without_the_second_look_a_cut_is_torn(monkeypatch):
    """The control: a cut that looks at the rows again, but not at the counts."""
    held = cutting._Window.held
    monkeypatch.setattr(cutting._Window, "held", lambda window, _: held(window, False))
    take_slowly(monkeypatch)
    with racing_rings(cores.PURE, cores.PURE, pause=1) as rings:
        tally: Counter = Counter()
        deadline = time.monotonic() + 60
        while not tally["torn"] and time.monotonic() < deadline:
            tally += read_cuts(rings, False, 200, 1)
    assert tally["torn"] > 0


@NEEDS_BUILD
@pytest.mark.skipif(forks.SCALE < 10, reason="a build of its own: make races")
@pytest.mark.parametrize(
    ("align", "look", "wrong"),
    [
        (False, "!cut_held(&cut->rings[k], !cut->align)", "false"),
        (
            False,
            "!cut_held(&cut->rings[k], !cut->align)",
            "!cut_held(&cut->rings[k], 0)",
        ),
    ],
)
def test_without_its_second_look_the_c_core_is_torn(tmp_path, align, look, wrong):
    tree = checkout(tmp_path)
    source = tree / "shmfeed/csrc/cut.h"
    assert look in source.read_text()
    source.write_text(source.read_text().replace(look, wrong))
    extension = loaded_extension(built_core(tree, tmp_path, ""))
    core = cores.Core("C", extension.RingReader, extension.RingWriter)
    with racing_rings(core, core, 1, extension) as rings:
        tally: Counter = Counter()
        deadline = time.monotonic() + 60
        while not tally["torn"] and time.monotonic() < deadline:
            tally += read_cuts(rings, align, 20_000, 10)
    assert tally["torn"] > 0


@pytest.mark.parametrize("reads", cores.EACH, ids=str)
def test_rings_that_are_read_one_by_one_are_torn(reads):
    """The control on each core: what a loop over views or snapshots gives."""
    with racing_rings(cores.PURE, reads, pause=1) as rings:
        torn, deadline = 0, time.monotonic() + 20
        while not torn and time.monotonic() < deadline:
            one_by_one = [
                rings.read_cut((ring,), 1, FIELDS, False)[1][0, 0]
                for ring in rings.rings
            ]
            torn += bool((np.diff(one_by_one) > 0).any())
    assert torn
