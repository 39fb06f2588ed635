"""History from a file: CSV, or Parquet where pyarrow is installed.

The columns are those of `shmfeed export`, in any order and by their names. `symbol`,
`timeframe`, `open_time` (ms UTC), `open`, `high`, `low`, `close` and `volume` must be
there; `close_time`, `money` and `flags` may be, and others are ignored. The file is
read again when it changes.
"""

import csv
import os
import stat
import threading
import time
from array import array
from collections.abc import Callable, Collection, Iterator
from importlib import import_module
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import (
    ALIASES,
    NO_TRADE,
    UNCONFIRMED,
    StreamKey,
    check_timeframe,
)
from shmfeed.bar_files import (
    DEFAULTS,
    LONGEST_LINE,
    NAMES,
    column_names,
    is_parquet,
    lacking,
    short_lines,
)
from shmfeed.history.blocks import check_rows, closed_by, cut_to
from shmfeed.history.interface import (
    HistoryError,
    HistoryPage,
    HistoryRequest,
    SymbolState,
)
from shmfeed.layout import C_FLAGS, COLUMNS
from shmfeed.text import one_line

MAX_ROWS = 5_000_000  # of a CSV file, which is held in memory
LATEST = 1 << 62  # ms
_BATCH = 2000  # rows after which other threads have a turn
_PAUSE = 0.0005  # s

Stamp = tuple[int, int, int, int]


class _Loaded(NamedTuple):
    """The rows of a file, by symbol in lower case and timeframe."""

    stamp: Stamp
    rows: dict[tuple[str, str], "array[float]"]


class FileSource:
    """A source of history that reads a file.

    Thread safety: any thread may call any method; the file is read once at a time.
    """

    is_own = False

    def __init__(self, path: str, *, now: Callable[[], float] = time.time) -> None:
        """Take the path; the first request reads it.

        `now` is this host's time in seconds since 1970: rows that close later are left
        out.
        """
        self.name = f"the file {path}"
        self._path = path
        self._now = now
        self._turn = threading.Lock()
        self._loaded: _Loaded | None = None
        self._is_closed = False

    def fetch(self, request: HistoryRequest) -> HistoryPage:
        with self._turn:
            rows = self._rows_of(request.key)
        block = check_rows(rows, request.key[1])
        block = closed_by(block, int(self._now() * 1000))
        block = cut_to(block, request.first, request.last or LATEST)
        if request.newest:
            block = block[:, -request.newest :]
        return HistoryPage(np.ascontiguousarray(block), 0, None)

    def symbols(self, wanted: Collection[str]) -> dict[str, SymbolState] | None:
        del wanted
        return None

    def close(self) -> None:
        self._is_closed = True
        self._loaded = None

    def _rows_of(self, key: StreamKey) -> NDArray[np.float64]:
        """Return the rows of a stream, not checked yet."""
        try:
            stamp = _stamp(self._path)
            if is_parquet(self._path):
                return confirmed(_read_parquet(self._path, key))
            if self._loaded is None or self._loaded.stamp != stamp:
                self._loaded = None  # the old rows make room
                self._loaded = _Loaded(stamp, self._read_csv())
        except OSError as error:
            reason = error.strerror or str(error)
            raise HistoryError(
                f"{self.name} cannot be read: {reason}", "away"
            ) from None
        except _FaultError as fault:
            raise HistoryError(f"{self.name}: {fault}", "malformed") from None
        values = self._loaded.rows.get((key[0].lower(), key[1]), array("d"))
        return confirmed(np.array(values).reshape(-1, len(COLUMNS)))

    def _read_csv(self) -> dict[tuple[str, str], "array[float]"]:
        found: dict[tuple[str, str], array[float]] = {}
        with open(self._path, newline="", encoding="utf-8-sig") as file:  # noqa: PTH123
            for number, (key, row) in enumerate(_csv_rows(file)):
                if number >= MAX_ROWS:
                    raise _FaultError(
                        f"it has more than {MAX_ROWS} rows; give a Parquet file, or one"
                        " with the streams of this feed alone"
                    )
                if not number % _BATCH:
                    time.sleep(_PAUSE)
                    if self._is_closed:
                        raise _FaultError("the feeder is stopping")
                found.setdefault(key, array("d")).extend(row)
        return found


