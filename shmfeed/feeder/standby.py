"""A feeder that stands by until its feed is free, and takes it then: `run --wait`."""

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self

from shmfeed.codecs.identity import identity_of
from shmfeed.errors import FeedBusyError
from shmfeed.feeder.feeder import Feeder
from shmfeed.segment.identity import stored_identity
from shmfeed.segment.locking import is_free
from shmfeed.segment.mapping import place
from shmfeed.settings.model import Settings

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2  # a feed is taken that soon after its feeder has ended


def take_when_free(make: Callable[[], Feeder], settings: Settings) -> Feeder | None:
    """Return the feeder that `make` returns, once no other process has the feed.

    Return None if SIGTERM or SIGINT came first. A SIGHUP that came meanwhile has the
    feeder read its settings again. Call it in the main thread.

    Raises:
        FeedBusyError: A feeder of another identity has the feed.
        ShmfeedError: As `make` does.
    """
    where, identity = place(settings.feed), identity_of(settings)
    with _Signals() as signals:
        named: int | None = -1
        while not signals.is_stopped:
            try:
                feeder = make()
            except FeedBusyError as error:
                stored = stored_identity(where)
                if stored is not None and not stored.matches(identity):
                    raise
                if error.pid != named:
                    named = error.pid
                    log.info(
                        "feed %s: %s writes it; this feeder stands by until it is free",
                        settings.feed,
                        _describe_owner(error.pid),
                    )
            else:
                if named != -1:
                    log.info("feed %s is free: this feeder takes it", settings.feed)
                if signals.is_reload_due:
                    feeder.reload_soon()
                return feeder
            while not signals.wait(POLL_SECONDS) and not is_free(where):
                pass
    log.info("feed %s: this feeder no longer stands by", settings.feed)
    return None


def _describe_owner(pid: int | None) -> str:
    return "another process" if pid is None else f"process {pid}"


class _Signals:
    """The signals that come while a feeder stands by."""

    def __init__(self) -> None:
        self.is_reload_due = False
        self._stopped = threading.Event()

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait; return True as soon as a signal has ended the wait for the feed."""
        return self._stopped.wait(seconds)

    def __enter__(self) -> Self:
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handlers[signal.SIGHUP] = self._reload
        self._before = {
            number: signal.signal(number, handler)
            for number, handler in handlers.items()
        }
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._stopped.set()

    def _reload(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.is_reload_due = True
