"""A file of bars, CSV or Parquet, with the columns that `shmfeed export` writes.

`symbol`, `timeframe`, `open_time` (ms UTC), `open`, `high`, `low`, `close` and `volume`
must be there, in any order; `close_time`, `money` and `flags` may be; other columns are
ignored. Streams may follow each other or alternate; the rows of one stream are in the
order of their times. The whole file is checked before a bar of it is used.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import (
    FLOAT_FIELDS,
    FREE_PHASE,
    LAST_TIME,
    StreamKey,
    check_timeframe,
    close_time,
    close_times,
    floor,
    step,
)
from shmfeed.bar_files import ENDINGS, is_parquet
from shmfeed.errors import BadArgumentError
from shmfeed.memory.holes import find_gaps
from shmfeed.text import counted, format_ms
from shmfeed.validation import check_symbol
from wealthdata.carried import list_of, nearest
from wealthdata.columns import Ints, PrivateColumns
from wealthdata.rollup import SOURCES
from wealthdata.runner.bar_table import BarTable, read_csv, read_parquet

_EARLIEST = 631_152_000_000  # 1990-01-01 UTC: a smaller number counts seconds
_MOST_FLAGS = (1 << 32) - 1
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _MONEY = range(len(FLOAT_FIELDS))
Mask = NDArray[np.bool_]


class BarFile(NamedTuple):
    """The bars of a file.

    Attributes:
        path: The file.
        streams: The rows of each stream, oldest first, in the order of the file.
    """

    path: str
    streams: dict[StreamKey, PrivateColumns]

    def symbols(self) -> list[str]:
        """Return the symbols, each once."""
        return list(dict.fromkeys(symbol for symbol, _ in self.streams))

    def holes(self) -> Iterator[str]:
        """Yield a sentence for each stream that lacks bars between its rows."""
        for key, rows in self.streams.items():
            missing = _describe_holes(rows, key[1])
            if missing:
                yield f"{self.path}: {' '.join(key)}: {missing}"


def read_bar_file(path: str) -> BarFile:
    """Return the bars of a file.

    Raise BadArgumentError if it cannot be read or is wrong; the message names the file,
    the line (of Parquet: the row), the value, and what is accepted.
    """
    _check_path(path)
    table = read_parquet(path) if is_parquet(path) else read_csv(path)
    return BarFile(path, dict(_streams(table)))


def check_streams(
    file: BarFile, symbols: Iterable[str], timeframes: Iterable[str]
) -> None:
    """Raise BadArgumentError if the file lacks bars of a symbol or a timeframe.

    A timeframe is there, too, if one that divides it is.
    """
    lengths = list(timeframes)
    for symbol in symbols:
        held = {timeframe for name, timeframe in file.streams if name == symbol}
        if not held:
            known = file.symbols()
            raise BadArgumentError(
                f"{file.path} has no bar of {symbol}; it has {list_of(known)}"
                f"{nearest(symbol, known)}"
            )
        for timeframe in lengths:
            if not held & {timeframe, *SOURCES[timeframe]}:
                raise BadArgumentError(
                    f"{file.path} has no bars of {symbol} that make {timeframe}; it has"
                    f" {' '.join(sorted(held))}"
                )


def _check_path(path: str) -> None:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 # its error names the path as it is
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise BadArgumentError(
                f"file of bars {path!r} cannot be read: it is {kind}"
            )
        with Path(path).open("rb"):
            pass
    except (OSError, ValueError) as error:
        if isinstance(error, BadArgumentError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise BadArgumentError(
            f"file of bars {path!r} cannot be read: {reason}"
        ) from None
    if not path.lower().endswith(ENDINGS):
        raise BadArgumentError(
            f"file of bars {path!r} is not accepted; its name must end in .csv or"
            " .parquet"
        )


def _streams(table: BarTable) -> Iterator[tuple[StreamKey, PrivateColumns]]:
    """Yield each stream of a table with its rows, checked."""
    if not table.rows():
        raise BadArgumentError(f"{table.path} has a header and no rows")
    keys = [_stream_key(table, number) for number in range(len(table.names))]
    for key in dict.fromkeys(keys):
        numbers = [number for number, one in enumerate(keys) if one == key]
        rows = np.flatnonzero(np.isin(table.stream, numbers))
        yield key, _StreamCheck(table, rows, key[1]).checked()


def _stream_key(table: BarTable, number: int) -> StreamKey:
    symbol, timeframe = table.names[number]
    try:
        return check_symbol(symbol), check_timeframe(timeframe)
    except BadArgumentError as error:
        row = int(np.argmax(table.stream == number))
        raise table.fault(row, str(error)) from None


class _StreamCheck:
    """The check of one stream's rows; each raises the error of its first bad row."""

    def __init__(self, table: BarTable, rows: Ints, timeframe: str) -> None:
        self._table = table
        self._rows = rows
        self._timeframe = timeframe
        self._opens = table.open_time[rows]
        self._floats = table.floats[:, rows]
        self._flags = table.flags[rows]

    def checked(self) -> PrivateColumns:
        """Return the rows. Raise BadArgumentError if one is wrong."""
        self._check_values()
        self._check_order_of_prices()
        self._check_times()
        closes = close_times(self._opens, self._timeframe)
        self._check_close_times(closes)
        return PrivateColumns(self._opens, closes, self._floats, self._flags)

    def _refuse(self, bad: Mask, describe: Callable[[int], str]) -> None:
        if bad.any():
            at = int(np.argmax(bad))
            raise self._table.fault(int(self._rows[at]), describe(at))

    def _check_values(self) -> None:
        for number, name in enumerate(FLOAT_FIELDS):
            values = self._floats[number]
            is_good = np.isfinite(values)
            if number == _MONEY:
                is_good |= np.isnan(values)
            if number in (_VOLUME, _MONEY):
                is_good &= ~(values < 0)
            least = " of at least 0" if number in (_VOLUME, _MONEY) else ""
            text = f"{name} is {{:.15g}}; it must be a finite number{least}"
            self._refuse(~is_good, _Values(text, values))
        flags = self._flags
        text = f"flags is {{}}; it must be an integer from 0 to {_MOST_FLAGS}"
        self._refuse((flags < 0) | (flags > _MOST_FLAGS), _Values(text, flags))

    def _check_order_of_prices(self) -> None:
        low, high = self._floats[_LOW], self._floats[_HIGH]
        text = "low {:.15g} is above high {:.15g}"
        self._refuse(low > high, _Values(text, low, high))
        for number in (_OPEN, _CLOSE):
            price = self._floats[number]
            name = FLOAT_FIELDS[number]
            text = f"{name} {{:.15g}} is not between low {{:.15g}} and high {{:.15g}}"
            bad = (price < low) | (price > high)
            self._refuse(bad, _Values(text, price, low, high))

    def _check_times(self) -> None:
        opens, timeframe = self._opens, self._timeframe
        self._refuse(
            (opens < _EARLIEST) | (opens >= LAST_TIME),
            lambda at: (
                f"open_time is {opens[at]}; it must be milliseconds UTC, between 1990"
                " and 2100"
            ),
        )
        self._refuse(
            ~_on_grid(opens, timeframe),
            lambda at: f"open_time {self._time(at)} is off the grid of {timeframe}",
        )
        steps = np.diff(opens, prepend=opens[0] - 1)
        self._refuse(
            steps == 0,
            lambda at: f"open_time {self._time(at)} is that of {self._before(at)}, too",
        )
        self._refuse(
            steps < 0,
            lambda at: (
                f"open_time {self._time(at)} is earlier than that of the stream's row"
                f" before it, {self._before(at)}; sort the file by open_time"
            ),
        )

    def _check_close_times(self, closes: Ints) -> None:
        stated = self._table.close_time[self._rows]
        is_right = (stated == closes) | (stated == closes - 1) | (stated == 0)
        self._refuse(
            ~is_right,
            lambda at: (
                f"close_time is {stated[at]}; a {self._timeframe} bar that opens at"
                f" {self._opens[at]} closes at {closes[at]}"
            ),
        )

    def _time(self, at: int) -> str:
        moment = int(self._opens[at])
        return f"{moment} ({format_ms(moment)})"

    def _before(self, at: int) -> str:
        return self._table.place(int(self._rows[at - 1]))


class _Values:
    """A sentence about the values of one row."""

    def __init__(self, text: str, *columns: NDArray[Any]) -> None:
        self._text = text
        self._columns = columns

    def __call__(self, at: int) -> str:
        return self._text.format(*(column[at] for column in self._columns))


def _on_grid(opens: Ints, timeframe: str) -> Mask:
    length = step(timeframe)
    if not length:
        months = opens.view("M8[ms]")
        return np.asarray(months == months.astype("M8[M]"))
    start = floor(0, timeframe)
    if timeframe == FREE_PHASE:  # its grid begins at the midnight that the venue says
        start = floor(int(opens[0]), "1d")
    return np.asarray((opens - start) % length == 0)


def _describe_holes(rows: PrivateColumns, timeframe: str) -> str:
    """Return how many bars are missing between the rows, "" if none is."""
    gaps = find_gaps(rows, timeframe)
    if not gaps:
        return ""
    missing = sum(gap.missing for gap in gaps)
    first = gaps[0]
    return (
        f"{counted(missing, 'bar')} missing in {counted(len(gaps), 'hole')}, the first"
        f" from {format_ms(first.first)} to"
        f" {format_ms(close_time(first.last, timeframe))}"
    )
