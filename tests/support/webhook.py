"""A webhook on loopback that keeps what it is told, and misbehaves on request."""

import http.server
import json
import queue
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import pytest

SECONDS = 30.0
SECRET = "T0K3N-in-the-path"


class Webhook:
    """An HTTP server; `answers` are the statuses of the next answers, 200 behind them.

    A status of 0 closes the connection without an answer, one below 0 never answers.
    With `tls` it is spoken to by TLS.
    """

    secret = SECRET

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.answers: list[int] = []
        self.attempts = 0
        self.told: queue.Queue[dict[str, Any]] = queue.Queue()
        self._release = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.attempts += 1
                status = outer.answers.pop(0) if outer.answers else 200
                if status < 0:
                    outer._release.wait(SECONDS)
                if status <= 0:
                    self.close_connection = True
                    return
                if status == 200:
                    outer.told.put(json.loads(body))
                self.send_response(status)
                self.send_header("Location", f"{outer.url}-elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # its client has gone

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        scheme = "https" if tls else "http"
        if tls is not None:  # the handshake is the handler's, in its own thread
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"{scheme}://127.0.0.1:{self.port}/{SECRET}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])
        self._thread.start()

    def next(self, seconds: float = SECONDS) -> dict[str, Any]:
        """Return the next event that it has answered with 200."""
        return self.told.get(timeout=seconds)

    def await_event(self, name: str) -> dict[str, Any]:
        """Return the next event of this name; others are left out."""
        deadline = time.monotonic() + SECONDS
        while True:
            event = self.next(max(0.01, deadline - time.monotonic()))
            if event["event"] == name:
                return event

    def close(self) -> None:
        self._release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as running:
        yield running


@pytest.fixture
def make_webhook() -> type[Webhook]:
    return Webhook
