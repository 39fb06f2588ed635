"""The table of faults, and the parser of their specification.

    faults  fault,fault,..
    fault   name[:argument][:argument][:rate][@start[+length]]

An argument is a number with a unit, a word such as a symbol, or one of a few choices.
`rate` is a share of the fault's targets (frames, bars, answers, connections), by
default all. `@start` is in seconds since the connection began, for faults of
connections, clocks and REST since the venue started; `+length` ends the fault again. A
fault of the venue's bars concerns those that close within this time; without `@` it
concerns all, also those of the past. A fault of single frames, bars or answers with
`@start` alone occurs once, at the first target from then on.
"""

import math
import re
from typing import Any, NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short

# The targets of faults; a rate is a share of them. States and clocks have no rate.
FRAMES, BARS, CLOSES = "frames", "bars", "closing frames"
ANSWERS, CONNECTIONS, STATE, CLOCK = "answers", "connections", "state", "clock"
REQUESTS, TRUTH = "REST requests", "bars of the venue"
_LASTING = {STATE, CLOCK, CONNECTIONS, REQUESTS, TRUTH}

_TIME_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0}
_SIZE_UNITS = {"B": 1.0} | {
    f"{prefix}iB": 1024.0**power for power, prefix in enumerate("KMGT", 1)
}
_NUMBER = r"(\d{1,15}(?:\.\d{1,9})?|\.\d{1,9})"


class Number(NamedTuple):
    """An argument that is a number with a unit.

    Attributes:
        field: The field of Fault that takes the value.
        name: Its name in messages.
        example: A value in its written form.
        units: Factor of each accepted unit.
        low: Smallest accepted value.
        high: Largest accepted value.
        default: None if the argument is required.
        whole: Accept only whole numbers.
    """

    field: str
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


class Word(NamedTuple):
    """An argument that is text without `,`, `:` and `@`.

    Attributes:
        field: The field of Fault that takes the value.
        name: Its name in messages.
        example: A value in its written form.
        default: None if the argument is required.
    """

    field: str
    name: str
    example: str
    default: str | None = None

    def read(self, text: str) -> str | None:
        """Return the text, None if it is not accepted."""
        return text if re.fullmatch(r"[\w*./-]{1,64}", text, re.ASCII) else None


class Choice(NamedTuple):
    """An argument that is one of a few words.

    Attributes:
        field: The field of Fault that takes the value.
        name: Its name in messages.
        choices: The accepted words.
        default: None if the argument is required.
    """

    field: str
    name: str
    choices: tuple[str, ...]
    default: str | None = None

    @property
    def example(self) -> str:
        """The accepted words, for a message."""
        return " or ".join(self.choices)

    def read(self, text: str) -> str | None:
        """Return the word, None if it is not accepted."""
        return text if text in self.choices else None


Argument = Number | Word | Choice


class FaultKind(NamedTuple):
    """A row of the table."""

    target: str
    description: str
    arguments: tuple[Argument, ...] = ()


