"""Fixtures: the command in a process of its own, and a feed for it to read."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from support.command_line import Process, append

from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create

COMMAND = (sys.executable, "-W", "error", "-m", "shmfeed")
_OURS = ("SHMFEED_", "WEBSOCKET_")

Start = Callable[..., Process]


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the settings of whoever runs the tests."""
    for name in os.environ:
        if name.startswith(_OURS) and name != "SHMFEED_PURE":
            monkeypatch.delenv(name)


@pytest.fixture
def command() -> Iterator[Start]:
    """Starts `shmfeed *arguments` with pipes; killed and reaped after the test."""
    started: list[Process] = []

    def begin(*arguments: object, **options: object) -> Process:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [*COMMAND, *map(str, arguments)]
        started.append(subprocess.Popen(command, **(pipes | options)))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        with process:  # closes its pipes and reaps it
            pass


@pytest.fixture
def cli_writer(feed_name: str, request: pytest.FixtureRequest) -> Iterator[FeedWriter]:
    with create(feed_name, history=100, guard=16, max_streams=8) as made:
        yield made
        made.close(unlink=True)
    request.node.funcargs.clear()  # pytest would keep the mapping


@pytest.fixture
def cli_ring(cli_writer: FeedWriter) -> RingWriter:
    """A stream BTCUSDT 1m with bars 0 to 4."""
    made = cli_writer.add_stream("BTCUSDT", "1m")
    append(made, *range(5))
    return made
