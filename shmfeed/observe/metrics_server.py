"""An HTTP server for scrapes: small, with limits, so that no client can hold it up.

It answers GET and HEAD, one request a connection. Clients that ask while an answer is
being made share it. A client that does not send its request in time, or does not read
the answer, is cut off. Beyond the limit of connections, so is the one that has been
open longest without a request.
"""

import asyncio
import socket
from collections.abc import Callable, Collection, Mapping
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

from shmfeed.errors import ShmfeedError
from shmfeed.observe.listening import is_accepted_host

MOST_CONNECTIONS = 256
HEAD_BYTES = 8192
REQUEST_SECONDS = 5.0
ANSWER_SECONDS = 15.0  # Prometheus gives up after 10 by default
_BACKLOG = 512
_PIECE = 1 << 16
_END = b"\r\n\r\n"
_TEXT = "text/plain; charset=utf-8"
_INDEX = "shmfeed: the metrics are at /metrics"
_FOREIGN = "this name is not accepted as Host: ask by address, or as localhost"

# The last one means the end of the server, which Python 3.11 would report otherwise.
_ENDED = (
    TimeoutError,
    ConnectionError,
    asyncio.IncompleteReadError,
    asyncio.CancelledError,
)

Render = Callable[[str, bool], bytes]  # the metrics, by format, compressed or not


class Request(NamedTuple):
    """The head of a request; its headers by their names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


class Answer(NamedTuple):
    """The answer to a request."""

    status: HTTPStatus
    body: bytes = b""
    headers: Mapping[str, str] = {}


class MetricsServer:
    """A server of `/metrics`. Only the thread of its event loop uses it."""

    def __init__(
        self,
        render: Render,
        formats: tuple[str, str],
        *,
        names: Collection[str] | None = None,
        most: int = MOST_CONNECTIONS,
    ) -> None:
        """Serve the text of `render` to at most `most` connections at a time.

        `formats` are the content types of OpenMetrics and of Prometheus' older format,
        with which `render` is called in a thread. With `names`, requests must be for an
        address of loopback, or for one of these names. Otherwise a page of another site
        could read the answer in a browser on this host (DNS rebinding).
        """
        self._render = render
        self._formats = formats
        self._names = None if names is None else {name.lower() for name in names}
        self._most = most
        self._open = 0
        self._idle: dict[asyncio.StreamWriter, None] = {}  # oldest first
        self._rendering: dict[tuple[str, bool], asyncio.Task[bytes]] = {}

    async def start(self, listener: socket.socket) -> asyncio.Server:
        """Begin to serve on a listening socket."""
        return await asyncio.start_server(
            self._serve, sock=listener, limit=HEAD_BYTES, backlog=_BACKLOG
        )

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._open += 1
        self._idle[writer] = None
        if self._open > self._most:
            self._cut_oldest()
        try:
            request = await _read_request(reader)
            self._idle.pop(writer, None)
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._answer(request)
                is_head = request is not None and request.method == "HEAD"
                await _send(writer, answer, is_head)
        except _ENDED:
            writer.transport.abort()
        finally:
            self._idle.pop(writer, None)
            self._open -= 1
            writer.close()

    def _cut_oldest(self) -> None:
        oldest = next(iter(self._idle))
        del self._idle[oldest]
        oldest.transport.abort()

    async def _answer(self, request: Request | None) -> Answer:
        if request is None:
            return _said(HTTPStatus.BAD_REQUEST)
        method, path, headers = request
        if not self._is_named(headers):
            return _said(HTTPStatus.FORBIDDEN, _FOREIGN)
        if method not in ("GET", "HEAD"):
            return _said(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
        if path == "/metrics":
            return await self._metrics(headers)
        is_index = path == "/"
        return _said(HTTPStatus.OK if is_index else HTTPStatus.NOT_FOUND, _INDEX)

    def _is_named(self, headers: Mapping[str, str]) -> bool:
        host = headers.get("host")  # which no browser leaves out
        if self._names is None or host is None:
            return True
        return is_accepted_host(host, is_local=True, names=self._names)

    async def _metrics(self, headers: Mapping[str, str]) -> Answer:
        accept = headers.get("accept", "")
        is_older = "text/plain" in accept and "openmetrics" not in accept
        kind, is_zipped = self._formats[is_older], _accepts_gzip(headers)
        try:
            body = await self._shared_text(kind, is_zipped)
        except (ShmfeedError, OSError) as error:
            return _said(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        found = {"Content-Type": kind, "Vary": "Accept, Accept-Encoding"}
        if is_zipped:
            found["Content-Encoding"] = "gzip"
        return Answer(HTTPStatus.OK, body, found)

    async def _shared_text(self, kind: str, is_zipped: bool) -> bytes:
        key = kind, is_zipped
        rendering = self._rendering.get(key)
        if rendering is None:
            work = asyncio.to_thread(self._render, *key)
            rendering = self._rendering[key] = asyncio.create_task(work)
            rendering.add_done_callback(partial(self._rendered, key))
        return await asyncio.shield(rendering)

    def _rendered(self, key: tuple[str, bool], rendering: asyncio.Task[bytes]) -> None:
        del self._rendering[key]
        if not rendering.cancelled():
            rendering.exception()  # its clients may have gone: it counts as retrieved


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            return parse_request(await reader.readuntil(_END))
    except asyncio.LimitOverrunError:
        return None


async def _send(writer: asyncio.StreamWriter, answer: Answer, is_head: bool) -> None:
    status, body, headers = answer
    found = {
        **headers,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {status} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in found.items()]
    writer.transport.set_write_buffer_limits(0)  # a drain empties it
    writer.write("\r\n".join(lines).encode("latin-1") + _END)
    for start in range(0, 0 if is_head else len(body), _PIECE):
        writer.write(body[start : start + _PIECE])
        await writer.drain()
    await writer.drain()


def parse_request(head: bytes) -> Request | None:
    """Return a request, None if the bytes are not one of HTTP/1."""
    first, *lines = head.removesuffix(_END).decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        is_second_host = name == "host" and name in headers
        if not colon or not name or name != name.strip() or is_second_host:
            return None
        headers[name] = value.strip()
    return Request(words[0], words[1].partition("?")[0], headers)


def _accepts_gzip(headers: Mapping[str, str]) -> bool:
    codings = headers.get("accept-encoding", "").replace(" ", "").split(",")
    return any(one in ("gzip", "gzip;q=1", "gzip;q=1.0") for one in codings)


def _said(status: HTTPStatus, text: str = "", **headers: str) -> Answer:
    said = f"{text or f'{status} {status.phrase}'}\n".encode()
    return Answer(status, said, {"Content-Type": _TEXT, **headers})
