"""Swap: a stream's closed bars, built in a free slot and put in place by one store.

A late correction, a filled gap or a longer history changes rows that readers hold, and
rows never change. So the writer builds new ones beside them:

 (S1) release-store the epoch of a free slot, above all that slots have had
 (S2) release
 (S3) write the rows, base, intent and published; no count falls
 (S4) release-store the catalog word (epoch << SLOT_BITS | slot)

Until S4 no reader knows of the new rows; from S4 on each verb reads them. A slice of
the old slot stays valid until that slot is reused; slices of the slot that a swap takes
become invalid at S1. So a retired slot rests for the time of `guard` bars, in which a
reader that goes on reading sets its slices aside. Where no slot is left that has rested
or was never used, a swap takes the one that was retired longest ago.

The stream's entry is left alone but for its catalog word: its forming bar, its last
update and its counters do not change.

Row numbers. The new rows end at `count + inserted`, where `inserted` is the number of
new rows whose bars the stream did not have. So a reader that compares counts finds at
least as many newer rows as were added, and `base`, the first row's number, is never
negative.

Death. A writer that is killed before S4 leaves the stream as it was, and a free slot.
The slot that S4 retires is stamped before S4, so that it never looks like one that was
retired earlier.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import close_times
from shmfeed.errors import BadArgumentError
from shmfeed.layout import (
    COLUMNS,
    E_WORD,
    NO_BAR,
    S_BASE,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    SLOT_BITS,
    SLOT_HEADER_WORDS,
    SLOT_MASK,
    TIME_LIMIT,
    Geometry,
)
from shmfeed.memory.catalog import Catalog
from shmfeed.memory.words import Words, fence
from shmfeed.text import repr_short

Cells = NDArray[np.int64]  # (9, n): a column each, floats by their bits

# Arguments: the row number expected, the catalog word, the next row, its predecessor's
# open time. Returns False, and stores nothing, if another row was appended meanwhile.
EnterSlot = Callable[[int, int, int, int], bool]

_OPEN_TIME, _CLOSE_TIME = 0, 1


class _Retiring(NamedTuple):
    slot: int
    rest: int  # ns


def replace_rows(
    catalog: Catalog, index: int, rows: object, timeframe: str, enter_slot: EnterSlot
) -> int:
    """Replace a stream's closed bars, steps S1 to S4; return the new count.

    Args:
        catalog: The segment's catalog.
        index: The stream's entry number.
        rows: float64 (9, n) as `Rows.block`; the newest `history` of them are used.
        timeframe: The stream's.
        enter_slot: The stream's `RingWriter._enter_slot`, which makes step S4.

    Raises:
        BadArgumentError: The rows are malformed, or end before the stream's last closed
            bar.
        SegmentFullError: There is no room for another slot.

    No error leaves a change that a reader sees.
    """
    words, geometry = catalog.words, catalog.geometry
    cells = _checked_cells(rows, timeframe)[:, -geometry.history :]
    while True:
        old = words.ints[geometry.entry_word(index) + E_WORD] & SLOT_MASK
        found, count = _rows_of(words, geometry, old)
        known, opens = found[_OPEN_TIME], cells[_OPEN_TIME]
        if len(known) and opens[-1] < known[-1]:
            raise BadArgumentError(
                f"rows end at open_time {opens[-1]}; they must reach the stream's last"
                f" closed bar, {known[-1]}"
            )
        last = count + _inserted(opens, known)
        retiring = _Retiring(old, catalog.rest_of(index))
        if _swap(catalog, retiring, cells, (count, last), enter_slot):
            return last


def cut_rows(
    catalog: Catalog, index: int, from_open_time: int, enter_slot: EnterSlot
) -> int:
    """Drop a stream's closed bars from `from_open_time` on; return how many.

    The rows that stay end at the old count, so no count falls. There may be none.

    Raises:
        SegmentFullError: There is no room for another slot. Nothing was changed.
    """
    return _keep_rows(
        catalog,
        index,
        lambda opens: slice(int(np.searchsorted(opens, from_open_time))),
        enter_slot,
    ).dropped


def drop_rows(
    catalog: Catalog, index: int, first_kept: int, enter_slot: EnterSlot
) -> int:
    """Drop a stream's closed bars that open before `first_kept`.

    Return how many of those are gone that readers could ask for. The rows that stay
    keep their numbers, so no count falls. There may be none.

    Raises:
        SegmentFullError: There is no room for another slot. Nothing was changed.
    """
    before, dropped = _keep_rows(
        catalog,
        index,
        lambda opens: slice(int(np.searchsorted(opens, first_kept)), None),
        enter_slot,
    )
    hidden = max(0, before - catalog.geometry.history)
    return max(0, dropped - hidden)


class _Kept(NamedTuple):
    before: int  # rows
    dropped: int


def _keep_rows(
    catalog: Catalog,
    index: int,
    choose: Callable[[Cells], slice],
    enter_slot: EnterSlot,
) -> _Kept:
    """Drop a stream's closed bars but for a slice, chosen by all open times.

    The rows that stay end at the old count. If all stay, nothing is changed.
    """
    words, geometry = catalog.words, catalog.geometry
    while True:
        old = words.ints[geometry.entry_word(index) + E_WORD] & SLOT_MASK
        found, count = _rows_of(words, geometry, old)
        kept = found[:, choose(found[_OPEN_TIME])]
        before = int(found.shape[1])
        dropped = before - int(kept.shape[1])
        if not dropped:
            return _Kept(before, 0)
        cells = np.ascontiguousarray(kept[:, -geometry.history :])
        retiring = _Retiring(old, catalog.rest_of(index))
        if _swap(catalog, retiring, cells, (count, count), enter_slot):
            return _Kept(before, dropped)


def _swap(
    catalog: Catalog,
    old: _Retiring,
    cells: Cells,
    counts: tuple[int, int],
    enter_slot: EnterSlot,
) -> bool:
    """Build `cells` in a free slot and enter it for the `old` one, steps S1 to S4.

    `counts` are the stream's count before and after. Return False if a bar was appended
    meanwhile.
    """
    count, last = counts
    slot, epoch = catalog.free_slot()
    build_rows(catalog.words, catalog.geometry, slot, epoch, last, cells)
    catalog.slots.stamp(old.slot, epoch, old.rest)
    catalog.slots.take(slot)
    last_open = int(cells[_OPEN_TIME, -1]) if cells.shape[1] else NO_BAR
    entered = enter_slot(count, epoch << SLOT_BITS | slot, last, last_open)
    catalog.slots.release(old.slot if entered else slot)
    return entered


def build_rows(
    words: Words, geometry: Geometry, slot: int, epoch: int, last: int, cells: Cells
) -> None:
    """Fill a free slot with rows that end at number `last`, steps S1 to S3."""
    ints, at = words.ints, geometry.slot_word(slot)
    fence()  # S1, release: pairs with the fences of `describe_slot_damage`
    ints[at + S_EPOCH] = epoch
    fence()  # S2, release: pairs with R4 and R5
    first = last - cells.shape[1]
    fill_rows(words, geometry, slot, first, cells)
    ints[at + S_BASE] = first
    ints[at + S_INTENT] = ints[at + S_PUBLISHED] = last


def fill_rows(
    words: Words, geometry: Geometry, slot: int, first: int, cells: Cells
) -> None:
    """Write rows, the first of which is number `first`, into a slot, each twice."""
    # Each row at n % capacity and again `capacity` further: one piece, and the same
    # piece in the other half, which may be cut in two by the column's ends.
    columns, capacity = _columns(words, geometry, slot), geometry.capacity
    rows, start = cells.shape[1], first % capacity
    head = min(rows, capacity - start)
    columns[:, start : start + rows] = cells
    columns[:, start + capacity : start + capacity + head] = cells[:, :head]
    columns[:, : rows - head] = cells[:, head:]


def _columns(words: Words, geometry: Geometry, slot: int) -> Cells:
    at = geometry.slot_word(slot) + SLOT_HEADER_WORDS
    return words.columns(at, (len(COLUMNS), 2 * geometry.capacity)).view(np.int64)


def _rows_of(words: Words, geometry: Geometry, slot: int) -> tuple[Cells, int]:
    # Only of whole rows: a writer that died may have left a row half overwritten.
    at, capacity = geometry.slot_word(slot), geometry.capacity
    last = words.ints[at + S_PUBLISHED]
    first = max(words.ints[at + S_BASE], words.ints[at + S_INTENT] - capacity)
    start = first % capacity
    columns = _columns(words, geometry, slot)
    return columns[:, start : start + last - first], last


def _inserted(opens: Cells, known: Cells) -> int:
    # The number of rows that the stream does not have; both are sorted.
    at = np.searchsorted(known, opens)
    had = at < len(known)
    had[had] = known[at[had]] == opens[had]
    return len(opens) - int(np.count_nonzero(had))


def _checked_cells(rows: object, timeframe: str) -> Cells:
    shape = (len(COLUMNS),)
    if (
        not isinstance(rows, np.ndarray)
        or rows.dtype != np.float64
        or rows.ndim != 2
        or rows.shape[:1] != shape
        or not rows.shape[1]
    ):
        raise BadArgumentError(
            f"rows is {_described(rows)}; it must be a float64 array of shape"
            f" ({len(COLUMNS)}, n), at least one row, as Rows.block"
        )
    # A private copy: what is checked is what is written.
    cells = np.array(rows, order="C").view(np.int64)
    opens, closes = cells[_OPEN_TIME], cells[_CLOSE_TIME]
    wrong = (opens < 0) | (opens >= TIME_LIMIT)
    wrong[1:] |= opens[1:] <= opens[:-1]
    wrong[~wrong] |= closes[~wrong] != close_times(opens[~wrong], timeframe)
    if wrong.any():
        row = int(wrong.argmax())
        raise BadArgumentError(
            f"row {row} of rows opens at {opens[row]} and closes at {closes[row]};"
            " open times must be ms UTC and strictly increasing, and close times those"
            f" of {timeframe}"
        )
    return cells


def _described(rows: object) -> str:
    if isinstance(rows, np.ndarray):
        return f"{rows.dtype} of shape {rows.shape}"
    return repr_short(rows)
