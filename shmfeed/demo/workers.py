"""The strategy processes of a demo: started, read from, and ended by their own pid."""

import json
import os
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from shmfeed.child_modules import module_command, module_environment
from shmfeed.demo.metrics import WorkerReport
from shmfeed.errors import ShmfeedError

_READY_SECONDS = 60.0
_STOP_SECONDS = 3.0  # for a strategy to report and exit
_POLL_SECONDS = 0.1
_TAIL_LINES = 12


class WorkerError(ShmfeedError):
    """A strategy process did not start."""


class Worker:
    """One strategy process and its report.

    Args:
        order: The process's first line of input; see `demo.strategy`.

    Attributes:
        report: Its latest report, and its failure if it ended early.
        ready: The process has found the feed.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.report = WorkerReport(order["number"])
        self.ready = False
        self._partial_line = b""
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        # A session of its own: Ctrl-C reaches the demo alone, which ends its workers.
        self.process = subprocess.Popen(  # noqa: S603 # our own module
            module_command("shmfeed.demo.strategy"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env=module_environment(with_settings=True),
            start_new_session=True,
        )
        self.send(json.dumps(order))

    @property
    def stdout(self) -> int:
        assert self.process.stdout is not None  # noqa: S101 # it is a pipe, see above
        return self.process.stdout.fileno()

    def send(self, line: str) -> None:
        """Write a line to the process; do nothing if it has ended."""
        assert self.process.stdin is not None  # noqa: S101 # it is a pipe, see above
        with suppress(BrokenPipeError):
            self.process.stdin.write(line.encode() + b"\n")

    def close_input(self) -> None:
        """Close the process's standard input, which ends it."""
        assert self.process.stdin is not None  # noqa: S101 # it is a pipe, see above
        self.process.stdin.close()

    def read(self) -> bool:
        """Read what the process wrote; return False at the end of its output."""
        data = os.read(self.stdout, 1 << 16)
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        for line in lines:
            self._parse(line.decode(errors="replace"))
        return bool(data)

    def reap(self, timeout: float, expected: bool = True) -> None:
        """Wait for the process, kill it after `timeout` seconds, close its pipes.

        The report fails if the end was not `expected` or the exit code is not 0.
        """
        self.close_input()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        code = self.process.returncode
        if code or not expected:
            self.report.fail(self._describe(code))

    def _parse(self, line: str) -> None:
        try:
            message = json.loads(line)
        except ValueError:  # Python's own output: a warning, a traceback
            self._tail.append(line)
            return
        self.ready = True
        if "reads" in message:
            self.report.update(message)

    def _describe(self, code: int) -> str:
        how = (
            f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        )
        last = f": {self._tail[-1]}" if self._tail else ""
        return f"strategy {self.report.number} (pid {self.process.pid}) {how}{last}"


class WorkerPool:
    """All strategy processes, from construction to the end of the `with` block."""

    def __init__(self, orders: Sequence[dict[str, Any]]) -> None:
        self._workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()
        try:
            for order in orders:
                worker = Worker(order)
                self._workers.append(worker)
                self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        except BaseException:
            self.stop(0.0)
            raise

    @property
    def reports(self) -> list[WorkerReport]:
        return [worker.report for worker in self._workers]

    def wait_ready(self, stopped: Callable[[], bool]) -> None:
        """Return once all processes are ready, or `stopped()`. Raise WorkerError."""
        deadline = time.monotonic() + _READY_SECONDS
        while (ready := self._count_ready()) < len(self._workers) and not stopped():
            self.poll(_POLL_SECONDS)
            for report in self.reports:
                if report.failure:
                    raise WorkerError(report.failure)
            if time.monotonic() > deadline:
                raise WorkerError(
                    f"only {ready} of {len(self._workers)} strategies were ready "
                    f"within {_READY_SECONDS:g} s"
                )

    def begin(self) -> None:
        """Let all processes begin to read."""
        for worker in self._workers:
            if not worker.report.failure:
                worker.send("go")

    def poll(self, seconds: float) -> None:
        """Read reports for at most `seconds`, and reap processes that ended."""
        for worker in self._read_ready(seconds):
            worker.reap(_STOP_SECONDS, expected=False)

    def stop(self, timeout: float = _STOP_SECONDS) -> None:
        """End all processes, and read their last reports. Idempotent."""
        running = {worker for worker in self._workers if not worker.report.failure}
        for worker in running:
            worker.close_input()
            if not worker.ready:
                worker.process.terminate()  # it has nothing to report
        deadline = time.monotonic() + timeout
        while self._selector.get_map() and time.monotonic() < deadline:
            self._read_ready(_POLL_SECONDS)
        for worker in running:
            worker.reap(max(0.0, deadline - time.monotonic()))
        self._selector.close()

    def _count_ready(self) -> int:
        return sum(worker.ready for worker in self._workers)

    def _read_ready(self, seconds: float) -> list[Worker]:
        """Read from processes with output; return those at the end of theirs."""
        ended = []
        for key, _ in self._selector.select(seconds):
            worker: Worker = key.data
            if not worker.read():
                self._selector.unregister(key.fileobj)
                ended.append(worker)
        return ended

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
