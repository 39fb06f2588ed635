"""The kinds of settings: a row of the schema for each, with its check and its parse.

A row's `check` validates a value of Python or of a file, and returns the value to
store. Its `parse` converts the text of a variable or an option to such a value. Both
raise BadArgumentError with a message of their own, or ValueError, TypeError,
OverflowError or KeyError if the message can be made from the row's `accepted`.
"""

import numbers
import os
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, SupportsIndex

from shmfeed.errors import BadArgumentError
from shmfeed.validation import NO, YES

MAX_ITEMS = 10_000

_FLAGS = dict.fromkeys(YES, True) | dict.fromkeys(NO, False)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")

Check = Callable[[object], object]
Parse = Callable[[str], object]


class Setting(NamedTuple):
    """A row of the schema.

    `annotation` is the type of the keyword argument, `accepted` a phrase for messages.
    """

    type: type
    annotation: str
    accepted: str
    check: Check
    parse: Parse
    help: str


# Kinds of settings. `text` is the row's help; `none` says what an absent value means.


def integer(low: int, high: int, text: str, *, none: str = "") -> Setting:
    """Return the row of an integer in [low, high]."""
    accepted = f"an integer from {low} to {high}"
    row = Setting(int, "int", accepted, check_integer(low, high), parse_integer, text)
    return optional(row, none) if none else row


def seconds(
    text: str, *, low: float = 0.001, high: float = 86_400.0, none: str = ""
) -> Setting:
    """Return the row of a span of time."""
    accepted = f"a number of seconds from {low:g} to {high:.10g}"
    row = Setting(
        float, "float", accepted, _real(low, high), _parse_real, f"{text}, seconds"
    )
    return optional(row, none) if none else row


def seconds_by_name(
    names: str, check_name: Check, text: str, *, low: float, high: float, none: str
) -> Setting:
    """Return the row of one span in seconds, or of several by a name."""
    return spans_by_name("seconds", names, check_name, text, (low, high), none)


def spans_by_name(
    unit: str,
    names: str,
    check_name: Check,
    text: str,
    limits: tuple[float, float],
    none: str,
) -> Setting:
    """Return the row of one span of time in `unit`, or of several by a name.

    The setting takes a number, a mapping, or in a text `NAME=NUMBER` with commas. The
    value kept of a mapping is a tuple of pairs.
    """
    low, high = limits
    check_span = _real(low, high)

    def check_spans(value: object) -> object:
        if isinstance(value, Mapping):
            value = list(value.items())
        if not isinstance(value, list | tuple):
            return check_span(value)
        spans = [(check_name(name), check_span(span)) for name, span in value]
        if not spans or len(dict(spans)) < len(spans):
            raise ValueError
        return tuple(spans)

    accepted = (
        f"a number of {unit} from {low:g} to {high:.10g}, or a mapping of {names} to"
        " such numbers, each once"
    )
    annotation = "float | Mapping[TimeframeName, float]"
    row = Setting(
        float, annotation, accepted, check_spans, _parse_spans, f"{text}, {unit}"
    )
    return optional(row, none)


def share(text: str) -> Setting:
    """Return the row of a part of a whole, above 0 and at most 1."""
    accepted, check = "a number from 0.001 to 1", _real(0.001, 1.0)
    return Setting(float, "float", accepted, check, _parse_real, text)


def flag(text: str) -> Setting:
    """Return the row of a setting that is true or false."""
    return Setting(bool, "bool", "true or false", _check_flag, parse_flag, text)


def text_setting(
    accepted: str,
    check: Check,
    text: str,
    *,
    none: str = "",
    annotation: str = "str",
) -> Setting:
    """Return the row of a text that `check` validates."""
    row = Setting(str, annotation, accepted, check, str, text)
    return optional(row, none) if none else row


