"""Heartbeats that a venue, or a proxy before it, sends as messages.

They are the words `ping`, `pong` and `heartbeat`, in any case, with quotes or space
around them, or objects such as `{"type":"ping"}`, `{"op":"ping"}` and `{"ping":123}`. A
ping is answered in kind.
"""

import msgspec

from shmfeed.codecs.decoding import ABSENT, UNREADABLE, string_in
from shmfeed.codecs.interface import Heartbeat

_LONGEST = 64  # bytes of a heartbeat of one word, and of what a ping has echoed
_QUOTES = "\"'"
_SILENT = ("pong", "heartbeat")  # they need no answer
_KEYS = ("type", "op", "event", "method", "action")


class _Envelope(msgspec.Struct, gc=False):
    type: msgspec.Raw = ABSENT
    op: msgspec.Raw = ABSENT
    event: msgspec.Raw = ABSENT
    method: msgspec.Raw = ABSENT
    action: msgspec.Raw = ABSENT
    ping: msgspec.Raw = ABSENT
    pong: msgspec.Raw = ABSENT


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def heartbeat_in(data: bytes) -> Heartbeat | None:
    """Return the heartbeat that a message is, None for any other message."""
    if len(data) <= _LONGEST:
        found = _of_word(bytes(data).decode(errors="replace").strip())
        if found is not None:
            return found
    try:
        return _of_object(_decode_envelope(data))
    except UNREADABLE:
        return None


def heartbeat_of_kind(key: str, kind: str) -> Heartbeat | None:
    """Return the heartbeat whose object says what it is under `key`, else None."""
    lower = kind.lower()
    if lower == "ping":
        return Heartbeat(f'{{"{key}":"{_answer(kind)}"}}')
    return Heartbeat() if lower in _SILENT else None


def _of_word(text: str) -> Heartbeat | None:
    word = text.strip(_QUOTES)
    if word.lower() == "ping":
        return Heartbeat(text.replace(word, _answer(word)))
    return Heartbeat() if word.lower() in _SILENT else None


def _of_object(envelope: _Envelope) -> Heartbeat | None:
    for key in _KEYS:
        kind = string_in(getattr(envelope, key))
        if kind:
            return heartbeat_of_kind(key, kind)
    if 0 < len(bytes(envelope.ping)) <= _LONGEST:
        return Heartbeat(f'{{"pong":{bytes(envelope.ping).decode()}}}')
    return Heartbeat() if envelope.pong else None


def _answer(ping: str) -> str:
    """Return pong in the case of a ping, letter by letter."""
    return f"{ping[0]}{'O' if ping[1].isupper() else 'o'}{ping[2:]}"
