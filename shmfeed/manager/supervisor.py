"""Watching one feed for a manager: a thread that keeps its feeder at work.

It looks twenty times a second, tells of each change of state, and is what the
manager's callers wait for.

Calling back about changes of state, in a thread of its own.

What a callback does, and how long it takes, delays nothing but the next callback: it
may stop the manager, ask it anything, or hang.
"""

import copy
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from shmfeed.control.messages import ControlError
from shmfeed.errors import (
    BusyRingError,
    FeedBusyError,
    FeedNotFoundError,
    ShmfeedError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feed import Feed
from shmfeed.layout import State
from shmfeed.manager.lifecycle import FeederLifecycle
from shmfeed.settings.model import Settings

log = logging.getLogger(__name__)

Callback = Callable[[str, str], None]
Call = tuple[Callback, str, str]


class StateNotifier:
    """Calls each of `callbacks` with (old, new), in the order in which it was said.

    What they raise is logged and stops nothing. One that is added later hears of later
    changes.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = callbacks
        self._queue: queue.SimpleQueue[list[Call]] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name="shmfeed-announcer", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def say(self, old: str, new: str) -> None:
        if self._callbacks:
            self._queue.put([(call, old, new) for call in self._callbacks])

    def close(self, patience: float) -> None:
        """Say what is left, then end; called by a callback, after its return."""
        self._queue.put([])
        if self._thread is threading.current_thread() or not self._thread.ident:
            return
        self._thread.join(patience)
        if self._thread.is_alive():
            log.warning("an on_state_change callback has not returned so far")

    def _run(self) -> None:
        while calls := self._queue.get():
            for callback, old, new in calls:
                try:
                    callback(old, new)
                except Exception:
                    log.exception("on_state_change callback failed: %s -> %s", old, new)


log = logging.getLogger(__name__)

LOOK_SECONDS = 0.05
CALLBACK_SECONDS = 5.0  # for callbacks to return at the end


class Supervisor:
    """One feed's watch, from `begin` to `stop`. Any thread may call any method.

    `state` is the connection's. Each of `callbacks` is called with (old, new) when it
    changes, in a thread that does nothing else.
    """

    def __init__(
        self, settings: Settings, manager: str, callbacks: Sequence[Callback]
    ) -> None:
        self.state: State = "disconnected"
        self._keeper = FeederLifecycle(settings, manager)
        self._announcer = StateNotifier(callbacks)
        self._losses = 0
        self._news = threading.Condition()
        self._end = threading.Event()
        self._letting_go = threading.Lock()
        self._let_go = False
        self._thread = threading.Thread(
            target=self._run, name="shmfeed-supervisor", daemon=True
        )

    @property
    def settings(self) -> Settings:
        """With the streams that are wanted now."""
        return self._keeper.settings

    @property
    def error(self) -> ShmfeedError | None:
        """Why there is no connection."""
        return self._keeper.error

    def attached(self) -> Feed | None:
        """The feed, if it is there."""
        return self._keeper.attached()

    def begin(self) -> None:
        """Start watching; after `stop` it does nothing."""
        with self._news:
            if not self._end.is_set():
                self._announcer.start()
                self._thread.start()

    def await_connected(self, timeout: float) -> None:
        """Return once the streams are subscribed; raise what stands in the way."""
        self._await_connected(time.monotonic() + timeout, timeout)

    def _await_connected(self, deadline: float, timeout: float) -> None:
        with self._news:
            while True:
                # First: after a stop nothing is asked of a feeder that others use.
                if self._end.is_set():
                    raise WebSocketConnectionError("stopped before it was subscribed")
                if self._keeper.subscribed and self.state == "connected":
                    return
                self._raise_failure()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._too_late(timeout)
                self._news.wait(min(left, threading.TIMEOUT_MAX))

    def _raise_failure(self) -> None:
        error = self._keeper.error
        if error is None:
            return
        refused = isinstance(error, WebSocketSubscriptionError)
        if refused or self._keeper.final or self.state == "error":
            raise copy.copy(error)  # the one that is kept gathers no traceback

    def _too_late(self, timeout: float) -> ShmfeedError:
        facts, error = self._keeper.facts(), self._keeper.error
        if isinstance(error, FeedBusyError):
            return copy.copy(error)
        where = facts.get("endpoint") or "the venue"
        if facts.get("phase") == "subscribing":
            return WebSocketSubscriptionError(
                f"no acknowledgement from {where} within {timeout:g} s"
            )
        last = facts.get("last_error") or error or "no answer so far"
        return WebSocketConnectionError(
            f"no connection to {where} within {timeout:g} s: {last}"
        )

    def retry(self) -> None:
        """Try anew, if it had given up."""
        with self._news:
            failed = self.state == "error"
            self._keeper.forgive()
        if not failed:
            return
        try:
            self._keeper.ask("start")
        except ShmfeedError:
            return  # where there is none to answer, one is launched
        with self._news:  # what was seen of the old failure meanwhile is off
            self._keeper.error = None

    def subscribe(self, settings: Settings, timeout: float) -> None:
        """Want the streams of `settings`; returns once they are acknowledged.

        Waits for the connection if there is none. Raises what stands in its way, or
        the venue's words; the old streams go on then.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._await_connected(deadline, timeout)
            left = deadline - time.monotonic()
            try:
                self._keeper.want(settings, max(0.01, left))
            except (FeedNotFoundError, ControlError, WebSocketConnectionError) as error:
                if time.monotonic() >= deadline:
                    raise WebSocketSubscriptionError(
                        f"the change was not acknowledged within {timeout:g} s; the"
                        f" old streams go on ({error})"
                    ) from error
            else:
                return
            self._end.wait(LOOK_SECONDS)  # it was lost just now: look again

    def _run(self) -> None:
        keeper = self._keeper
        while not self._end.wait(LOOK_SECONDS):
            try:
                keeper.look()
                self._observe()
            except BusyRingError:
                pass  # it is read at the next look
            except ShmfeedError as error:
                keeper.fail(error)
            except OSError as error:
                keeper.stumble(error)
            except Exception as error:
                log.exception("watching feed %s failed", keeper.settings.feed)
                keeper.fail(ShmfeedError(f"watching the feed failed: {error!r}"))

    def _observe(self) -> None:
        with self._news:
            state, losses = self._keeper.judge()
            if self.state == state == "connected" and losses > self._losses:
                # Lost and found between two looks.
                self._turn("reconnecting")
            self._losses = losses
            self._turn(state)
            self._news.notify_all()

    def _turn(self, state: State) -> None:
        old, self.state = self.state, state
        if old != state:
            self._announcer.say(old, state)

    def stop(self, keep: bool) -> None:
        """End the watch, and the feeder when no other manager wants it. Idempotent.

        With `keep` the segment stays. Leaves no process, no thread, no lock.
        """
        self._finish(lambda: self._keeper.end(keep))

    def abandon(self) -> None:
        """After a start that failed: leave what was there before, and no more."""
        self._finish(self._keeper.abandon)

    def _finish(self, let_go: Callable[[], None]) -> None:
        with self._news:
            self._end.set()
            self._news.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        with self._letting_go:  # a second caller waits until it is done
            if not self._let_go:
                self._let_go = True
                let_go()
                self._turn("disconnected")
        self._announcer.close(CALLBACK_SECONDS)
