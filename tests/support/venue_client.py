"""A plain client of the local venue, for the venue's tests."""

import contextlib
import json
from collections.abc import Iterator

from websockets.sync.client import ClientConnection, connect

from shmfeed.simulator import Venue


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
