"""Checks of untrusted bytes that all codecs share.

Typed decoding refuses wrong types, NaN literals, truncated and deeply nested JSON. The
functions here do the rest, so that decoding ends in an event whatever the bytes are.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, TypeVar

import msgspec

from shmfeed.bar import LAST_TIME, StreamKey, check_timeframe
from shmfeed.codecs.interface import Malformed
from shmfeed.errors import BadArgumentError
from shmfeed.validation import check_symbol

# The exceptions of decoding a hostile message and of checking the names in it.
UNREADABLE = (ValueError, RecursionError)
ABSENT = msgspec.Raw(b"")
NO_BAR = "not the shape of a bar"

FIRST_EVENT = 631_152_000_000  # 1990-01-01: a smaller stamp is not in milliseconds
_FIRST_MICROSECONDS = 10**14
_MOST = 2**63 - 1

Time = Annotated[int, msgspec.Meta(ge=0, lt=LAST_TIME)]  # ms UTC
# ms or us UTC: no time in milliseconds is as large as any of today in microseconds.
Stamp = Annotated[int, msgspec.Meta(ge=0, lt=LAST_TIME * 1000)]
EventTime = Annotated[int, msgspec.Meta(ge=FIRST_EVENT, lt=LAST_TIME)]  # ms UTC
SequenceNumber = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
TradeId = Annotated[int, msgspec.Meta(ge=-1, le=_MOST)]

# Decoders of optional fields, for `optional`.
SEQUENCE = msgspec.json.Decoder(SequenceNumber, strict=False)
TRADE_ID = msgspec.json.Decoder(TradeId, strict=False)
REAL = msgspec.json.Decoder(float, strict=False)
FLAG = msgspec.json.Decoder(bool, strict=False)

_STAMP = msgspec.json.Decoder(Stamp, strict=False)

_NOTHING = frozenset({b"null", b'""'})

T = TypeVar("T")
Absent = TypeVar("Absent")


def is_text(data: bytes) -> bool:
    """Return True if the whole message is UTF-8, also the parts no decoder reads."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# Errors are not cached, so only accepted names fill the cache: 4096 short ones.
@lru_cache(maxsize=4096)
def check_stream(symbol: str, timeframe: str | None) -> StreamKey:
    """Return the stream that a message names, or raise BadArgumentError."""
    return check_symbol(symbol), check_timeframe(timeframe)


def malformed(reason: Exception | str) -> tuple[Malformed]:
    """Return the event for an unreadable message; it quotes nothing of the message."""
    return (Malformed(reason if isinstance(reason, str) else _describe(reason)),)


def optional(
    raw: msgspec.Raw, decoder: msgspec.json.Decoder[T], absent: Absent
) -> T | Absent:
    """Return an optional part of a message, `absent` also where it cannot be read."""
    # The usual unreadable ones come without the price of an exception.
    if not raw or bytes(raw) in _NOTHING:
        return absent
    try:
        return decoder.decode(raw)
    except UNREADABLE:
        return absent


def first_readable(
    parts: Iterable[msgspec.Raw], decoder: msgspec.json.Decoder[T], absent: Absent
) -> T | Absent:
    """Return the first of several spellings of a value that can be read."""
    for raw in parts:
        if raw and (value := optional(raw, decoder, None)) is not None:
            return value
    return absent


def optional_time(raw: msgspec.Raw, first: int = 0) -> int:
    """Return an optional time in ms, 0 if it is unreadable or before `first`."""
    time = milliseconds(optional(raw, _STAMP, 0))
    return time if first <= time < LAST_TIME else 0


def milliseconds(stamp: int) -> int:
    """Return a time in ms; by its size alone, one in microseconds is told apart."""
    return stamp // 1000 if stamp >= _FIRST_MICROSECONDS else stamp


def string_in(raw: msgspec.Raw) -> str:
    """Return the string in a part of a message, "" for anything else."""
    value = value_in(raw)
    return value if isinstance(value, str) else ""


def request_id_of(raw: msgspec.Raw) -> str | None:
    """Return a request's id, which is a string or an integer, else None."""
    value = value_in(raw)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value)


def message_of(raw: msgspec.Raw) -> str:
    """Return the string in a part of a message, or its JSON if it is something else."""
    value = value_in(raw)
    if value is None or isinstance(value, str):
        return value or ""
    if b"\\" in bytes(raw):  # an escape may hide a secret
        return msgspec.json.encode(value).decode()
    return bytes(raw).decode(errors="replace")


def value_in(raw: msgspec.Raw) -> object:
    """Return a part of a message as a value, None if it is absent or unreadable."""
    try:
        return msgspec.json.decode(raw) if raw else None
    except UNREADABLE:
        return None


def _describe(error: Exception) -> str:
    match error:
        case RecursionError():
            return "nested too deeply"
        case BadArgumentError():
            return "symbol or timeframe is not accepted"
        case msgspec.MsgspecError():
            return str(error)  # places and types only
        case _:
            return "cannot be decoded"