_NONE = {"": 1.0}
_TIMES = {unit: factor for unit, factor in _TIME_UNITS.items() if unit}
_SECONDS = Number("", "", "", _TIME_UNITS, 0.0, 1e9)
_RATE = Number("", "", "", _NONE, 0.0, 1.0)
_DELAY = Number("argument", "DELAY", "3s", _TIME_UNITS, 0.0, 1e6)
_SHIFT = Number("argument", "SHIFT", "+90s", _TIME_UNITS, -1e9, 1e9)
_BYTES = Number("argument", "SIZE", "1TiB", _SIZE_UNITS, 1.0, 2.0**62, 2.0**40)
_PACE_UNITS = {f"{unit}/s": size for unit, size in _SIZE_UNITS.items()}
_TRICKLE = Number("argument", "PACE", "20B/s", _PACE_UNITS, 1.0, 2.0**30)
_STATUS = Number("argument", "STATUS", "503", _NONE, 400.0, 599.0, 0.0, whole=True)
_BAN = Number("argument", "LENGTH", "30s", _TIME_UNITS, 0.0, 1e6)
_STREAM = Word("text", "STREAM", "BTC/1m")
_SYMBOL = Word("text", "SYMBOL", "BTC")
ASKED, MOVED = "asked", "moved"
_UNTIL = Choice("choice", "UNTIL", (ASKED, MOVED), "")
ODD, EVEN = "odd", "even"
_WHICH = Choice("choice", "WHICH", (ODD, EVEN), "")
_AHEAD = Number("argument", "SHIFT", "90m", _TIME_UNITS, 0.001, 1e9)
_CODE = Number("argument", "CODE", "1013", _NONE, 1000.0, 4999.0, whole=True)
_NOTICE = Number("argument", "NOTICE", "2s", _TIME_UNITS, 0.0, 1e6)
# Its unit is required: a bare number is a rate.
_WAIT = Number("wait", "WAIT", "30s", _TIMES, 0.0, 1e6, 0.0)
_ANY_STATUS = Number("argument", "STATUS", "429", _NONE, 400.0, 599.0, whole=True)
_MOVED_TO = Number("argument", "STATUS", "302", _NONE, 300.0, 399.0, 302.0, whole=True)
OTHER, SAME = "other", "same"
_WHERE = Choice("choice", "HOST", (OTHER, SAME), OTHER)
_AGE = Number("argument", "AGE", "2m", _TIMES, 0.0, 1e9)
_AFTER = Number("argument", "DELAY", "15s", _TIMES, 0.0, 1e9, 0.0)
_USED = Number("argument", "WEIGHT", "3500", _NONE, 0.0, 1e9, whole=True)
_FACTOR = Number("argument", "FACTOR", "1.01", _NONE, 1e-6, 1e6)
_BODY = Number("argument", "SIZE", "32MiB", _SIZE_UNITS, 1.0, 2.0**30, 2.0**25)

