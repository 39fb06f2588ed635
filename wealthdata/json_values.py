"""The values that a decision may hold: those that JSON gives back as they were."""

import math
from typing import Any

import numpy as np

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short

_MAX_DEPTH = 64
_MAX_BITS = 8192  # of an int: Python itself reads no more than 4300 digits
_ACCEPTED = (
    "a str, a bool, an int, a finite float, None, a list or tuple of these, or a dict"
    " of these with keys that are str"
)


def plain_value(value: object, name: str) -> Any:
    """Return a copy of a value as JSON will give it back.

    A tuple becomes a list; a numpy scalar and a subclass of str, int or float become
    the plain value. Raise BadArgumentError, which names the place in `name`.
    """
    return _plain(value, name, 0)


def _plain(value: Any, name: str, depth: int) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return _short_int(int(value), name)
    if isinstance(value, float):
        return _finite(float(value), name)
    if depth == _MAX_DEPTH:
        raise BadArgumentError(
            f"{_short(name)} lies {depth} levels deep; a decision may have at most"
            f" {_MAX_DEPTH} (does it hold itself?)"
        )
    if isinstance(value, dict):
        return {
            _key(key, name): _plain(item, f"{name}[{repr_short(key)}]", depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = enumerate(value)
        return [_plain(item, f"{name}[{at}]", depth + 1) for at, item in items]
    raise BadArgumentError(
        f"{_short(name)} is {_described(value)}; a decision may hold {_ACCEPTED}"
    )


def _short_int(number: int, name: str) -> int:
    bits = number.bit_length()
    if bits <= _MAX_BITS:
        return number
    raise BadArgumentError(
        f"{_short(name)} is an int of {bits} bits; a decision may have ints of at most"
        f" {_MAX_BITS} bits"
    )


def _finite(number: float, name: str) -> float:
    if math.isfinite(number):
        return number
    raise BadArgumentError(
        f"{_short(name)} is {number}, which JSON cannot hold; use None for no number"
    )


def _key(key: object, name: str) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    raise BadArgumentError(
        f"{_short(name)} has the key {repr_short(key)}, of type"
        f" {type(key).__name__}; keys must be str"
    )


def _described(value: object) -> str:
    kind = type(value).__name__
    if kind in ("DataFrame", "Series", "Index", "ndarray"):
        return f"of type {kind}"  # its repr has many lines
    return f"{repr_short(value)}, of type {kind}"


def _short(name: str) -> str:
    return name if len(name) <= 160 else f"{name[:78]} .. {name[-78:]}"
