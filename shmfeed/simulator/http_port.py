"""HTTP on the venue's port: which connections are REST's, and their requests.

The first line of a connection decides. A WebSocket handshake goes to the library, which
sees the connection as if it had accepted it.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from email.utils import formatdate
from typing import NamedTuple, cast

from shmfeed.simulator.faults.rest import Answer
from shmfeed.simulator.rest import PATH

_MAX_HEAD = 1 << 14  # bytes
_MAX_BODY = 1 << 16
_IDLE_SECONDS = 60.0
_MOST_CONNECTIONS = 256
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}
_REASONS |= {302: "Found", 418: "I'm a teapot", 429: "Too Many Requests"}
_REASONS |= {431: "Request Header Fields Too Large", 503: "Service Unavailable"}
_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (\S+) HTTP/1\.([01])")
_SIZE = re.compile(r"\d{1,8}", re.ASCII)

# Answers a request of a method and a target.
Respond = Callable[[str, str], Answer]


class HttpPort:
    """The HTTP connections of one venue; used in the event loop only.

    Args:
        respond: Answers one request.
        clock: Returns the time that answers state, in seconds since 1970.
    """

    def __init__(self, respond: Respond, clock: Callable[[], float]) -> None:
        self._respond, self._clock = respond, clock
        self._fronts: set[_Front] = set()
        self._tasks: dict[asyncio.Task[None], asyncio.Transport] = {}

    def front(self, accept: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """Return the protocol of a new connection.

        Args:
            accept: Returns the protocol to which it goes if it is not REST's.
        """
        return _Front(self, accept)

    async def stop(self) -> None:
        """End every connection."""
        for front in set(self._fronts):
            front.abort()
        for task, transport in self._tasks.items():
            task.cancel()
            transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, front: "_Front") -> None:
        """Remember a connection whose first line has not come yet."""
        self._fronts.add(front)

    def remove(self, front: "_Front") -> None:
        """Forget a connection that went on to its protocol, or ended."""
        self._fronts.discard(front)

    def serve(self, transport: asyncio.Transport, begun: bytes) -> None:
        """Answer the requests of a connection, of which these bytes have come."""
        if len(self._tasks) >= _MOST_CONNECTIONS:
            transport.abort()
            return
        reader = asyncio.StreamReader(_MAX_HEAD)
        protocol = _RestProtocol(reader)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(begun)
        task = asyncio.create_task(self._requests(protocol, reader, transport))
        self._tasks[task] = transport
        task.add_done_callback(lambda task: self._tasks.pop(task, None))

    async def _requests(
        self,
        protocol: "_RestProtocol",
        reader: asyncio.StreamReader,
        transport: asyncio.Transport,
    ) -> None:
        writer = asyncio.StreamWriter(
            transport, protocol, reader, asyncio.get_running_loop()
        )
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
            while (request := await _read_request(reader)) is not None:
                answer = self._respond(request.method, request.target)
                if answer.delay:
                    await protocol.wait_lost(answer.delay)
                if answer.sent == 0:
                    transport.abort()
                    break
                stays = request.stays and answer.sent is None
                writer.write(self._head(answer, stays) + answer.body[: answer.sent])
                await writer.drain()
                if not stays:
                    break
        transport.close()

    def _head(self, answer: Answer, stays: bool) -> bytes:
        headers = {
            "Content-Type": "application/json;charset=UTF-8",
            "Date": formatdate(self._clock(), usegmt=True),
            "Connection": "keep-alive" if stays else "close",
            "Content-Length": str(len(answer.body)),
        } | answer.headers
        lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Refused')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()


class _Request(NamedTuple):
    method: str
    target: str
    stays: bool  # the client may send another one


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    """Read one request and its body; return None if the bytes are not HTTP."""
    async with asyncio.timeout(_IDLE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        match = _REQUEST_LINE.fullmatch(first)
        headers = dict(map(_header, lines))
        size = headers.get("content-length", "0")
        if match is None or not _SIZE.fullmatch(size) or int(size) > _MAX_BODY:
            return None
        await reader.readexactly(int(size))
    wanted = headers.get("connection", "").lower()
    stays = wanted == "keep-alive" if match[3] == "0" else wanted != "close"
    return _Request(match[1], match[2], stays)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


class _RestProtocol(asyncio.StreamReaderProtocol):
    """A connection of REST, which ends when its client has no more to say."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._lost = asyncio.Event()

    def eof_received(self) -> bool:
        super().eof_received()
        self._lost.set()
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost.set()

    async def wait_lost(self, seconds: float) -> None:
        """Sleep for so long, or until the client is gone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._lost.wait()


class _Front(asyncio.Protocol):
    """A connection until its first line has come."""

    def __init__(self, port: HttpPort, accept: Callable[[], asyncio.Protocol]) -> None:
        self._port, self._accept = port, accept
        self._begun = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_IDLE_SECONDS, self.abort)
        self._port.add(self)

    def data_received(self, data: bytes) -> None:
        self._begun += data
        if b"\n" not in self._begun and len(self._begun) < _MAX_HEAD:
            return
        transport = self._leave()
        if transport is None:
            return
        if PATH.match(self._begun):
            self._port.serve(transport, self._begun)
            return
        protocol = self._accept()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(self._begun)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        self._leave()

    def abort(self) -> None:
        """Cut the connection."""
        transport = self._leave()
        if transport is not None:
            transport.abort()

    def _leave(self) -> asyncio.Transport | None:
        transport, self._transport = self._transport, None
        if self._timer is not None:
            self._timer.cancel()
        self._port.remove(self)
        return transport
