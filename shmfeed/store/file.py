"""The writing half of a store: versions in, the newest versions out.

Versions come in the order in which they were published. A version that equals the
newest stored one of its bar is left out, so that it does no harm to write one twice. If
that one was caught up, it takes the times and the cause of the version that says them.
"""

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from shmfeed.bar import Bar, StreamKey
from shmfeed.identity import FeedIdentity
from shmfeed.layout import C_FLAGS, C_FLOATS, FLOATS
from shmfeed.store.blocks import RECORD, Block, differing, sound_rows, to_block
from shmfeed.store.schema import (
    CAUGHT_UP,
    CUT,
    StoreError,
    as_store_errors,
    file_ids,
    open_to_write,
)

if TYPE_CHECKING:
    from shmfeed.feeder.row_events import RecordedRow, RowVersion

_DAY_MS = 86_400_000
_PIECE = 64  # versions of one statement: binding their values holds the GIL
_WIDTH = 13  # columns of `bar_versions`
_DROPPED = 500  # bars that are dropped at once
_NO_LIMIT = (1 << 63) - 1
_PAGES = 256  # that are given back to the file system at once
_ONE = f"({', '.join('?' * _WIDTH)})"
_INSERT = f"INSERT INTO bar_versions VALUES {_ONE}"
_INSERT_PIECE = f"INSERT INTO bar_versions VALUES {', '.join([_ONE] * _PIECE)}"
_NEWEST = (
    "SELECT version, open, high, low, close, volume, money, flags, cause"
    " FROM bar_versions WHERE stream = ? AND open_time = ?"
    " ORDER BY version DESC LIMIT 1"
)
_RANGE = (
    # The columns of that version.
    f"SELECT {RECORD}, cause, max(version) FROM bar_versions"
    " WHERE stream = ? AND open_time BETWEEN ? AND ? GROUP BY open_time"
)
_SET_TIMES = (
    "UPDATE bar_versions SET received = ?, published = ?, cause = ?"
    " WHERE stream = ? AND open_time = ? AND version = ?"
)


class RowBatch(NamedTuple):
    """Rows that readers could see from one instant on; as `RowRecorder.record` says."""

    rows: "Sequence[RecordedRow]"
    now: float
    published: int

    def versions(self) -> Iterator["StoredVersion"]:
        """Yield each row as a version, with the time of its last message in ns UTC."""
        now, published = self.now, self.published
        for key, bar, heard, cause in self.rows:
            age = max(0.0, now - heard)
            received = published - int(age * 1e9) if age < math.inf else published
            yield key, bar, received, published, cause


# As a RowVersion.
StoredVersion = tuple[StreamKey, Bar, int | None, int, str]


