"""A thousand lost connections leave nothing behind."""

import itertools
import struct
import threading
from pathlib import Path

import pytest
from support import forks, loopback
from support.feeding import settings, tell
from support.loopback import CLOSE, bar, frame, raw

import shmfeed
from shmfeed.settings import model

FEEDER = """
import sys
from shmfeed.settings.model import from_json
from shmfeed.feeder.feeder import Feeder
from shmfeed.wire import channel
channel.STAGGER = 0.0  # a thousand pauses between dials would take most of the time
{before}
Feeder(from_json(sys.argv[1].encode())).run()
"""
LEAK = """
from shmfeed.wire.connection import Connection
kept = []
Connection.close = lambda self, *given, **named: kept.append(self._sock)
"""
RECONNECTS = int(1000 * forks.SCALE)
FIRST = 100  # by then all is loaded and filled that ever will be
LATER = FIRST + RECONNECTS


class Server:
    """A server that closes each connection after a bar, those in `holds` on `go_on`."""

    def __init__(self, *holds):
        self.numbers = itertools.count(1)
        self.held = {number: threading.Event() for number in holds}
        self.go_on = threading.Semaphore(0)

    def __call__(self, connection):
        number = next(self.numbers)
        loopback.upgrade(connection)
        loopback.read_frame(connection)
        said = frame(b'{"type":"CONNECTED"}') + frame(bar(number).encode())
        connection.sendall(said)
        if number in self.held:
            self.held[number].set()
            self.go_on.acquire(timeout=30)
        if number % 2:  # with a word, or without
            connection.sendall(frame(struct.pack("!H", 1001) + b"go away", CLOSE))


def owned(pid):
    """Return the descriptors, the threads and the resident bytes of a process."""
    process = Path(f"/proc/{pid}")
    resident = (process / "status").read_text().split("VmRSS:")[1].split()[0]
    fds, threads = (len(list((process / name).iterdir())) for name in ("fd", "task"))
    return fds, threads, int(resident) << 10


@pytest.fixture
def feeder(child, feed_name):
    def start(url, before=""):
        given = settings(
            feed_name,
            url,
            reconnect_delay_base=0.001,
            reconnect_delay_max=0.001,
            max_reconnect_attempts=None,
            dials_per_minute=0,
        )
        code = FEEDER.format(before=before)
        return child(code, model.to_json(given).decode())

    return start


def test_a_thousand_reconnects_leave_no_descriptor_thread_or_megabyte(
    feeder, feed_name
):
    server = Server(FIRST, LATER)
    with raw(server) as url:
        process = feeder(url)
        assert server.held[FIRST].wait(30)
        before = owned(process.pid)
        server.go_on.release()
        assert server.held[LATER].wait(max(60, RECONNECTS / 10))
        after = owned(process.pid)
        with shmfeed.attach(feed_name) as feed:
            assert loopback.within(5, lambda: feed.status()["reconnects"] == LATER - 1)
            assert feed.status()["state"] == "connected"
        tell(feed_name, "stop", unlink=True)
        server.go_on.release()
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    lines = errors.splitlines()  # of the journal, which thins them
    assert not [line for line in lines if ": lost ws://" not in line]
    assert 0 < len(lines) < 60 + RECONNECTS / 100
    assert after[:2] == before[:2]
    grown = after[2] - before[2]
    print(f"{RECONNECTS} reconnects, resident bytes grown by {grown}")
    assert grown < 2 << 20


def test_control_a_feeder_that_keeps_its_sockets_is_noticed(feeder, feed_name):
    # The control, with a tenth of them.
    server = Server(10, 110)
    with raw(server) as url:
        process = feeder(url, before=LEAK)
        assert server.held[10].wait(30)
        before = owned(process.pid)
        server.go_on.release()
        assert server.held[110].wait(30)
        assert owned(process.pid)[0] - before[0] == 100
        tell(feed_name, "stop", unlink=True)
        server.go_on.release()
        process.communicate(timeout=20)
