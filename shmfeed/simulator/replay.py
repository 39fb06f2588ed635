"""Recordings of what a venue sent, to be sent or played again.

A recording is a line with the URL, then `<seconds>: <frame>` lines. `recorder` adds
notes about connections, subscriptions and REST; a recording of another program has
none, and is of one connection.
"""

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shmfeed.bar import StreamKey, check_timeframe
from shmfeed.errors import BadArgumentError
from shmfeed.simulator.frames import text_frame
from shmfeed.validation import check_symbol

FORMAT = 1  # of the notes; a later one may have others


class Recording(NamedTuple):
    """The URL of a recorded connection, and its frames.

    Attributes:
        url: The URL that the recording client connected to.
        frames: (seconds since the first frame, UTF-8 payload), in file order.
    """

    url: str
    frames: list[tuple[float, bytes]]

    def batches(
        self, edit: Callable[[bytes], list[bytes]], size: int = 512
    ) -> Iterator[tuple[bytes, int]]:
        """Yield all frames, each as `edit` makes it, joined `size` at a time."""
        for start in range(0, len(self.frames), size):
            batch: list[bytes] = []
            for _, payload in self.frames[start : start + size]:
                batch += edit(text_frame(payload))
            yield b"".join(batch), len(batch)


class Opened(NamedTuple):
    """A connection has begun. `date` is that of its handshake, ms UTC; 0 if unknown."""

    time: float
    connection: int
    date: int


class Subscribed(NamedTuple):
    """The whole subscription of a connection, and the market that its client named."""

    time: float
    connection: int
    streams: tuple[StreamKey, ...]
    market_type: str


class Frame(NamedTuple):
    """A message that was sent over a connection."""

    time: float
    connection: int
    payload: bytes


class RestAnswer(NamedTuple):
    """An answer of REST. `date` is in ms UTC."""

    time: float
    target: str
    status: int
    headers: Mapping[str, str]
    date: int
    body: bytes


class ConnectionClosed(NamedTuple):
    """A connection has ended."""

    time: float
    connection: int


RecordedEvent = Opened | Subscribed | Frame | RestAnswer | ConnectionClosed


class RecordedSession:
    """A recording, read line by line.

    Attributes:
        path: The file.
        url: The URL of its first line.
        protocol: The protocol of the venue, "" in a recording without notes.

    Raises:
        BadArgumentError: The file cannot be read, or is no recording.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        try:
            with Path(path).open("rb") as file:
                first = file.readline(1 << 16)
        except OSError as error:
            reason = error.strerror or str(error)
            raise BadArgumentError(f"cannot read {self.path!r}: {reason}") from None
        if b"://" not in first:
            raise BadArgumentError(
                f"{self.path!r} does not begin with a line with the URL"
            )
        self.url, _, rest = first.decode(errors="replace").strip().partition(" ")
        head = _object(rest) or {}
        self.has_notes = "recording" in head
        if self.has_notes and head["recording"] != FORMAT:
            raise BadArgumentError(
                f"{self.path!r} is a recording of format {head['recording']!r}; this"
                f" version reads format {FORMAT}"
            )
        self.protocol = str(head.get("protocol", ""))

    def events(self) -> Iterator[RecordedEvent]:
        """Yield all events, in file order; times are seconds as they were recorded.

        A last line that was cut off is left out of a recording with notes.

        Raises:
            BadArgumentError: A line has another form; the message names it.
        """
        connection = 1
        is_open = self.has_notes
        with Path(self.path).open("rb") as file:
            file.readline()
            for number, whole in enumerate(file, 2):
                line = whole.rstrip(b"\r\n")
                if not line.strip():
                    continue
                if self.has_notes and not whole.endswith(b"\n"):
                    return
                where = f"{self.path!r} line {number}"
                if not (self.has_notes and line.startswith(b"#")):
                    time, payload = _parse(line, where)
                    if not is_open:
                        is_open = True
                        yield Opened(time, connection, 0)
                    yield Frame(time, connection, payload)
                    continue
                time, note = _parse_note(line, where)
                connection = note.get("open", note.get("of", connection))
                event = _event_of(time, note, where)
                if event is not None:
                    yield event


def read_recording(path: str | Path) -> Recording:
    """Read the frames of a recording: those of all its connections, in file order.

    Raises:
        BadArgumentError: The file cannot be read, or a line has another form; the
            message names the file and the line.
    """
    session = RecordedSession(path)
    frames = [event for event in session.events() if isinstance(event, Frame)]
    first = frames[0].time if frames else 0.0
    return Recording(session.url, [(one.time - first, one.payload) for one in frames])


def _parse(line: bytes, where: str) -> tuple[float, bytes]:
    time, separator, payload = line.partition(b": ")
    try:
        seconds = float(time)
        payload.decode()
        separator = separator if math.isfinite(seconds) else b""
    except ValueError:
        separator = b""
    if not separator:
        raise BadArgumentError(f"{where} is not of the form `<seconds>: <frame>`")
    return seconds, payload


def _parse_note(line: bytes, where: str) -> tuple[float, dict[str, Any]]:
    parts = line.split(b" ", 2)
    note = _object(parts[-1]) if len(parts) == 3 else None
    try:
        seconds = float(parts[1])
    except (IndexError, ValueError):
        seconds = math.nan
    if note is None or not math.isfinite(seconds):
        raise BadArgumentError(
            f"{where} is not of the form `# <seconds> <JSON object>`"
        )
    return seconds, note


def _event_of(time: float, note: dict[str, Any], where: str) -> RecordedEvent | None:
    """Return the event of a note, None for one that tells nothing to play."""
    try:
        if "open" in note:
            return Opened(time, int(note["open"]), int(note["date"]) * 1000)
        if "streams" in note:
            streams = tuple(
                (check_symbol(symbol), check_timeframe(timeframe))
                for symbol, timeframe in note["keys"]
            )
            market = str(note.get("market_type", ""))
            return Subscribed(time, int(note["streams"]), streams, market)
        if "frame" in note:
            payload = base64.b64decode(note["base64"], validate=True)
            return Frame(time, int(note["frame"]), payload)
        if "rest" in note:
            return RestAnswer(
                time,
                str(note["rest"]),
                int(note["status"]),
                {str(k): str(v) for k, v in note["headers"].items()},
                int(note["date"]) * 1000,
                note["body"].encode(),
            )
        return ConnectionClosed(time, int(note["close"])) if "close" in note else None
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise BadArgumentError(
            f"{where} has a note that this version cannot read: {error!r}"
        ) from None


def _object(text: str | bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
