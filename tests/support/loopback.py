"""Servers on loopback, well-behaved and hostile, whose threads end with the block."""

import base64
import contextlib
import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from websockets.sync.server import ServerConnection, serve

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
STREAMS = (("BTCUSDT", "1m"),)


@contextlib.contextmanager
def venue(handler: Callable[[ServerConnection], None], **options) -> Iterator[str]:
    """Serve WebSockets with `handler`, and yield the URL."""

    def handle(connection: ServerConnection) -> None:
        with contextlib.suppress(Exception):  # its client has gone
            handler(connection)

    options = {"compression": None, "ping_interval": None, **options}
    scheme, port = "wss" if "ssl" in options else "ws", options.pop("port", 0)
    with serve(handle, "127.0.0.1", port, close_timeout=0.2, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{scheme}://127.0.0.1:{server.socket.getsockname()[1]}/market_data"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def raw(handler: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve TCP, each connection by `handler` in a thread, and yield the URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def handle(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            handler(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                taken.append(connection)
                threads.append(threading.Thread(target=handle, args=(connection,)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/market_data"
    finally:
        _shut(listener)
        acceptor.join()
        for connection in taken:
            _shut(connection)
        for thread in threads:
            thread.join()


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(4096)
        if not data:
            raise OSError
        head += data
    return head


def answer(head: bytes) -> bytes:
    """Return the answer that accepts a request."""
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    fields = dict(line.split(": ", 1) for line in lines)
    proof = fields["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(proof.encode()).digest()).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


def upgrade(connection: socket.socket, more: bytes = b"") -> None:
    connection.sendall(answer(read_head(connection)) + more)


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    return header(len(payload), opcode, fin=fin) + payload


def header(size: int, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    first = fin << 7 | opcode
    if size < 126:
        return bytes([first, size])
    if size < 1 << 16:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


def read_frame(connection: socket.socket) -> tuple[int, bytes]:
    """Return opcode and payload of a client's frame, masked and below 64 KiB."""
    first, size = receive_exactly(connection, 2)
    size &= 127
    if size == 126:
        size = int.from_bytes(receive_exactly(connection, 2), "big")
    mask = receive_exactly(connection, 4)
    data = receive_exactly(connection, size)
    return first & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(data))


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes; raise OSError if the connection ends before."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise OSError
        data += piece
    return data


def bar(minute: int, symbol: str = "BTCUSDT", timeframe: str = "1m") -> str:
    """Return a bar message of the wealthai protocol."""
    start = 1_700_000_040_000 + minute * 60_000
    return json.dumps(
        {
            "type": "BAR",
            "symbol": symbol,
            "timeframe": timeframe,
            "open_time": start,
            "close_time": start + 60_000,
            "open": "1",
            "high": "2",
            "low": "0.5",
            "close": "1.5",
            "volume": "10",
        }
    )


def acknowledge(connection: ServerConnection) -> dict:
    """Read a CONNECT, acknowledge it, and return it."""
    said = json.loads(connection.recv())
    reply = {"type": "CONNECTED", "request_id": said["request_id"]}
    connection.send(json.dumps(reply))
    return said


def refused_port() -> int:
    """Return a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Return True if `condition` comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


class Proxy:
    """An HTTP proxy; `asked` has the headers of its requests.

    `answer` is sent instead of opening the tunnel, unless it is None. `places` maps
    host names to addresses.
    """

    def __init__(self, answer: bytes | None = None, **places: str) -> None:
        self.asked: list[str] = []
        self._answer = answer
        self._places = places

    def __call__(self, connection: socket.socket) -> None:
        self.asked.append(read_head(connection).decode())
        if self._answer is not None:
            connection.sendall(self._answer)
            return
        host, port = self.asked[-1].split()[1].split(":")
        there = (self._places.get(host, host), int(port))
        with socket.create_connection(there) as server:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pour, args=(server, connection))
            back.start()
            _pour(connection, server)
            back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


class Tampered:
    """A relay to a server that ends after so many bytes, or changes one."""

    def __init__(self, there: tuple[str, int], place: int, *, flip: bool) -> None:
        self._there = there
        self._place = place
        self._flip = flip

    def __call__(self, connection: socket.socket) -> None:
        with socket.create_connection(self._there) as server:
            back = threading.Thread(target=_pour, args=(connection, server))
            back.start()
            left = self._place
            while data := server.recv(1 << 16):
                if len(data) > left >= 0:
                    data = self._tampered(data, left)
                    if not self._flip:
                        connection.sendall(data)
                        break
                left -= len(data)
                connection.sendall(data)
            _shut(connection)
            back.join()

    def _tampered(self, data: bytes, place: int) -> bytes:
        if not self._flip:
            return data[:place]
        return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


@contextlib.contextmanager
def proxy(answer: bytes | None = None, **places: str) -> Iterator[tuple[Proxy, str]]:
    """Yield a proxy, and its address as a setting has it."""
    one = Proxy(answer, **places)
    with raw(one) as url:
        yield one, "http://" + url.split("/")[2]
