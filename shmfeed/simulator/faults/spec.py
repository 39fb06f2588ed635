"""The table of faults, and the parser of their specification.

    faults  fault,fault,..
    fault   name[:argument][:rate][@start[+length]]

`rate` is a share of the fault's targets (frames, bars, answers, connections), by
default all. `@start` is in seconds since the connection began, for faults of
connections and clocks since the venue started; `+length` ends the fault again. A fault
of single frames, bars or answers with `@start` alone occurs once, at the first target
from then on.
"""

import math
import re
from typing import NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short

# The targets of faults; a rate is a share of them. States and clocks have no rate.
FRAMES, BARS, CLOSES = "frames", "bars", "closing frames"
ANSWERS, CONNECTIONS, STATE, CLOCK = "answers", "connections", "state", "clock"

_TIME_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0}
_SIZE_UNITS = {"B": 1.0} | {
    f"{prefix}iB": 1024.0**power for power, prefix in enumerate("KMGT", 1)
}
_NUMBER = r"(\d{1,15}(?:\.\d{1,9})?|\.\d{1,9})"


class Argument(NamedTuple):
    """A fault's own value: a number with a unit.

    Attributes:
        name: Its name in messages.
        example: A value in its written form.
        units: Factor of each accepted unit.
        low: Smallest accepted value.
        high: Largest accepted value.
        default: None if the argument is required.
        whole: Accept only whole numbers.
    """

    name: str
    example: str
    units: dict[str, float]
    low: float
    high: float
    default: float | None = None
    whole: bool = False

    def read(self, text: str) -> float | None:
        """Return the number in seconds or bytes, None if it is not accepted."""
        sign = "[+-]?" if self.low < 0 else ""
        match = re.fullmatch(rf"({sign}){_NUMBER}(\D*)", text, re.ASCII)
        if match is None or match[3] not in self.units:
            return None
        value = float(match[1] + match[2]) * self.units[match[3]]
        if self.whole and not value.is_integer():
            return None
        return value if self.low <= value <= self.high else None


class FaultKind(NamedTuple):
    """A row of the table."""

    target: str
    description: str
    argument: Argument | None = None


_SECONDS = Argument("", "", _TIME_UNITS, 0.0, 1e9)
_RATE = Argument("", "", {"": 1.0}, 0.0, 1.0)
_DELAY = Argument("DELAY", "3s", _TIME_UNITS, 0.0, 1e6)
_SHIFT = Argument("SHIFT", "+90s", _TIME_UNITS, -1e9, 1e9)
_BYTES = Argument("SIZE", "1TiB", _SIZE_UNITS, 1.0, 2.0**62, 2.0**40)
_PACE_UNITS = {f"{unit}/s": size for unit, size in _SIZE_UNITS.items()}
_TRICKLE = Argument("PACE", "20B/s", _PACE_UNITS, 1.0, 2.0**30)
_STATUS = Argument("STATUS", "503", {"": 1.0}, 400.0, 599.0, 0.0, whole=True)

FAULT_KINDS: dict[str, FaultKind] = {
    "lost": FaultKind(FRAMES, "the frame is not sent"),
    "lost-close": FaultKind(CLOSES, "the frame that closes a bar is not sent"),
    "gap": FaultKind(
        BARS, "nothing is sent about the bar, from its first frame to its last"
    ),
    "duplicate": FaultKind(FRAMES, "the frame is sent twice"),
    "late": FaultKind(FRAMES, "an older closed bar is sent again behind the frame"),
    "delay": FaultKind(
        CLOSES, "the frame that closes a bar is sent this much later", _DELAY
    ),
    "reorder": FaultKind(
        CLOSES, "the closing frame is sent behind the stream's next one"
    ),
    "revise": FaultKind(CLOSES, "the closed bar is sent again with another volume"),
    "malformed": FaultKind(FRAMES, "a damaged copy is sent before the frame"),
    "off-grid": FaultKind(
        FRAMES, "a copy with times off the grid is sent before the frame"
    ),
    "nan": FaultKind(FRAMES, "a copy with a NaN in it is sent before the frame"),
    "infinite": FaultKind(
        FRAMES, "a copy with an infinity in it is sent before the frame"
    ),
    "garbage": FaultKind(FRAMES, "random bytes are sent as a message before the frame"),
    "fragments": FaultKind(
        FRAMES, "the frame is sent in fragments with a ping between (legal)"
    ),
    "noise": FaultKind(FRAMES, "bytes that form no frame are sent before the frame"),
    "truncated": FaultKind(
        FRAMES, "the frame has fewer bytes than it declares; others follow"
    ),
    "oversized": FaultKind(
        FRAMES, "a frame header that declares this size is sent before it", _BYTES
    ),
    "cut": FaultKind(FRAMES, "the connection is cut behind the frame, without a close"),
    "cut-inside": FaultKind(FRAMES, "the connection is cut in the middle of the frame"),
    "half-open": FaultKind(
        STATE, "nothing is read or written, and TCP stays up: no FIN"
    ),
    "mute": FaultKind(STATE, "nothing is sent, and no ping is answered"),
    "mute-pongs": FaultKind(STATE, "nothing is sent, but pings are answered"),
    "trickle": FaultKind(
        STATE, "bytes are sent no faster than this, a few at a time", _TRICKLE
    ),
    "ack-late": FaultKind(
        ANSWERS, "a subscription is answered this much later", _DELAY
    ),
    "ack-never": FaultKind(ANSWERS, "a subscription is not answered"),
    "ack-wrong": FaultKind(ANSWERS, "the answer names another request"),
    "refuse": FaultKind(
        CONNECTIONS, "cut at once, or answered by an HTTP status", _STATUS
    ),
    "unanswered": FaultKind(CONNECTIONS, "the opening handshake gets no answer"),
    "skew": FaultKind(
        CLOCK, "the venue's clock is wrong by this: bars and events", _SHIFT
    ),
    "skew-events": FaultKind(
        CLOCK, "event times alone are wrong by this; binance only", _SHIFT
    ),
}
# Faults that change or repeat a made bar, so they cannot apply to a recording.
BAR_FAULTS = frozenset(
    {"lost-close", "gap", "late", "delay", "reorder", "revise", "off-grid", "nan"}
    | {"infinite", "skew", "skew-events"}
)


