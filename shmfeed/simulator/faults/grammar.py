"""The one reader of `--faults`.

    faults  fault,fault,..
    fault   name[:argument][:rate][@start[+length]]

A rate is a share of what the fault happens to (frames, bars, answers, connections): all
of them where it is left out. `@start` is seconds since the connection began (of
connections and clocks: since the venue did); `+length` ends it again. Of a fault that
happens to single frames or answers, `@start` with neither rate nor length means once:
to the first one from then on.
"""

import math
from typing import NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.simulator.faults.kinds import (
    CLOCK,
    CONNECTIONS,
    KINDS,
    STATE,
    accepted,
    read_rate,
    read_span,
)


class Fault(NamedTuple):
    """One fault of a specification; `argument` in s, bytes, or its own number."""

    name: str
    argument: float
    rate: float
    start: float
    end: float
    once: bool


def parse_faults(text: str) -> tuple[Fault, ...]:
    """The faults in the order given; BadArgumentError says what is accepted."""
    pieces = (piece.strip() for piece in text.split(","))
    return tuple(_parse(piece) for piece in pieces if piece)


def _parse(piece: str) -> Fault:
    head, at, when = piece.partition("@")
    name, *values = head.split(":")
    if name not in KINDS:
        raise BadArgumentError(
            f"fault {piece[:80]!r} is not accepted: there is no {name[:80]!r}; "
            f"there are: {' '.join(KINDS)}"
        )
    argument, rate = _values(piece, name, values)
    start, end = _window(piece, name, when) if at else (0.0, math.inf)
    lasting = KINDS[name].extent in {STATE, CLOCK, CONNECTIONS}
    once = bool(at) and rate is None and end == math.inf and not lasting
    return Fault(name, argument, 1.0 if rate is None else rate, start, end, once)


def _values(piece: str, name: str, values: list[str]) -> tuple[float, float | None]:
    kind = KINDS[name]
    has_rate = kind.extent not in {STATE, CLOCK}
    argument = rate = None
    for text in values:
        if kind.argument is not None and argument is None and rate is None:
            argument = kind.argument.read(text)
            if argument is not None:
                continue
        if has_rate and rate is None:
            rate = read_rate(text)
            if rate is not None:
                continue
        raise BadArgumentError(
            f"fault {piece[:80]!r} is not accepted: {text[:80]!r}; {accepted(name)}"
        )
    if kind.argument is not None and argument is None:
        argument = kind.argument.default
        if argument is None:
            raise BadArgumentError(
                f"fault {piece[:80]!r} is not accepted: its {kind.argument.name} is "
                f"missing; {accepted(name)}"
            )
    return argument or 0.0, rate


def _window(piece: str, name: str, text: str) -> tuple[float, float]:
    first, plus, length = text.partition("+")
    start, lasts = read_span(first), read_span(length) if plus else math.inf
    if start is None or lasts is None:
        raise BadArgumentError(
            f"fault {piece[:80]!r} is not accepted: '@{text[:80]}'; {accepted(name)}"
        )
    return start, start + lasts
