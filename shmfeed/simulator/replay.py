"""Recordings of what a venue sent over one connection, to be sent again."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.simulator.frames import text_frame


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


def read_recording(path: str | Path) -> Recording:
    """Read a recording: a line with the URL, then `<seconds>: <frame>` lines.

    Raises:
        BadArgumentError: The file cannot be read, or a line has another form; the
            message names the file and the line.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise BadArgumentError(f"cannot read {str(path)!r}: {error}") from None
    if not lines or b"://" not in lines[0]:
        raise BadArgumentError(f"{str(path)!r} does not begin with a line with the URL")
    frames: list[tuple[float, bytes]] = []
    first: float | None = None
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        time, payload = _parse(line, f"{str(path)!r} line {number}")
        first = time if first is None else first
        frames.append((time - first, payload))
    return Recording(lines[0].decode().split()[0], frames)


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
