"""A plain client of the local venue's REST, for tests."""

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from shmfeed.simulator import Venue


class RestAnswer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@contextlib.contextmanager
def rest_connection(venue: Venue) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", venue.port, timeout=10)
    with contextlib.closing(connection):
        yield connection


def get(venue: Venue, path: str, **params: object) -> RestAnswer:
    """Ask for one path on a connection of its own."""
    with rest_connection(venue) as connection:
        return get_on(connection, path, **params)


def get_on(
    connection: http.client.HTTPConnection, path: str, **params: object
) -> RestAnswer:
    connection.request("GET", f"{path}?{urlencode(params)}" if params else path)
    response = connection.getresponse()
    return RestAnswer(response.status, response.headers, response.read())


def bar_of(row: list[Any]) -> tuple[Any, ...]:
    """Return a row of klines as the first eight fields of a Bar."""
    times = row[0], row[6] + 1
    return (*times, *map(float, row[1:6]), float(row[7]))
