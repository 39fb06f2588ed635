"""WebSocket text frames as a server sends them: unmasked, uncompressed, ready to write.

The venue frames its messages itself, once for all clients: a call of the library for
each frame and client would limit it.
"""

import re
from collections.abc import Iterable

_TEXT = 0x81  # final fragment, text
_SHORT, _MEDIUM, _LONG = 125, 126, 127
_SHORT_LIMIT = 1 << 16
_NUMBER = re.compile(rb',"seq":\d+')
# A bar's frame almost always has one of these sizes.
_HEADERS = {
    size: bytes((_TEXT, _MEDIUM)) + size.to_bytes(2) for size in range(_SHORT + 1, 512)
}


def text_frame(payload: bytes) -> bytes:
    """Return the frame of one text message."""
    size = len(payload)
    if size <= _SHORT:
        header = bytes((_TEXT, size))
    elif size < _SHORT_LIMIT:
        header = bytes((_TEXT, _MEDIUM)) + size.to_bytes(2)
    else:
        header = bytes((_TEXT, _LONG)) + size.to_bytes(8)
    return header + payload


def text_frames(payloads: Iterable[bytes]) -> list[bytes]:
    """Return the frames of many text messages."""
    headers = _HEADERS
    return [
        headers[len(payload)] + payload
        if len(payload) in headers
        else text_frame(payload)
        for payload in payloads
    ]


def payload_of(frame: bytes) -> bytes:
    """Return the text message of such a frame."""
    return frame[{_MEDIUM: 4, _LONG: 10}.get(frame[1], 2) :]


def with_number(frame: bytes, number: int) -> bytes:
    """Return the frame of a BAR message with its number, `seq`."""
    return text_frame(payload_of(frame)[:-1] + b',"seq":%d}' % number)


def without_number(frame: bytes) -> bytes:
    """Return the frame of a message without the number that it may have."""
    return text_frame(_NUMBER.sub(b"", payload_of(frame)))
