"""Every fault there is, in one table: its name, its forms, and what the venue does.

The one reader of `--faults`.

    faults  fault,fault,..
    fault   name[:argument][:rate][@start[+length]]

A rate is a share of what the fault happens to (frames, bars, answers, connections): all
of them where it is left out. `@start` is seconds since the connection began (of
connections and clocks: since the venue did); `+length` ends it again. Of a fault that
happens to single frames or answers, `@start` with neither rate nor length means once:
to the first one from then on.
"""

import math
import re
from typing import NamedTuple

from shmfeed.errors import BadArgumentError

# What a rate is a share of; a state has none, it is there or not.
FRAMES, BARS, CLOSES = "frames", "bars", "closing frames"
ANSWERS, CONNECTIONS, STATE, CLOCK = "answers", "connections", "state", "clock"

_SPAN = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0}
_SIZE = {"B": 1.0} | {
    f"{prefix}iB": 1024.0**power for power, prefix in enumerate("KMGT", 1)
}
_NUMBER = r"(\d{1,15}(?:\.\d{1,9})?|\.\d{1,9})"


class Argument(NamedTuple):
    """A fault's own value: a number and a unit; `default` None: it must be given."""

    name: str
    example: str
    units: dict[str, float]
    low: float
    high: float
    default: float | None = None
    whole: bool = False

    def read(self, text: str) -> float | None:
        """The number, in s or bytes; None for what is not accepted."""
        sign = "[+-]?" if self.low < 0 else ""
        match = re.fullmatch(rf"({sign}){_NUMBER}(\D*)", text, re.ASCII)
        if match is None or match[3] not in self.units:
            return None
        value = float(match[1] + match[2]) * self.units[match[3]]
        if self.whole and not value.is_integer():
            return None
        return value if self.low <= value <= self.high else None


class Kind(NamedTuple):
    """A row of the table."""

    extent: str
    words: str
    argument: Argument | None = None


def read_span(text: str) -> float | None:
    """Seconds: `2`, `2.5s`, `250ms`, `1m`; None for anything else."""
    return Argument("", "", _SPAN, 0.0, 1e9).read(text)


def read_rate(text: str) -> float | None:
    """A share from 0 to 1; None for anything else."""
    return Argument("", "", {"": 1.0}, 0.0, 1.0).read(text)


_LATE_BY = Argument("DELAY", "3s", _SPAN, 0.0, 1e6)
_SHIFT = Argument("SHIFT", "+90s", _SPAN, -1e9, 1e9)
_BYTES = Argument("SIZE", "1TiB", _SIZE, 1.0, 2.0**62, 2.0**40)
_PACE = {f"{unit}/s": size for unit, size in _SIZE.items()}
_TRICKLE = Argument("PACE", "20B/s", _PACE, 1.0, 2.0**30)
_STATUS = Argument("STATUS", "503", {"": 1.0}, 400.0, 599.0, 0.0, whole=True)

KINDS: dict[str, Kind] = {
    "lost": Kind(FRAMES, "the frame is not sent"),
    "lost-close": Kind(CLOSES, "the frame that closes a bar is not sent"),
    "gap": Kind(
        BARS, "nothing is sent about the bar, from its first frame to its last"
    ),
    "duplicate": Kind(FRAMES, "the frame is sent twice"),
    "late": Kind(FRAMES, "an older closed bar is sent again behind the frame"),
    "delay": Kind(CLOSES, "the frame that closes a bar is sent late by this", _LATE_BY),
    "reorder": Kind(CLOSES, "the closing frame is sent behind the stream's next one"),
    "revise": Kind(CLOSES, "the closed bar is sent again with another volume"),
    "malformed": Kind(FRAMES, "a spoilt copy is sent before the frame"),
    "off-grid": Kind(FRAMES, "a copy with times off the grid is sent before the frame"),
    "nan": Kind(FRAMES, "a copy with a NaN in it is sent before the frame"),
    "infinite": Kind(FRAMES, "a copy with an infinity in it is sent before the frame"),
    "garbage": Kind(FRAMES, "random bytes are sent as a message before the frame"),
    "fragments": Kind(FRAMES, "the frame comes in pieces, with a ping between: legal"),
    "noise": Kind(FRAMES, "bytes that are no frame are sent before the frame"),
    "truncated": Kind(
        FRAMES, "the frame has fewer bytes than it declares; others follow"
    ),
    "oversized": Kind(FRAMES, "a frame that declares this size is begun", _BYTES),
    "cut": Kind(FRAMES, "the connection is cut behind the frame, without a word"),
    "cut-inside": Kind(FRAMES, "the connection is cut in the middle of the frame"),
    "half-open": Kind(STATE, "nothing is read or written, and TCP stays up: no FIN"),
    "mute": Kind(STATE, "nothing is said, and no ping is answered"),
    "mute-pongs": Kind(STATE, "nothing is said, but pings are answered"),
    "trickle": Kind(
        STATE, "bytes leave no faster than this, a few at a time", _TRICKLE
    ),
    "ack-late": Kind(ANSWERS, "a subscription's answer comes late by this", _LATE_BY),
    "ack-never": Kind(ANSWERS, "a subscription is not answered"),
    "ack-wrong": Kind(ANSWERS, "the answer names another request"),
    "refuse": Kind(CONNECTIONS, "cut at once, or answered by an HTTP status", _STATUS),
    "unanswered": Kind(CONNECTIONS, "the opening handshake gets no answer"),
    "skew": Kind(CLOCK, "the venue's clock is off by this: bars and events", _SHIFT),
    "skew-events": Kind(CLOCK, "event times alone are off by this; binance", _SHIFT),
}
# These change or repeat a made bar: they have nothing to work on in a recording.
OF_BARS = frozenset(
    {"lost-close", "gap", "late", "delay", "reorder", "revise", "off-grid", "nan"}
    | {"infinite", "skew", "skew-events"}
)


def usage(name: str) -> str:
    """The forms of a fault: `lost[:RATE][@SECONDS[+SECONDS]]`."""
    kind = KINDS[name]
    text = name
    if kind.argument is not None:
        value = f":{kind.argument.name}"
        text += value if kind.argument.default is None else f"[{value}]"
    if kind.extent not in {STATE, CLOCK}:
        text += "[:RATE]"
    return text + "[@SECONDS[+SECONDS]]"


def accepted(name: str) -> str:
    """What may be given to a fault, for a message."""
    kind = KINDS[name]
    words = [usage(name)]
    if kind.argument is not None:
        words.append(f"{kind.argument.name} such as {kind.argument.example}")
    if kind.extent not in {STATE, CLOCK}:
        words.append(f"RATE a share of the {kind.extent} from 0 to 1")
    return ", ".join([*words, "SECONDS such as 2, 2.5s or 250ms"])


def fault_lines() -> str:
    """A line for each fault, for the command's help."""
    heads = {name: name for name in KINDS}
    for name, kind in KINDS.items():
        if kind.argument is not None:
            heads[name] = f"{name}:{kind.argument.example}"
    width = max(map(len, heads.values()))
    return "\n".join(f"  {heads[n]:<{width}}  {KINDS[n].words}" for n in KINDS)


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
