"""The catalog: the streams of a segment, and the slot that holds each one's rows.

A new entry is complete before the header's count includes it, so a reader never sees a
partial name. Once all entries are taken, a new stream gets the entry of the one that
was unsubscribed longest ago. The entry's epoch tells readers that are bound to it.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import TIMEFRAMES, StreamKey, Timeframe, check_timeframe
from shmfeed.errors import BadArgumentError, SegmentFullError, StreamNotFoundError
from shmfeed.layout import (
    E_EPOCH,
    E_NAMES,
    E_SINCE,
    E_SUBSCRIBED,
    E_WORD,
    H_CATALOG,
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
from shmfeed.memory.integrity import damaged, describe_key_damage, describe_keys_damage
from shmfeed.memory.rows import IntArray
from shmfeed.memory.slots import Reserve, SlotPool, no_reservation
from shmfeed.memory.words import Words, fence
from shmfeed.text import counted, repr_short
from shmfeed.validation import check_symbol

_MAX_LISTED = 20
_NS_OF_MS = 1_000_000
_E_NAMES_END = E_NAMES + (SYMBOL_BYTES + TIMEFRAME_BYTES) // WORD


def stream_not_found(
    feed: str, key: StreamKey, subscribed: Sequence[StreamKey]
) -> StreamNotFoundError:
    """Return the error for a missing stream. It names 20 of the subscribed ones."""
    return streams_not_found(feed, " ".join(key), subscribed)


def streams_not_found(
    feed: str, wanted: str, subscribed: Sequence[StreamKey]
) -> StreamNotFoundError:
    """Return the error for missing streams, which `wanted` describes."""
    listed = ", ".join(map(" ".join, subscribed[:_MAX_LISTED])) or "nothing yet"
    left = len(subscribed) - _MAX_LISTED
    more = f" and {left} more" if left > 0 else ""
    return StreamNotFoundError(
        f"feed {feed!r} does not carry {wanted}; it carries: {listed}{more}"
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


def generation(words: Words, geometry: Geometry) -> tuple[int, int | bytes]:
    """Return a value that differs after each change of the catalog's streams.

    Load it before `entries`: they are those of this generation, or of a newer one.
    `is_settled` is False for a generation that a change has not ended.
    """
    count = words.ints[H_STREAMS]
    changes: int | bytes
    if geometry.version > 1:
        changes = words.ints[H_CATALOG]
    else:  # layout 1 counts no changes, and never gives an entry away
        table = _table(words, geometry, range(max(0, min(count, geometry.max_streams))))
        changes = table[:, E_SUBSCRIBED].tobytes()
    fence()  # acquire: pairs with the release in `Catalog._changed`
    return count, changes


def is_settled(generation: tuple[int, int | bytes]) -> bool:
    """Return False for a generation that a change began and has not ended.

    Its writer may have been killed in the change. The next writer then changes other
    streams under the same generation, so a reader must not keep what it found.
    """
    changes = generation[1]
    return isinstance(changes, bytes) or not changes & 1


def entries(words: Words, geometry: Geometry) -> list[Entry]:
    """Return all entries of the segment that belong to a stream, in their order.

    Raises:
        SegmentFormatError: The catalog is damaged.
    """
    count = words.ints[H_STREAMS]
    fence()  # acquire: pairs with the last fence of `Catalog.add`
    if not 0 <= count <= geometry.max_streams:
        most = geometry.max_streams
        raise damaged(words, f"its header counts {count} streams of at most {most}")
    found = read_entries(words, geometry, range(count))
    if describe_keys_damage([entry.key for entry in found]) is not None:
        for entry in found:
            damage = describe_key_damage(entry.symbol, entry.timeframe)
            if damage is not None:
                raise damaged(words, f"stream {entry.number}: {damage}")
        raise damaged(words, "two of its streams have the same key")
    slots = entry_words(words, geometry, E_WORD, count)
    if len({slots[entry.number] for entry in found}) < len(found):
        raise damaged(words, "two of its streams have the same slot")
    return found


class KnownStreams(NamedTuple):
    """The streams of a segment at one generation of its catalog.

    It belongs to one segment: a number means another stream in another one.
    """

    generation: tuple[int, int | bytes]
    numbers: dict[StreamKey, int]
    subscribed: list[StreamKey]


def known_streams(
    words: Words, geometry: Geometry, known: KnownStreams | None
) -> KnownStreams:
    """Return the streams of a segment: `known`, which is its own, if it still holds.

    Raises as `entries`.
    """
    found = generation(words, geometry)
    if known is not None and known.generation == found and is_settled(found):
        return known
    listed = entries(words, geometry)
    numbers = {entry.key: entry.number for entry in listed}
    subscribed = [entry.key for entry in listed if entry.subscribed]
    return KnownStreams(found, numbers, subscribed)


def read_entries(words: Words, geometry: Geometry, numbers: range) -> list[Entry]:
    """Return those of these adjacent entries that belong to a stream, unchecked."""
    table = _table(words, geometry, numbers)
    epochs = table[:, E_EPOCH].copy()
    fence()  # acquire: the entries are read after their epochs
    names = table[:, E_NAMES:_E_NAMES_END].copy().view(np.uint8)
    subscribed = table[:, E_SUBSCRIBED] != 0
    fence()  # B2, acquire: pairs with E2
    # An odd epoch is that of an entry that is being given to another stream.
    whole = (epochs & 1 == 0) & (epochs == table[:, E_EPOCH])
    return [
        Entry(number, symbol, cast("Timeframe", timeframe), is_subscribed)
        for number, symbol, timeframe, is_subscribed, is_whole in zip(
            numbers,
            _texts(names[:, :SYMBOL_BYTES]),
            _texts(names[:, SYMBOL_BYTES:]),
            subscribed.tolist(),
            whole.tolist(),
            strict=True,
        )
        if is_whole
    ]


def _table(words: Words, geometry: Geometry, numbers: range) -> IntArray:
    # One row an entry: a feed may have thousands.
    shape = len(numbers), geometry.entry_words
    return words.columns(geometry.entry_word(numbers.start), shape).view(np.int64)


def _texts(cells: NDArray[np.uint8]) -> list[str]:
    # NULs at the end of a cell are padding.
    found = np.ascontiguousarray(cells).view(f"S{cells.shape[1]}").ravel().tolist()
    return [text.decode("ascii", "replace") for text in found]


def _text(cell: memoryview) -> str:
    return bytes(cell).rstrip(b"\0").decode("ascii", "replace")


def entry_words(words: Words, geometry: Geometry, word: int, count: int) -> list[int]:
    """Return word number `word` of the first `count` entries."""
    found: list[int] = _table(words, geometry, range(count))[:, word].tolist()
    return found


def read_entry(words: Words, geometry: Geometry, index: int) -> Entry | None:
    """Return entry `index` unchecked, None if it belongs to no stream."""
    ints, at = words.ints, geometry.entry_word(index)
    epoch = ints[at + E_EPOCH]
    fence()  # acquire: the entry is read after its epoch
    start = (at + E_NAMES) * WORD
    symbol = _text(words.raw[start : start + SYMBOL_BYTES])
    start += SYMBOL_BYTES
    timeframe = _text(words.raw[start : start + TIMEFRAME_BYTES])
    is_subscribed = bool(ints[at + E_SUBSCRIBED])
    fence()  # B2, acquire: pairs with E2
    if epoch & 1 or ints[at + E_EPOCH] != epoch:
        return None
    return Entry(index, symbol, cast("Timeframe", timeframe), is_subscribed)


class Catalog:
    """The writer's side of the catalog: it adds, subscribes and unsubscribes streams.

    `index` maps the key of each stream to its entry number. `slots` are the free slots;
    `words` and `geometry` are those of the segment.

    Give an entry to another stream:        Read from a bound entry:
     (E1) store its epoch + 1, odd           (B1) load the values
     (E2) release                            (B2) acquire
     (E3) fill the entry, catalog word       (B3) load the epoch: the values are the
          included                                stream's if it is the one that was
     (E4) release-store its epoch + 1             loaded before the names were

    A writer that is killed between E1 and E4 leaves an odd epoch: the entry belongs to
    no stream until the next writer gives it to one.
    """

    def __init__(
        self,
        words: Words,
        geometry: Geometry,
        first_epoch: int,
        reserve: Reserve = no_reservation,
    ) -> None:
        # `first_epoch` is above each epoch of this feed's earlier segments.
        self.words = words
        self.geometry = geometry
        found = entries(words, geometry)
        self.index = {entry.key: entry.number for entry in found}
        count = words.ints[H_STREAMS]
        vacant = {*range(count)} - {*self.index.values()}
        self._vacant: list[int] = sorted(vacant, reverse=True)
        # In the order in which they were unsubscribed.
        self._unsubscribed = dict.fromkeys(
            entry.key
            for entry in sorted(found, key=self._since)
            if not entry.subscribed
        )
        named = entry_words(words, geometry, E_WORD, count)
        used = {named[entry.number] & SLOT_MASK for entry in found}
        self.slots = SlotPool(words, geometry, used, first_epoch, reserve)
        self._changed()  # the last writer may have been killed before it did this

    def _since(self, entry: Entry) -> int:
        since: int = self.words.ints[self._at(entry.number) + E_SINCE]
        return since

    def _at(self, index: int) -> int:
        return self.geometry.entry_word(index)

    def _changing(self) -> None:
        # Odd until `_changed`: it stays odd if the writer is killed before that.
        if self.geometry.version > 1:
            self.words.ints[H_CATALOG] |= 1
            fence()  # release: pairs with the acquire in `generation`

    def _changed(self) -> None:
        if self.geometry.version > 1:
            fence()  # release: pairs with the acquire in `generation`
            self.words.ints[H_CATALOG] = (self.words.ints[H_CATALOG] | 1) + 1

    def add(self, key: StreamKey, now: int, base: int = 0) -> int:
        """Subscribe a stream; return its entry number.

        Args:
            key: The stream's symbol and timeframe, as the catalog spells them.
            now: CLOCK_BOOTTIME ns, the time of a new subscription.
            base: The number of the first row of a new stream, in a free slot.

        Raises:
            SegmentFullError: All entries are taken, or /dev/shm has no room for the
                stream's rows. Nothing was changed.
        """
        index = self.index.get(key)
        if index is None:
            return self._add_new(key, now, base)
        at = self._at(index)
        if not self.words.ints[at + E_SUBSCRIBED]:
            self._changing()
            self.words.ints[at + E_SINCE] = now
            self.words.ints[at + E_SUBSCRIBED] = 1
            self._unsubscribed.pop(key, None)
            self._changed()
        return index

    def is_subscribed(self, key: StreamKey) -> bool:
        """Return True if the feed carries the stream and has not unsubscribed it."""
        return key in self.index and key not in self._unsubscribed

    def unsubscribed(self) -> list[StreamKey]:
        """Return the streams that are unsubscribed, the longest ago first."""
        return list(self._unsubscribed)

    def has_capacity_for(self, streams: Collection[StreamKey]) -> bool:
        """Return True if these streams fit beside those that are subscribed."""
        subscribed = len(self.index) - len(self._unsubscribed)
        new = sum(1 for k in streams if k not in self.index or k in self._unsubscribed)
        return subscribed + new <= self.geometry.max_streams

    def displaced_by(self, key: StreamKey) -> StreamKey | None:
        """Return the stream whose entry `add` would give to this one, or None.

        That is the stream which was unsubscribed longest ago, once all entries are
        taken.
        """
        count = self.words.ints[H_STREAMS]
        if key in self.index or self._vacant or count < self.geometry.max_streams:
            return None
        return next(iter(self._unsubscribed), None)

    def _add_new(self, key: StreamKey, now: int, base: int) -> int:
        displaced = self.displaced_by(key)
        index = self._free_entry(displaced)
        if index is None:
            streams = counted(self.geometry.max_streams, "stream")
            raise SegmentFullError(
                f"this feed has capacity for {streams} and carries {len(self.index)};"
                f" {' '.join(key)} does not fit: raise max_streams"
            )
        slot, epoch = self.free_slot()  # may raise: nothing was changed
        self._changing()
        self._fill_slot(slot, epoch, base)
        old = None
        if displaced is not None:
            old = self.words.ints[self._at(index) + E_WORD] & SLOT_MASK
            self.slots.stamp(old, epoch, self.rest_of(index))
        self.slots.take(slot)
        self._fill_entry(index, key, now, epoch << SLOT_BITS | slot)
        if old is not None:
            self.slots.release(old)
        if displaced is not None:
            del self.index[displaced], self._unsubscribed[displaced]
        elif self._vacant:
            self._vacant.pop()
        self.index[key] = index
        if index == self.words.ints[H_STREAMS]:
            fence()  # release: the entry is complete; pairs with that of `entries`
            self.words.ints[H_STREAMS] = index + 1
        self._changed()
        return index

    def _free_entry(self, displaced: StreamKey | None) -> int | None:
        if displaced is not None:
            return self.index[displaced]
        if self._vacant:
            return self._vacant[-1]
        count: int = self.words.ints[H_STREAMS]
        return None if count >= self.geometry.max_streams else count

    def free_slot(self) -> tuple[int, int]:
        """Return the next free slot and its epoch, as `SlotPool.free`."""
        return self.slots.free()

    def rest_of(self, index: int) -> int:
        """Return for how long a stream's slot rests, ns: the time of `guard` bars."""
        entry = read_entry(self.words, self.geometry, index)
        bar = TIMEFRAMES.get(entry.timeframe, 0) if entry is not None else 0
        return self.geometry.guard * bar * _NS_OF_MS

    def _fill_slot(self, slot: int, epoch: int, base: int) -> None:
        ints, at = self.words.ints, self.geometry.slot_word(slot)
        fence()  # S1, release: pairs with the fences of `describe_slot_damage`
        ints[at + S_EPOCH] = epoch
        fence()  # S2, release: pairs with R5; older slices see that the slot is reused
        ints[at + S_BASE] = ints[at + S_INTENT] = ints[at + S_PUBLISHED] = base

    def _fill_entry(self, index: int, key: StreamKey, now: int, word: int) -> None:
        ints, raw, at = self.words.ints, self.words.raw, self._at(index)
        epoch = ints[at + E_EPOCH] | 1
        ints[at + E_EPOCH] = epoch  # E1
        fence()  # E2, release: pairs with B2
        end = at + self.geometry.entry_words
        for first, last in ((at, at + E_EPOCH), (at + E_EPOCH + 1, end)):
            raw[first * WORD : last * WORD] = bytes((last - first) * WORD)
        start = (at + E_NAMES) * WORD
        symbol = key[0].encode("ascii").ljust(SYMBOL_BYTES, b"\0")
        name = symbol + key[1].encode("ascii").ljust(TIMEFRAME_BYTES, b"\0")
        raw[start : start + len(name)] = name
        ints[at + E_SINCE] = now
        ints[at + E_SUBSCRIBED] = 1
        fence()  # S4, release: the slot is complete; pairs with R1, in `checked_word`
        ints[at + E_WORD] = word
        fence()  # release: pairs with the acquire after the load of an epoch
        ints[at + E_EPOCH] = epoch + 1  # E4

    def unsubscribe(self, key: StreamKey, now: int) -> None:
        """Mark a stream as unsubscribed; its rows stay. Raise BadArgumentError."""
        at = self._at(self.number(key, "unsubscribe"))
        self._changing()
        self.words.ints[at + E_SINCE] = now
        self.words.ints[at + E_SUBSCRIBED] = 0
        self._unsubscribed.pop(key, None)
        self._unsubscribed[key] = None
        self._changed()

    def indices(self, streams: Iterable[StreamKey]) -> list[int]:
        """Return the entry numbers of these streams. Raise BadArgumentError."""
        try:
            streams = tuple(streams)
            return [self.index[key] for key in streams]
        except (KeyError, TypeError):  # an alias, or not a list of keys
            return [self.number(key, "wake") for key in check_keys(streams)]

    def number(self, key: StreamKey, purpose: str) -> int:
        """Return a stream's entry number. Raise BadArgumentError."""
        index = self.index.get(key)
        if index is None:
            raise no_stream(key, purpose, self.index)
        return index
