"""Colours of a terminal: which one a health, an age or a count has."""

import os
import sys

from shmfeed.bar import stale_after
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