FAULT_KINDS: dict[str, FaultKind] = {
    "lost": FaultKind(FRAMES, "the frame is not sent"),
    "lost-close": FaultKind(CLOSES, "the frame that closes a bar is not sent"),
    "gap": FaultKind(
        BARS, "nothing is sent about the bar, from its first frame to its last"
    ),
    "duplicate": FaultKind(FRAMES, "the frame is sent twice"),
    "late": FaultKind(FRAMES, "an older closed bar is sent again behind the frame"),
    "delay": FaultKind(
        CLOSES, "the frame that closes a bar is sent this much later", (_DELAY,)
    ),
    "reorder": FaultKind(
        CLOSES, "the closing frame is sent behind the stream's next one"
    ),
    "revise": FaultKind(CLOSES, "the closed bar is sent again with another volume"),
    "disagree": FaultKind(
        CLOSES, "a bar ends with another close, on all connections or half", (_WHICH,)
    ),
    "future": FaultKind(
        FRAMES, "a bar that begins so much later is sent before the frame", (_AHEAD,)
    ),
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
        FRAMES, "a frame header that declares this size is sent before it", (_BYTES,)
    ),
    "cut": FaultKind(FRAMES, "the connection is cut behind the frame, without a close"),
    "cut-inside": FaultKind(FRAMES, "the connection is cut in the middle of the frame"),
    "half-open": FaultKind(
        STATE, "nothing is read or written, and TCP stays up: no FIN"
    ),
    "mute": FaultKind(STATE, "nothing is sent, and no ping is answered"),
    "mute-pongs": FaultKind(STATE, "nothing is sent, but pings are answered"),
    "trickle": FaultKind(
        STATE, "bytes are sent no faster than this, a few at a time", (_TRICKLE,)
    ),
    "lag": FaultKind(
        STATE, "bars come this much later, on all connections or half", (_DELAY, _WHICH)
    ),
    "mute-stream": FaultKind(
        STATE,
        "nothing about a stream, until asked again, or moved",
        (_STREAM, _UNTIL),
    ),
    "refuse-symbol": FaultKind(
        STATE, "a subscription that names this symbol is refused", (_SYMBOL,)
    ),
    "refuse-later": FaultKind(
        STATE, "an error names it after the answer; nothing follows", (_SYMBOL,)
    ),
    "ack-late": FaultKind(
        ANSWERS, "a subscription is answered this much later", (_DELAY,)
    ),
    "ack-never": FaultKind(ANSWERS, "a subscription is not answered"),
    "ack-wrong": FaultKind(ANSWERS, "the answer names another request"),
    "refuse": FaultKind(
        CONNECTIONS,
        "cut at once, or answered by an HTTP status and a wait",
        (_STATUS, _WAIT),
    ),
    "slow-handshake": FaultKind(
        CONNECTIONS, "the opening handshake is answered this much later", (_DELAY,)
    ),
    "ban": FaultKind(
        CONNECTIONS,
        "answered by status 418 for so long; a dial begins the ban again",
        (_BAN,),
    ),
    "close": FaultKind(STATE, "the venue closes it with this code", (_CODE,)),
    "going-away": FaultKind(
        STATE, "its end is announced this much before it; binance only", (_NOTICE,)
    ),
    "unanswered": FaultKind(CONNECTIONS, "the opening handshake gets no answer"),
    "skew": FaultKind(
        CLOCK,
        "the venue's clock is wrong by this: bars, events, its handshake",
        (_SHIFT,),
    ),
    "skew-events": FaultKind(
        CLOCK, "event times alone are wrong by this; binance only", (_SHIFT,)
    ),
    "freeze": FaultKind(
        STATE, "each stream's last frame is sent again in place of new ones", (_WHICH,)
    ),
    "halt": FaultKind(
        CLOCK, "the symbol does not trade; exchangeInfo says so", (_SYMBOL,)
    ),
    "hole": FaultKind(TRUTH, "neither the socket nor REST ever has the bar"),
    "rest-lacks": FaultKind(TRUTH, "REST never has the bar, which the socket sends"),
    "rest-corrects": FaultKind(
        TRUTH, "REST has other values so long after the close", (_AFTER,)
    ),
    "rest-status": FaultKind(
        REQUESTS, "answered by the HTTP status and a wait", (_ANY_STATUS, _WAIT)
    ),
    "rest-away": FaultKind(REQUESTS, "the connection is cut without an answer"),
    "rest-hang": FaultKind(REQUESTS, "not answered"),
    "rest-slow": FaultKind(REQUESTS, "answered this much later", (_DELAY,)),
    "rest-cut": FaultKind(REQUESTS, "cut in the middle of the answer"),
    "rest-truncated": FaultKind(REQUESTS, "answered by the first half of the JSON"),
    "rest-html": FaultKind(REQUESTS, "answered by a page of HTML"),
    "rest-huge": FaultKind(REQUESTS, "answered by so many bytes", (_BODY,)),
    "rest-redirect": FaultKind(
        REQUESTS, "sent to another host, or to the same place", (_MOVED_TO, _WHERE)
    ),
    "rest-used": FaultKind(
        REQUESTS, "others have used so much weight, says the header", (_USED,)
    ),
    "rest-empty": FaultKind(REQUESTS, "answered by no rows"),
    "rest-behind": FaultKind(
        REQUESTS, "answered by rows that closed so long ago, or longer", (_AGE,)
    ),
    "rest-forming": FaultKind(
        REQUESTS, "the forming bar follows the rows, whatever was asked for"
    ),
    "rest-unordered": FaultKind(REQUESTS, "the rows come in another order"),
    "rest-doubled": FaultKind(REQUESTS, "each row comes twice"),
    "rest-overlap": FaultKind(REQUESTS, "rows between the others overlap them"),
    "rest-grid": FaultKind(REQUESTS, "the rows begin and end half a bar later"),
    "rest-prices": FaultKind(
        REQUESTS, "prices are those of the market times this", (_FACTOR,)
    ),
    "rest-rubbish": FaultKind(REQUESTS, "a row is damaged, or the rows are no list"),
}
# Faults of Binance's REST, or of what it alone can tell.
REST_FAULTS = frozenset(
    {name for name, kind in FAULT_KINDS.items() if kind.target == REQUESTS}
    | {"halt", "rest-lacks", "rest-corrects"}
)
# Faults that change or repeat a made bar, so they cannot apply to a recording.
BAR_FAULTS = frozenset(
    {"lost-close", "gap", "late", "delay", "reorder", "revise", "off-grid", "nan"}
    | {"infinite", "skew", "skew-events", "disagree", "future", "lag", "mute-stream"}
    | {"refuse-later", "freeze", "halt", "hole"}
)


