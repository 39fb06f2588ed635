"""Damage: values in a segment that no feeder can have stored.

Only its feeder writes a segment, but a bug, a stray write by another program of this
user, or failing memory can change its words. They are checked when a reader binds to a
stream, not at each read. The checks hold no lock: a state that a live writer passes
through is not damage.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from shmfeed.bar import TIMEFRAMES, Bar, StreamKey, duration
from shmfeed.errors import (
    BadArgumentError,
    SegmentFormatError,
    ShmfeedError,
    StreamNotFoundError,
)
from shmfeed.layout import (
    COUNT_LIMIT,
    E_EPOCH,
    E_WORD,
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
from shmfeed.memory.slots import slots_taken
from shmfeed.memory.words import RetryBudget, Words, fence
from shmfeed.validation import are_symbols, check_int, check_symbol

_MONTH_AT_MOST = 31 * 86_400_000


def damaged(words: Words, damage: str) -> SegmentFormatError:
    """Return the error that names the segment, its damage, and the remedy."""
    return SegmentFormatError(
        f"{words.name} is damaged: {damage}; restart its feeder, which recreates it"
        " with the bars of its intact streams, or stop the feeder and remove the"
        " segment: shmfeed clean"
    )


@contextmanager
def damage_as_error(words: Words) -> Iterator[None]:
    """Translate the errors that damaged words cause in a writer.

    Raises SegmentFormatError in their place.
    """
    try:
        yield
    except ShmfeedError:
        raise
    except (ValueError, IndexError, OverflowError, StopIteration) as error:
        damage = f"a stream cannot be added to its catalog ({type(error).__name__})"
        raise damaged(words, damage) from error


def describe_key_damage(symbol: str, timeframe: str) -> str | None:
    """Return the damage of a catalog entry's key, None if it is valid."""
    try:
        check_symbol(symbol)
    except BadArgumentError:
        return f"its symbol is {symbol!r}"
    return None if timeframe in TIMEFRAMES else f"its timeframe is {timeframe!r}"


def describe_keys_damage(keys: Sequence[StreamKey]) -> str | None:
    """Return a damage of these keys, None if all are valid and differ."""
    if len(set(keys)) < len(keys):
        return "two of its streams have the same key"
    if {timeframe for _, timeframe in keys} <= TIMEFRAMES.keys() and are_symbols(
        symbol for symbol, _ in keys
    ):
        return None
    return "a stream's key is not valid"


def describe_slot_damage(words: Words, geometry: Geometry, word: int) -> str | None:
    """Return the damage of a catalog word or its slot, None if they are valid.

    The result counts only if the catalog word is unchanged afterwards. The writer may
    be reusing a slot that no entry names.
    """
    number, epoch = word & SLOT_MASK, word >> SLOT_BITS
    taken = slots_taken(words, geometry)
    if epoch < 1 or number >= geometry.slots:
        slots = geometry.slots
        return f"catalog word {word:#x} names slot {number} of {slots}, epoch {epoch}"
    if number >= taken:  # it may have no pages: do not load from it
        return f"catalog word {word:#x} names slot {number}, only {taken} are in use"
    ints, at = words.ints, geometry.slot_word(number)
    # Counts only grow. Loaded in this order, those of a live writer satisfy the
    # inequality below. Intent may be two rows ahead, on a CPU that shows it before
    # published.
    published = ints[at + S_PUBLISHED]
    fence()
    intent = ints[at + S_INTENT]
    fence()
    last, base = ints[at + S_PUBLISHED], ints[at + S_BASE]
    fence()
    if ints[at + S_EPOCH] != epoch:
        return f"slot {number} is of epoch {ints[at + S_EPOCH]}, not of {epoch}"
    if not 0 <= base <= published <= intent <= last + 2 <= COUNT_LIMIT:
        return (
            f"slot {number} has base {base}, published {published} and intent {intent}"
        )
    return None


