"""Rings of rows in an engine: one string a stream, its slots given by the bars' times.

A ring is the header of a blob and `capacity` slots of 72 bytes, the words of a row as
in memory. A bar's ordinal is the number of its timeframe since 1970; its slot is the
ordinal modulo the capacity. So a correction, a late bar and a bar that comes twice all
go where the bar belongs, and a slot holds a bar of the window only if its ordinal lies
in the newest `capacity` ones: others are bars of an earlier lap, or were never written.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import StreamKey, duration, step
from shmfeed.layout import COLUMNS
from shmfeed.relay.blobs import HEADER_BYTES, RING, ROW_BYTES, body_of, header
from shmfeed.relay.flush import RowsOfStreams

Ints = NDArray[np.int64]
Rows = NDArray[np.int64]  # (n, 9), rows as words
_OPEN, _CLOSE = 0, 1
_NO_ORDINAL = -1


class RingWrite(NamedTuple):
    """Adjoining bytes of a ring.

    Attributes:
        number: The stream's.
        offset: Where they begin, WHOLE if they are the ring.
        data: The bytes.
    """

    number: int
    offset: int
    data: bytes


WHOLE = -1


def ring_header(capacity: int) -> bytes:
    """Return the header of a ring."""
    return header(RING, capacity * ROW_BYTES)


def to_rows(block: NDArray[np.float64]) -> Rows:
    """Return the rows of a block (9, n) as words (n, 9), each row's adjoining."""
    return np.ascontiguousarray(block.T).view(np.int64)


def to_block(parts: Sequence[Rows], first: int) -> RowsOfStreams:
    """Return the rows of streams whose numbers count up from `first`."""
    counts = [len(part) for part in parts]
    numbers = np.repeat(np.arange(first, first + len(parts)), counts)
    block = np.ascontiguousarray(np.concatenate(parts).T)
    return RowsOfStreams(numbers, block.view(np.float64))


def ordinals(opens: Ints, timeframe: str) -> Ints:
    """Return the number of each bar's timeframe since 1970."""
    if step(timeframe):
        return opens // duration(timeframe)
    months: Ints = opens.astype("M8[ms]").astype("M8[M]").astype(np.int64)
    return months


def pack_ring(rows: Rows, timeframe: str, capacity: int) -> bytes:
    """Return the ring of a stream with these rows; those of an earlier lap are left."""
    slots = np.zeros((capacity, len(COLUMNS)), np.int64)
    if len(rows):
        numbers = ordinals(rows[:, _OPEN], timeframe)
        kept = numbers > numbers.max() - capacity
        slots[numbers[kept] % capacity] = rows[kept]
    return ring_header(capacity) + slots.tobytes()


def unpack_ring(blob: bytes, timeframe: str, key: str) -> Rows:
    """Return the rows of a ring, oldest first.

    Raises EngineRefusedError if the blob is not a ring; the message names its key.
    """
    body = body_of(blob, RING, key)
    body = body[: len(body) // ROW_BYTES * ROW_BYTES]
    slots = np.frombuffer(body, np.int64).reshape(-1, len(COLUMNS))
    capacity = len(slots)
    numbers = ordinals(slots[:, _OPEN], timeframe)
    is_bar = (slots[:, _CLOSE] > 0) & (numbers % capacity == np.arange(capacity))
    if not is_bar.any():
        return slots[:0]
    newest = int(numbers[is_bar].max())
    is_bar &= numbers > newest - capacity
    first = (newest + 1) % capacity
    order = np.concatenate([np.arange(first, capacity), np.arange(first)])
    rows: Rows = slots[order[is_bar[order]]]
    return rows


class RingWriter:
    """From rows to writes: knows each ring's newest bar, so that no older lap wins."""

    def __init__(self, streams: Sequence[StreamKey], capacity: int) -> None:
        self.capacity = capacity
        self._timeframes = [timeframe for _, timeframe in streams]
        lengths = [step(timeframe) for timeframe in self._timeframes]
        self._lengths = np.array(lengths, np.int64)
        self._newest = np.full(len(streams), _NO_ORDINAL)

    def extend(self, streams: Sequence[StreamKey]) -> None:
        """Take a catalog that begins with the streams of the one before."""
        more = RingWriter(streams[len(self._timeframes) :], self.capacity)
        self._timeframes += more._timeframes
        self._lengths = np.concatenate([self._lengths, more._lengths])
        self._newest = np.concatenate([self._newest, more._newest])

    def writes(
        self, numbers: Ints, block: NDArray[np.float64], whole: Sequence[int]
    ) -> Iterator[RingWrite]:
        """Yield the writes for rows that are sorted by stream and open time.

        Of the streams in `whole` these are all rows.
        """
        rows = to_rows(block)
        if whole:
            yield from self._whole_rings(numbers, rows, whole)
            kept = ~np.isin(numbers, whole)
            numbers, rows = numbers[kept], rows[kept]
        if len(numbers):
            yield from self._pieces(numbers, rows)

    def _whole_rings(
        self, numbers: Ints, rows: Rows, whole: Sequence[int]
    ) -> Iterator[RingWrite]:
        starts = np.searchsorted(numbers, whole, "left").tolist()
        stops = np.searchsorted(numbers, whole, "right").tolist()
        for number, start, stop in zip(whole, starts, stops, strict=True):
            timeframe, part = self._timeframes[number], rows[start:stop]
            newest = ordinals(part[-1:, _OPEN], timeframe)
            self._newest[number] = newest[0] if len(newest) else _NO_ORDINAL
            yield RingWrite(number, WHOLE, pack_ring(part, timeframe, self.capacity))

    def _pieces(self, numbers: Ints, rows: Rows) -> Iterator[RingWrite]:
        places = self._ordinals(numbers, rows[:, _OPEN])
        np.maximum.at(self._newest, numbers, places)
        kept = places > self._newest[numbers] - self.capacity
        numbers, rows, places = numbers[kept], rows[kept], places[kept]
        slots = places % self.capacity
        starts = np.flatnonzero(
            (np.diff(numbers, prepend=-1) != 0) | (np.diff(slots, prepend=-2) != 1)
        )
        data = rows.tobytes()
        stops = [*starts[1:].tolist(), len(rows)][: len(starts)]
        offsets = HEADER_BYTES + slots[starts] * ROW_BYTES
        for number, offset, start, stop in zip(
            numbers[starts].tolist(),
            offsets.tolist(),
            starts.tolist(),
            stops,
            strict=True,
        ):
            yield RingWrite(number, offset, data[start * ROW_BYTES : stop * ROW_BYTES])

    def _ordinals(self, numbers: Ints, opens: Ints) -> Ints:
        lengths = self._lengths[numbers]
        months = lengths == 0
        if not months.any():
            return opens // lengths
        found = opens // np.where(months, 1, lengths)
        found[months] = ordinals(opens[months], "1M")
        return found
