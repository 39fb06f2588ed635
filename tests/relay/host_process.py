"""A host: the commands that run there, and its rings.

    python host_process.py '{"feed": .., "symbols": [..], "seed": .., ..}'

It reads a JSON object a line: the name of a method, and its arguments. A command that
ends is started again, as a service manager does. All end with standard input.
"""

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a program

from soak.truth import SECOND, TIMEFRAME, Truth, differences, is_final

import shmfeed
from shmfeed.errors import ShmfeedError

_RESTART_SECONDS = 0.2
_POLL_SECONDS = 0.02
_END_SECONDS = 20.0
_MOST_LINES = 20


class Service:
    """A command that is started again whenever it ends."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._arguments = arguments
        self._log = log
        self._due = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.codes: list[int] = []

    def poll(self) -> None:
        """Start the command, again once it has ended and a moment has passed."""
        if self.process is not None and self.process.poll() is not None:
            self.codes.append(self.process.returncode)
            self.process = None
            self._due = time.monotonic() + _RESTART_SECONDS
        if self.process is None and time.monotonic() >= self._due:
            with self._log.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "shmfeed", *self._arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    def end(self) -> None:
        """End the command, also one that is stopped."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class HostProcess:
    """The methods of a host; each public one answers a line of standard input.

    Args:
        feed: The name of its feed.
        symbols, seed, faults: Of the venue, whose bars of one second the rings hold.
        history: Rows to compare.
        folder: Where the logs of the commands go.
    """

    def __init__(
        self,
        feed: str,
        symbols: list[str],
        seed: int,
        faults: str,
        history: int,
        folder: str,
    ) -> None:
        self._name, self._symbols, self._history = feed, symbols, history
        self._folder = Path(folder)
        self._truth = Truth(seed, faults)
        self._services: dict[str, Service] = {}
        self._feed: shmfeed.Feed | None = None

    def start(self, name: str, arguments: list[str]) -> None:
        """Run a command of shmfeed under a name."""
        log = self._folder / f"{name}.log"
        self._services[name] = Service(arguments, log)
        self.poll()

    def pids(self) -> dict[str, int]:
        """Return the pids of the commands that run."""
        return {
            name: service.process.pid
            for name, service in self._services.items()
            if service.process is not None
        }

    def codes(self) -> dict[str, list[int]]:
        """Return the exit codes of the commands that have ended."""
        return {name: service.codes for name, service in self._services.items()}

    def status(self) -> dict[str, Any]:
        """Return the feed's status as a reader sees it."""
        with contextlib.suppress(ShmfeedError):
            return dict(self._attached().status())
        return {"pid": None, "state": "", "health": "", "relay": None}

    def wrong(self) -> list[str]:
        """Return a line for each closed row that is wrong or out of order."""
        found: list[str] = []
        for symbol in self._symbols:
            with contextlib.suppress(ShmfeedError):
                ring = self._attached().ring(symbol, TIMEFRAME)
                found += self._wrong_rows(symbol, ring.snapshot(self._history))
        return found[:_MOST_LINES]

    def differences(self, until: int) -> list[str]:
        """Compare the rows that close up to `until` with the venue's, bar for bar."""
        found: list[str] = []
        for symbol in self._symbols:
            try:
                rows = self._attached().ring(symbol, TIMEFRAME).snapshot(self._history)
            except ShmfeedError as error:
                found.append(f"{symbol}: {error}")
            else:
                found += differences(self._truth, symbol, rows, until)
        return found[:_MOST_LINES]

    def count(self, until: int) -> int:
        """Return the number of rows that close up to `until`."""
        rings = (self._attached().ring(name, TIMEFRAME) for name in self._symbols)
        times = (np.array(ring.snapshot(self._history).open_time) for ring in rings)
        return sum(int((one <= until - SECOND).sum()) for one in times)

    def poll(self) -> None:
        for service in self._services.values():
            service.poll()

    def close(self) -> None:
        for service in self._services.values():
            service.end()
        if self._feed is not None:
            self._feed.close()

    def _attached(self) -> shmfeed.Feed:
        if self._feed is None:
            self._feed = shmfeed.attach(self._name)
        return self._feed

    def _wrong_rows(self, symbol: str, rows: Any) -> list[str]:
        times, values = np.array(rows.open_time), np.array(rows.values)
        final = is_final(np.array(rows["flags"]))
        wrong = self._truth.wrong(symbol, times, values)
        wrong &= final | self._truth.unpublished(symbol, times, values)
        found = [f"{symbol}: the row of {t} is wrong" for t in times[wrong]]
        if (np.diff(times) <= 0).any():
            found.append(f"{symbol}: rows are repeated or out of order")
        return found


def read_lines(lines: "queue.Queue[str | None]") -> None:
    """Hand over the lines of standard input, and None at its end."""
    for line in sys.stdin:
        lines.put(line)
    lines.put(None)


def serve(host: HostProcess) -> None:
    """Answer requests until standard input ends."""
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=read_lines, args=(lines,), daemon=True).start()
    print(json.dumps({"result": "ready"}), flush=True)
    while True:
        host.poll()
        try:
            line = lines.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        if line is None:
            return
        request = json.loads(line)
        answer = getattr(host, request["do"])(**request["given"])
        print(json.dumps({"result": answer}), flush=True)


if __name__ == "__main__":
    with contextlib.closing(HostProcess(**json.loads(sys.argv[1]))) as host:
        serve(host)
