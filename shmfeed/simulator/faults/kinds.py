"""Every fault there is, in one table: its name, its forms, and what the venue does."""

import re
from typing import NamedTuple

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
