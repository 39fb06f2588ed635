"""The socket by which a running feeder hands its feed to the one that takes over.

    new feeder       listens, asks over the control socket for the hand-over
    running feeder   connects; sends its state, and its locks as descriptors
    new feeder       takes the segment, serves, confirms
    running feeder   ends at the confirmation; goes on if the connection ends first,
                     or if it has waited too long, and then withdraws its offer

Either feeder sees the other one's death as the end of the connection.
"""

import os
import re
import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from shmfeed.bar import StreamKey
from shmfeed.control.lines import remaining
from shmfeed.control.messages import ControlError
from shmfeed.control.peer import peer_uid
from shmfeed.errors import BadArgumentError
from shmfeed.feeder.ledger_events import CarriedLedger
from shmfeed.segment.locking import FeedLocks, FileLock
from shmfeed.segment.mapping import TAKEOVER_SUFFIX, Place

OFFER_SECONDS = 10.0  # for the new feeder to take the feed and to serve
CONNECT_SECONDS = 2.0
_BEAT_SECONDS = 0.1
_NONCE = re.compile("[0-9a-f]{16}")
_HEADER = struct.Struct("!Q")
_MOST_BYTES = 1 << 28
_CONFIRMED, _WITHDRAWN = b"c", b"w"


class CarriedStream(msgspec.Struct):
    """A stream as the running feeder leaves it; the rows are in the segment."""

    key: StreamKey
    ledger: CarriedLedger
    warms_up: bool = False


class Handover(msgspec.Struct):
    """The state of a feed, as one feeder tells it to the next."""

    pid: int
    streams: list[CarriedStream]
    warmup: int  # bars that each stream was warmed up with
    wants: list[dict[str, Any]] = []  # as the segment has them


def socket_of(where: Place, nonce: str) -> Path:
    """Return the path at which a new feeder listens.

    Raises BadArgumentError for a nonce that no feeder has made.
    """
    if not _NONCE.fullmatch(nonce):
        raise BadArgumentError(f"nonce {nonce[:40]!r} of a takeover is not accepted")
    return where.directory / f"{where.name}.{nonce}{TAKEOVER_SUFFIX}"


class Offer:
    """The running feeder's end of the channel."""

    def __init__(self, path: Path) -> None:
        """Connect to the new feeder.

        Raises:
            ControlError: No process of this user listens there.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(CONNECT_SECONDS)
            self._socket.connect(os.fspath(path))
            is_own = peer_uid(self._socket) == os.geteuid()
        except OSError:
            is_own = False
        if not is_own:
            self._socket.close()
            raise ControlError("the feeder that takes over does not listen any more")

    def make(
        self, handover: Handover, locks: FeedLocks, beat: Callable[[], None]
    ) -> bool:
        """Hand the feed over; return True once the new feeder serves.

        Return False if it ended before that, or is not done after OFFER_SECONDS.
        `beat` is called meanwhile, ten times a second. `locks` are released.
        """
        deadline = time.monotonic() + OFFER_SECONDS
        try:
            payload = msgspec.msgpack.encode(handover)
            fds = [lock.fileno() for lock in locks]
            self._socket.settimeout(OFFER_SECONDS)
            socket.send_fds(self._socket, [_HEADER.pack(len(payload))], fds)
            beat()
            self._socket.sendall(payload)
            return self._await_confirmation(deadline, beat)
        except OSError:  # it has ended
            return False
        finally:
            locks.release()
            self._socket.close()

    def _await_confirmation(self, deadline: float, beat: Callable[[], None]) -> bool:
        while time.monotonic() < deadline:
            beat()
            if select.select([self._socket], [], [], _BEAT_SECONDS)[0]:
                return self._socket.recv(1) == _CONFIRMED
        self._socket.sendall(_WITHDRAWN)
        return False


class Taken(NamedTuple):
    """A feed that is handed over, and the connection for the confirmation."""

    handover: Handover
    locks: FeedLocks
    connection: socket.socket

    def is_offered(self) -> bool:
        """Return False if the running feeder has withdrawn its offer, and goes on.

        One that has died leaves its feed to this process, which has the locks.
        """
        if not select.select([self.connection], [], [], 0)[0]:
            return True
        with suppress(OSError):
            return self.connection.recv(1) != _WITHDRAWN
        return True

    def confirm(self) -> None:
        """Tell the former feeder that this one serves."""
        with suppress(OSError):  # it has ended: this one serves all the same
            self.connection.sendall(_CONFIRMED)
        self.connection.close()

    def close(self) -> None:
        """Give the feed back. Idempotent."""
        self.locks.release()
        self.connection.close()


def receive(connection: socket.socket, feed: str) -> Taken:
    """Return what the running feeder hands over on this connection.

    Raises:
        ControlError: It ended meanwhile, or is of another user.
    """
    if peer_uid(connection) != os.geteuid():
        raise ControlError(f"a process of another user offers feed {feed!r}")
    deadline = time.monotonic() + OFFER_SECONDS
    kept: list[FileLock] = []
    try:
        connection.settimeout(remaining(deadline))
        header, fds, _, _ = socket.recv_fds(
            connection, _HEADER.size, 2, socket.MSG_CMSG_CLOEXEC
        )
        kept += map(FileLock, fds)
        locks = FeedLocks(*kept)
        size = _HEADER.unpack(header)[0]
        payload = _read(connection, min(size, _MOST_BYTES), deadline)
        return Taken(_decoder.decode(payload), locks, connection)
    except (OSError, TypeError, struct.error, msgspec.DecodeError):
        for lock in kept:
            lock.release()
        raise ControlError(
            f"the feeder of {feed!r} ended as it handed the feed over"
        ) from None


_decoder = msgspec.msgpack.Decoder(Handover)


def _read(connection: socket.socket, size: int, deadline: float) -> bytes:
    payload = bytearray()
    while len(payload) < size:
        connection.settimeout(remaining(deadline))
        piece = connection.recv(min(size - len(payload), 1 << 20))
        if not piece:
            break
        payload += piece
    return bytes(payload)