def one_of(
    words: tuple[str, ...], text: str, fold: Callable[[str], str] = str
) -> Setting:
    """Return the row of one of a few words, compared after `fold`."""

    def check_word(value: object) -> str:
        if value is False and "off" in words:  # YAML reads off as a flag
            return "off"
        if not isinstance(value, str) or fold(value) not in words:
            raise ValueError
        return fold(value)

    spellings = dict.fromkeys([*words, *(word.lower() for word in words)])
    choices = ", ".join(f'"{word}"' for word in spellings if fold(word) in words)
    return text_setting(
        f"one of: {' '.join(words)}",
        check_word,
        f"{text}: {', '.join(words)}",
        annotation=f"Literal[{choices}]",
    )


def matching(pattern: str, text: str) -> Setting:
    """Return the row of a text that matches a pattern."""
    compiled = re.compile(pattern)

    def check_match(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError
        return value

    return text_setting(f"text that matches {pattern}", check_match, text)


def naming_accepted(check: Check, accepted: str) -> Check:
    """Return a check whose BadArgumentError also says what is accepted."""

    def check_and_name(value: object) -> object:
        try:
            return check(value)
        except BadArgumentError as error:
            raise BadArgumentError(f"{error}; {accepted}") from None

    return check_and_name


def split_commas(text: str) -> list[str]:
    """Return the pieces between commas, without space around them."""
    return [piece.strip() for piece in text.split(",") if piece.strip()]


def items(
    accepted: str,
    check_item: Check,
    text: str,
    split: Callable[[str], list[str]] = split_commas,
    parse: Parse = str,
    item: str = "str",
) -> Setting:
    """Return the row of several items; the value kept is a tuple without duplicates.

    The setting takes a list, a tuple, one item, or a text that `split` divides.
    """

    def check_items(value: object) -> tuple[object, ...]:
        if isinstance(value, str):
            value = split(value)
        elif not isinstance(value, list | tuple):
            value = (value,)
        if len(value) > MAX_ITEMS:
            raise BadArgumentError(f"{len(value)} items; at most {MAX_ITEMS}")
        return tuple(dict.fromkeys(map(check_item, value)))

    annotation = f"Sequence[{item}] | {item}"
    head, mark, more = text.partition(";")
    help_ = f"{head}, comma-separated{mark}{more}"
    return Setting(tuple, annotation, accepted, check_items, parse, help_)


def optional(row: Setting, none: str) -> Setting:
    """Return a row that accepts None, and the word none, too."""

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


# Checks of values.


def check_integer(low: int, high: int) -> Callable[[object], int]:
    """Return a check for an int in [low, high]: it rejects bool, accepts numpy's."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, SupportsIndex):
            raise TypeError
        number = value.__index__()
        if not low <= number <= high:
            raise ValueError
        return number

    return check


def check_secret(value: object) -> str:
    """Return a text of printable characters without space around it."""
    if not isinstance(value, str) or len(value) > 4096:
        raise TypeError
    if not value.isprintable() or value != value.strip():
        raise ValueError
    return "".join(value)  # a plain str, even if the value is of a subclass


def check_path(value: object) -> str | None:
    """Return the path of a file as text; None stays None."""
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
        if not low <= number <= high:  # also false for NaN
            raise ValueError
        return number

    return check


def _check_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


# Parses of texts.


def parse_integer(text: str) -> int:
    """Return an integer written in ASCII digits; raise ValueError for another text."""
    if not _INTEGER.fullmatch(text):
        raise ValueError
    return int(text)


def parse_flag(text: str) -> bool:
    """Return what a word such as yes or off means; raise KeyError for another word."""
    return _FLAGS[text.lower()]


def _parse_real(text: str) -> float:
    if not _REAL.fullmatch(text):
        raise ValueError
    return float(text)


def _parse_spans(text: str) -> object:
    if "=" not in text:
        return _parse_real(text)
    pairs = [piece.partition("=") for piece in split_commas(text)]
    return [(name.strip(), _parse_real(span.strip())) for name, _, span in pairs]
