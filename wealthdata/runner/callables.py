"""The functions of a strategy, checked before the runner calls them."""

import inspect
from pathlib import Path

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short


def check_call(function: object, name: str, arguments: tuple[str, ...]) -> None:
    """Raise BadArgumentError unless a function can be called with these arguments.

    `name` is what the message calls it.
    """
    wanted = f"{name.partition(' ')[0]}({', '.join(arguments)})"
    if not callable(function):
        raise BadArgumentError(
            f"{name} is {repr_short(function)}; it must be a function, {wanted}"
        )
    place = place_of(function)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise BadArgumentError(
            f"{name}{place} is async, and would never run; define it with def"
        )
    if inspect.isgeneratorfunction(function):
        raise BadArgumentError(
            f"{name}{place} has a yield, and its body would never run; remove the yield"
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # written in C
    try:
        signature.bind(*arguments)
    except TypeError:
        raise BadArgumentError(
            f"{name}{signature}{place} takes other arguments; it is called as {wanted}"
        ) from None


def place_of(function: object) -> str:
    """Return ` (ma.py line 3)` of a function, "" if it has no place."""
    code = getattr(inspect.unwrap(function), "__code__", None)  # type: ignore[arg-type]
    if code is None:
        return ""
    return f" ({Path(code.co_filename).name} line {code.co_firstlineno})"
