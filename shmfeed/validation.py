"""Arguments of public functions: one check for each kind, at the door.

Each returns the value as the code behind it wants it, or raises BadArgumentError that
names the argument, its value and what is accepted.

Names that come in from outside: checked here once, at the door.
"""

import math
import operator
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short

YES = ("1", "true", "yes", "on")
NO = ("0", "false", "no", "off")


def check_whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """An integer from `least` on, up to `most`; numpy's too, a bool is none."""
    number = None if isinstance(value, bool) else _index(value)
    if number is None or number < least or (most is not None and number > most):
        accepted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be an int {accepted}"
        )
    return number


def check_integer(name: str, value: Any) -> int:
    """Any integer; numpy's too, a bool is none."""
    number = None if isinstance(value, bool) else _index(value)
    if number is None:
        raise BadArgumentError(f"{name} is {repr_short(value)}; it must be an int")
    return number


def check_seconds(name: str, value: Any, *, zero: bool = True) -> float:
    """A span of time, finite or not; `zero` says whether it may be 0."""
    try:
        seconds = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not (seconds > 0 or (zero and seconds == 0)):
        least = "at least 0" if zero else "above 0"
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be a number of seconds, {least}"
        )
    return seconds


def check_deadline(name: str, value: Any) -> float | None:
    """Seconds from now; None: there is no deadline."""
    return None if value is None else check_seconds(name, value)


def check_flag(name: str, value: Any) -> bool:
    """True or False, numpy's and 0 and 1 too: "no" would be taken for a yes."""
    number = value if isinstance(value, bool | np.bool_) else _index(value)
    if number not in (0, 1):
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be True or False"
        )
    return bool(number)


def check_word(name: str, value: Any, words: Collection[str]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in words:
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be one of: {' '.join(words)}"
        )
    return value


def switched_on(name: str, text: str) -> bool:
    """A yes or no that a variable of the environment says; nothing is a no."""
    word = text.strip().lower()
    if word not in YES and word not in NO and word:
        raise BadArgumentError(
            f"{name} is {repr_short(text)}; it must be one of: {' '.join(YES)}, or"
            f" {' '.join(NO)}"
        )
    return word in YES


def items_of(value: Any) -> list[Any] | None:
    """What a list, or anything that can be gone through, holds; None: it is none.

    A text, bytes and a mapping are none, and so is an array without a dimension.
    """
    if isinstance(value, str | bytes | Mapping):
        return None
    try:
        return list(value)
    except TypeError:
        return None


def _index(value: Any) -> int | None:
    try:
        return operator.index(value)
    except TypeError:
        return None


DEFAULT_FEED = "default"
FEED_VARIABLE = "SHMFEED_FEED"
NO_FEED = "off"  # as FEED_VARIABLE: strategies read contexts only, as in a backtest

_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,47}")
_FEED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


def check_symbol(text: object) -> str:
    """`text`, if it is a symbol; else BadArgumentError with the value."""
    return _check("symbol", _SYMBOL, text)


def check_feed_name(text: object) -> str:
    """`text`, if it may name a feed; else BadArgumentError with the value."""
    return _check("feed name", _FEED, text)


def names_no_feed(name: str) -> bool:
    """Return True for a name that tells strategies to read no feed."""
    return name.lower() == NO_FEED


def _check(what: str, pattern: re.Pattern[str], text: object) -> str:
    if isinstance(text, str) and pattern.fullmatch(text):
        return text
    raise BadArgumentError(
        f"{what} {repr_short(text)} is not accepted; it matches {pattern.pattern}"
    )
