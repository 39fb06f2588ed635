"""The strategy processes: started, listened to, and ended, each by its own pid."""

import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shmfeed.errors import ShmfeedError

_READY_SECONDS = 60.0
_END_SECONDS = 3.0  # for a strategy to report and go
_LISTEN_SECONDS = 0.1
_TAIL_LINES = 12


class CrewError(ShmfeedError):
    """A strategy process that did not come up; the message has its last words."""


class Member:
    """One strategy process, and what it has said."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.number: int = order["number"]
        self.ready = False
        self.report: dict[str, Any] = {}
        self.rate = 0.0  # reads a second between its last two reports
        self.failure = ""  # how it ended, if it ended unasked
        self._partial = b""
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        # A session of its own: Ctrl-C is for the demo, which ends it in good order.
        self.process = subprocess.Popen(  # our own module, no shell
            [sys.executable, "-P", "-m", "shmfeed.demo.strategy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env=_environment(),
            start_new_session=True,
        )
        self.tell(json.dumps(order))

    @property
    def stdout(self) -> int:
        assert self.process.stdout is not None  # noqa: S101 # it was asked for above
        return self.process.stdout.fileno()

    def tell(self, line: str) -> None:
        """A line to its standard input; nothing if it has ended."""
        assert self.process.stdin is not None  # noqa: S101 # it was asked for above
        with suppress(BrokenPipeError):
            self.process.stdin.write(line.encode() + b"\n")

    def dismiss(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None  # noqa: S101 # it was asked for above
        self.process.stdin.close()

    def hear(self) -> bool:
        """Take what it has said; False at the end of its output."""
        data = os.read(self.stdout, 1 << 16)
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._take(line.decode(errors="replace"))
        return bool(data)

    def _take(self, line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:  # of Python's own: a warning, a traceback
            self._tail.append(line)
            return
        self.ready = True
        if "reads" in said:
            before = self.report or {"at": said["began"], "reads": 0}
            passed = said["at"] - before["at"]
            if passed > 0:
                self.rate = (said["reads"] - before["reads"]) / passed
            self.report = said

    def _describe(self, code: int) -> str:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        words = f": {self._tail[-1]}" if self._tail else ""
        return f"strategy {self.number} (pid {self.process.pid}) {how}{words}"

    def end(self, patience: float, asked: bool = True) -> None:
        """See it ended, by force after `patience` seconds; reaped, its pipes closed.

        It is a failure if it was not `asked` to end, or did not end well.
        """
        self.dismiss()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        code = self.process.returncode
        if code or not asked:
            self.failure = self._describe(code)
            self.rate = 0.0


class Crew:
    """All of them, from construction to the end of the `with` block."""

    def __init__(self, orders: Sequence[dict[str, Any]]) -> None:
        self.members: list[Member] = []
        self._selector = selectors.DefaultSelector()
        try:
            for order in orders:
                member = Member(order)
                self.members.append(member)
                self._selector.register(member.stdout, selectors.EVENT_READ, member)
        except BaseException:
            self.end(0.0)
            raise

    def await_ready(self, stopped: Callable[[], bool]) -> None:
        """Return once all have found the feed, or `stopped()`. CrewError."""
        deadline = time.monotonic() + _READY_SECONDS
        while not all(member.ready for member in self.members) and not stopped():
            self.listen(_LISTEN_SECONDS)
            for member in self.members:
                if member.failure:
                    raise CrewError(member.failure)
            if time.monotonic() > deadline:
                raise CrewError(f"not all strategies began in {_READY_SECONDS:g} s")

    def go(self) -> None:
        """Let them begin."""
        for member in self.members:
            if not member.failure:
                member.tell("go")

    def listen(self, seconds: float) -> None:
        """Take what they say, and notice who is gone, for at most so long."""
        for member in self._heard(seconds):
            member.end(_END_SECONDS, asked=False)

    def _heard(self, seconds: float) -> list[Member]:
        """Who has come to the end of its output."""
        ended = []
        for key, _ in self._selector.select(seconds):
            member: Member = key.data
            if not member.hear():
                self._selector.unregister(key.fileobj)
                ended.append(member)
        return ended

    def end(self, patience: float = _END_SECONDS) -> None:
        """Dismiss them, take their last reports, and leave no process. Idempotent."""
        running = {member for member in self.members if not member.failure}
        for member in running:
            member.dismiss()
            if not member.ready:
                member.process.terminate()  # it has nothing to report
        deadline = time.monotonic() + patience
        while self._selector.get_map() and time.monotonic() < deadline:
            self._heard(_LISTEN_SECONDS)
        for member in running:
            member.end(max(0.0, deadline - time.monotonic()))
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


def _environment() -> dict[str, str]:
    home = str(Path(__file__).resolve().parents[2])
    paths = [path for path in (os.environ.get("PYTHONPATH"), home) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
