"""Mutants of the writer: an append and a latch without the tests before their stores.

The controls use them: what a test of the right to write claims must be seen to fail
with these.
"""

import math
from typing import Any

from shmfeed.layout import (
    E_UPDATED,
    H_BARS,
    S_INTENT,
    S_PUBLISHED,
    SLOT_HEADER_WORDS,
    WORD,
)
from shmfeed.memory.bar_cells import bar_cells
from shmfeed.memory.words import Latch, boot_ns, fence


def append(
    ring: Any,
    open_time: int,
    *values: float,
    flags: int = 0,
    wake: bool = True,
) -> None:
    """Append by a row number of one's own, a word at a time, and test nothing."""
    values = (*values, math.nan)[:6]
    cells = bar_cells(open_time, values, flags, ring.timeframe)
    ints, capacity = ring._ints, ring._capacity
    slot, row = ring._slot, ring._row
    at = slot + SLOT_HEADER_WORDS + row % capacity
    ints[slot + S_INTENT] = row + 1
    for cell in cells.tolist():
        ints[at] = ints[at + capacity] = cell
        at += 2 * capacity
    ints[ring._at + E_UPDATED] = boot_ns()
    ints[H_BARS] += 1
    ints[slot + S_PUBLISHED] = row + 1
    ring._row = row + 1
    ring._last_open = open_time


def write(latch: Latch, value: bytes) -> None:
    """Replace a latch's value by a counter that was loaded before a call."""
    ints = latch._words.ints
    counter = ints[latch._counter] + 1
    fence()
    start = latch._first + (counter & 1) * len(value)
    latch._words.raw[start : start + len(value)] = value
    fence()
    ints[latch._counter] = counter
    assert len(value) % WORD == 0
