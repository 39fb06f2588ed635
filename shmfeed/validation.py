"""Checks of arguments and names, made once, at the boundary of the package.

A check returns the value in the type that its callers need, or raises BadArgumentError
with the argument's name, its value and what is accepted.
"""

import math
import operator
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from shmfeed.errors import BadArgumentError
from shmfeed.text import did_you_mean, repr_short

YES = ("1", "true", "yes", "on")
NO = ("0", "false", "no", "off")

DEFAULT_FEED = "default"
FEED_VARIABLE = "SHMFEED_FEED"
NO_FEED = "off"  # as FEED_VARIABLE: strategies read contexts only, as in a backtest
BACKTEST_VARIABLE = "SHMFEED_BACKTEST"  # a backtest marks its processes with it
REPLAY_VARIABLE = "SHMFEED_REPLAY"  # the segments that stand in for feeds

_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,47}")
_SYMBOL_LINES = re.compile(rf"(?:{_SYMBOL.pattern}\n)*+")
_FEED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


def check_int(
    name: str, value: Any, least: int | None = 1, most: int | None = None
) -> int:
    """Return an int in [least, most], or any int if both are None.

    Accept numpy integers, reject bool.
    """
    number = None if isinstance(value, bool) else _index(value)
    if (
        number is None
        or (least is not None and number < least)
        or (most is not None and number > most)
    ):
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be an int{_range(least, most)}"
        )
    return number


def _range(least: int | None, most: int | None) -> str:
    if least is None:
        return ""
    return f" of at least {least}" if most is None else f" from {least} to {most}"


def check_seconds(name: str, value: Any, *, zero: bool = True) -> float:
    """Return a duration in seconds, possibly infinite. Reject 0 unless `zero`."""
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


def check_timeout(name: str, value: Any) -> float | None:
    """Return seconds from now, or None for no deadline."""
    return None if value is None else check_seconds(name, value)


def check_flag(name: str, value: Any) -> bool:
    """Return a bool. Accept numpy bools, 0 and 1; reject strings."""
    number = value if isinstance(value, bool | np.bool_) else _index(value)
    if number not in (0, 1):
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be True or False"
        )
    return bool(number)


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices`. Raise BadArgumentError otherwise."""
    if not isinstance(value, str) or value not in choices:
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be one of: {' '.join(choices)}"
            f"{did_you_mean(value, choices)}"
        )
    return value


def check_switch(name: str, text: str) -> bool:
    """Return the bool that an environment variable states. Empty text is False."""
    word = text.strip().lower()
    if word not in YES and word not in NO and word:
        raise BadArgumentError(
            f"{name} is {repr_short(text)}; it must be one of: {' '.join(YES)}, or"
            f" {' '.join(NO)}"
        )
    return word in YES


def check_symbol(text: object) -> str:
    """Return `text` if it is a symbol. Raise BadArgumentError otherwise."""
    return _check_name("symbol", _SYMBOL, text)


def check_case(symbols: Iterable[str]) -> None:
    """Raise BadArgumentError if two symbols differ in case alone.

    A venue's message in either case would be about both.
    """
    seen: dict[str, str] = {}
    for symbol in symbols:
        other = seen.setdefault(symbol.lower(), symbol)
        if other != symbol:
            raise BadArgumentError(
                f"symbols {other!r} and {symbol!r} differ in case alone; subscribe one"
                " of them"
            )


def are_symbols(texts: Iterable[str]) -> bool:
    """Return True if each text is a symbol; faster than a check of each."""
    lines = [f"{text}\n" for text in texts]
    joined = "".join(lines)
    has_lines = joined.count("\n") == len(lines)
    return has_lines and _SYMBOL_LINES.fullmatch(joined) is not None


def check_feed_name(text: object) -> str:
    """Return `text` if it can name a feed. Raise BadArgumentError otherwise."""
    return _check_name("feed name", _FEED, text)


def names_no_feed(name: str) -> bool:
    """Return True if this name tells strategies to read no feed."""
    return name.strip().lower() == NO_FEED


def marks_backtest(text: str) -> bool:
    """Return True if this value of BACKTEST_VARIABLE marks a backtest's process."""
    return text.strip().lower() not in ("", *NO)


def items_of(value: Any) -> list[Any] | None:
    """Return the items of an iterable, or None if the value has no items.

    A string, bytes, a mapping and an array without dimensions have none.
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


def _check_name(kind: str, pattern: re.Pattern[str], text: object) -> str:
    if isinstance(text, str) and pattern.fullmatch(text):
        return text
    raise BadArgumentError(
        f"{kind} {repr_short(text)} is not accepted; it matches {pattern.pattern}"
    )
