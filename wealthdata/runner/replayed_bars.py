"""A file of bars, played into a feed: one close time after the other."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import StreamKey, duration
from shmfeed.core import RingWriter
from wealthdata.runner.bar_file import BarFile
from wealthdata.runner.private_feed import Moment, PrivateFeed

_BLOCK = 8192  # rows that are plain Python values at a time


class _Row(NamedTuple):
    stream: int
    close_time: int
    values: tuple[Any, ...]  # open time, prices, volume, money, flags


class BarPlayer:
    """The bars of a file, in the order of their close times.

    Of bars that close at the same time the shortest comes first.

    Attributes:
        streams: The streams of the file.
        start: The open time of the first bar, ms UTC.
        grace: Seconds for which a step waits for a bar: the file has all of them.
        now: The close time that was played last, in seconds UTC.
        feed: The feed that is written.
    """

    def __init__(self, file: BarFile, history: int) -> None:
        self.grace = self.now = 0.0
        self.streams: list[StreamKey] = list(file.streams)
        tables = list(file.streams.values())
        counts = [len(one) for one in tables]
        numbers = np.repeat(np.arange(len(tables)), counts)
        lengths = np.array([duration(key[1]) for key in self.streams])
        closes = np.concatenate([one.close_time for one in tables])
        order = np.lexsort((numbers, lengths[numbers], closes))
        columns = [np.concatenate([one.open_time for one in tables])]
        floats = np.concatenate([one.floats for one in tables], axis=1)
        columns += [*floats, np.concatenate([one["flags"] for one in tables])]
        self.start = int(columns[0][order[0]])
        self.feed = PrivateFeed(self.streams, history)
        self._rows = _rows(order, numbers, closes, columns)
        self._next: _Row | None = next(self._rows, None)
        self._rings: list[RingWriter] = []

    def begin(self) -> None:
        """Begin to write the feed, which has been entered."""
        with self.feed.writing() as writer:
            self._rings = [writer.add_stream(*key) for key in self.streams]
            self.feed.never_silent()
        self.feed.set_time(self.start)

    @property
    def due(self) -> float | None:
        """The time of the next bars, in seconds UTC; None at the end."""
        return None if self._next is None else self._next.close_time / 1000

    def advance(self, limit: float) -> Moment:  # noqa: ARG002 # a player's
        """Append the bars of the next close time."""
        assert self._next is not None  # noqa: S101 # `due` said so
        row: _Row | None = self._next
        now = self._next.close_time
        self.now = now / 1000
        streams = set()
        with self.feed.writing():
            while row is not None and row.close_time == now:
                self._rings[row.stream].append(*row.values)
                streams.add(self.streams[row.stream])
                self._next = row = next(self._rows, None)
        self.feed.set_time(now)
        return Moment(streams, has_reconnected=False)


def _rows(
    order: NDArray[Any],
    numbers: NDArray[Any],
    closes: NDArray[Any],
    columns: list[NDArray[Any]],
) -> Iterator[_Row]:
    for begin in range(0, len(order), _BLOCK):
        block = order[begin : begin + _BLOCK]
        values = zip(*(column[block].tolist() for column in columns), strict=True)
        rows = zip(numbers[block].tolist(), closes[block].tolist(), values, strict=True)
        yield from map(_Row._make, rows)
