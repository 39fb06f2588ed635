"""The processes of a load: a venue, a feeder, strategies, metrics and a page."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from load.size import Size, symbols_of
from support.staged_feed import StagedFeed
from support.venue_process import VenueProcess

import shmfeed
from shmfeed.segment.mapping import place

SEED = 7
READY_SECONDS = 180.0
# Closed bars at a subscription: more than a ledger keeps, so that none grows later.
HISTORY = 80
_LOOK_SECONDS = 0.1
_CROWD = str(Path(__file__).with_name("crowd.py"))
_TESTS = str(Path(__file__).parents[1])


class Stage(StagedFeed):
    """One feed, its strategies and its observers: a context manager.

    Two more processes than the strategies wait: one for all symbols, whose closes tell
    when the last bar is published, and one that is stopped now and then.

    Attributes:
        pids: Those of the processes by name; "strategy 0", ...
        stopped_pid: That of the reader that is stopped now and then.
    """

    def __init__(self, name: str, size: Size, folder: Path) -> None:
        venue = VenueProcess(
            symbols=size.names,
            resolutions=size.timeframes,
            max_streams=size.streams,
            seed=SEED,
            update_interval=size.update_every,
            history=HISTORY,
        )
        super().__init__(name, venue, folder)
        self.size = size
        self.pids: dict[str, int] = {}
        self.stopped_pid = 0
        self._children = contextlib.ExitStack()
        self._crowd: subprocess.Popen[str] | None = None
        self._urls: dict[str, str] = {}

    def _start(self) -> None:
        self._start_feed(
            symbols=self.size.names,
            resolutions=list(self.size.timeframes),
            max_streams=self.size.streams,
        )
        self._wait_live()
        for command in ("metrics", "dashboard"):
            self._serve(command)
        self._hold_page()
        self._start_crowd()
        feeder = self.status()["pid"]
        assert feeder is not None
        self.pids |= {"venue": self.venue.pid, "feeder": feeder}

    def _end_children(self) -> None:
        self._children.close()

    def _wait_live(self) -> None:
        """Wait until each stream has its first rows."""
        deadline = time.monotonic() + READY_SECONDS
        while (status := self.status())["health"] != "live":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} is {status['health']}")
            time.sleep(_LOOK_SECONDS)

    def _serve(self, command: str) -> None:
        arguments = (command, "--port", "0", "--feed", self.name, "--json")
        process = self._spawn("-m", "shmfeed", *arguments)
        self._children.callback(process.terminate)
        assert process.stdout is not None
        self._urls[command] = json.loads(process.stdout.readline())["url"]
        self.pids[command] = process.pid

    def _hold_page(self) -> None:
        """Open the page's events in a client that never reads them."""
        address = self._urls["dashboard"].split("/")[2]
        host, _, port = address.rpartition(":")
        client = self._children.enter_context(
            socket.create_connection((host, int(port)), READY_SECONDS)
        )
        client.sendall(f"GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())

    def _start_crowd(self) -> None:
        names, count = self.size.names, self.size.strategies
        symbols = [names, names[-1:]]
        symbols += [symbols_of(names, number) for number in range(count)]
        given = {"feed": self.name, "timeframe": self.size.timeframes[0]}
        self._crowd = self._spawn(_CROWD, json.dumps({**given, "symbols": symbols}))
        assert self._crowd.stdout is not None
        _, self.stopped_pid, *pids = json.loads(self._crowd.stdout.readline())
        self.pids |= {f"strategy {number}": pid for number, pid in enumerate(pids)}

    def _spawn(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": _TESTS},
        )
        self._children.callback(process.communicate)  # the crowd ends with its input
        return process

    def status(self) -> shmfeed.FeedStatus:
        """Return the feed's status, as a reader sees it."""
        assert self._feed is not None
        return self._feed.status()

    def probes(self) -> dict[str, Callable[[], Any]]:
        """Return the looks of observers: the status, a scrape, and the page's data."""
        return {
            "status": self.status,
            "metrics": lambda: _read(self._urls["metrics"]),
            "page": lambda: _read(f"{self._urls['dashboard'].rstrip('/')}/api/feeds"),
        }

    def stop_reader(self, stop: bool) -> None:
        """Stop the reader that is stopped now and then, or let it go on."""
        os.kill(self.stopped_pid, signal.SIGSTOP if stop else signal.SIGCONT)

    def stream_bytes(self) -> tuple[float, float]:
        """Return the bytes of /dev/shm a stream: those taken, and those by size."""
        found = place(self.name).segment.stat()
        streams = self.size.streams
        return found.st_blocks * 512 / streams, found.st_size / streams

    def results(self) -> list[dict[str, Any]]:
        """End the strategies; return their results, first that of all symbols."""
        assert self._crowd is not None
        told, _ = self._crowd.communicate()
        every, _, *others = json.loads(told.splitlines()[-1])
        return [every, *others]


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        found: bytes = answer.read()
    return found
