"""A SOCKS proxy on loopback, which may refuse at each of its steps."""

import contextlib
import socket
import struct
import threading
from collections.abc import Mapping

from support.loopback import receive_exactly

_NO_LOGIN, _LOGIN, _NONE = 0, 2, 255


class SocksProxy:
    """A proxy of RFC 1928; `asked` has the places that it was to connect to.

    Args:
        login: The user and password to accept; None asks for neither.
        places: Addresses by host name.
        method: The answer to the greeting instead of the right one.
        code: The error to answer a request with, instead of connecting.
        version: The version to claim.
        bound: The kind and address in the reply.
    """

    def __init__(
        self,
        login: tuple[str, str] | None = None,
        places: Mapping[str, str] | None = None,
        method: int | None = None,
        code: int = 0,
        version: int = 5,
        bound: bytes = b"\x01" + bytes(4),
    ) -> None:
        self.asked: list[tuple[str, int]] = []
        self._login = login
        self._places = places or {}
        self._method = method
        self._code = code
        self._version = version
        self._bound = bound

    def __call__(self, connection: socket.socket) -> None:
        if not self._greet(connection):
            return
        host, port = self._read_request(connection)
        self.asked.append((host, port))
        head = bytes([self._version, self._code, 0])
        if self._code:
            connection.sendall(head + self._bound + bytes(2))
            return
        try:
            server = socket.create_connection((self._places.get(host, host), port), 5)
        except OSError:
            connection.sendall(bytes([self._version, 5, 0]) + self._bound + bytes(2))
            return
        with server:
            server.settimeout(None)
            tail = bytes(2) if len(self._bound) > 4 else b""
            connection.sendall(head + self._bound + tail)
            if not tail:
                return
            back = threading.Thread(target=_pour, args=(server, connection))
            back.start()
            _pour(connection, server)
            back.join()

    def _greet(self, connection: socket.socket) -> bool:
        _, count = receive_exactly(connection, 2)
        offered = receive_exactly(connection, count)
        wanted = _LOGIN if self._login else _NO_LOGIN
        method = wanted if wanted in offered else _NONE
        if self._method is not None:
            method = self._method
        connection.sendall(bytes([self._version, method]))
        if method == _LOGIN:
            _, size = receive_exactly(connection, 2)
            user = receive_exactly(connection, size).decode()
            (size,) = receive_exactly(connection, 1)
            password = receive_exactly(connection, size).decode()
            is_right = (user, password) == self._login
            connection.sendall(bytes([1, not is_right]))
            return is_right
        return method == _NO_LOGIN

    @staticmethod
    def _read_request(connection: socket.socket) -> tuple[str, int]:
        _, _, _, kind = receive_exactly(connection, 4)
        if kind == 1:
            host = socket.inet_ntop(socket.AF_INET, receive_exactly(connection, 4))
        elif kind == 4:
            host = socket.inet_ntop(socket.AF_INET6, receive_exactly(connection, 16))
        else:
            (size,) = receive_exactly(connection, 1)
            host = receive_exactly(connection, size).decode()
        (port,) = struct.unpack("!H", receive_exactly(connection, 2))
        return host, port


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
