"""Colours of a terminal: which one a health, an age or a count has."""

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from shmfeed.bar import stale_after
from shmfeed.cli.output import Painter
from shmfeed.health import Health, quiet_ns

_CODES = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2"}
_HEALTHS: dict[Health, str] = {
    "live": "green",
    "quiet": "cyan",
    "polled": "cyan",
    "recovering": "yellow",
    "waiting": "yellow",
    "stale": "red",
    "dead": "red",
    "closed": "dim",
}


def has_colours() -> bool:
    """Return True if standard output is a terminal whose user wants colours."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return sys.stdout.isatty()


def paint(text: str, colour: str) -> str:
    """Return the text in a colour, the text itself for the colour ''."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if colour else text


def health_colour(health: Health) -> str:
    return _HEALTHS[health]


def age_colour(age: float | None, timeframe: str) -> str:
    """Return the colour of an age: green within a timeframe, red when it is stale."""
    if age is None:
        return "dim"
    if age <= quiet_ns(timeframe) / 1e9:
        return "green"
    return "yellow" if age <= stale_after(timeframe) else "red"


class StreamColours(NamedTuple):
    """The facts of a stream that the colours of its row follow."""

    health: Health
    age: float | None
    timeframe: str
    gaps: int


def make_painter(
    streams: Sequence[StreamColours], health: int, age: int, gaps: int
) -> Painter:
    """Return the painter of a table with a header and one row a stream.

    `health`, `age` and `gaps` are the numbers of their columns.
    """

    def paint_cell(row: int, column: int, cell: str) -> str:
        if not row:
            return paint(cell, "dim")
        stream = streams[row - 1]
        if column == health:
            return paint(cell, health_colour(stream.health))
        if column == age:
            return paint(cell, age_colour(stream.age, stream.timeframe))
        return paint(cell, "yellow" if column == gaps and stream.gaps else "")

    return paint_cell
