"""A REST service on loopback that answers as a test tells it to."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Reply(NamedTuple):
    """An answer: its status, body, headers, and the venue's time in s (None: none)."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    date: float | None = None


class Asked(NamedTuple):
    """A request: its path, the fields of its query, and its headers."""

    path: str
    fields: dict[str, str]
    headers: Mapping[str, str]


Handler = Callable[[Asked], Reply]


def as_json(value: object, **more) -> Reply:
    return Reply(200, json.dumps(value).encode(), **more)


def kline(opened: int, step: int = 60_000, price: float = 100.0, **more) -> list:
    """Return a row as Binance sends it."""
    values = {"open": price, "high": price + 1, "low": price - 1, "close": price + 0.5}
    values |= more
    prices = [str(values[name]) for name in ("open", "high", "low", "close")]
    end = values.get("end", opened + step - 1)
    trades = values.get("trades", 5)
    return [opened, *prices, "10.5", end, "1050.25", trades, "5", "500", "0"]


class RestVenue:
    """A service; `asked` has its requests, and `handler` answers them."""

    def __init__(self, handler: Handler) -> None:
        self.asked: list[Asked] = []
        self.handler = handler
        self.url = ""


@contextlib.contextmanager
def rest_venue(handler: Handler, ssl=None) -> Iterator[RestVenue]:
    """Serve REST with `handler` until the block ends."""
    venue = RestVenue(handler)

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = Asked(parts.path, dict(parse_qsl(parts.query)), self.headers)
            venue.asked.append(asked)
            reply = venue.handler(asked)
            self.send_response_only(reply.status)
            if reply.date is not None:
                self.send_header("Date", formatdate(reply.date, usegmt=True))
            headers = {"Content-Length": str(len(reply.body)), **reply.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_args: object) -> None:
            pass  # its client has gone

    with Quiet(("127.0.0.1", 0), Server) as server:
        scheme = "http"
        if ssl is not None:
            scheme = "https"
            server.socket = ssl.wrap_socket(server.socket, server_side=True)
        venue.url = f"{scheme}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield venue
        finally:
            server.shutdown()
            thread.join()