def usage(name: str) -> str:
    """Return the form of a fault, such as `lost[:RATE][@SECONDS[+SECONDS]]`."""
    kind = FAULT_KINDS[name]
    text = name
    if kind.argument is not None:
        value = f":{kind.argument.name}"
        text += value if kind.argument.default is None else f"[{value}]"
    if kind.target not in {STATE, CLOCK}:
        text += "[:RATE]"
    return text + "[@SECONDS[+SECONDS]]"


def accepted(name: str) -> str:
    """Return the accepted forms of a fault, for a message."""
    kind = FAULT_KINDS[name]
    parts = [usage(name)]
    if kind.argument is not None:
        parts.append(f"{kind.argument.name} such as {kind.argument.example}")
    if kind.target not in {STATE, CLOCK}:
        parts.append(f"RATE a share of the {kind.target} from 0 to 1")
    return ", ".join([*parts, "SECONDS such as 2, 2.5s or 250ms"])


def faults_help() -> str:
    """Return a line for each fault, for the command's help."""
    forms = {name: name for name in FAULT_KINDS}
    for name, kind in FAULT_KINDS.items():
        if kind.argument is not None:
            forms[name] = f"{name}:{kind.argument.example}"
    width = max(map(len, forms.values()))
    return "\n".join(
        f"  {forms[n]:<{width}}  {FAULT_KINDS[n].description}" for n in FAULT_KINDS
    )


class Fault(NamedTuple):
    """One fault of a specification.

    Attributes:
        name: A key of FAULT_KINDS.
        argument: In seconds, bytes, or the fault's own unit; 0 without one.
        rate: Share of the fault's targets.
        start: Seconds.
        end: Seconds; inf if it does not end.
        once: Occurs once, at the first target from `start` on.
    """

    name: str
    argument: float
    rate: float
    start: float
    end: float
    once: bool


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Return the faults in order; raise BadArgumentError with the accepted forms."""
    pieces = (piece.strip() for piece in text.split(","))
    return tuple(_parse(piece) for piece in pieces if piece)


def _parse(piece: str) -> Fault:
    head, at, when = piece.partition("@")
    name, *values = head.split(":")
    if name not in FAULT_KINDS:
        raise BadArgumentError(
            f"fault {repr_short(piece)} is not accepted: unknown name "
            f"{repr_short(name)}; one of: {' '.join(FAULT_KINDS)}"
        )
    argument, rate = _values(piece, name, values)
    start, end = _window(piece, name, when) if at else (0.0, math.inf)
    lasting = FAULT_KINDS[name].target in {STATE, CLOCK, CONNECTIONS}
    once = bool(at) and rate is None and end == math.inf and not lasting
    return Fault(name, argument, 1.0 if rate is None else rate, start, end, once)


def _values(piece: str, name: str, values: list[str]) -> tuple[float, float | None]:
    kind = FAULT_KINDS[name]
    has_rate = kind.target not in {STATE, CLOCK}
    argument = rate = None
    for text in values:
        if kind.argument is not None and argument is None and rate is None:
            argument = kind.argument.read(text)
            if argument is not None:
                continue
        if has_rate and rate is None:
            rate = _RATE.read(text)
            if rate is not None:
                continue
        raise BadArgumentError(
            f"fault {repr_short(piece)} is not accepted: {repr_short(text)}; "
            f"{accepted(name)}"
        )
    if kind.argument is not None and argument is None:
        argument = kind.argument.default
        if argument is None:
            raise BadArgumentError(
                f"fault {repr_short(piece)} is not accepted: no {kind.argument.name}; "
                f"{accepted(name)}"
            )
    return argument or 0.0, rate


def _window(piece: str, name: str, text: str) -> tuple[float, float]:
    first, plus, length = text.partition("+")
    start = _SECONDS.read(first)
    lasts = _SECONDS.read(length) if plus else math.inf
    if start is None or lasts is None:
        raise BadArgumentError(
            f"fault {repr_short(piece)} is not accepted: {repr_short('@' + text)}; "
            f"{accepted(name)}"
        )
    return start, start + lasts
