"""Checks of untrusted bytes that all codecs share.

Typed decoding refuses wrong types, NaN literals, truncated and deeply nested JSON. The
functions here do the rest, so that decoding ends in an event whatever the bytes are.
"""

from functools import lru_cache
from typing import Annotated

import msgspec

from shmfeed.bar import LAST_TIME, StreamKey, check_timeframe
from shmfeed.codecs.interface import Malformed
from shmfeed.errors import BadArgumentError
from shmfeed.text import one_line
from shmfeed.validation import check_symbol

# The exceptions of decoding a hostile message and of checking the names in it.
UNREADABLE = (ValueError, RecursionError)
ABSENT = msgspec.Raw(b"")
NO_BAR = "not the shape of a bar"

Time = Annotated[int, msgspec.Meta(ge=0, lt=LAST_TIME)]  # ms UTC


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


def string_in(raw: msgspec.Raw) -> str:
    """Return the string in a part of a message, "" for anything else."""
    value = _value_of(raw)
    return value if isinstance(value, str) else ""


def request_id_of(raw: msgspec.Raw) -> str | None:
    """Return a request's id, which is a string or an integer, else None."""
    value = _value_of(raw)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value)


def message_of(raw: msgspec.Raw) -> str:
    """Return the string in a part of a message, or its JSON if it is something else."""
    value = _value_of(raw)
    if value is None or isinstance(value, str):
        return value or ""
    return bytes(raw).decode(errors="replace")


def redact_message(message: str, secret: str = "") -> str:
    """Return a venue's message as one short line without our secret."""
    return one_line(message.replace(secret, "***") if secret else message)


def _value_of(raw: msgspec.Raw) -> object:
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
