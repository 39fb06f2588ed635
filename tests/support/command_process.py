"""Fixtures of a command in its own process, and of a feed that it reads."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from support.command_line import Process, append

from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create

COMMAND = (sys.executable, "-W", "error", "-m", "shmfeed")
_PREFIXES = ("SHMFEED_", "WEBSOCKET_")

Start = Callable[..., Process]


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the user who runs the tests from the environment."""
    for name in os.environ:
        if name.startswith(_PREFIXES) and name != "SHMFEED_PURE":
            monkeypatch.delenv(name)


@pytest.fixture
def command() -> Iterator[Start]:
    """Start `shmfeed *arguments` with pipes; kill and reap it after the test."""
    started: list[Process] = []

    def start(*arguments: object, **options: object) -> Process:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [*COMMAND, *map(str, arguments)]
        started.append(subprocess.Popen(command, **(pipes | options)))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        with process:  # to close its pipes and reap it
            pass


@pytest.fixture
def cli_writer(feed_name: str, request: pytest.FixtureRequest) -> Iterator[FeedWriter]:
    with create(feed_name, history=100, guard=16, max_streams=8) as writer:
        yield writer
        writer.close(unlink=True)
    request.node.funcargs.clear()  # pytest would keep the mapping


@pytest.fixture
def cli_ring(cli_writer: FeedWriter) -> RingWriter:
    """Return the writer of BTCUSDT 1m, with the bars 0 to 4."""
    ring = cli_writer.add_stream("BTCUSDT", "1m")
    append(ring, *range(5))
    return ring
