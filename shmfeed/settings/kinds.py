"""The kinds of settings: how each checks a value and reads a text.

A check takes a value as Python or a file gives it and returns the value kept. A parse
turns the text of a variable or an option into such a value. Both raise BadArgumentError
with words of their own, or ValueError, TypeError, OverflowError or KeyError where the
row's `accepted` says enough.
"""

import numbers
import os
import re
from collections.abc import Callable
from typing import NamedTuple, SupportsIndex

from shmfeed.arguments import NO, YES
from shmfeed.errors import BadArgumentError

MAX_ITEMS = 10_000

_FLAGS = {
    **dict.fromkeys(YES, True),
    **dict.fromkeys(NO, False),
}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")

Check = Callable[[object], object]
Parse = Callable[[str], object]


class Setting(NamedTuple):
    """A row of the table; `accepted` is a phrase for messages."""

    type: type
    accepted: str
    check: Check
    parse: Parse
    help: str


def commas(text: str) -> list[str]:
    """The pieces of a comma-separated text that are not blank."""
    return [piece.strip() for piece in text.split(",") if piece.strip()]


# Rows. In each, `text` is the help and `none` what the setting means without a value.


def whole(low: int, high: int, text: str, *, none: str = "") -> Setting:
    """A whole number."""
    accepted = f"a whole number from {low} to {high}"
    row = Setting(int, accepted, check_whole(low, high), parse_whole, text)
    return _optional(row, none) if none else row


def seconds(
    text: str, *, low: float = 0.001, high: float = 86_400.0, none: str = ""
) -> Setting:
    """A span of time."""
    accepted = f"a number of seconds from {low:g} to {high:g}"
    row = Setting(float, accepted, _real(low, high), _parse_real, f"{text}, seconds")
    return _optional(row, none) if none else row


def flag(text: str) -> Setting:
    """Yes or no."""
    return Setting(bool, "true or false", _check_flag, parse_flag, text)


def text_of(accepted: str, check: Check, text: str, *, none: str = "") -> Setting:
    """A text that `check` judges."""
    row = Setting(str, accepted, check, str, text)
    return _optional(row, none) if none else row


def one_of(
    words: tuple[str, ...], text: str, fold: Callable[[str], str] = str
) -> Setting:
    """One of a few words, after `fold`."""

    def check_word(value: object) -> str:
        if not isinstance(value, str) or fold(value) not in words:
            raise ValueError
        return fold(value)

    return text_of(f"one of: {' '.join(words)}", check_word, text)


def matching(pattern: str, text: str) -> Setting:
    """A text of a pattern."""
    compiled = re.compile(pattern)

    def check_match(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError
        return value

    return text_of(f"text that matches {pattern}", check_match, text)


def items(
    accepted: str,
    check_item: Check,
    text: str,
    split: Callable[[str], list[str]] = commas,
    parse: Parse = str,
) -> Setting:
    """A list, a tuple, one item, or a text of several; a tuple, each item once."""

    def check_items(value: object) -> tuple[object, ...]:
        if isinstance(value, str):
            value = split(value)
        elif not isinstance(value, list | tuple):
            value = (value,)
        if len(value) > MAX_ITEMS:
            raise BadArgumentError(f"{len(value)} items; at most {MAX_ITEMS}")
        return tuple(dict.fromkeys(map(check_item, value)))

    return Setting(tuple, accepted, check_items, parse, f"{text}, comma-separated")


def _optional(row: Setting, none: str) -> Setting:
    def check_optional(value: object) -> object:
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return row.check(value)

    def parse_optional(text: str) -> object:
        return None if text.lower() == "none" else row.parse(text)

    return row._replace(
        accepted=f"{row.accepted}, or none: {none}",
        check=check_optional,
        parse=parse_optional,
        help=f"{row.help}; none: {none}",
    )


# Checks.


def check_whole(low: int, high: int) -> Callable[[object], int]:
    """A check for a whole number between both; a bool is none."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, SupportsIndex):
            raise TypeError
        number = value.__index__()
        if not low <= number <= high:
            raise ValueError
        return number

    return check


def check_secret(value: object) -> str:
    """A text of printable characters without space around it."""
    if not isinstance(value, str) or len(value) > 4096:
        raise TypeError
    if not value.isprintable() or value != value.strip():
        raise ValueError
    return "".join(value)  # a plain str, whatever subclass hid it on its way here


def check_path(value: object) -> str | None:
    """The path of a file as text; None stays None."""
    if value is None:
        return None
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or not 0 < len(path) <= 4096 or "\0" in path:
        raise ValueError
    return path


def _real(low: float, high: float) -> Check:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError
        number = float(value)
        if not low <= number <= high:  # NaN is in no range
            raise ValueError
        return number

    return check


def _check_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


# Texts.


def parse_whole(text: str) -> int:
    """A whole number in ASCII digits; ValueError for anything else."""
    if not _WHOLE.fullmatch(text):
        raise ValueError
    return int(text)


def _parse_real(text: str) -> float:
    if not _REAL.fullmatch(text):
        raise ValueError
    return float(text)


def parse_flag(text: str) -> bool:
    """Yes or no; KeyError for another word."""
    return _FLAGS[text.lower()]
