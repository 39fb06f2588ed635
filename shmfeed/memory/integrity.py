"""What in a segment cannot be: looked for where a stream is bound, not at each read.

Only its feeder writes a segment, but a bug, a stray store of another program of this
user or failing memory can leave words in it that nobody means. Whoever looks holds no
lock: what a live writer may be in the midst of is no damage.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from shmfeed.bar import TIMEFRAMES, Bar, duration
from shmfeed.errors import BadArgumentError, SegmentFormatError, ShmfeedError
from shmfeed.layout import (
    COUNT_LIMIT,
    S_BASE,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    SLOT_BITS,
    SLOT_MASK,
    TIME_LIMIT,
    Geometry,
)
from shmfeed.memory.rows import Rows
from shmfeed.memory.words import Words, fence
from shmfeed.validation import check_symbol

_MONTH_AT_MOST = 31 * 86_400_000


def damaged(words: Words, what: str) -> SegmentFormatError:
    """The error that names the segment, what is wrong with it, and what to do."""
    return SegmentFormatError(
        f"{words.name} is damaged: {what}; restart its feeder, which makes it anew and"
        " keeps the bars of sound streams, or stop it and remove it: shmfeed clean"
    )


@contextmanager
def trusted(words: Words) -> Iterator[None]:
    """What words that nobody can mean do to a writer leaves as damage."""
    try:
        yield
    except ShmfeedError:
        raise
    except (ValueError, IndexError, OverflowError, StopIteration) as error:
        what = f"a stream cannot be added to its catalog ({type(error).__name__})"
        raise damaged(words, what) from error


def key_damage(symbol: str, timeframe: str) -> str | None:
    """What is wrong with a catalog entry's names, None if nothing is."""
    try:
        check_symbol(symbol)
    except BadArgumentError:
        return f"its symbol is {symbol!r}"
    return None if timeframe in TIMEFRAMES else f"its timeframe is {timeframe!r}"


def slot_damage(words: Words, geometry: Geometry, word: int) -> str | None:
    """What is wrong with a catalog word or the slot that it names.

    A verdict only if the catalog word is still the same afterwards: a slot that no
    entry names may be on its way to another stream.
    """
    number, epoch = word & SLOT_MASK, word >> SLOT_BITS
    if epoch < 1 or number >= geometry.slots:
        return f"catalog word {word:#x} is slot {number} of {geometry.slots}"
    ints, at = words.ints, geometry.slot_word(number)
    # Counts only grow: in this order a live writer never seems to break the rule. It
    # may seem to be two rows ahead, where a CPU shows intent before published.
    published = ints[at + S_PUBLISHED]
    fence()
    intent = ints[at + S_INTENT]
    fence()
    last, base = ints[at + S_PUBLISHED], ints[at + S_BASE]
    fence()
    if ints[at + S_EPOCH] != epoch:
        return f"slot {number} is of epoch {ints[at + S_EPOCH]}, not of {epoch}"
    if not 0 <= base <= published <= intent <= last + 2 <= COUNT_LIMIT:
        return f"slot {number} has rows {base} to {published}, and intends {intent}"
    return None


def times_damage(rows: Rows, timeframe: str) -> str | None:
    """What is wrong with the times of rows; ask `valid` before it is believed."""
    first, last = sound_run(rows, timeframe)
    if last - first == len(rows):
        return None
    row = last if last < len(rows) else first - 1
    opens, closes = rows.open_time[row], rows.close_time[row]
    return f"bar {rows.first + row} is said to last from {opens} to {closes}"


def sound_run(rows: Rows, timeframe: str) -> tuple[int, int]:
    """The longest run of rows whose times can be, the newest of equals: its first and
    its last, exclusive; empty if there is none."""
    opens, closes = rows.open_time, rows.close_time
    sound = (opens >= 0) & (opens < TIME_LIMIT) & _fits(closes - opens, timeframe)
    joined = sound[1:] & sound[:-1] & (opens[1:] > opens[:-1])
    if joined.all() and sound.all():
        return 0, len(rows)
    starts = [0, *(np.flatnonzero(~joined) + 1).tolist(), len(rows)]
    runs = [run for run in pairwise(starts) if sound[run[0]]]
    return max(runs, key=lambda run: (run[1] - run[0], run), default=(0, 0))


def bar_damage(bar: Bar, timeframe: str) -> str | None:
    """What is wrong with the times of one bar."""
    length = bar.close_time - bar.open_time
    if 0 <= bar.open_time < TIME_LIMIT and _fits(length, timeframe):
        return None
    return f"a bar is said to last from {bar.open_time} to {bar.close_time}"


def _fits(length: Any, timeframe: str) -> Any:
    """Whether a bar, or each of an array, may be so long."""
    if timeframe == "1M":
        return (length > 0) & (length <= _MONTH_AT_MOST)
    return length == duration(timeframe)
