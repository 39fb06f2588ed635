"""The catalog: which streams a segment carries, and in which slot each one's rows are.

An entry belongs to one stream for the life of its segment. It is written whole before
the header's count includes it, so that a reader never meets half a name.

What a feed carries, said to who asked for something else.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shmfeed.bar import StreamKey, check_timeframe
from shmfeed.errors import BadArgumentError, StreamNotFoundError
from shmfeed.layout import (
    E_NAMES,
    E_SINCE,
    E_SUBSCRIBED,
    E_WORD,
    ENTRY_WORDS,
    H_STREAMS,
    S_BASE,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    SLOT_BITS,
    SLOT_MASK,
    SYMBOL_BYTES,
    TIMEFRAME_BYTES,
    WORD,
    Geometry,
)
from shmfeed.memory.integrity import damaged, key_damage
from shmfeed.memory.words import Words, fence
from shmfeed.text import repr_short
from shmfeed.validation import check_symbol

_MOST_NAMED = 20


def stream_not_found(
    feed: str, names: StreamKey, carried: Sequence[StreamKey]
) -> StreamNotFoundError:
    """The error that names what there is, or the first of it."""
    there = [" ".join(stream) for stream in carried]
    more = f" and {len(there) - _MOST_NAMED} more" if len(there) > _MOST_NAMED else ""
    listed = ", ".join(there[:_MOST_NAMED]) or "nothing yet"
    return StreamNotFoundError(
        f"feed {feed!r} does not carry {' '.join(names)}; it carries: {listed}{more}"
    )


def check_keys(streams: Iterable[StreamKey]) -> list[StreamKey]:
    """These streams as the catalog spells them; BadArgumentError."""
    try:
        pairs = [(symbol, timeframe) for symbol, timeframe in streams]
    except (TypeError, ValueError):
        raise BadArgumentError(
            f"streams is {repr_short(streams)}; it must be a list of (symbol,"
            " timeframe)"
        ) from None
    return [(check_symbol(s), check_timeframe(t)) for s, t in pairs]


class Entry(NamedTuple):
    """One stream of a segment: its place in the catalog and its names."""

    number: int
    symbol: str
    timeframe: str
    subscribed: bool

    @property
    def key(self) -> StreamKey:
        return self.symbol, self.timeframe


def entries(words: Words, geometry: Geometry) -> list[Entry]:
    """All streams that the segment has carried, in the order in which they came.

    SegmentFormatError for a catalog that no feeder can have written.
    """
    count = words.ints[H_STREAMS]
    fence()  # acquire: pairs with add's
    if not 0 <= count <= geometry.max_streams:
        what = f"it counts {count} streams, and has room for {geometry.max_streams}"
        raise damaged(words, what)
    found = [read_entry(words, geometry, index) for index in range(count)]
    for entry in found:
        wrong = key_damage(entry.symbol, entry.timeframe)
        if wrong is not None:
            raise damaged(words, f"of stream {entry.number} {wrong}")
    if len({(entry.symbol, entry.timeframe) for entry in found}) < count:
        raise damaged(words, "two of its streams have the same names")
    if len(set(catalog_words(words, geometry, count))) < count:
        raise damaged(words, "two of its streams have the same slot")
    return found


def catalog_words(words: Words, geometry: Geometry, count: int) -> list[int]:
    """The catalog words of the first `count` entries."""
    # Strided pieces of memory: a feed may have thousands of streams.
    start, end = geometry.entry_word(0), geometry.entry_word(count)
    return words.ints[start + E_WORD : end : ENTRY_WORDS].tolist()


def read_entry(words: Words, geometry: Geometry, index: int) -> Entry:
    """Entry `index`, whatever its bytes say."""
    at = geometry.entry_word(index)
    start = (at + E_NAMES) * WORD
    middle = start + SYMBOL_BYTES
    symbol = bytes(words.raw[start:middle]).rstrip(b"\0").decode("ascii", "replace")
    timeframe = bytes(words.raw[middle : middle + TIMEFRAME_BYTES]).rstrip(b"\0")
    return Entry(
        index,
        symbol,
        timeframe.decode("ascii", "replace"),
        bool(words.ints[at + E_SUBSCRIBED]),
    )


class Catalog:
    """The writer's side: adds streams, and marks what is subscribed."""

    def __init__(self, words: Words, geometry: Geometry, first_epoch: int) -> None:
        """`first_epoch` is above every epoch of this feed's earlier segments."""
        self._words = words
        self._geometry = geometry
        self._first_epoch = first_epoch
        self.index = {
            (entry.symbol, entry.timeframe): entry.number
            for entry in entries(words, geometry)
        }

    def add(self, names: StreamKey, now: int, base: int = 0) -> int:
        """The index of a stream, subscribed from `now` (CLOCK_BOOTTIME ns) on.

        A new one gets a free slot whose first row will be number `base`. Raises
        BadArgumentError when all entries are taken.
        """
        index = self.index.get(names)
        if index is None:
            index = self._make(names, base)
        at = self._geometry.entry_word(index)
        if not self._words.ints[at + E_SUBSCRIBED]:
            self._words.ints[at + E_SINCE] = now
            self._words.ints[at + E_SUBSCRIBED] = 1
        if index == self._words.ints[H_STREAMS]:
            fence()  # release: the entry is whole; pairs with that of `entries`
            self._words.ints[H_STREAMS] = index + 1
            self.index[names] = index
        return index

    def _make(self, names: StreamKey, base: int) -> int:
        ints, geometry = self._words.ints, self._geometry
        index = ints[H_STREAMS]
        if index >= geometry.max_streams:
            raise BadArgumentError(
                f"this feed has room for {geometry.max_streams} streams and carries"
                f" {index}; {names[0]} {names[1]} does not fit: raise max_streams"
            )
        slot, epoch = self._free_slot()
        at = geometry.slot_word(slot)
        ints[at + S_EPOCH] = epoch
        # Release: pairs with `held`: by an older word the slot is seen to be another's.
        fence()
        ints[at + S_BASE] = ints[at + S_INTENT] = ints[at + S_PUBLISHED] = base
        at = geometry.entry_word(index)
        self._words.raw[at * WORD : (at + E_NAMES) * WORD] = bytes(E_NAMES * WORD)
        start = (at + E_NAMES) * WORD
        symbol = names[0].encode("ascii").ljust(SYMBOL_BYTES, b"\0")
        name = symbol + names[1].encode("ascii").ljust(TIMEFRAME_BYTES, b"\0")
        self._words.raw[start : start + len(name)] = name
        fence()  # release: the slot is whole; pairs with that of `checked_word`
        ints[at + E_WORD] = epoch << SLOT_BITS | slot
        return index

    def _free_slot(self) -> tuple[int, int]:
        """A slot that no entry names, and an epoch above all that were given."""
        ints, geometry = self._words.ints, self._geometry
        named = catalog_words(self._words, geometry, ints[H_STREAMS])
        used = {word & SLOT_MASK for word in named}
        slot = next(n for n in range(geometry.slots) if n not in used)
        start, end = geometry.slot_word(0), geometry.slot_word(geometry.slots)
        epochs = ints[start + S_EPOCH : end : geometry.slot_words]
        return slot, max(self._first_epoch, max(epochs) + 1)

    def unsubscribe(self, names: StreamKey, now: int) -> None:
        """Mark a stream as no longer fed; its rows stay. BadArgumentError."""
        at = self._geometry.entry_word(self._find(names, "unsubscribe"))
        self._words.ints[at + E_SINCE] = now
        self._words.ints[at + E_SUBSCRIBED] = 0

    def indices(self, streams: Iterable[StreamKey]) -> list[int]:
        """The entries of these streams; BadArgumentError."""
        try:
            streams = tuple(streams)
            return [self.index[names] for names in streams]
        except (KeyError, TypeError):  # another spelling, or something else
            return [self._find(names, "wake") for names in check_keys(streams)]

    def _find(self, names: StreamKey, purpose: str) -> int:
        index = self.index.get(names)
        if index is None:
            there = ", ".join(map(" ".join, self.index)) or "none"
            raise BadArgumentError(
                f"there is no stream {' '.join(names)} to {purpose}; there are: {there}"
            )
        return index
