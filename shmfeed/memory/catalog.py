"""The catalog: the streams of a segment, and the slot that holds each one's rows.

An entry belongs to one stream for the life of its segment. It is complete before
the header's count includes it, so a reader never sees a partial name.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

from shmfeed.bar import StreamKey, Timeframe, check_timeframe
from shmfeed.errors import BadArgumentError, SegmentFullError, StreamNotFoundError
from shmfeed.layout import (
    E_NAMES,
    E_SINCE,
    E_SUBSCRIBED,
    E_WORD,
    H_STREAMS,
    S_BASE,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    S_RETIRED,
    SLOT_BITS,
    SLOT_MASK,
    SYMBOL_BYTES,
    TIMEFRAME_BYTES,
    WORD,
    Geometry,
)
from shmfeed.memory.integrity import damaged, describe_key_damage
from shmfeed.memory.words import Words, fence
from shmfeed.text import counted, repr_short
from shmfeed.validation import check_symbol

_MAX_LISTED = 20


def stream_not_found(
    feed: str, key: StreamKey, subscribed: Sequence[StreamKey]
) -> StreamNotFoundError:
    """Return the error for a missing stream. It names 20 of the subscribed ones."""
    names = [" ".join(stream) for stream in subscribed]
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    listed = ", ".join(names[:_MAX_LISTED]) or "nothing yet"
    return StreamNotFoundError(
        f"feed {feed!r} does not carry {' '.join(key)}; it carries: {listed}{more}"
    )


def no_stream(
    key: StreamKey, purpose: str, streams: Iterable[StreamKey]
) -> BadArgumentError:
    """Return the error for a stream that the writer does not have."""
    listed = ", ".join(map(" ".join, streams)) or "none"
    return BadArgumentError(
        f"there is no stream {' '.join(key)} to {purpose}; there are: {listed}"
    )


def check_keys(streams: Iterable[StreamKey]) -> list[StreamKey]:
    """Return these keys as the catalog spells them. Raise BadArgumentError."""
    try:
        pairs = [(symbol, timeframe) for symbol, timeframe in streams]
    except (TypeError, ValueError):
        raise BadArgumentError(
            f"streams is {repr_short(streams)}; it must be a list of (symbol,"
            " timeframe)"
        ) from None
    return [(check_symbol(s), check_timeframe(t)) for s, t in pairs]


class Entry(NamedTuple):
    """One entry of the catalog: its index, its stream, and whether it is subscribed."""

    number: int
    symbol: str
    timeframe: Timeframe
    subscribed: bool

    @property
    def key(self) -> StreamKey:
        return self.symbol, self.timeframe


def entries(words: Words, geometry: Geometry) -> list[Entry]:
    """Return all entries of the segment, in the order in which they were added.

    Raises:
        SegmentFormatError: The catalog is damaged.
    """
    count = words.ints[H_STREAMS]
    fence()  # acquire: pairs with the last fence of `Catalog.add`
    if not 0 <= count <= geometry.max_streams:
        most = geometry.max_streams
        raise damaged(words, f"its header counts {count} streams of at most {most}")
    found = [read_entry(words, geometry, index) for index in range(count)]
    for entry in found:
        damage = describe_key_damage(entry.symbol, entry.timeframe)
        if damage is not None:
            raise damaged(words, f"stream {entry.number}: {damage}")
    if len({(entry.symbol, entry.timeframe) for entry in found}) < count:
        raise damaged(words, "two of its streams have the same key")
    if len(set(catalog_words(words, geometry, count))) < count:
        raise damaged(words, "two of its streams have the same slot")
    return found


def catalog_words(words: Words, geometry: Geometry, count: int) -> list[int]:
    """Return the catalog words of the first `count` entries."""
    # One strided copy: a feed may have thousands of streams.
    start, end = geometry.entry_word(0), geometry.entry_word(count)
    return words.ints[start + E_WORD : end : geometry.entry_words].tolist()


def read_entry(words: Words, geometry: Geometry, index: int) -> Entry:
    """Return entry `index` unchecked."""
    at = geometry.entry_word(index)
    start = (at + E_NAMES) * WORD
    middle = start + SYMBOL_BYTES
    symbol = bytes(words.raw[start:middle]).rstrip(b"\0").decode("ascii", "replace")
    timeframe = bytes(words.raw[middle : middle + TIMEFRAME_BYTES]).rstrip(b"\0")
    return Entry(
        index,
        symbol,
        cast("Timeframe", timeframe.decode("ascii", "replace")),
        bool(words.ints[at + E_SUBSCRIBED]),
    )


class Catalog:
    """The writer's side of the catalog: it adds, subscribes and unsubscribes streams.

    `index` maps the key of each stream to its entry number; `words` and `geometry` are
    those of the segment.
    """

    def __init__(self, words: Words, geometry: Geometry, first_epoch: int) -> None:
        # `first_epoch` is above each epoch of this feed's earlier segments.
        self.words = words
        self.geometry = geometry
        self._first_epoch = first_epoch
        self.index = {entry.key: entry.number for entry in entries(words, geometry)}

    def add(self, key: StreamKey, now: int, base: int = 0) -> int:
        """Subscribe a stream; return its entry number.

        Args:
            key: The stream's symbol and timeframe, as the catalog spells them.
            now: CLOCK_BOOTTIME ns, the time of a new subscription.
            base: The number of the first row of a new stream, in a free slot.

        Raises:
            BadArgumentError: All entries are taken.
        """
        index = self.index.get(key)
        if index is None:
            index = self._make(key, base)
        at = self.geometry.entry_word(index)
        if not self.words.ints[at + E_SUBSCRIBED]:
            self.words.ints[at + E_SINCE] = now
            self.words.ints[at + E_SUBSCRIBED] = 1
        if index == self.words.ints[H_STREAMS]:
            fence()  # release: the entry is complete; pairs with that of `entries`
            self.words.ints[H_STREAMS] = index + 1
            self.index[key] = index
        return index

    def _make(self, key: StreamKey, base: int) -> int:
        ints, geometry = self.words.ints, self.geometry
        index = ints[H_STREAMS]
        if index >= geometry.max_streams:
            streams = counted(geometry.max_streams, "stream")
            raise BadArgumentError(
                f"this feed has capacity for {streams} and carries {index};"
                f" {' '.join(key)} does not fit: raise max_streams"
            )
        slot, epoch = self.free_slot()
        at = geometry.slot_word(slot)
        ints[at + S_EPOCH] = epoch
        fence()  # S2, release: pairs with R5; older slices see that the slot is reused
        ints[at + S_BASE] = ints[at + S_INTENT] = ints[at + S_PUBLISHED] = base
        at = geometry.entry_word(index)
        self.words.raw[at * WORD : (at + E_NAMES) * WORD] = bytes(E_NAMES * WORD)
        start = (at + E_NAMES) * WORD
        symbol = key[0].encode("ascii").ljust(SYMBOL_BYTES, b"\0")
        name = symbol + key[1].encode("ascii").ljust(TIMEFRAME_BYTES, b"\0")
        self.words.raw[start : start + len(name)] = name
        fence()  # S4, release: the slot is complete; pairs with R1, in `checked_word`
        ints[at + E_WORD] = epoch << SLOT_BITS | slot
        return index

    def free_slot(self) -> tuple[int, int]:
        """Return an unused slot, and an epoch above all that slots have had.

        It is the slot that was retired longest ago, so that slices of the others last.

        Raises:
            SegmentFullError: Each slot holds a stream's rows.
        """
        ints, geometry = self.words.ints, self.geometry
        named = catalog_words(self.words, geometry, ints[H_STREAMS])
        used = {word & SLOT_MASK for word in named}
        free = [slot for slot in range(geometry.slots) if slot not in used]
        if not free:
            raise SegmentFullError(
                f"{self.words.name} has {counted(geometry.slots, 'slot')}, and each"
                " holds a stream's rows; raise max_streams"
            )
        start, end = geometry.slot_word(0), geometry.slot_word(geometry.slots)
        retired = ints[start + S_RETIRED : end : geometry.slot_words].tolist()
        slot = min(free, key=retired.__getitem__)
        epochs = ints[start + S_EPOCH : end : geometry.slot_words]
        return slot, max(self._first_epoch, max(epochs) + 1)

    def unsubscribe(self, key: StreamKey, now: int) -> None:
        """Mark a stream as unsubscribed; its rows stay. Raise BadArgumentError."""
        at = self.geometry.entry_word(self._find(key, "unsubscribe"))
        self.words.ints[at + E_SINCE] = now
        self.words.ints[at + E_SUBSCRIBED] = 0

    def indices(self, streams: Iterable[StreamKey]) -> list[int]:
        """Return the entry numbers of these streams. Raise BadArgumentError."""
        try:
            streams = tuple(streams)
            return [self.index[key] for key in streams]
        except (KeyError, TypeError):  # an alias, or not a list of keys
            return [self._find(key, "wake") for key in check_keys(streams)]

    def _find(self, key: StreamKey, purpose: str) -> int:
        index = self.index.get(key)
        if index is None:
            raise no_stream(key, purpose, self.index)
        return index
