"""The lines of a recording of decisions, checked: each value is of its kind.

A line is checked as a whole before any of it is used.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from shmfeed.bar import LAST_TIME
from shmfeed.text import repr_short
from wealthdata.kept_bars import VALUES

_MOST = 1 << 53


class _Kind(NamedTuple):
    words: str
    accepts: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_time(value: Any) -> bool:
    return value.__class__ is int and 0 <= value < LAST_TIME


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value in _NOT_FINITE
    if value is None:
        return True
    is_number = value.__class__ in (int, float) and abs(value) < _LARGEST
    return is_number and math.isfinite(value)


def _is_bar(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 1 + VALUES:
        return False
    return _is_time(value[0]) and all(map(_is_number, value[1:]))


def _list_of(words: str, accepts: Callable[[Any], bool]) -> _Kind:
    def accepts_all(value: Any) -> bool:
        return isinstance(value, list) and all(map(accepts, value))

    return _Kind(f"a list of {words}", accepts_all)


_NOT_FINITE = frozenset({"inf", "-inf", "nan"})
_LARGEST = 1 << 1023  # no float is larger by much
_TEXT = _Kind("a text", _is_text)
_NAME = _Kind("a text", lambda v: isinstance(v, str))  # of a file: any text
_NAME_OR_NONE = _Kind("a text or null", lambda v: v is None or isinstance(v, str))
_TEXT_OR_NONE = _Kind("a text or null", lambda v: v is None or _is_text(v))
_TIME = _Kind("an int of ms UTC", _is_time)
_COUNT = _Kind("a count", lambda v: v.__class__ is int and 0 <= v < _MOST)
_FLAG = _Kind("true or false", lambda v: isinstance(v, bool))
_BAR = _Kind("a bar", _is_bar)
_ANY = _Kind("a value", lambda _: True)
_RECEIPTS = _list_of("receipts", lambda v: isinstance(v, dict))
_STRATEGIES = _list_of("strategies", lambda v: isinstance(v, dict))


class _Fields(NamedTuple):
    """The fields of an object: those that it must have, and those that it may have."""

    must: Mapping[str, _Kind]
    may: Mapping[str, _Kind]

    def check(self, value: Any, where: str = "") -> None:
        for name, kind in self.must.items():
            if name not in value:
                raise ValueError(f"it lacks {f'{where}{name}'!r}")
            _check(value[name], f"{where}{name}", kind)
        for name, kind in self.may.items():
            if name in value:
                _check(value[name], f"{where}{name}", kind)


_HEADER = _Fields(
    {
        "strategies": _STRATEGIES,
        "symbols": _list_of("symbols", _is_text),
        "frequency": _TEXT,
        "mode": _TEXT,
    },
    {},
)
_STRATEGY = _Fields({"file": _NAME, "digest": _TEXT}, {})
_UNDECIDED = _Fields(
    {"time": _TIME, "strategy": _NAME_OR_NONE, "receipts": _RECEIPTS},
    {"truncated": _COUNT},
)
_DECISION = _Fields({**_UNDECIDED.must, "what": _ANY}, _UNDECIDED.may)
_RECEIPT = _Fields(
    {
        "feed": _TEXT_OR_NONE,
        "symbol": _TEXT,
        "timeframe": _TEXT,
        "first": _TIME,
        "last": _TIME,
        "rows": _COUNT,
        "digest": _TEXT_OR_NONE,
    },
    {
        "bars": _list_of("bars", _is_bar),
        "without": _list_of("times", _is_time),
        "forming": _BAR,
        "unknown": _TEXT_OR_NONE,
    },
)
_END = _Fields({"first": _TIME, "last": _TIME}, {})


def check_header(header: Mapping[str, Any]) -> None:
    """Check the first line of a recording. Raise ValueError in words."""
    _HEADER.check(header)
    for number, strategy in enumerate(header["strategies"]):
        _STRATEGY.check(strategy, f"strategies[{number}].")


def check_line(line: object) -> Mapping[str, Any]:
    """Return a later line of a recording, checked. Raise ValueError in words."""
    if not isinstance(line, dict):
        raise ValueError(f"it is {repr_short(line)}; it must be an object")  # noqa: TRY004
    for name in ("end", "undecided"):
        if name in line:
            _check(line[name], name, _FLAG)
    if line.get("end"):
        _END.check(line)
        return line
    (_UNDECIDED if line.get("undecided") else _DECISION).check(line)
    for number, receipt in enumerate(line["receipts"]):
        _RECEIPT.check(receipt, f"receipts[{number}].")
    return line


def _check(value: Any, where: str, kind: _Kind) -> None:
    if not kind.accepts(value):
        raise ValueError(f"{where} is {repr_short(value)}; it must be {kind.words}")
