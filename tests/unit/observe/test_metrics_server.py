"""The server of metrics: requests, formats, and clients that mean it no good."""

import asyncio
import contextlib
import gzip
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shmfeed.errors import UnsupportedPlatformError
from shmfeed.observe import metrics_server
from shmfeed.observe.listening import listen, resolve
from shmfeed.observe.metrics_server import MetricsServer, parse_request

NEW, OLD = "application/openmetrics-text", "text/plain; version=0.0.4"
BODY = b"x" * 16_000_000  # more than the kernel holds for a connection


class Rendered:
    """A `render` that notes its calls and can be held up."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool]] = []
        self.may_end = threading.Event()
        self.may_end.set()
        self.body = b"metrics\n"

    def __call__(self, kind: str, is_zipped: bool) -> bytes:
        self.calls.append((kind, is_zipped))
        assert self.may_end.wait(60)
        return gzip.compress(self.body) if is_zipped else self.body


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Site:
    """A server that runs, and its clients."""

    def __init__(self, port: int, rendered: Rendered, server: MetricsServer) -> None:
        self.port, self.rendered, self.server = port, rendered, server
        self.clients: list[asyncio.StreamWriter] = []

    async def connect(self) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.clients.append(writer)
        return reader, writer

    async def send(self, raw: bytes) -> bytes:
        """Return all that comes before the server closes."""
        reader, writer = await self.connect()
        writer.write(raw)
        return await asyncio.wait_for(reader.read(), 60)

    async def get(self, path: str = "/metrics", *headers: str) -> tuple[int, bytes]:
        lines = [f"GET {path} HTTP/1.1", *headers, "", ""]
        head, _, body = (await self.send("\r\n".join(lines).encode())).partition(
            b"\r\n\r\n"
        )
        return int(head.split()[1]), body


@asynccontextmanager
async def serving(**more: Any) -> AsyncIterator[Site]:
    rendered = Rendered()
    server = MetricsServer(rendered, (NEW, OLD), **more)
    with listen(resolve("127.0.0.1", 0)) as listener:
        listening = await server.start(listener)
        site = Site(listener.getsockname()[1], rendered, server)
        try:
            yield site
        finally:
            rendered.may_end.set()
            for client in site.clients:
                client.transport.abort()
            listening.close()
            while server._open:
                await asyncio.sleep(0.001)


async def ending(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the server ends the connection, in order or not."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := await asyncio.wait_for(reader.read(1 << 20), 60):
            received += piece
    return received


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ((), NEW),
        (("Accept: */*",), NEW),
        (("Accept: application/openmetrics-text;q=0.5,text/plain;q=0.2",), NEW),
        (("Accept: text/plain",), OLD),
        (("accept:text/plain;version=0.0.4",), OLD),
    ],
)
def test_the_format_is_the_one_that_is_accepted(
    headers: tuple[str, ...], kind: str
) -> None:
    async def test() -> None:
        async with serving() as site:
            lines = ["GET /metrics?a=b HTTP/1.1", *headers, "", ""]
            answer = await site.send("\r\n".join(lines).encode())
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert f"Content-Type: {kind}\r\n".encode() in answer
            assert answer.endswith(b"\r\n\r\nmetrics\n")
            assert site.rendered.calls == [(kind, False)]

    run(test)


def test_gzip_head_index_and_other_paths() -> None:
    async def test() -> None:
        async with serving() as site:
            code, body = await site.get("/metrics", "Accept-Encoding: deflate, gzip")
            assert (code, gzip.decompress(body)) == (200, b"metrics\n")
            code, body = await site.get("/metrics", "Accept-Encoding: gzip;q=0")
            assert (code, body) == (200, b"metrics\n")
            head = await site.send(b"HEAD /metrics HTTP/1.1\r\n\r\n")
            assert b"Content-Length: 8\r\n" in head
            assert head.endswith(b"\r\n\r\n")
            assert (await site.get("/"))[0] == 200
            assert (await site.get("/../etc/passwd"))[0] == 404
            assert (await site.get("/metrics/"))[0] == 404
            answer = await site.send(b"POST /metrics HTTP/1.1\r\n\r\n")
            assert b" 405 " in answer
            assert b"Allow: GET, HEAD\r\n" in answer

    run(test)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"GET  /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/2\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n: nameless\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nA: b\r\n folded: c\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"a" * 100_000,
    ],
    ids=lambda garbage: repr(garbage[:30]),
)
def test_garbage_is_refused_and_costs_nothing_else(garbage: bytes) -> None:
    async def test() -> None:
        async with serving() as site:
            answer = await site.send(garbage)
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert not site.rendered.calls
            assert (await site.get())[0] == 200

    run(test)


def test_half_a_request_is_cut_off_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "REQUEST_SECONDS", 0.2)

    async def test() -> None:
        async with serving() as site:
            for half in (b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: a\r\n"):
                reader, writer = await site.connect()
                writer.write(half)
                assert await ending(reader) == b""
            monkeypatch.setattr(metrics_server, "REQUEST_SECONDS", 60.0)
            assert (await site.get())[0] == 200

    run(test)


def test_a_client_that_reads_nothing_is_cut_off_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics_server, "ANSWER_SECONDS", 0.3)

    async def test() -> None:
        async with serving() as site:
            site.rendered.body = BODY
            with socket.socket() as slow:
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                slow.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(slow, ("127.0.0.1", site.port))
                await loop.sock_sendall(slow, b"GET /metrics HTTP/1.1\r\n\r\n")
                while not site.rendered.calls or site.server._open:
                    await asyncio.sleep(0.01)
                received = 0
                with contextlib.suppress(ConnectionError):
                    while piece := await loop.sock_recv(slow, 1 << 20):
                        received += len(piece)
                assert received < len(BODY)
            monkeypatch.setattr(metrics_server, "ANSWER_SECONDS", 60)
            assert await site.get() == (200, BODY)

    run(test)


def test_connections_beyond_the_most_cut_off_the_oldest_idle_one() -> None:
    async def test() -> None:
        async with serving(most=4) as site:
            held = [await site.connect() for _ in range(4)]
            while site.server._open < 4:
                await asyncio.sleep(0.001)
            assert (await site.get())[0] == 200
            assert await ending(held[0][0]) == b""
            assert not held[3][0].at_eof()

    run(test)


def test_a_thousand_connections_do_not_keep_a_scrape_out() -> None:
    async def test() -> None:
        async with serving(most=64) as site:
            for start in range(0, 1000, 50):  # descriptors: the test has both ends
                held = [await site.connect() for _ in range(50)]
                assert (await site.get())[0] == 200
                assert len(site.server._idle) <= 64
                for _, writer in held[:40] if start else ():
                    writer.transport.abort()
            assert (await site.get())[0] == 200

    run(test)


def test_scrapes_at_the_same_time_share_one_text() -> None:
    async def test() -> None:
        async with serving() as site:
            site.rendered.may_end.clear()
            scrapes = [asyncio.create_task(site.get()) for _ in range(20)]
            while site.server._open < 20 or site.server._idle:
                await asyncio.sleep(0.001)
            site.rendered.may_end.set()
            assert await asyncio.gather(*scrapes) == [(200, b"metrics\n")] * 20
            assert len(site.rendered.calls) == 1
            await site.get()
            assert len(site.rendered.calls) == 2

    run(test)


def test_a_client_that_leaves_takes_no_text_from_another() -> None:
    async def test() -> None:
        async with serving() as site:
            site.rendered.may_end.clear()
            _, leaving = await site.connect()
            leaving.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            while not site.rendered.calls:
                await asyncio.sleep(0.001)
            staying = asyncio.create_task(site.get())
            while site.server._open < 2 or site.server._idle:
                await asyncio.sleep(0.001)
            leaving.transport.abort()
            site.rendered.may_end.set()
            assert await staying == (200, b"metrics\n")

    run(test)


def test_a_sample_that_fails_is_an_answer_and_the_next_one_works() -> None:
    async def test() -> None:
        async with serving() as site:
            healthy = site.server._render

            def fail(kind: str, is_zipped: bool) -> bytes:
                raise UnsupportedPlatformError("no shared memory here")

            site.server._render = fail
            assert await site.get() == (500, b"no shared memory here\n")
            site.server._render = healthy
            assert (await site.get())[0] == 200

    run(test)


def test_a_page_under_another_name_gets_nothing() -> None:
    async def test() -> None:
        async with serving(names=["localhost", "Box.lan"]) as site:
            for host in ("127.0.0.1:9600", "localhost", "[::1]:9600", "box.LAN:1"):
                assert (await site.get("/metrics", f"Host: {host}"))[0] == 200
            assert (await site.get())[0] == 200
            names = "evil.example", "127.0.0.1.evil.example", "[::1].evil.example"
            for host in (*names, "evil.example:9600"):
                code, body = await site.get("/metrics", f"Host: {host}")
                assert (code, b"metrics\n" in body) == (403, False)

    run(test)


def test_a_request_of_two_hosts_is_none() -> None:
    assert parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n") is None


def test_a_request_is_parsed() -> None:
    found = parse_request(b"GET /a?b=c HTTP/1.0\r\nHost: x\r\nX-Y:\tz \r\n\r\n")
    assert found == ("GET", "/a", {"host": "x", "x-y": "z"})
