"""One connection, opened and read for a test."""

import contextlib
import time

import pytest

from shmfeed.wire.connection import Connection, ConnectionLostError


@contextlib.contextmanager
def connected(url, **options):
    connection = Connection(url, **{"max_frame_bytes": 1 << 20, **options})
    try:
        connection.open(5)
        yield connection
    finally:
        connection.close(timeout=0.05)


def receive(connection, count, seconds=3):
    """Return the next `count` messages."""
    messages = []
    end = time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < end:
        if connection.wait(0.1) == "readable":
            messages += connection.receive()
    return messages


def lose(connection, seconds=3):
    """Read until the connection ends, and return the error."""
    with pytest.raises(ConnectionLostError) as caught:
        receive(connection, 1 << 30, seconds)
    return caught.value


def failure_to_open(url, timeout=5.0, **options):
    """Return the error of a connection that cannot be opened."""
    connection = Connection(url, max_frame_bytes=1 << 20, **options)
    with pytest.raises(ConnectionLostError) as caught:
        connection.open(timeout)
    connection.close()
    return caught.value


def fail_to_open(url, timeout=5.0, **options):
    """Return its text."""
    return str(failure_to_open(url, timeout, **options))


def hold(connection):
    """Hold a raw connection until the client closes it."""
    with contextlib.suppress(OSError):
        while connection.recv(4096):
            pass