def usage(name: str) -> str:
    """Return the form of a fault, such as `lost[:RATE][@SECONDS[+SECONDS]]`."""
    kind = FAULT_KINDS[name]
    text = name
    for argument in kind.arguments:
        value = f":{argument.name}"
        text += value if argument.default is None else f"[{value}]"
    if kind.target not in {STATE, CLOCK}:
        text += "[:RATE]"
    return text + "[@SECONDS[+SECONDS]]"


def accepted(name: str) -> str:
    """Return the accepted forms of a fault, for a message."""
    kind = FAULT_KINDS[name]
    parts = [usage(name)]
    for argument in kind.arguments:
        such_as = "" if isinstance(argument, Choice) else "such as "
        parts.append(f"{argument.name} {such_as}{argument.example}")
    if kind.target not in {STATE, CLOCK}:
        parts.append(f"RATE a share of the {kind.target} from 0 to 1")
    return ", ".join([*parts, "SECONDS such as 2, 2.5s or 250ms"])


def example(name: str) -> str:
    """Return a fault in its written form, with its first argument."""
    arguments = FAULT_KINDS[name].arguments
    if not arguments:
        return name
    first = arguments[0]
    value = first.choices[0] if isinstance(first, Choice) else first.example
    return f"{name}:{value}"


def faults_help() -> str:
    """Return a line for each fault, for the command's help."""
    forms = {name: example(name) for name in FAULT_KINDS}
    width = max(map(len, forms.values()))
    return "\n".join(
        f"  {forms[n]:<{width}}  {FAULT_KINDS[n].description}" for n in FAULT_KINDS
    )


class Fault(NamedTuple):
    """One fault of a specification.

    Attributes:
        name: A key of FAULT_KINDS.
        argument: Its number in seconds, bytes, or the fault's own unit; 0 without one.
        rate: Share of the fault's targets.
        start: Seconds.
        end: Seconds; inf if it does not end.
        once: Occurs once, at the first target from `start` on.
        text: The word of a fault that takes one, such as a symbol.
        choice: The choice of a fault that has one.
        wait: Seconds that a refusal asks the client to wait.
    """

    name: str
    argument: float
    rate: float
    start: float
    end: float
    once: bool
    text: str = ""
    choice: str = ""
    wait: float = 0.0


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
    fields, rate = _values(piece, name, values)
    start, end = _window(piece, name, when) if at else (0.0, math.inf)
    lasting = FAULT_KINDS[name].target in _LASTING
    once = bool(at) and rate is None and end == math.inf and not lasting
    fault = Fault(name, 0.0, 1.0 if rate is None else rate, start, end, once)
    return fault._replace(**fields)


def _values(
    piece: str, name: str, values: list[str]
) -> tuple[dict[str, Any], float | None]:
    """Return the arguments by their field of Fault, and the rate."""
    kind = FAULT_KINDS[name]
    has_rate = kind.target not in {STATE, CLOCK}
    fields: dict[str, Any] = {}
    missing = list(kind.arguments)
    rate = None
    for text in values:
        found = None
        if rate is None:
            found = next((a for a in missing if a.read(text) is not None), None)
        if found is not None:
            fields[found.field] = found.read(text)
            del missing[: missing.index(found) + 1]  # they come in their order
            continue
        if has_rate and rate is None:
            rate = _RATE.read(text)
            if rate is not None:
                continue
        raise BadArgumentError(
            f"fault {repr_short(piece)} is not accepted: {repr_short(text)}; "
            f"{accepted(name)}"
        )
    for argument in kind.arguments:
        if fields.setdefault(argument.field, argument.default) is None:
            raise BadArgumentError(
                f"fault {repr_short(piece)} is not accepted: no {argument.name}; "
                f"{accepted(name)}"
            )
    return fields, rate


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
