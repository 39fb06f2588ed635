"""Write a recording: what the venue sends, line by line, as `replay` reads it.

    ws://127.0.0.1:18000 {"protocol": "binance", "recording": 1}
    # 1700000000.000000 {"open": 1, "date": 1700000000}
    # 1700000000.000100 {"streams": 1, "keys": [["BTCUSDT", "1m"]]}
    1700000000.250000: {"e":"kline", ...}
    # 1700000003.000000 {"rest": "/api/v3/klines?...", "status": 200, ...}
    # 1700000009.000000 {"close": 1}

A line `<seconds>: <frame>` is a message to the client whose connection the last `open`
or `of` has named, at this host's time. A line that begins with `#` is a note: a
connection that begins, with the `Date` of its handshake, or ends; the whole
subscription of a client, without the rest of its request, which may hold a secret; an
answer of REST; a frame that is not one line of text. Each write ends with a line, so
that a killed venue leaves at most one line that is cut off.
"""

import base64
import json
import logging
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from shmfeed.bar import StreamKey
from shmfeed.errors import BadArgumentError
from shmfeed.simulator.faults.rest import Answer
from shmfeed.simulator.replay import FORMAT

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 30
_TEXT = 0x81  # the first byte of a final text frame
_MEDIUM, _LONG = 126, 127


class FrameRecorder:
    """The recording of one venue. Its event loop alone uses it.

    A recording never holds the venue up: where the disk refuses a line, and at
    `max_bytes`, it ends, and the venue goes on.

    Args:
        path: A file that does not exist yet.
        url: The venue's endpoint.
        protocol: The venue's protocol.
        max_bytes: The most bytes that the file may have.

    Raises:
        BadArgumentError: The file exists, or cannot be created.
    """

    def __init__(
        self,
        path: str,
        url: str,
        protocol: str,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        try:
            self._file = Path(path).open("xb", buffering=0)  # noqa: SIM115 # kept
        except OSError as error:
            raise BadArgumentError(
                f"cannot record to {path!r}: {error.strerror}; name a file that does"
                " not exist yet"
            ) from None
        self._path, self._left = path, max_bytes
        self._last = 0.0
        self._connection = 0  # of the last frame
        head = json.dumps({"protocol": protocol, "recording": FORMAT})
        self._write(f"{url} {head}\n".encode())

    def opened(self, number: int, date: int) -> None:
        """Note a connection, and the `Date` of its handshake in seconds."""
        self._connection = number
        self._note({"open": number, "date": date})

    def subscribed(
        self, number: int, keys: Collection[StreamKey], market_type: str
    ) -> None:
        """Note a client's whole subscription, and the market that it named."""
        note: dict[str, object] = {"streams": number, "keys": [list(k) for k in keys]}
        self._note(note | ({"market_type": market_type} if market_type else {}))

    def sent(self, number: int, data: bytes) -> None:
        """Keep whole frames that were written to a connection."""
        if self._file.closed:
            return
        stamp = self._stamp()
        lines = []
        if number != self._connection:
            self._connection = number
            lines.append(_note_line(stamp, {"of": number}))
        for payload in text_payloads(data):
            if _is_one_line(payload):
                lines.append(b"%s: %s\n" % (stamp, payload))
            else:
                text = base64.b64encode(payload).decode()
                lines.append(_note_line(stamp, {"frame": number, "base64": text}))
        self._write(b"".join(lines))

    def answered(self, target: str, answer: Answer, date: int) -> None:
        """Keep an answer of REST, and its `Date` in seconds."""
        if answer.sent is not None:  # it was cut off
            return
        body = answer.body.decode("utf-8", "replace")
        self._note(
            {
                "rest": target,
                "status": answer.status,
                "headers": answer.headers,
                "date": date,
                "body": body,
            }
        )

    def closed(self, number: int) -> None:
        """Note the end of a connection."""
        self._note({"close": number})

    def close(self) -> None:
        """End the recording."""
        self._file.close()

    def _note(self, note: dict[str, object]) -> None:
        if not self._file.closed:
            self._write(_note_line(self._stamp(), note))

    def _stamp(self) -> bytes:
        self._last = max(self._last, time.time())  # a step backwards stands still
        return b"%.6f" % self._last

    def _write(self, lines: bytes) -> None:
        if len(lines) > self._left:
            self._end(f"it has reached its limit of {MAX_BYTES} bytes")
            return
        self._left -= len(lines)
        try:
            written = self._file.write(lines)
        except OSError as error:
            self._end(str(error.strerror))
            return
        if written is not None and written < len(lines):
            self._end(f"only {written} of {len(lines)} bytes could be written")

    def _end(self, reason: str) -> None:
        self._file.close()
        log.warning("the recording %r ends here: %s", self._path, reason)


def text_payloads(data: bytes) -> Iterator[bytes]:
    """Yield the messages of whole, unmasked text frames, up to the first other one."""
    at = 0
    while len(data) - at >= 2 and data[at] == _TEXT:
        size, begin = data[at + 1], at + 2
        if size in (_MEDIUM, _LONG):
            begin += 2 if size == _MEDIUM else 8
            size = int.from_bytes(data[at + 2 : begin])
        at = begin + size
        if at > len(data):
            return
        yield data[begin:at]


def _is_one_line(payload: bytes) -> bool:
    if b"\n" in payload or b"\r" in payload:
        return False
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _note_line(stamp: bytes, note: dict[str, object]) -> bytes:
    return b"# %s %s\n" % (stamp, json.dumps(note, separators=(",", ":")).encode())
