"""Messages of the control socket: one JSON line is a request, one JSON line answers.

    request   {"v":1,"id":7,"op":"subscribe","manager":"m","pid":5,"symbols":["A"],..}
    answer    {"v":1,"id":7,"ok":true, ...what the operation returns...}
    refusal   {"v":1,"id":7,"ok":false,"error":"FeedBusyError","message":"..","pid":5}

An answer repeats the request's `id`, or has null if the line did not hold one. `error`
names an exception of shmfeed.errors. Increase VERSION with every change that an older
peer would misread. The version is checked before anything else in a line.
"""

from collections.abc import Collection
from typing import Annotated, Any, Literal

import msgspec

from shmfeed import errors
from shmfeed.errors import BadArgumentError, FeedBusyError, ShmfeedError

VERSION = 1
# The connection of these stays open after the answer; the claim ends with it.
HELD_OPS = ("hold", "lease", "relay")
# The client of these may send more of them on the connection; none is answered.
TOLD_OPS = ("relay",)
OPS = (
    "status",
    "subscribe",
    "release",
    "start",
    "stop",
    "settings",
    "token",
    "reload",
    "retry",
    "accept",
    "history",
    "bars",
    "takeover",
    "reset",
    *HELD_OPS,
)
REQUEST_LIMIT = 1 << 20  # bytes of a line
ANSWER_LIMIT = 1 << 26  # a status names up to 10,000 streams

ABSENT = msgspec.Raw()
Natural = Annotated[int, msgspec.Meta(ge=0)]
# Open time, open, high, low, close, volume, money.
HistoryRow = tuple[int, float, float, float, float, float, float | None]


class ControlError(ShmfeedError):
    """The feeder's control socket gave no answer, or an invalid one."""


class RequestError(BadArgumentError):
    """A line that is not a request; `id` is the one in the line, None without one."""

    def __init__(self, message: str, request_id: int | None) -> None:
        super().__init__(message)
        self.id = request_id


class RelayReport(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a publisher, as in the status key `relay`; None: not known."""

    role: Literal["leader", "standby"]
    leader: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    epoch: Natural | None = None
    since: int | None = None
    lag: float | None = None
    behind: Natural | None = None
    error: Annotated[str, msgspec.Meta(max_length=1024)] | None = None


class ControlRequest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A request. `manager` and `pid` name the sender; None means absent.

    The feeder replaces `pid` by the sender's pid in its own PID namespace. The repr has
    no token.
    """

    v: int
    id: Natural
    op: str
    manager: Annotated[str, msgspec.Meta(max_length=128)] = ""
    pid: Natural = 0
    symbols: tuple[str, ...] | None = None
    resolutions: tuple[str, ...] | None = None
    unlink: bool = False
    nonce: Annotated[str, msgspec.Meta(max_length=128)] = ""
    token: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    # The name of a claimant, and how long its streams stay after its connection's end.
    name: Annotated[str, msgspec.Meta(max_length=128)] = ""
    linger: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    asks: bool = False  # the feeder may ask for further tokens
    settings: msgspec.Raw = ABSENT
    # The open times of the bars that an audit asks for, ms UTC.
    first: Natural = 0
    last: Natural = 0
    before: Natural = 0  # of a reset: bars that close by then, ms UTC; 0 for all
    # A manager's answer to a question about history, and its wait for the next one.
    number: Natural = 0
    rows: tuple[HistoryRow, ...] = ()
    failure: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    kind: Literal["away", "malformed"] = "away"
    wait: Annotated[float, msgspec.Meta(ge=0.0, le=10.0)] = 0.0
    relay: RelayReport | None = None

    def __repr__(self) -> str:
        return f"ControlRequest(op={self.op!r}, id={self.id}, manager={self.manager!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec's own would show the token.
        return [("op", self.op), ("id", self.id), ("manager", self.manager)]


class _Head(msgspec.Struct):
    """The part of a request that every version has."""

    v: int | None = None
    id: int | None = None
    op: str | None = None


ERRORS: dict[str, type[ShmfeedError]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, ShmfeedError)
}
ERRORS[ControlError.__name__] = ControlError

# msgspec raises no DecodeError for invalid UTF-8 and for nesting that is too deep.
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_head = msgspec.json.Decoder(_Head)
_request = msgspec.json.Decoder(ControlRequest)


def decode_request(line: bytes, ops: Collection[str]) -> ControlRequest:
    """Return the request in a line, or raise a RequestError that says what is wrong."""
    try:
        head = _head.decode(line)
    except _NOT_JSON as error:
        raise RequestError(f"cannot decode this request: {error}", None) from None
    if head.v != VERSION:
        text = (
            f"control protocol version {head.v} is not supported; this feeder speaks"
            f" version {VERSION}"
        )
        raise RequestError(text, head.id)
    if head.op not in ops:
        known = " ".join(ops)
        text = f"unknown operation {str(head.op)[:80]!r}; it must be one of: {known}"
        raise RequestError(text, head.id)
    try:
        return _request.decode(line)
    except _NOT_JSON as error:
        known = " ".join(ControlRequest.__struct_fields__)
        text = f"this request is not accepted: {error}; its keys are: {known}"
        raise RequestError(text, head.id) from None


def encode(message: dict[str, object]) -> bytes:
    """Return a message as a line; NaN becomes null.

    Raises:
        TypeError, ValueError: JSON cannot hold a value of the message.
    """
    return msgspec.json.encode(message) + b"\n"


def encode_answer(request_id: int, result: dict[str, object]) -> bytes:
    """Return the line that answers a request with the operation's result."""
    return encode({**result, "v": VERSION, "id": request_id, "ok": True})


def encode_error(request_id: int | None, error: ShmfeedError) -> bytes:
    """Return the line that refuses a request, with the error's nearest public name."""
    names = (kind.__name__ for kind in type(error).__mro__)
    answer: dict[str, object] = {"v": VERSION, "id": request_id, "ok": False}
    answer["error"] = next(name for name in names if name in ERRORS)
    answer["message"] = str(error).encode(errors="replace").decode()
    if isinstance(error, FeedBusyError):
        answer["pid"] = error.pid
    return encode(answer)


def decode_answer(line: bytes, request_id: int) -> dict[str, object]:
    """Return the operation's result; raise a refusal as the error that it names."""
    try:
        answer = msgspec.json.decode(line)
    except _NOT_JSON:
        answer = None
    if not isinstance(answer, dict) or "v" not in answer:
        raise ControlError(
            f"the answer does not follow the control protocol: {line[:80]!r}"
        )
    version, answered, done = (answer.pop(key, None) for key in ("v", "id", "ok"))
    if version != VERSION:
        raise ControlError(
            f"the feeder answered in control protocol version {str(version)[:20]};"
            f" this process speaks version {VERSION}"
        )
    if done is False and (answered is None or answered == request_id):
        raise _error(answer)
    if done is not True or answered != request_id:
        raise ControlError(f"the answer is not to this request: {line[:80]!r}")
    return answer


def _error(answer: dict[str, object]) -> ShmfeedError:
    name, message = str(answer.get("error")), str(answer.get("message"))
    kind = ERRORS.get(name)
    if kind is None:
        return ControlError(f"{name[:80]}: {message}")
    if issubclass(kind, FeedBusyError):
        pid = answer.get("pid")
        return kind(message, pid if isinstance(pid, int) else None)
    return kind(message)
