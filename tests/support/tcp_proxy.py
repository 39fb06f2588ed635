"""A TCP proxy between a feeder and a venue, which stops or spoils what it passes on."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

from support import loopback

PASS = "pass"
TRICKLE_SECONDS = 0.05  # a byte


class TcpProxy:
    """A handler for `loopback.raw`; `mode`, one of MODES, may change at any time."""

    def __init__(self, there: tuple[str, int]) -> None:
        self.mode = PASS
        self._there = there

    def __call__(self, client: socket.socket) -> None:
        if self.mode == "no handshake":
            _swallow(client)
            return
        with socket.create_connection(self._there) as server:
            up = threading.Thread(target=self._up, args=(client, server))
            up.start()
            with contextlib.suppress(OSError):
                while data := server.recv(1 << 16):
                    MODES[self.mode](self, client, data)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            up.join()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                if self.mode == PASS:
                    server.sendall(data)
                elif self.mode == "pongs alone":
                    client.sendall(loopback.frame(_payload(data), loopback.PONG))
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _trickle(self, client: socket.socket, data: bytes) -> None:
        for at in range(len(data)):
            client.sendall(data[at : at + 1])
            time.sleep(TRICKLE_SECONDS)

    def _half_header(self, client: socket.socket, data: bytes) -> None:
        self.mode = "silence"
        client.sendall(data[:1])

    def _finish(self, client: socket.socket, data: bytes) -> None:
        client.shutdown(socket.SHUT_WR)
        _swallow(client)

    def _reset(self, client: socket.socket, data: bytes) -> None:
        linger = b"\1\0\0\0\0\0\0\0"  # for 0 s
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.close()


Spoil = Callable[[TcpProxy, socket.socket, bytes], None]


def _discard(proxy: TcpProxy, client: socket.socket, data: bytes) -> None:
    """Pass nothing on; TCP stays up."""


MODES: dict[str, Spoil] = {
    PASS: lambda proxy, client, data: client.sendall(data),
    "silence": _discard,
    "no handshake": _discard,
    "pongs alone": _discard,
    "half a header": TcpProxy._half_header,
    "trickle": TcpProxy._trickle,
    "FIN": TcpProxy._finish,
    "RST": TcpProxy._reset,
}


def _swallow(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while client.recv(1 << 16):
            pass


def _payload(data: bytes) -> bytes:
    """Return the payload of a client's short frame."""
    size, mask = data[1] & 127, data[2:6]
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(data[6 : 6 + size]))
