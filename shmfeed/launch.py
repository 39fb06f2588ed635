"""Launching a feeder as a process of its own, and knowing why it ended."""

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from shmfeed import errors
from shmfeed.config import Settings, to_json
from shmfeed.errors import ShmfeedError, WebSocketConnectionError

log = logging.getLogger("shmfeed.feeder")

_LINE_BYTES = 64 * 1024
_TAIL_LINES = 20
_OWN_PREFIXES = ("WEBSOCKET_", "SHMFEED_")
_PASSED_ON = {"SHMFEED_PURE", "SHMFEED_FAIL"}


class FeederProcess:
    """A feeder that this process launched; it may outlive this process.

    Settings and token go over its standard input, never argv or environment. Its log
    lines are logged here as `shmfeed.feeder`.
    """

    def __init__(self, settings: Settings, manager: str) -> None:
        self._process = subprocess.Popen(  # our own module, no shell
            [sys.executable, "-P", "-m", "shmfeed.managed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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
            "settings": json.loads(to_json(settings)),
        }
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 # it was asked for above
        with suppress(BrokenPipeError):  # it died already: `ended` tells how
            pipe.write(json.dumps(order).encode() + b"\n")
            pipe.flush()

    def _follow_report(self) -> None:
        for line in _lines(self._process.stdout):
            report = json.loads(line)
            if "error" in report:
                kind = getattr(errors, report["error"], ShmfeedError)
                self.failure = kind(report["message"])
        # Its end. A manager may have left it to others: reap it here all the same.
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def _follow_log(self) -> None:
        for line in _lines(self._process.stderr):
            self._tail.append(line)
            log.warning("%s", line)

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


_launched: weakref.WeakSet[FeederProcess] = weakref.WeakSet()


@atexit.register
def _leave_all() -> None:
    for process in list(_launched):
        process.leave()


def _lines(pipe: IO[bytes] | None) -> Iterator[str]:
    assert pipe is not None  # noqa: S101 # it was asked for
    with pipe:
        while line := pipe.readline(_LINE_BYTES):
            yield line.decode("utf-8", "replace").rstrip()


def _thread(name: str, work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


def _environment() -> dict[str, Any]:
    """Ours, without the settings in it: they go over the pipe, the token too."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or not name.startswith(_OWN_PREFIXES)
    }
    home = str(Path(__file__).resolve().parent.parent)
    paths = [path for path in (kept.get("PYTHONPATH"), home) if path]
    kept["PYTHONPATH"] = os.pathsep.join(paths)
    return kept
