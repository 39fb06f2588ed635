"""Closed bars as lines: aligned text, CSV, or JSON, one bar a line."""

import json
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal

from shmfeed.bar import (
    AFTER_GAP,
    BACKFILLED,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    FLOAT_FIELDS,
    NO_TRADE,
    POLLED,
    REVISED,
    UNCONFIRMED,
    Bar,
)
from shmfeed.cli.output import format_row, format_time

_FLAG_NAMES = {
    CLOSED_BY_VENUE: "venue",
    CLOSED_BY_NEXT: "next",
    CLOSED_BY_CLOCK: "clock",
    UNCONFIRMED: "unconfirmed",
    AFTER_GAP: "after-gap",
    BACKFILLED: "backfilled",
    REVISED: "revised",
    NO_TRADE: "no-trade",
    POLLED: "polled",
}


class TextFormatter:
    """Bars in aligned columns under a header; the time is the close.

    The columns keep the width of the widest bar so far.
    """

    _HEADER = ("CLOSE TIME", *(name.upper() for name in FLOAT_FIELDS), "CLOSED BY")
    _RIGHT = range(1, 1 + len(FLOAT_FIELDS))

    def __init__(self) -> None:
        self._decimals = [0] * len(FLOAT_FIELDS)
        self._widths = [len(title) for title in self._HEADER]
        self._has_header = False

    def lines(self, bars: Sequence[Bar], is_forming: bool = False) -> Iterator[str]:
        for bar in bars:
            decimals = map(_count_decimals, bar[2:8])
            self._decimals = list(map(max, self._decimals, decimals))
        rows = [self._cells(bar, is_forming) for bar in bars]
        for row in rows:
            self._widths = list(map(max, self._widths, map(len, row)))
        if not self._has_header:
            self._has_header = True
            rows.insert(0, self._HEADER)
        for row in rows:
            yield format_row(row, self._widths, self._RIGHT)

    def _cells(self, bar: Bar, is_forming: bool) -> tuple[str, ...]:
        values = zip(bar[2:8], self._decimals, strict=True)
        flags = [name for flag, name in _FLAG_NAMES.items() if bar.flags & flag]
        return (
            format_time(bar.close_time),
            *(_format_number(value, decimals) for value, decimals in values),
            "forming" if is_forming else " ".join(flags) or "-",
        )


class CsvFormatter:
    """Bars as CSV under a header; NaN is an empty field."""

    def __init__(self) -> None:
        self._has_header = False

    def lines(self, bars: Sequence[Bar], is_forming: bool = False) -> Iterator[str]:
        if is_forming:
            return  # a column would be needed that tells it from a closed one
        if not self._has_header:
            self._has_header = True
            yield ",".join(("time", *Bar._fields))
        for bar in bars:
            cells = ("" if _is_nan(value) else repr(value) for value in bar)
            yield ",".join((format_time(bar.close_time), *cells))


class JsonFormatter:
    """Bars as JSON objects; NaN is null."""

    def lines(self, bars: Sequence[Bar], is_forming: bool = False) -> Iterator[str]:
        mark = {"forming": True} if is_forming else {}
        for bar in bars:
            fields = bar._asdict().items()
            values = {name: None if _is_nan(value) else value for name, value in fields}
            yield json.dumps({"time": format_time(bar.close_time), **values, **mark})


def _is_nan(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _count_decimals(value: float) -> int:
    """Return the decimals of the shortest text that is exactly this float."""
    if not math.isfinite(value):
        return 0
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _format_number(value: float, decimals: int) -> str:
    return "-" if _is_nan(value) else f"{value:.{decimals}f}"
