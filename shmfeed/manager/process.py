"""Launching a feeder as a process of its own, and knowing why it ended."""

import atexit
import io
import logging
import os
import subprocess
import sys
import sysconfig
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from shmfeed.control.messages import ControlError, decode_answer
from shmfeed.errors import ShmfeedError, WebSocketConnectionError
from shmfeed.settings.model import Settings, to_json

log = logging.getLogger("shmfeed.feeder")

_PIECE_BYTES = 64 * 1024
_TAIL_LINES = 20
_OWN_PREFIXES = ("WEBSOCKET_", "SHMFEED_")
_PASSED_ON = {"SHMFEED_PURE"}
_ORDER = 0  # the id of the only request that goes this way
_LEVELS = logging.getLevelNamesMapping()


class FeederProcess:
    """A feeder that this process launched; it may outlive this process.

    Settings and token go over its standard input, never argv or environment. Its log
    lines are logged here as `shmfeed.feeder`. Construction raises OSError where no
    process can be had.
    """

    def __init__(self, settings: Settings, manager: str) -> None:
        self._process = subprocess.Popen(  # our own module, no shell
            [sys.executable, "-P", "-m", "shmfeed.feeder.main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Raw pipes: a buffer's lock, held by a reading thread at a fork, would
            # stop the child of that fork when it ends.
            bufsize=0,
            env=_environment(),
            start_new_session=True,  # Ctrl-C at the manager's terminal is not for it
        )
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.failure: ShmfeedError | None = None
        self._readers = [
            _thread("shmfeed-report", self._follow_report),
            _thread("shmfeed-log", self._follow_log),
        ]
        _launched.add(self)
        self._send_order(settings, manager)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _send_order(self, settings: Settings, manager: str) -> None:
        order = {
            "manager": manager,
            "pid": os.getpid(),
            "settings": msgspec.Raw(to_json(settings)),
        }
        rest = memoryview(msgspec.json.encode(order) + b"\n")
        pipe = _pipe(self._process.stdin)
        with suppress(BrokenPipeError, ValueError):  # it died: `ended` tells how
            while rest:
                rest = rest[pipe.write(rest) or 0 :]

    def _follow_report(self) -> None:
        for line in _lines(_pipe(self._process.stdout)):
            try:
                decode_answer(line.encode(), _ORDER)
            except ControlError:  # somebody else's words on our standard output
                self._log(line)
            except ShmfeedError as error:
                self.failure = error
        # Its end. A manager may have left it to others: reap it here all the same.
        self._process.wait()
        _pipe(self._process.stdin).close()

    def _follow_log(self) -> None:
        for line in _lines(_pipe(self._process.stderr)):
            self._log(line)

    def _log(self, line: str) -> None:
        self._tail.append(line)
        words = line.split(" ", 3)  # date, time, level, the rest
        level = _LEVELS.get(words[2]) if len(words) == 4 else None
        log.log(level or logging.WARNING, "%s", line)

    def ended(self) -> int | None:
        """The exit code, once it has ended and been reaped; None while it runs."""
        return self._process.poll()

    def why(self) -> ShmfeedError:
        """What it said, or what is known, of its end. Call it after `ended`."""
        for reader in self._readers:
            reader.join(1.0)
        if self.failure is not None:
            return self.failure
        code = self._process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        last = f": {self._tail[-1]}" if self._tail else ""
        return WebSocketConnectionError(f"the feeder (pid {self.pid}) {how}{last}")

    def wait(self, timeout: float) -> bool:
        """Whether it ended, and was reaped, within `timeout` seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, patience: float) -> None:
        """End it: SIGTERM, then SIGKILL after `patience` seconds; reap it."""
        if self.ended() is None:
            self._process.terminate()
            if not self.wait(patience):
                self._process.kill()
        self._process.wait()
        self.close()

    def close(self) -> None:
        """After its end: wait until its last words are read."""
        for reader in self._readers:
            reader.join()

    def leave(self) -> None:
        """At our own exit: it goes on without us, and Popen need not worry."""
        if self._process.returncode is None:
            self._process.returncode = 0

    def disown(self) -> None:
        """In a forked child: it is the parent's, and so is our end of its pipes."""
        self.leave()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            _pipe(pipe).close()


_launched: weakref.WeakSet[FeederProcess] = weakref.WeakSet()


@atexit.register
def _leave_all() -> None:
    for process in list(_launched):
        process.leave()


def _disown_all() -> None:
    for process in list(_launched):
        process.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)


def _pipe(pipe: IO[bytes] | None) -> io.FileIO:
    assert isinstance(pipe, io.FileIO)  # noqa: S101 # it was asked for, unbuffered
    return pipe


def _lines(pipe: io.FileIO) -> Iterator[str]:
    """The lines of a raw pipe until its end; one too long comes in pieces."""
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


def _thread(name: str, work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


def _environment() -> dict[str, str]:
    """Ours, without the settings in it: they go over the pipe, the token too."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or not name.startswith(_OWN_PREFIXES)
    }
    home = str(Path(__file__).resolve().parents[2])
    if home not in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        paths = [path for path in (kept.get("PYTHONPATH"), home) if path]
        kept["PYTHONPATH"] = os.pathsep.join(paths)
    return kept
