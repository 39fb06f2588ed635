"""What all codecs do with bytes from outside, before they believe them.

Typed decoding refuses wrong types and JSON's outlaws (NaN literals, truncation, depth);
what is here is the rest, so that a decode ends in an event whatever came.
"""

from functools import lru_cache
from typing import Annotated

import msgspec

from shmfeed.bar import LAST_TIME, check_timeframe
from shmfeed.codecs.interface import Malformed
from shmfeed.errors import BadArgumentError
from shmfeed.text import one_line
from shmfeed.validation import check_symbol

# What decoding a hostile message, and judging its names, may raise.
UNREADABLE = (ValueError, RecursionError)
ABSENT = msgspec.Raw(b"")
NO_BAR = "not the shape of a bar"

Time = Annotated[int, msgspec.Meta(ge=0, lt=LAST_TIME)]  # ms UTC, or garbage


def is_text(data: bytes) -> bool:
    """Whether the whole message is UTF-8, parts that no decoder looks at included."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# An error is not kept, so only names that passed fill the cache: 4096 short ones.
@lru_cache(maxsize=4096)
def known_stream(symbol: str, timeframe: str | None) -> tuple[str, str]:
    """The stream that a message names; BadArgumentError if there can be none."""
    return check_symbol(symbol), check_timeframe(timeframe)


def malformed(why: Exception | str) -> tuple[Malformed]:
    """The event for what went wrong; its reason repeats nothing that was sent."""
    return (Malformed(why if isinstance(why, str) else _reason(why)),)


def _reason(error: Exception) -> str:
    match error:
        case RecursionError():
            return "nested too deeply"
        case BadArgumentError():
            return "symbol or timeframe is not accepted"
        case msgspec.MsgspecError():
            return str(error)  # places and types only
        case _:
            return "cannot be decoded"


def value_of(raw: msgspec.Raw) -> object:
    """The plain value of a part of a message; None for none, null, or garbage."""
    try:
        return msgspec.json.decode(raw) if raw else None
    except UNREADABLE:
        return None


def text_of(raw: msgspec.Raw) -> str:
    """The string that a part of a message is; "" for anything else."""
    value = value_of(raw)
    return value if isinstance(value, str) else ""


def identity_of(raw: msgspec.Raw) -> str | None:
    """A request's id as the venue repeats it: a string or an integer, else None."""
    value = value_of(raw)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value)


def words_of(raw: msgspec.Raw) -> str:
    """What a part of a message says: a string, or other JSON as it stands."""
    value = value_of(raw)
    if value is None or isinstance(value, str):
        return value or ""
    return bytes(raw).decode(errors="replace")


def redacted_words(words: str, secret: str = "") -> str:
    """Return a venue's words as one short line without our secret."""
    return one_line(words.replace(secret, "***") if secret else words)
