"""The rows of a file of bars as arrays: values are parsed here, and checked elsewhere.

Rows keep the number of their line, so that a later check can name it. Of a Parquet
file rows are counted from 1.
"""

import csv
from array import array
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import FLOAT_FIELDS
from shmfeed.bar_files import (
    DEFAULTS,
    LONGEST_LINE,
    NAMES,
    column_names,
    lacking,
    short_lines,
)
from shmfeed.errors import BadArgumentError
from shmfeed.text import counted, one_line, repr_short
from wealthdata.columns import Floats, Ints

_FLOATS: tuple[str, ...] = FLOAT_FIELDS
_INTS = ("open_time", "close_time", "flags")
_COLUMNS = (*NAMES, *_INTS[:2], *_FLOATS, *_INTS[2:])
_BLOCK = 4096  # lines


class BarTable(NamedTuple):
    """The rows of a file.

    Attributes:
        path: The file.
        unit: "line" or "row": the numbers in `lines` count these.
        names: Each symbol with each of its timeframes, as the file has them.
        stream: The place in `names` of each row's.
        open_time: ms UTC.
        close_time: ms UTC, 0 where it is not stated.
        floats: (6, n), in the order of FLOAT_FIELDS.
        flags: 0 where they are not stated.
        lines: The number of each row's line.
    """

    path: str
    unit: str
    names: list[tuple[str, str]]
    stream: Ints
    open_time: Ints
    close_time: Ints
    floats: Floats
    flags: Ints
    lines: Ints

    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.stream)

    def place(self, row: int) -> str:
        """Return where a row stands, in words."""
        return f"{self.unit} {self.lines[row]}"

    def fault(self, row: int, reason: str) -> BadArgumentError:
        """Return the error of a row that is wrong."""
        return BadArgumentError(f"{self.path} {self.place(row)}: {reason}")


def read_csv(path: str) -> BarTable:
    """Return the rows of a CSV file.

    Raise BadArgumentError if it cannot be read as one; the message names the line.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:  # noqa: PTH123 # as given
        return _CsvReader(path, file).read()


class _CsvReader:
    """One pass over a CSV file, in blocks of lines."""

    def __init__(self, path: str, file: TextIO) -> None:
        self._path = path
        too_long = ValueError(f"it is longer than {LONGEST_LINE} characters")
        self._reader = csv.reader(short_lines(file, too_long))
        self._codes: dict[tuple[str, str], int] = {}
        self._columns: dict[str, array[Any]] = {
            **{name: array("d") for name in _FLOATS},
            **{name: array("q") for name in (*_INTS, "stream", "lines")},
        }

    def read(self) -> BarTable:
        header = next(self._rows(), (0, []))[1]
        if not header:
            raise BadArgumentError(
                f"{self._path} is empty; a file of bars has a header"
            )
        places = _places(self._path, header)
        block: list[tuple[int, list[str]]] = []
        for row in self._rows():
            if len(row[1]) != len(header):
                found = counted(len(row[1]), "value")
                self._refuse(
                    row[0], f"it has {found}, and the header {len(header)} names"
                )
            block.append(row)
            if len(block) == _BLOCK:
                self._add(block, places)
                block = []
        if block:
            self._add(block, places)
        return self._table()

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row that is not blank, with the number of its first line."""
        reader = self._reader
        begun = reader.line_num + 1
        try:
            for row in reader:
                if row:
                    yield begun, row
                begun = reader.line_num + 1
        except (csv.Error, UnicodeDecodeError, ValueError) as error:
            if isinstance(error, BadArgumentError):
                raise
            line = begun if isinstance(error, csv.Error) else reader.line_num + 1
            self._refuse(line, f"it is not CSV: {error}")

    def _add(self, block: list[tuple[int, list[str]]], places: dict[str, int]) -> None:
        lines, rows = zip(*block, strict=True)
        cells = list(zip(*rows, strict=True))
        columns = self._columns
        columns["lines"].extend(lines)
        symbols, timeframes = (cells[places[name]] for name in NAMES)
        codes = self._codes
        columns["stream"].extend(
            [
                codes.setdefault((symbol.strip(), timeframe.strip()), len(codes))
                for symbol, timeframe in zip(symbols, timeframes, strict=True)
            ]
        )
        for name in (*_FLOATS, *_INTS):
            if name not in places:
                columns[name].extend([DEFAULTS[name]] * len(lines))
                continue
            column = cells[places[name]]
            try:
                columns[name].extend(_parse(name, column))
            except (ValueError, OverflowError):
                self._find_fault(name, lines, column)

    def _find_fault(
        self, name: str, lines: Sequence[int], column: Sequence[str]
    ) -> None:
        """Raise the error of the first value that is not accepted."""
        for number, text in zip(lines, column, strict=True):
            try:
                array("q" if name in _INTS else "d", _parse(name, [text]))
            except (ValueError, OverflowError):
                self._refuse(number, _describe(name, text))

    def _refuse(self, line: int, reason: str) -> None:
        text = one_line(reason, 200)
        raise BadArgumentError(f"{self._path} line {line}: {text}")

    def _table(self) -> BarTable:
        columns = {
            name: np.array(values, np.float64 if values.typecode == "d" else np.int64)
            for name, values in self._columns.items()
        }
        return _table(self._path, "line", list(self._codes), columns)


