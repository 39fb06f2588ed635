"""Recordings: what a venue once sent over one connection, to be sent again."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.simulator.frames import text_frame


class Recording(NamedTuple):
    """A connection's URL, and its frames with the seconds since the first one."""

    url: str
    frames: list[tuple[float, bytes]]  # payloads, UTF-8

    def blobs(
        self, spoil: Callable[[bytes], list[bytes]], size: int = 512
    ) -> Iterator[tuple[bytes, int]]:
        """All frames, ready to be written, in pieces of about `size` frames."""
        for start in range(0, len(self.frames), size):
            piece: list[bytes] = []
            for _, payload in self.frames[start : start + size]:
                piece += spoil(text_frame(payload))
            yield b"".join(piece), len(piece)


def read_recording(path: str | Path) -> Recording:
    """The recording in a file: a line with the URL, then `<seconds>: <frame>` each.

    BadArgumentError names the file, and the line that is not of this form.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise BadArgumentError(f"cannot read {str(path)!r}: {error}") from None
    if not lines or b"://" not in lines[0]:
        raise BadArgumentError(f"{str(path)!r} does not begin with the URL's line")
    frames: list[tuple[float, bytes]] = []
    began: float | None = None
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        time, payload = _parse(line, f"{str(path)!r} line {number}")
        began = time if began is None else began
        frames.append((time - began, payload))
    return Recording(lines[0].decode().split()[0], frames)


def _parse(line: bytes, where: str) -> tuple[float, bytes]:
    time, found, payload = line.partition(b": ")
    try:
        seconds = float(time)
        payload.decode()
        found = found if math.isfinite(seconds) else b""
    except ValueError:
        found = b""
    if not found:
        raise BadArgumentError(f"{where} is not `<seconds>: <frame>`")
    return seconds, payload