def check_entry(words: Words, geometry: Geometry, index: int) -> int:
    """Return the word at which entry `index` begins.

    Raises:
        BadArgumentError: The buffer is too small for the geometry, or the geometry has
            no rows or no such entry.
    """
    check_int("history", geometry.history)
    check_int("guard", geometry.guard, 0)
    index = check_int("index", index, 0, geometry.max_streams - 1)
    if len(words.raw) < geometry.size:
        raise BadArgumentError(
            f"{words.name} has {len(words.raw)} bytes; with {geometry} it must have"
            f" {geometry.size}"
        )
    return geometry.entry_word(index)


def not_carried(words: Words) -> StreamNotFoundError:
    """Return the error for a stream whose entry was given to another stream."""
    return StreamNotFoundError(
        f"{words.name} does not carry this stream any more: its entry was given to"
        " another stream; ask the feed for the ring again"
    )


def check_epoch(words: Words, entry: int, epoch: int) -> None:
    """Raise StreamNotFoundError if the entry does not have this epoch any more.

    An odd epoch is that of an entry that is being given to another stream.
    """
    if epoch & 1 or words.ints[entry + E_EPOCH] != epoch:
        raise not_carried(words)


def checked_word(words: Words, geometry: Geometry, entry: int, epoch: int) -> int:
    """Return the catalog word of the entry that begins at word `entry`, step R1.

    Raises:
        StreamNotFoundError: The entry's epoch is not `epoch`: it was given to another
            stream.
        SegmentFormatError: The word or its slot is damaged.
    """
    ints, budget = words.ints, None
    while True:
        word = ints[entry + E_WORD]
        fence()  # R1, acquire: pairs with S4, in `Catalog.add`
        check_epoch(words, entry, epoch)
        damage = describe_slot_damage(words, geometry, word)
        if damage is None:
            return word
        fence()  # load the word again, after everything that it names
        if ints[entry + E_WORD] == word:
            raise damaged(words, damage)
        budget = budget or RetryBudget("catalog word")
        budget.spend()


def retry_budget(
    what: str, words: Words, geometry: Geometry, entry: int, epoch: int
) -> RetryBudget:
    """Return the budget of a read. Once spent, it checks the catalog, then raises."""
    return RetryBudget(what, lambda: checked_word(words, geometry, entry, epoch))


def describe_times_damage(rows: Rows, timeframe: str) -> str | None:
    """Return the damage of the rows' times, or None.

    The result counts only if `rows.valid` is True afterwards.
    """
    first, last = longest_valid_run(rows, timeframe)
    if last - first == len(rows):
        return None
    row = last if last < len(rows) else first - 1
    opens, closes = rows.open_time[row], rows.close_time[row]
    return f"bar {rows.first + row} opens at {opens} and closes at {closes}"


def longest_valid_run(rows: Rows, timeframe: str) -> tuple[int, int]:
    """Return the longest run of rows with valid times, [first, last) in the window.

    Of equally long runs the newest counts. Without a valid row the run is empty.
    """
    opens, closes = rows.open_time, rows.close_time
    valid = (opens >= 0) & (opens < TIME_LIMIT) & _fits(closes - opens, timeframe)
    joined = valid[1:] & valid[:-1] & (opens[1:] > opens[:-1])
    if joined.all() and valid.all():
        return 0, len(rows)
    starts = [0, *(np.flatnonzero(~joined) + 1).tolist(), len(rows)]
    runs = [run for run in pairwise(starts) if valid[run[0]]]
    return max(runs, key=lambda run: (run[1] - run[0], run), default=(0, 0))


def describe_bar_damage(bar: Bar, timeframe: str) -> str | None:
    """Return the damage of one bar's times, None if they are valid."""
    length = bar.close_time - bar.open_time
    if 0 <= bar.open_time < TIME_LIMIT and _fits(length, timeframe):
        return None
    return f"a bar opens at {bar.open_time} and closes at {bar.close_time}"


def _fits(length: Any, timeframe: str) -> Any:
    # One length, or an array of them.
    if timeframe == "1M":
        return (length > 0) & (length <= _MONTH_AT_MOST)
    return length == duration(timeframe)
