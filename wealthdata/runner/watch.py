"""Signals to a run: Ctrl-C, SIGTERM, and the alarm that looks for a handler that hangs.

A signal that comes while a handler runs waits until the handler returns, so that no
strategy stops halfway; a second one ends the handler at once. While a strategy's file
is loaded, or the run waits for bars, a signal ends that at once. A signal ends code by
an exception, which a bare `except` may swallow: where the same code still runs at the
next signal, that one kills the process.

The alarm rings every few seconds. If the handler that ran at the last ring still runs,
the user is told once which one, of which bar, and at which line of the strategy it
stands. The alarm interrupts system calls, which Python then resumes, so that a handler
which waits for a lock or a socket is seen, too. It needs no thread, so that a strategy
may fork. A handler that hangs in C code which holds the interpreter is not seen.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self

HANG_SECONDS = 10.0


class StoppedError(BaseException):
    """The run is to end: a signal has come. It is not an error of a strategy."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Watch:
    """The signals of one run. A context manager, for the main thread.

    Attributes:
        call: The call that runs now, an object of its own each time; None between two.
        loading: The file that is loaded now, in words; None at other times.
        asked: The number of the signal that has come, None before one.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        describe: Callable[[Any], str],
        patience: float = HANG_SECONDS,
    ) -> None:
        """Take the ways to tell the user, and to describe a call.

        A call that runs for `patience` seconds, or up to twice as long, is reported.
        """
        self.call: object = None
        self.loading: object = None
        self.asked: int | None = None
        self._inform = tell
        self._describe = describe
        self._patience = patience
        self._files: set[str] = set()  # of the strategies
        self._seen: object = None  # the call at the last ring
        self._told: object = None  # the call that was reported
        self._ended: object = None  # the call that a signal has ended, if it let it
        self._earlier: dict[int, Any] = {}
        self._timer = 0.0, 0.0  # of the program around the run

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # signals are the main thread's
        for number in (signal.SIGINT, signal.SIGTERM):
            self._earlier[number] = signal.signal(number, self._on_signal)
        if hasattr(signal, "setitimer"):
            self._earlier[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_ring)
            ring = self._patience
            self._timer = signal.setitimer(signal.ITIMER_REAL, ring, ring)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._earlier.items():
            with suppress(TypeError):  # one that was not set from Python
                signal.signal(number, handler)
        if self._earlier and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, *self._timer)
        self._earlier.clear()

    @contextmanager
    def load(self, name: str, path: str) -> Iterator[None]:
        """Watch the code of a file outside of its functions, called `name`."""
        with suppress(OSError, ValueError):  # told where the file is read
            self._files.add(str(Path(path).resolve()))
        self.loading = f"the code of {name} outside of its functions"
        try:
            yield
        finally:
            self.loading = None

    def check(self) -> None:
        """Raise StoppedError if a signal has come."""
        if self.asked is not None:
            raise StoppedError(self.asked)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.call is None or self.asked is not None:
            code = self.loading if self.call is None else self.call
            if code is not None and code is self._ended:
                self._kill(number, code)
            self.asked, self._ended = number, code
            raise StoppedError(number)
        self.asked = number
        name = signal.Signals(number).name
        self._inform(
            f"{name}: the run ends once {self._describe(self.call)} has returned; a"
            " second signal ends it at once"
        )

    def _kill(self, number: int, code: object) -> None:
        name = signal.Signals(number).name
        self._inform(
            f"{name}: {self._describe(code)} has caught the end of the run, as a bare"
            " except does; the process is killed"
        )
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def _on_ring(self, _number: int, frame: FrameType | None) -> None:
        call = self.loading if self.call is None else self.call
        if call is not self._seen:
            self._seen = call
        elif call is not None and call is not self._told and frame is not None:
            self._told = call
            self._inform(
                f"{self._describe(call)} has run for {self._patience:.0f} s or more; it"
                f" is at {self._place(frame)}"
            )

    def _place(self, frame: FrameType) -> str:
        """Return the line of the strategy that led to a frame, else the frame's own."""
        caller: FrameType | None = frame
        while caller is not None and caller.f_code.co_filename not in self._files:
            caller = caller.f_back
        found = caller or frame
        return f"{Path(found.f_code.co_filename).name} line {found.f_lineno}"
