"""The identity of a feed in its segment: text in a latch.

A feeder of an earlier version left no identity. Its note names protocol, market and
endpoint, which serve instead. A segment that was written through `create` alone has
neither, and its rows have no identity.
"""

from collections.abc import Mapping
from typing import Any

from shmfeed.identity import FeedIdentity, make_identity, parse_identity
from shmfeed.layout import (
    H_IDENTITY,
    H_NOTE,
    IDENTITY_WORDS,
    NOTE_WORDS,
    WORD,
    Geometry,
)
from shmfeed.memory.note import unpack_note
from shmfeed.memory.words import Latch, Words

_LIMIT = (IDENTITY_WORDS - 1) * WORD  # bytes
# Earlier feeders noted the setting, in which this beginning is optional.
_OPTIONAL_PREFIXES = {"binance": "binance-"}


def write_identity(words: Words, identity: FeedIdentity) -> None:
    """Store the identity, with as many of its venues as fit."""
    text = str(identity.shortened(_LIMIT)).encode()[:_LIMIT]
    cell = len(text).to_bytes(WORD, "little") + text.ljust(_LIMIT, b"\0")
    Latch(words, H_IDENTITY, IDENTITY_WORDS).write(cell)


def read_identity(words: Words, geometry: Geometry) -> FeedIdentity | None:
    """Return the identity of a segment's rows, None if they have none."""
    found = None
    if geometry.version > 1:  # layout 1 has other words there
        found = _decode(Latch(words, H_IDENTITY, IDENTITY_WORDS).read())
    return found or _identity_of_note(
        unpack_note(Latch(words, H_NOTE, NOTE_WORDS).read())
    )


def _decode(cell: bytes | None) -> FeedIdentity | None:
    if cell is None:
        return None
    size = int.from_bytes(cell[:WORD], "little")
    try:
        return (
            parse_identity(cell[WORD : WORD + size].decode())
            if size <= _LIMIT
            else None
        )
    except UnicodeDecodeError:  # damaged
        return None


def _identity_of_note(facts: Mapping[str, Any]) -> FeedIdentity | None:
    protocol, market = facts.get("protocol"), facts.get("market_type")
    if not isinstance(protocol, str) or not isinstance(market, str):
        return None
    if not protocol or not market:
        return None
    market = market.removeprefix(_OPTIONAL_PREFIXES.get(protocol, ""))
    host = _host(facts.get("endpoint"))
    return make_identity(protocol, market, [host] if host else [])


def _host(endpoint: object) -> str | None:
    if not isinstance(endpoint, str):
        return None
    # Imported late: only a segment of an earlier feeder needs it.
    from urllib.parse import urlsplit  # noqa: PLC0415

    try:
        return urlsplit(endpoint).hostname
    except ValueError:  # damaged
        return None