class _FaultError(Exception):
    """A file whose content is not history; the text says why."""


def confirmed(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows whose values are final, with the flags that a file can know."""
    stated = rows[:, C_FLAGS]
    flags = np.where(np.isfinite(stated), stated, 0).astype(np.int64)
    kept = (flags & UNCONFIRMED) == 0
    rows = rows[kept]
    rows[:, C_FLAGS] = flags[kept] & NO_TRADE
    return rows


def _csv_rows(file: TextIO) -> Iterator[tuple[tuple[str, str], list[float]]]:
    too_long = _FaultError(f"a line is longer than {LONGEST_LINE} characters")
    lines = csv.reader(short_lines(file, too_long))
    try:
        places, values = _places(next(lines, []))
        for line in lines:
            if line:
                yield _csv_row(line, places, values, lines.line_num)
    except (csv.Error, UnicodeDecodeError) as error:
        raise _FaultError(f"line {lines.line_num + 1} is no CSV: {error}") from None


Places = list[int | None]


def _places(header: list[str]) -> tuple[list[int], Places]:
    """Return the places of the names, and of the values in the order of a row."""
    names = column_names(header)
    if missing := lacking(names):
        raise _FaultError(f"its header lacks {' '.join(missing)}")
    values = [names.index(name) if name in names else None for name in COLUMNS]
    return [names.index(name) for name in NAMES], values


def _csv_row(
    line: list[str], places: list[int], values: Places, number: int
) -> tuple[tuple[str, str], list[float]]:
    try:
        symbol, timeframe = (line[place].strip() for place in places)
        row = [
            DEFAULTS[name]
            if place is None or (name in DEFAULTS and not line[place].strip())
            else float(line[place])
            for name, place in zip(COLUMNS, values, strict=True)
        ]
        return (symbol.lower(), check_timeframe(timeframe)), row
    except (ValueError, IndexError) as error:
        reason = error if isinstance(error, ValueError) else "it is too short"
        raise _FaultError(f"line {number}: {one_line(str(reason), 200)}") from None


def _read_parquet(path: str, key: StreamKey) -> NDArray[np.float64]:
    try:
        arrow = import_module("pyarrow")
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        raise _FaultError(
            "a Parquet file needs the package pyarrow: pip install pyarrow"
        ) from None
    try:
        names = parquet.read_schema(path).names
        _places(names)
        wanted = [name for name in (*NAMES, *COLUMNS) if name in names]
        spellings = [key[1], *(one for one, name in ALIASES.items() if name == key[1])]
        symbols = list({key[0], key[0].lower(), key[0].upper()})  # as of a CSV file
        table = parquet.read_table(
            path,
            columns=wanted,
            filters=[("symbol", "in", symbols), ("timeframe", "in", spellings)],
        )
        columns = [_column(table, name) for name in COLUMNS]
    except (arrow.lib.ArrowException, ValueError, TypeError) as error:
        raise _FaultError(one_line(str(error), 200)) from None
    return np.stack(columns, axis=1)


def _column(table: Any, name: str) -> NDArray[np.float64]:
    if name not in table.column_names:
        return np.full(table.num_rows, DEFAULTS[name], np.float64)
    values = table.column(name).to_numpy()
    if values.dtype.kind == "M":
        values = values.astype("M8[ms]").astype(np.int64)
    return np.asarray(values, np.float64)


def _stamp(path: str) -> Stamp:
    found = os.stat(path)  # noqa: PTH116  its error names the path as it is
    if not stat.S_ISREG(found.st_mode):  # a pipe, which may never open
        raise _FaultError("it is no regular file")
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