class StoreFile:
    """A store, open to be written.

    Each method raises StoreError if the file cannot be used, and has then changed
    nothing.

    Thread safety: one thread at a time.
    """

    def __init__(self, path: str, identity: FeedIdentity, replace: bool) -> None:
        """Open the store, or create it. `replace` drops bars of another identity."""
        self.path = path
        self._connection = open_to_write(path, identity, replace)
        self._ids: dict[StreamKey, int] = {}
        self._last: dict[int, int] = {}  # newest open time by stream's id
        self._seen = 0  # the state of the file that these were read from
        with self._errors():
            self._load()
        self._files = file_ids(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. The log is merged into it if no other process has it open."""
        self._connection.close()

    def write_batches(self, batches: Sequence[RowBatch]) -> None:
        """Write the rows of batches in one transaction, in their order."""
        self.write([one for batch in batches for one in batch.versions()])

    def write(self, versions: "Sequence[RowVersion | StoredVersion]") -> None:
        """Write versions in one transaction, in their order."""
        with self._transaction():
            pending: list[Any] = []
            for key, bar, received, published, cause in versions:
                stream, opened = self._id(key), int(bar.open_time)
                number = 1
                if opened <= self._last.get(stream, -1):
                    self._insert(pending)
                    pending = []
                    times = received, published, cause
                    number = self._next_version(stream, bar, times)
                else:
                    self._last[stream] = opened
                if number:
                    pending += stream, opened, number, *bar[2:8], int(bar.flags)
                    pending += _whole(received), int(published), cause
            self._insert(pending)

    def catch_up(self, key: StreamKey, block: Block, now: int) -> int:
        """Write the rows of a ring that the store lacks. Return how many.

        Args:
            key: The stream.
            block: The ring's rows, sorted, as `Rows.block`.
            now: The time of the comparison in ns UTC, by which they were published.
        """
        if not block.shape[1]:
            return 0
        with self._transaction():
            stream = self._id(key)
            opens = block[0].view(np.int64)
            first, last = opens[[0, -1]].tolist()
            found = self._connection.execute(_RANGE, (stream, first, last)).fetchall()
            lacks, numbers = _lacking(block, found, key[1])
            pending: list[Any] = []
            for row, number in zip(lacks.tolist(), numbers.tolist(), strict=True):
                values = block[C_FLOATS : C_FLOATS + FLOATS, row].tolist()
                flags = int(block[C_FLAGS].view(np.int64)[row])
                pending += stream, int(opens[row]), number, *values, flags
                pending += None, now, CAUGHT_UP
            self._insert(pending)
            self._last[stream] = max(last, self._last.get(stream, -1))
        return len(lacks)

    def newest(self, key: StreamKey, count: int) -> Block:
        """Return the newest sound rows of a stream, at most `count`, oldest first."""
        with self._errors():
            stream = self._ids.get(key)
            found: list[Any] = []
            if stream is not None:
                query = (
                    f"SELECT {RECORD}, cause, version FROM bar_versions"
                    " WHERE stream = ? ORDER BY open_time DESC, version DESC"
                )
                rows = self._connection.execute(query, (stream,))
                found = _first_of_each(rows, count)
            return sound_rows(to_block(found[::-1], key[1]), key[1])

    def drop_older(self, keep: Mapping[str, float | None], now_ms: int) -> int:
        """Drop one step of the bars that are older than `keep[timeframe]` days.

        Return the number of versions that were dropped, 0 when all is done. The age
        counts from the stream's newest bar where that is earlier than `now_ms`, so that
        a host's clock that is ahead drops nothing.
        """
        with self._transaction():
            for (_, timeframe), stream in self._ids.items():
                days, last = keep.get(timeframe), self._last.get(stream)
                if days is None or last is None:
                    continue
                limit = min(now_ms, last) - int(days * _DAY_MS)
                dropped = self._drop_step(stream, limit)
                if dropped:
                    break
            else:
                return 0
        with self._errors():  # `execute` would give back a single page
            self._connection.executescript(f"PRAGMA incremental_vacuum({_PAGES})")
        return dropped

    def drop_rows(self, key: StreamKey, first_kept: int | None) -> int:
        """Drop all versions of a stream's bars that open before a time, None for all.

        Return the number of bars.
        """
        limit = _NO_LIMIT if first_kept is None else first_kept
        with self._transaction():
            stream = self._ids.get(key)
            if stream is None:
                return 0
            where = "FROM bar_versions WHERE stream = ? AND open_time < ?"
            execute, values = self._connection.execute, (stream, limit)
            query = f"SELECT count(DISTINCT open_time) {where}"
            count: int = execute(query, values).fetchone()[0]
            execute(f"DELETE {where}", values)
            if self._last.get(stream, limit) < limit:
                del self._last[stream]
        return count

    def _drop_step(self, stream: int, limit: int) -> int:
        where = "FROM bar_versions WHERE stream = ? AND open_time < ?"
        query = f"SELECT open_time {where} ORDER BY open_time LIMIT 1 OFFSET ?"
        execute = self._connection.execute
        row = execute(query, (stream, limit, _DROPPED)).fetchone()
        cut = limit if row is None else row[0]
        return execute(f"DELETE {where}", (stream, cut)).rowcount

    def _data_version(self) -> int:
        number: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return number

    def _load(self) -> None:
        self._seen = self._data_version()
        self._ids = {
            (symbol, timeframe): number
            for number, symbol, timeframe in self._connection.execute(
                "SELECT id, symbol, timeframe FROM streams"
            )
        }
        query = "SELECT max(open_time) FROM bar_versions WHERE stream = ?"
        self._last = {}
        for number in self._ids.values():
            newest = self._connection.execute(query, (number,)).fetchone()[0]
            if newest is not None:
                self._last[number] = int(newest)

    def _id(self, key: StreamKey) -> int:
        number = self._ids.get(key)
        if number is None:
            insert = "INSERT INTO streams (symbol, timeframe) VALUES (?, ?)"
            number = self._connection.execute(insert, key).lastrowid or 0
            self._ids[key] = number
        return number

    def _insert(self, values: list[Any]) -> None:
        execute, size = self._connection.execute, _PIECE * _WIDTH
        whole = len(values) // size * size
        for at in range(0, whole, size):
            execute(_INSERT_PIECE, values[at : at + size])
        for at in range(whole, len(values), _WIDTH):
            execute(_INSERT, values[at : at + _WIDTH])

    def _next_version(self, stream: int, bar: Any, times: tuple[Any, ...]) -> int:
        """Return the number of a bar's next version, 0 if the newest one equals it."""
        execute, opened = self._connection.execute, int(bar.open_time)
        row = execute(_NEWEST, (stream, opened)).fetchone()
        if row is None:
            return 1
        number, *values, flags, cause = row
        is_other = (cause == CUT) != (times[-1] == CUT)
        if is_other or flags != bar.flags or not all(map(_equal, values, bar[2:8])):
            return int(number) + 1
        if cause == CAUGHT_UP:
            execute(_SET_TIMES, (*times, stream, opened, number))
        return 0

    def _check_place(self) -> None:
        """Raise StoreError if readers would not find what is written."""
        if file_ids(self.path) != self._files:
            raise StoreError(
                f"store {self.path!r} was moved, removed or replaced while it was open",
                "failed",
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._check_place()
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if self._data_version() != self._seen:  # another process has written
                    self._load()
                yield
                self._connection.execute("COMMIT")
            except BaseException as error:
                self._roll_back(error)
                raise

    def _roll_back(self, error: BaseException) -> None:
        try:
            if self._connection.in_transaction:  # SQLite may have ended it
                self._connection.execute("ROLLBACK")
            self._load()
        except sqlite3.Error as second:
            raise error from second

    def _errors(self) -> Any:
        return as_store_errors(self.path)


def _lacking(block: Block, found: list[Any], timeframe: str) -> tuple[Any, Any]:
    """Return the rows that differ from the stored records, and their new versions."""
    opens = block[0].view(np.int64)
    numbers = np.ones(len(opens), np.int64)
    differs = np.ones(len(opens), np.bool_)
    if found:
        stored = to_block([record[:-2] for record in found], timeframe)
        is_cut = np.array([record[-2] == CUT for record in found])
        versions = np.array([record[-1] for record in found], np.int64)
        times = stored[0].view(np.int64)
        at = np.minimum(np.searchsorted(times, opens), len(times) - 1)
        has = times[at] == opens
        numbers[has] = versions[at[has]] + 1
        differs[has] = differing(block[:, has], stored[:, at[has]]) | is_cut[at[has]]
    rows = np.flatnonzero(differs)
    return rows, numbers[rows]


def _first_of_each(rows: Iterator[Any], count: int) -> list[Any]:
    """Return the first record of each open time that is a row, without its version."""
    found: list[Any] = []
    opened = None
    for *record, cause, _ in rows:
        if record[0] != opened:
            if len(found) == count:
                break
            opened = record[0]
            if cause != CUT:
                found.append(record)
    return found


def _equal(one: float | None, other: float) -> bool:
    if one is None:  # NaN is stored as NULL
        return other != other  # noqa: PLR0124
    return one == other


def _whole(time: int | None) -> int | None:
    return None if time is None else int(time)
