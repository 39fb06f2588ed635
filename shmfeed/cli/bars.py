"""Closed bars as lines: aligned text, CSV, or JSON, one bar a line."""

import json
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal

from shmfeed.bar import (
    AFTER_GAP,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    FLOAT_FIELDS,
    UNCONFIRMED,
    Bar,
)
from shmfeed.cli.output import iso, justified

_FLAGS = {
    CLOSED_BY_VENUE: "venue",
    CLOSED_BY_NEXT: "next",
    CLOSED_BY_CLOCK: "clock",
    UNCONFIRMED: "unconfirmed",
    AFTER_GAP: "after-gap",
}


class TextLines:
    """Columns under each other; the time is the close. Later lines keep the widths."""

    _HEAD = ("CLOSE TIME", *(name.upper() for name in FLOAT_FIELDS), "CLOSED BY")
    _RIGHT = range(1, 1 + len(FLOAT_FIELDS))

    def __init__(self) -> None:
        self._places = [0] * len(FLOAT_FIELDS)
        self._widths = [len(word) for word in self._HEAD]
        self._headed = False

    def lines(self, bars: Sequence[Bar]) -> Iterator[str]:
        for bar in bars:
            values = map(_places, bar[2:8])
            self._places = list(map(max, self._places, values))
        rows = [self._cells(bar) for bar in bars]
        for row in rows:
            self._widths = list(map(max, self._widths, map(len, row)))
        if not self._headed:
            self._headed = True
            rows.insert(0, self._HEAD)
        for row in rows:
            yield justified(row, self._widths, self._RIGHT)

    def _cells(self, bar: Bar) -> tuple[str, ...]:
        values = zip(bar[2:8], self._places, strict=True)
        said = [word for flag, word in _FLAGS.items() if bar.flags & flag]
        return (
            iso(bar.close_time),
            *(_number(value, places) for value, places in values),
            " ".join(said) or "-",
        )


class CsvLines:
    """A header, then a line a bar; NaN is an empty field."""

    def __init__(self) -> None:
        self._headed = False

    def lines(self, bars: Sequence[Bar]) -> Iterator[str]:
        if not self._headed:
            self._headed = True
            yield ",".join(("time", *Bar._fields))
        for bar in bars:
            cells = ("" if _is_nan(value) else repr(value) for value in bar)
            yield ",".join((iso(bar.close_time), *cells))


class JsonLines:
    """An object a bar; NaN is null."""

    def lines(self, bars: Sequence[Bar]) -> Iterator[str]:
        for bar in bars:
            fields = bar._asdict().items()
            plain = {name: None if _is_nan(value) else value for name, value in fields}
            yield json.dumps({"time": iso(bar.close_time), **plain})


def _is_nan(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _places(value: float) -> int:
    """Decimals of the shortest text that is exactly this float."""
    if not math.isfinite(value):
        return 0
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _number(value: float, places: int) -> str:
    return "-" if _is_nan(value) else f"{value:.{places}f}"
