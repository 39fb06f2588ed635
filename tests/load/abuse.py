"""Clients that abuse a feeder's control socket, and how each of them ends."""

import contextlib
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from shmfeed.control.client import ask
from shmfeed.errors import ShmfeedError

PATIENCE = 60.0  # s until a client must have been cut off
ASK_SECONDS = 10.0
_PIECE = bytes(1 << 20)
_PIECES = 100
_PAUSE = 0.5  # s between two honest requests


class Abuse(NamedTuple):
    """The end of one abuse.

    Attributes:
        name: Its name.
        cut_seconds: The time until the server had closed the last of its connections;
            None if it did not.
        answer_seconds: The longest time that another client waited for an answer
            meanwhile; None if it got none.
    """

    name: str
    cut_seconds: float | None
    answer_seconds: float | None


def abuses(path: Path, connections: int) -> list[Abuse]:
    """Abuse the control socket at `path` in each way; return how each ended."""
    return [
        _judged(path, "garbage", lambda: [_sent(path, b"\x00\xffgarbage{]\n")]),
        _judged(path, "half a line", lambda: [_sent(path, b'{"v":1,"id":1,"op":')]),
        _judged(path, "100 MB without a line's end", lambda: [_flooded(path)]),
        _judged(
            path,
            f"{connections:,} connections",
            lambda: [_sent(path, b"") for _ in range(connections)],
        ),
    ]


def _judged(path: Path, name: str, begin: Callable[[], list[socket.socket]]) -> Abuse:
    """Run an abuse in a thread, and meanwhile ask as an honest client does."""
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        abusing = pool.submit(lambda: _until_cut(begin(), began + PATIENCE))
        answers = [answer_seconds(path)]
        while not abusing.done():
            wait([abusing], _PAUSE)
            answers.append(answer_seconds(path))
    told = [one for one in answers if one is not None]
    longest = max(told) if len(told) == len(answers) else None
    return Abuse(name, abusing.result(), longest)


def _until_cut(clients: list[socket.socket], deadline: float) -> float | None:
    """Wait for the server to close all; return the seconds, None if it does not."""
    with contextlib.ExitStack() as opened:
        for client in clients:
            opened.enter_context(client)
        if all(_is_cut(one, deadline) for one in clients):
            return time.monotonic() - (deadline - PATIENCE)
    return None


def answer_seconds(path: Path) -> float | None:
    """Return the time that an honest request takes; None without an answer."""
    began = time.monotonic()
    try:
        ask(path, "status", ASK_SECONDS)
    except ShmfeedError:
        return None
    return time.monotonic() - began


def _sent(path: Path, data: bytes) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(ASK_SECONDS)
    with contextlib.suppress(OSError):  # refused at once
        client.connect(str(path))
        client.sendall(data)
    return client


def _flooded(path: Path) -> socket.socket:
    client = _sent(path, b"")
    with contextlib.suppress(OSError):  # cut off before the end
        for _ in range(_PIECES):
            client.sendall(_PIECE)
    return client


def _is_cut(client: socket.socket, deadline: float) -> bool:
    """Read until the server closes, until `deadline` at the longest."""
    try:
        while (left := deadline - time.monotonic()) > 0:
            client.settimeout(left)
            if not client.recv(1 << 16):
                return True
    except TimeoutError:
        return False
    except OSError:  # reset, or never connected
        return True
    return False
