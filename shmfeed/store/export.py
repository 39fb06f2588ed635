"""Bars of a stream as a CSV or Parquet file, which appears when it is whole.

The columns are those that a backtest reads: symbol, timeframe, open_time, close_time,
open, high, low, close, volume, money, flags. Times are int ms UTC. A turnover that the
venue does not send is an empty field, or null.
"""

from collections.abc import Callable, Iterable
from contextlib import closing
from importlib import import_module
from typing import IO, Any, Protocol

import numpy as np

from shmfeed.bar import StreamKey
from shmfeed.bar_files import NAMES, is_parquet
from shmfeed.errors import ShmfeedError
from shmfeed.layout import COLUMNS
from shmfeed.store.blocks import Block
from shmfeed.whole_file import whole_file

EXPORT_COLUMNS = (*NAMES, *COLUMNS)
_INTS = ("open_time", "close_time", "flags")


class ExportError(ShmfeedError):
    """A file of bars could not be written."""


class _BarFile(Protocol):
    """A file that takes blocks of bars."""

    def write(self, key: StreamKey, block: Block) -> None: ...

    def close(self) -> None: ...


def export(
    path: str,
    key: StreamKey,
    blocks: Iterable[Block],
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write the bars of a stream to a file. Return how many.

    A file of that name, or the one that a link of that name leads to, is replaced once
    all bars are written. An error or an interrupt leaves it as it was.

    Args:
        path: The file, as `check_output` has checked it.
        key: The stream.
        blocks: Its bars, oldest first.
        progress: Called with the number of bars after each block.

    Raises:
        ExportError: The file cannot be written, or pyarrow is not installed.
    """
    count = 0
    try:
        with whole_file(path) as stream, closing(_make_file(path, stream)) as file:
            for block in blocks:
                file.write(key, block)
                count += block.shape[1]
                progress(count)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(f"output {path!r} cannot be written: {reason}") from error
    return count


def _make_file(path: str, stream: IO[bytes]) -> _BarFile:
    return _ParquetFile(stream) if is_parquet(path) else _Csv(stream)


class _Csv:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        stream.write((",".join(EXPORT_COLUMNS) + "\n").encode())

    def write(self, key: StreamKey, block: Block) -> None:
        head = f"{key[0]},{key[1]},"
        columns = [map(_cell, column.tolist()) for column in _columns(block)]
        rows = zip(*columns, strict=True)
        text = "".join(f"{head}{','.join(row)}\n" for row in rows)
        self._stream.write(text.encode())

    def close(self) -> None:
        pass


class _ParquetFile:
    def __init__(self, stream: IO[bytes]) -> None:
        try:
            pyarrow: Any = import_module("pyarrow")  # optional
            parquet: Any = import_module("pyarrow.parquet")
        except ImportError as error:
            raise ExportError(
                "a Parquet file needs pyarrow, which is not installed: pip install"
                " pyarrow, or write a .csv file"
            ) from error
        self._arrow = pyarrow
        text, number, time = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
        names = {"symbol": text, "timeframe": text}
        names |= {name: time if name in _INTS else number for name in COLUMNS}
        self._schema = pyarrow.schema(list(names.items()))
        self._writer = parquet.ParquetWriter(stream, self._schema)

    def write(self, key: StreamKey, block: Block) -> None:
        array = self._arrow.array
        cells = [array([name] * block.shape[1]) for name in key]
        cells += [array(column, from_pandas=True) for column in _columns(block)]
        self._writer.write_table(self._arrow.table(cells, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _columns(block: Block) -> list[Any]:
    return [
        column.view(np.int64) if name in _INTS else column
        for name, column in zip(COLUMNS, np.ascontiguousarray(block), strict=True)
    ]


def _cell(value: float) -> str:
    return "" if value != value else repr(value)  # noqa: PLR0124 # NaN