def _parse(name: str, column: Sequence[str]) -> list[Any]:
    """Return the values of a column. Raise ValueError if one is not accepted."""
    parse: Callable[[str], Any] = int if name in _INTS else float
    if name not in DEFAULTS:
        return list(map(parse, column))
    default = DEFAULTS[name]
    return [parse(text) if text.strip() else default for text in column]


def _describe(name: str, value: object) -> str:
    wanted = "an integer" if name == "flags" else "whole milliseconds UTC"
    if name not in _INTS:
        wanted = "a number"
    stated = repr_short(value) if str(value).strip() else "empty"
    return f"{name} is {stated}; it must be {wanted}"


def _places(path: str, header: Sequence[str]) -> dict[str, int]:
    """Return the place of each column that is read."""
    names = column_names(header)
    if missing := lacking(names):
        raise BadArgumentError(
            f"{path} line 1: its header lacks {' '.join(missing)}; it has"
            f" {one_line(' '.join(names), 200)}"
        )
    twice = [name for name in _COLUMNS if names.count(name) > 1]
    if twice:
        raise BadArgumentError(f"{path} line 1: its header has {twice[0]} twice")
    return {name: names.index(name) for name in _COLUMNS if name in names}


def read_parquet(path: str) -> BarTable:
    """Return the rows of a Parquet file.

    Raise BadArgumentError if it cannot be read as one, or pyarrow is not installed.
    """
    try:
        arrow: Any = import_module("pyarrow")  # optional
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise BadArgumentError(
            f"{path}: a Parquet file needs the package pyarrow: pip install pyarrow, or"
            " use a .csv file"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            places = _places(path, file.schema_arrow.names)
            names = file.schema_arrow.names
            table = file.read(columns=[names[place] for place in places.values()])
    except (arrow.lib.ArrowException, OSError) as error:
        raise BadArgumentError(
            f"{path} cannot be read as Parquet: {one_line(str(error), 200)}"
        ) from None
    count = table.num_rows
    columns: dict[str, NDArray[Any]] = {"lines": np.arange(1, count + 1)}
    cells = {name: table.column(names[place]) for name, place in places.items()}
    codes: dict[tuple[str, str], int] = {}
    texts = [_texts(path, name, cells[name]) for name in NAMES]
    pairs = zip(*texts, strict=True)
    columns["stream"] = np.array(
        [codes.setdefault(pair, len(codes)) for pair in pairs], np.int64
    )
    for name in (*_FLOATS, *_INTS):
        if name in cells:
            columns[name] = _numbers(path, name, cells[name])
        else:
            columns[name] = np.full(count, DEFAULTS[name])
    return _table(path, "row", list(codes), columns)


def _texts(path: str, name: str, column: Any) -> list[str]:
    values: list[Any] = column.to_pylist()
    for number, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise BadArgumentError(
                f"{path} row {number}: {name} is {repr_short(value)}; it must be a text"
            )
    return values


def _numbers(path: str, name: str, column: Any) -> NDArray[Any]:
    """Return a column as int64 or float64."""
    values: NDArray[Any] = column.to_numpy()
    if values.dtype.kind == "M" and name != "flags":
        values = values.astype("M8[ms]").astype(np.int64)
    if values.dtype.kind not in "iuf":
        raise BadArgumentError(
            f"{path}: {name} is a column of {column.type}; it must have"
            f" {'integers' if name in _INTS else 'numbers'}"
        )
    if name not in _INTS:
        return values.astype(np.float64)
    if values.dtype.kind == "f":
        if name in DEFAULTS:
            values = np.where(np.isnan(values), DEFAULTS[name], values)
        bad = ~(np.abs(values) < 2.0**53) | (values != np.floor(values))
        if bad.any():
            row = int(np.argmax(bad))
            raise BadArgumentError(
                f"{path} row {row + 1}: {_describe(name, float(values[row]))}"
            )
    return values.astype(np.int64)


def _table(
    path: str, unit: str, names: list[tuple[str, str]], columns: dict[str, Any]
) -> BarTable:
    return BarTable(
        path,
        unit,
        names,
        columns["stream"],
        columns["open_time"],
        columns["close_time"],
        np.array([columns[name] for name in _FLOATS], np.float64),
        columns["flags"],
        columns["lines"],
    )
