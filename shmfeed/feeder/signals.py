"""The signals of a feeder's process: SIGTERM and SIGINT stop it, SIGHUP reloads it."""

import signal
import threading
from types import FrameType

from shmfeed.feeder.feeder import Feeder


class FeederSignals:
    """The signals from now on. Those that come before there is a feeder are kept.

    A SIGHUP that this process ignores, as under nohup, stays ignored. The main thread
    makes it, once in a process.
    """

    def __init__(self, unlink: bool = False) -> None:
        """Handle the signals; a stop removes the segment with `unlink`."""
        self._unlink = unlink
        self._feeder: Feeder | None = None
        self._stopped = threading.Event()
        self._is_reload_due = False
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handlers[signal.SIGHUP] = self._reload
        for number, handler in handlers.items():
            signal.signal(number, handler)
        # The signal mask is inherited: unblock what a parent had blocked.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for a signal that stops; return True as soon as one has come."""
        return self._stopped.wait(seconds)

    def give_to(self, feeder: Feeder) -> None:
        """Let this feeder have the signals, and those that have come already."""
        self._feeder = feeder
        if self._is_reload_due:
            self._is_reload_due = False
            feeder.reload_soon()
        if self.is_stopped:
            feeder.stop(self._unlink)

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._stopped.set()
        if self._feeder is not None:
            self._feeder.stop(self._unlink)

    def _reload(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._feeder is None:
            self._is_reload_due = True
        else:
            self._feeder.reload_soon()
