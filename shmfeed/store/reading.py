"""The reading half of a store: what it holds, and what a reader could see at a time."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple, Self

from shmfeed.bar import (
    BACKFILLED,
    POLLED,
    REVISED,
    Bar,
    StreamKey,
    Timeframe,
    close_time,
    floor,
    step,
)
from shmfeed.errors import StreamNotFoundError
from shmfeed.identity import FeedIdentity
from shmfeed.store.blocks import RECORD, Block, to_block
from shmfeed.store.schema import (
    CAUGHT_UP,
    CUT,
    as_store_errors,
    open_to_read,
    stored_identity,
)

PIECE = 10_000  # bars that are read at once
_MOST_NAMED = 20
_LATER = BACKFILLED | POLLED | REVISED  # such a row was not published at its close
_NEWEST = (
    f"SELECT {RECORD}, max(version) FROM bar_versions"  # the columns of that version
    " WHERE stream = ? AND open_time BETWEEN ? AND ?"
    f" GROUP BY open_time HAVING cause <> '{CUT}' ORDER BY open_time LIMIT ?"
)
_COUNT = (
    "SELECT count(DISTINCT open_time) FROM bar_versions"
    " WHERE stream = ? AND open_time BETWEEN ? AND ?"
)
# A version that was caught up was published at an unknown time between its bar's close
# and its `published`. The close is right for a bar that came from the socket.
_SEEN = (
    f"SELECT {RECORD}, version, received, published, cause FROM bar_versions"
    " WHERE stream = ?1 AND (published <= ?2 OR"
    f" (cause = '{CAUGHT_UP}' AND version = 1 AND NOT flags & {_LATER}"
    " AND open_time <= ?3))"
    " ORDER BY open_time DESC, version DESC"
)
# The first version of each bar that was published as it closed.
_CLOSINGS = (
    "SELECT open_time, published FROM bar_versions"
    " WHERE stream = ? AND open_time BETWEEN ? AND ?"
    " AND version = 1 AND cause = 'closed'"
)
_CHANGED = (
    f"SELECT {RECORD}, version, received, published, cause FROM bar_versions"
    " WHERE stream = ?1 AND open_time IN (SELECT open_time FROM bar_versions"
    " WHERE stream = ?1 AND open_time BETWEEN ?2 AND ?3 AND version > 1)"
    " ORDER BY open_time, version"
)


class SeenRow(NamedTuple):
    """A row as a reader could see it.

    Attributes:
        bar: The row.
        version: The number of this version of the bar, from 1.
        received: When its last message or answer arrived, ns UTC; None if not known.
        published: When readers could see it, ns UTC; of a row that was caught up, the
            latest time that is possible.
        cause: The reason for this version.
    """

    bar: Bar
    version: int
    received: int | None
    published: int
    cause: str


class StoreReader:
    """A store, open to be read, whether a feeder writes it or not.

    Each method raises StoreError if the file cannot be read.

    Thread safety: one thread at a time.
    """

    def __init__(self, path: str) -> None:
        """Open a store. Raise BadArgumentError if there is no such file."""
        self.path = path
        self._connection = open_to_read(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def identity(self) -> FeedIdentity | None:
        """Return the identity of the rows, None if it cannot be read."""
        with as_store_errors(self.path):
            return stored_identity(self._connection)

    def streams(self) -> list[StreamKey]:
        """Return the streams that the store has had bars of."""
        query = "SELECT symbol, timeframe FROM streams ORDER BY id"
        with as_store_errors(self.path):
            return [(row[0], row[1]) for row in self._connection.execute(query)]

    def check_stream(self, key: StreamKey) -> None:
        """Raise StreamNotFoundError if the store has no such stream."""
        with as_store_errors(self.path):
            self._id(key)

    def count(self, key: StreamKey, first: int, last: int) -> int:
        """Return the number of a stream's bars that open from `first` to `last`.

        Raises:
            StreamNotFoundError: The store has no such stream.
        """
        with as_store_errors(self.path):
            found = self._connection.execute(_COUNT, (self._id(key), first, last))
            number: int = found.fetchone()[0]
            return number

    def rows(self, key: StreamKey, first: int, last: int) -> Iterator[Block]:
        """Yield a stream's bars that open from `first` to `last`, oldest first.

        Each block has at most PIECE of them.

        Raises:
            StreamNotFoundError: The store has no such stream.
        """
        with as_store_errors(self.path):
            stream = self._id(key)
        while first <= last:
            with as_store_errors(self.path):
                query = self._connection.execute(_NEWEST, (stream, first, last, PIECE))
                records = [record[:-1] for record in query.fetchall()]
                block = to_block(records, key[1])
            if not records:
                return
            yield block
            first = records[-1][0] + 1

    def as_of(self, key: StreamKey, at: int, count: int) -> list[SeenRow]:
        """Return the newest `count` rows that readers could see at a time.

        Args:
            key: The stream.
            at: The time in ns UTC.
            count: The most rows to return.

        Returns:
            Rows, oldest first, each in its newest version of that time.

        Raises:
            StreamNotFoundError: The store has no such stream.
        """
        closed = _last_closed(at // 1_000_000, key[1])
        found: list[SeenRow] = []
        with as_store_errors(self.path):
            values = self._id(key), at, closed
            records = self._connection.execute(_SEEN, values)
            for _, versions in groupby(records, key=lambda record: record[0]):
                if len(found) == count:
                    break
                row = _seen_row(next(versions), key[1])
                if row.cause != CUT:
                    found.append(row)
        return found[::-1]

    def closings(self, key: StreamKey, first: int, last: int) -> list[tuple[int, int]]:
        """Return when bars closed, and when readers could see them.

        Args:
            key: The stream.
            first, last: The open times of the bars, both included.

        Returns:
            Pairs of a close time in ms UTC and the time of publishing in ns UTC, of
            the bars that were published as they closed.

        Raises:
            StreamNotFoundError: The store has no such stream.
        """
        with as_store_errors(self.path):
            values = self._id(key), first, last
            found = self._connection.execute(_CLOSINGS, values).fetchall()
        return [(close_time(opened, key[1]), at) for opened, at in found]

    def changed(self, key: StreamKey, first: int, last: int) -> list[list[SeenRow]]:
        """Return all versions of each bar that has several, oldest first.

        Arguments and errors are those of `closings`.
        """
        with as_store_errors(self.path):
            values = self._id(key), first, last
            records = self._connection.execute(_CHANGED, values)
            return [
                [_seen_row(version, key[1]) for version in versions]
                for _, versions in groupby(records, key=lambda record: record[0])
            ]

    def _id(self, key: StreamKey) -> int:
        query = "SELECT id FROM streams WHERE symbol = ? AND timeframe = ?"
        row = self._connection.execute(query, key).fetchone()
        if row is not None:
            number: int = row[0]
            return number
        known = [" ".join(one) for one in self.streams()]
        more = ", .." if len(known) > _MOST_NAMED else ""
        raise StreamNotFoundError(
            f"store {self.path!r} has no bars of {' '.join(key)}; it has:"
            f" {', '.join(known[:_MOST_NAMED]) or 'none'}{more}"
        )


def _last_closed(at: int, timeframe: str) -> int:
    """Return the latest open time of a bar that has closed at a time in ms UTC."""
    length = step(timeframe)
    return at - length if length else floor(at, timeframe) - 1


def _seen_row(record: tuple[Any, ...], timeframe: Timeframe) -> SeenRow:
    *values, version, received, published, cause = record
    block = to_block([values], timeframe)
    opened, closed = int(values[0]), close_time(int(values[0]), timeframe)
    prices: list[Any] = block[2:8, 0].tolist()
    bar = Bar(*(opened, closed, *prices, int(values[7])))
    return SeenRow(bar, version, received, published, cause)
