"""A feeder that a manager launched as a process: its settings, its log, its end."""

import atexit
import io
import logging
import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, NamedTuple

import msgspec

from shmfeed.child_modules import module_command, module_environment
from shmfeed.control.messages import ControlError, decode_answer
from shmfeed.errors import ShmfeedError, WebSocketConnectionError
from shmfeed.forks import ForkRegistry
from shmfeed.settings.model import Settings, to_json

log = logging.getLogger("shmfeed.feeder")

_PIECE_BYTES = 64 * 1024
_TAIL_LINES = 20
_ORDER = 0  # the id of the one request that goes by standard input
_LEVELS = logging.getLevelNamesMapping()


class _JsonLine(msgspec.Struct):
    """The part of a JSON line that is read here."""

    level: str = ""


_decode_line = msgspec.json.Decoder(_JsonLine).decode


class CrashReport:
    """Cause and place of a fatal error, such as a segmentation fault, as Python says.

    The dump of all threads that follows is long, and its last lines say nothing.

    Attributes:
        text: The cause and the innermost line of Python, "" before a fatal error.
    """

    def __init__(self) -> None:
        self.text = ""
        self._is_place_next = False

    def take(self, line: str) -> None:
        """Take the next line of the log."""
        if line.startswith("Fatal Python error: "):
            self.text = line
        elif self.text and line.startswith("Current thread"):
            self._is_place_next = True
        elif self._is_place_next:
            self._is_place_next = False
            self.text = f"{self.text}, {line.strip()}"


class Launcher(NamedTuple):
    """The manager that launches a feeder: its id, and the name of its wants."""

    manager: str
    name: str


class FeederProcess:
    """A feeder that this process launched, and that may outlive this process.

    `replace` lets it drop stored bars of another identity. With `asks_token` it asks
    its manager for a token before it dials again. Settings and token go over
    its standard input, never through argv or environment. Its log lines are logged here
    by the logger `shmfeed.feeder`. Construction raises OSError if the process cannot be
    started.
    """

    def __init__(
        self,
        settings: Settings,
        launcher: Launcher,
        replace: bool = False,
        asks_token: bool = False,
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 # our own module
            module_command("shmfeed.feeder.main"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Raw pipes: a thread that reads holds a buffer's lock. After a fork that
            # lock would block the child at its exit.
            bufsize=0,
            env=module_environment(),
            start_new_session=True,  # Ctrl-C in the manager's terminal spares it
        )
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._crash = CrashReport()
        self.failure: ShmfeedError | None = None
        self.has_started = False  # it has taken the feed
        self._readers = [
            _thread("shmfeed-report", self._follow_report),
            _thread("shmfeed-log", self._follow_log),
        ]
        _launched.add(self)
        self._send_launch_message(settings, launcher, replace, asks_token)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _send_launch_message(
        self, settings: Settings, launcher: Launcher, replace: bool, asks_token: bool
    ) -> None:
        message = {
            **launcher._asdict(),
            "pid": os.getpid(),
            "replace": replace,
            "asks_token": asks_token,
            "settings": msgspec.Raw(to_json(settings)),
        }
        rest = memoryview(msgspec.json.encode(message) + b"\n")
        pipe = _pipe(self._process.stdin)
        with suppress(OSError, ValueError):  # it died: see exit_reason()
            while rest:
                rest = rest[pipe.write(rest) or 0 :]

    def _follow_report(self) -> None:
        for line in _lines(_pipe(self._process.stdout)):
            try:
                decode_answer(line.encode(), _ORDER)
                self.has_started = True
            except ControlError:  # a line of a library, not the feeder's report
                self._log(line)
            except ShmfeedError as error:
                self.failure = error
        # End of file: it has ended. Reap it even if no manager polls it any more.
        self._process.wait()
        _pipe(self._process.stdin).close()

    def _follow_log(self) -> None:
        for line in _lines(_pipe(self._process.stderr)):
            self._log(line)

    def _log(self, line: str) -> None:
        self._tail.append(line)
        self._crash.take(line)
        log.log(_level_of(line), "%s", line)

    def exit_code(self) -> int | None:
        """Return the exit code of an ended process and reap it; None while it runs."""
        return self._process.poll()

    def exit_reason(self) -> ShmfeedError:
        """Return the error that the feeder reported, or one that says how it ended.

        The process must have ended.
        """
        for reader in self._readers:
            reader.join(1.0)
        if self.failure is not None:
            return self.failure
        code = self._process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        last = self._crash.text or next(filter(None, reversed(self._tail)), "")
        why = f": {last}" if last and _level_of(last) >= logging.WARNING else ""
        return WebSocketConnectionError(f"the feeder (pid {self.pid}) {how}{why}")

    def wait(self, timeout: float) -> bool:
        """Wait for its end and reap it; return False if it runs after `timeout` s."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, timeout: float) -> None:
        """Send SIGTERM, then SIGKILL after `timeout` seconds; reap the process."""
        if self.exit_code() is None:
            self._process.terminate()
            if not self.wait(timeout):
                self._process.kill()
        self._process.wait()
        self.close()

    def kill(self) -> None:
        """Send SIGKILL, which also ends a stopped process. `exit_code` reaps it."""
        self._process.kill()

    def close(self) -> None:
        """Wait until its last output is read. The process must have ended."""
        for reader in self._readers:
            reader.join()

    def detach(self) -> None:
        """Let the feeder outlive this process, without a warning of Popen."""
        if self._process.returncode is None:
            self._process.returncode = 0

    def disown(self) -> None:
        """Close the pipes in a forked child: process and pipes are the parent's."""
        self.detach()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            _pipe(pipe).close()


_launched: ForkRegistry[FeederProcess] = ForkRegistry()


@atexit.register
def _detach_all() -> None:
    for process in _launched:
        process.detach()


def _pipe(pipe: IO[bytes] | None) -> io.FileIO:
    assert isinstance(pipe, io.FileIO)  # noqa: S101 # Popen makes it, unbuffered
    return pipe


def _lines(pipe: io.FileIO) -> Iterator[str]:
    """Yield the lines of a raw pipe until its end, an overlong one in pieces."""
    rest = b""
    with pipe:
        while piece := pipe.read(_PIECE_BYTES):
            *whole, rest = (rest + piece).split(b"\n")
            if len(rest) > _PIECE_BYTES:
                whole, rest = [*whole, rest], b""
            for line in whole:
                yield line.decode("utf-8", "replace").rstrip()
    if rest:
        yield rest.decode("utf-8", "replace").rstrip()


def _level_of(line: str) -> int:
    """Return the level of a log line of a feeder, in text or in JSON."""
    try:
        name = _decode_line(line).level
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        name = line.partition(" ")[2].partition(" ")[0]  # between time and message
    return _LEVELS.get(name, logging.WARNING)


def _thread(name: str, work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread
