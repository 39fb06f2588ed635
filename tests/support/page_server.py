"""The server of the dashboard's page in a thread of a test, and requests to it."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from shmfeed.observe.listening import listen, resolve, url_of
from shmfeed.observe.page.hub import Hub
from shmfeed.observe.page.server import PageServer, make_server

PATIENCE = 30.0


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """A page that is served, by its URL and its server."""

    def __init__(self, server: PageServer, url: str, port: int) -> None:
        self.server = server
        self.url = url
        self.port = port

    def get(
        self, path: str, method: str = "GET", source: str = "", **headers: str
    ) -> Answer:
        """Request a path; an underscore in a header's name is a hyphen.

        `source` is the address of the client.
        """
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, PATIENCE, source_address=(source, 0)
        )
        try:
            connection.request(method, path, headers=given)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def connect(self, source: str = "") -> socket.socket:
        return socket.create_connection(
            ("127.0.0.1", self.port), PATIENCE, source_address=(source, 0)
        )

    def send(self, data: bytes) -> bytes:
        """Send bytes; return all that comes until the server closes."""
        told = b""
        with self.connect() as client, suppress(ConnectionResetError):
            client.sendall(data)
            while more := client.recv(65536):
                told += more
        return told

    @contextmanager
    def events(self, **headers: str) -> Iterator["Events"]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, PATIENCE)
        try:
            connection.request("GET", "/events", headers=headers)
            yield Events(connection.getresponse())
        finally:
            connection.close()


class Events:
    """The messages of an event stream, in order."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.answer = answer
        self.status = answer.status

    def next(self) -> Any:
        """Return the next message, None at the end of the stream."""
        while line := self.answer.readline():
            if line.startswith(b"data: "):
                return json.loads(line.removeprefix(b"data: "))
        return None


@contextmanager
def serving(
    feeds: Sequence[str] | None,
    *,
    is_local: bool = True,
    names: Sequence[str] = (),
    token: str | None = None,
) -> Iterator[Served]:
    """Serve the page of feeds on a free port of loopback; stop it at the end."""
    server = make_server(Hub(feeds), is_local=is_local, names=names, token=token)
    loops: list[asyncio.AbstractEventLoop] = []
    has_begun = threading.Event()

    async def serve(listener: socket.socket) -> None:
        loops.append(asyncio.get_running_loop())
        has_begun.set()
        await server.run_until_stopped(listener)

    with listen(resolve("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=lambda: asyncio.run(serve(listener)))
        thread.start()
        has_begun.wait(PATIENCE)
        try:
            yield Served(server, url_of(listener), port)
        finally:
            loops[0].call_soon_threadsafe(server.stop)
            thread.join()
