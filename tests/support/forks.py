"""Forked children of a test, which start within milliseconds and die by SIGKILL.

For thousands of short lives; `conftest.child` starts a fresh interpreter instead.
"""

import json
import mmap
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

# Loads of races and faults are multiplied by this. For a change 1; at night
# TEST_SCALE=20 with pytest's --timeout=3000.
SCALE = float(os.environ.get("TEST_SCALE", "1"))


class Fork:
    """`work(*arguments)` in a forked child; what it returns, JSON, is its result.

    A context manager: leaving it kills and reaps the child.
    """

    def __init__(self, work: Callable[..., object], *arguments: object) -> None:
        self.status: int | None = None
        self._pipe, report = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python counts the threads of numpy's BLAS, which survives a fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if not self.pid:
            _live(report, work, arguments)
        os.close(report)

    def signal(self, number: int) -> None:
        if self.status is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL it, if it still runs, and reap it."""
        self.signal(signal.SIGKILL)
        self._reap(0)

    def wait(self, seconds: float = 30.0) -> int:
        """Wait for the end. Return the exit code, or minus the signal's number."""
        wait_until(lambda: self._reap(os.WNOHANG), seconds, f"child {self.pid} ends")
        assert self.status is not None
        return os.waitstatus_to_exitcode(self.status)

    def result(self, seconds: float = 30.0) -> Any:
        """Return the result of `work`; fail if it raised or did not end in time."""
        deadline = time.monotonic() + seconds
        text = b""
        while True:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._pipe], [], [], left)[0]:
                raise TimeoutError(f"child {self.pid} runs longer than {seconds} s")
            piece = os.read(self._pipe, 1 << 16)
            if not piece:
                break
            text += piece
        assert self.wait() == 0, f"child {self.pid} failed; see its traceback"
        return json.loads(text)

    def _reap(self, options: int) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.status = status
        return self.status is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        os.close(self._pipe)


def _live(
    report: int, work: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    """Run the child, which never returns into the test's own code."""
    code = 1
    try:
        with os.fdopen(report, "w") as pipe:
            json.dump(work(*arguments), pipe)
        code = 0
    except BaseException:  # noqa: BLE001 # no exception may reach pytest's copy
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def board(words: int = 64) -> memoryview:
    """Return ints that this process and its forked children share.

    The stores of a killed child are there.
    """
    return memoryview(mmap.mmap(-1, words * 8)).cast("q")


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Return once `condition()` is true; else fail, naming `what` did not happen.

    For conditions in memory and of processes, which no event announces.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.0005)
