"""A plain client of the local venue, for the venue's tests."""

import contextlib
import json
from collections.abc import Iterator

from websockets.sync.client import ClientConnection, connect

from shmfeed.simulator import Venue

# A client's opening handshake, for tests that use a bare socket.
HANDSHAKE = (
    b"GET /market_data HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@contextlib.contextmanager
def client(venue: Venue, path: str = "") -> Iterator[ClientConnection]:
    with connect(venue.url + path, compression=None, close_timeout=1) as connection:
        yield connection


def receive(connection: ClientConnection) -> dict:
    return json.loads(connection.recv(timeout=5))


def ask(connection: ClientConnection, number: str = "1", **request: object) -> dict:
    """Send CONNECT for the stream A 1m, or as `request` says; return the reply."""
    request = {"symbols": ["A"], "resolutions": ["1m"], **request}
    message = {"type": "CONNECT", "request_id": number, **request}
    connection.send(json.dumps(message))
    return receive(connection)
