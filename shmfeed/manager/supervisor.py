"""Supervision of one feed: a thread that polls its feeder and reports its state.

The thread polls twenty times a second. Callers of the manager wait for its results.
Callbacks run in a thread of their own.
"""

import copy
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

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
from shmfeed.manager.history import HistoryFunction, HistoryResponder
from shmfeed.manager.lifecycle import FeederLifecycle
from shmfeed.manager.tokens import TokenSource
from shmfeed.settings.model import Settings

POLL_SECONDS = 0.05
CALLBACK_SECONDS = 5.0  # for callbacks to return when the notifier closes

Callback = Callable[[State, State], None]
_LEVELS = {"reconnecting": logging.WARNING, "error": logging.ERROR}
_Call = tuple[Callback, State, State]

log = logging.getLogger(__name__)


class StateNotifier:
    """A thread that calls `callbacks` with (old, new) at each change of state.

    Changes are reported in order. A callback may block, stop the manager, or raise:
    it delays only later callbacks, and its exception is logged. A callback that is
    added later is called for later changes only.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = callbacks
        self._queue: queue.SimpleQueue[list[_Call]] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name="shmfeed-notifier", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def notify(self, old: State, new: State) -> None:
        if self._callbacks:
            self._queue.put([(call, old, new) for call in self._callbacks])

    def close(self, timeout: float) -> None:
        """Report the queued changes and end the thread.

        Called from a callback, it returns at once; the thread ends after that callback.
        """
        self._queue.put([])
        if self._thread is threading.current_thread() or not self._thread.ident:
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.warning("an on_state_change callback still runs after %g s", timeout)

    def _run(self) -> None:
        while calls := self._queue.get():
            for callback, old, new in calls:
                try:
                    callback(old, new)
                except Exception:
                    log.exception("on_state_change callback failed: %s -> %s", old, new)


class Supervisor:
    """The supervision of one feed, from `start` to `stop`.

    `state` is the connection's. Each of `callbacks` is called with (old, new) when it
    changes. Thread safety: any thread may call any method.
    """

    def __init__(
        self,
        settings: Settings,
        manager: str,
        callbacks: Sequence[Callback],
        *,
        replace: bool = False,
        token_source: TokenSource | None = None,
        history: HistoryFunction | None = None,
    ) -> None:
        self.state: State = "disconnected"
        self._lifecycle = FeederLifecycle(settings, manager, replace)
        self._lifecycle.token_source = token_source
        self._responder: HistoryResponder | None = None
        if history is not None:
            ask = self._lifecycle.ask
            self._responder = HistoryResponder(history, ask, settings.feed)
        self._notifier = StateNotifier(callbacks)
        self._reconnects = 0
        self._changes: list[tuple[State, State]] = []  # that are not logged yet
        self._polled = threading.Condition()  # guards `state`; notified after each poll
        self._stopping = threading.Event()
        self._release_lock = threading.Lock()
        self._released = False
        self._thread = threading.Thread(
            target=self._run, name="shmfeed-supervisor", daemon=True
        )

    @property
    def settings(self) -> Settings:
        """The settings, with the streams that are wanted now."""
        return self._lifecycle.settings

    @property
    def token_source(self) -> TokenSource | None:
        """The function that returns the token, None without one."""
        return self._lifecycle.token_source

    def use_token_source(self, source: TokenSource | None) -> None:
        """Take tokens from another function from now on, or from none."""
        self._lifecycle.token_source = source

    def use_history_function(self, function: HistoryFunction | None) -> None:
        """Ask another function from now on, if this manager has one."""
        if self._responder is not None and function is not None:
            self._responder.function = function

    @property
    def error(self) -> ShmfeedError | None:
        """The reason why there is no connection, or None."""
        return self._lifecycle.error

    @property
    def differs(self) -> list[str]:
        """The names of settings that an adopted feeder has in another value."""
        return list(self._lifecycle.differs)

    @property
    def running_pid(self) -> int | None:
        """The pid of the feeder, None if none runs."""
        return self._lifecycle.running_pid

    def attached(self) -> Feed | None:
        """Return the feed, or None if its segment does not exist."""
        return self._lifecycle.attached()

    def start(self) -> None:
        """Start the threads; after `stop` do nothing."""
        with self._polled:
            if not self._stopping.is_set():
                self._notifier.start()
                self._thread.start()
                if self._responder is not None:
                    self._responder.start()

    def await_connected(self, timeout: float) -> None:
        """Return once the streams are subscribed; raise the reason if they are not."""
        self._await_connected(time.monotonic() + timeout, timeout)

    def _await_connected(self, deadline: float, timeout: float) -> None:
        with self._polled:
            while True:
                # Check first: after a stop no feeder of another manager is asked.
                if self._stopping.is_set():
                    raise WebSocketConnectionError(
                        "the manager was stopped before the venue acknowledged the"
                        " subscription"
                    )
                if self._lifecycle.subscribed and self.state == "connected":
                    return
                self._raise_failure()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._timeout_error(timeout)
                self._polled.wait(min(left, threading.TIMEOUT_MAX))

    def _raise_failure(self) -> None:
        error = self._lifecycle.error
        if error is None:
            return
        refused = isinstance(error, WebSocketSubscriptionError)
        if refused or self._lifecycle.final or self.state == "error":
            raise copy.copy(error)  # the stored error gathers no traceback

    def _timeout_error(self, timeout: float) -> ShmfeedError:
        facts, error = self._lifecycle.facts(), self._lifecycle.error
        if isinstance(error, FeedBusyError):
            return copy.copy(error)
        where = facts.get("endpoint") or "the venue"
        if facts.get("phase") == "subscribing":
            return WebSocketSubscriptionError(
                f"{where} did not acknowledge the subscription within {timeout:g} s"
            )
        last = facts.get("last_error") or error or "no answer so far"
        return WebSocketConnectionError(
            f"no connection to {where} within {timeout:g} s: {last}"
        )

    def retry(self) -> None:
        """Forget all failures; a feeder in `error` tries again at once."""
        with self._polled:
            # Without a feeder of its own, the next poll adopts or launches one.
            failed = self.state == "error" and self._lifecycle.running_pid is not None
            self._lifecycle.reset()
        if not failed:
            return
        try:
            self._lifecycle.ask("start")
        except ShmfeedError:
            return  # the next poll launches a feeder if none answers
        with self._polled:  # clear an error that a poll may have stored meanwhile
            self._lifecycle.error = None

    def reload(self, settings: Settings) -> None:
        """Give this manager's own feeder other settings, if they need no restart.

        Raises:
            BadArgumentError: The feeder refuses them, and keeps the old ones.
        """
        with suppress(ControlError, FeedNotFoundError, WebSocketConnectionError):
            self._lifecycle.reload(settings)

    def subscribe(self, settings: Settings, timeout: float) -> None:
        """Subscribe the streams of `settings`; return once the venue acknowledges.

        While the connection is lost, wait until it is back.

        Raises:
            WebSocketConnectionError: The feeder is not connected, for this reason.
            WebSocketSubscriptionError: The venue refused, or did not answer in time.
            BadArgumentError: The feed has no capacity for the streams.

            The old streams stay subscribed after an error.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._await_connected(deadline, timeout)
            left = deadline - time.monotonic()
            try:
                self._lifecycle.subscribe(settings, max(0.01, left))
            except (FeedNotFoundError, ControlError, WebSocketConnectionError) as error:
                if time.monotonic() >= deadline:
                    raise WebSocketSubscriptionError(
                        f"the change was not acknowledged within {timeout:g} s; the"
                        f" old streams stay subscribed ({error})"
                    ) from error
            else:
                return
            self._stopping.wait(POLL_SECONDS)  # the connection was lost just now

    def _run(self) -> None:
        lifecycle = self._lifecycle
        while not self._stopping.wait(POLL_SECONDS):
            try:
                lifecycle.poll()
                self._update_state()
            except BusyRingError:
                pass  # the next poll reads it again
            except ShmfeedError as error:
                lifecycle.give_up(error)
            except OSError as error:
                lifecycle.record_failure(error)
            except Exception as error:
                log.exception("supervising feed %s failed", lifecycle.settings.feed)
                lifecycle.give_up(
                    ShmfeedError(f"supervising the feed failed: {error!r}")
                )

    def _update_state(self) -> None:
        with self._polled:
            state, reconnects = self._lifecycle.evaluate()
            if self.state == state == "connected" and reconnects > self._reconnects:
                # The connection was lost and re-established between two polls.
                self._set_state("reconnecting")
            self._reconnects = reconnects
            self._set_state(state)
            self._polled.notify_all()
        self._log_changes()

    def _log_changes(self) -> None:
        """Log each loss and its end here too: the feeder's log may go elsewhere."""
        changes, self._changes = self._changes, []
        for old, new in changes:
            error = None if new == "connected" else self._lifecycle.error
            log.log(
                _LEVELS.get(new, logging.INFO),
                "feed %s: %s, before %s%s",
                self._lifecycle.settings.feed,
                new,
                old,
                f": {error}" if error else "",
            )

    def _set_state(self, state: State) -> None:
        old, self.state = self.state, state
        if old != state:
            self._changes.append((old, state))
            self._notifier.notify(old, state)

    def stop(self, keep: bool) -> None:
        """End the threads, and the feeder unless another manager wants it. Idempotent.

        With `keep` the segment stays.
        """
        self._finish(lambda: self._lifecycle.stop(keep))

    def abandon(self) -> None:
        """Undo a failed start."""
        self._finish(self._lifecycle.abandon)

    def _finish(self, release: Callable[[], None]) -> None:
        with self._polled:
            self._stopping.set()
            self._polled.notify_all()
        if self._responder is not None:
            self._responder.end()
        if self._thread.ident is not None:
            self._thread.join()
        with self._release_lock:  # a second caller waits until it is done
            if not self._released:
                self._released = True
                release()
                self._set_state("disconnected")
        if self._responder is not None:  # a feeder sends it away at a release
            self._responder.join(CALLBACK_SECONDS)
        self._notifier.close(CALLBACK_SECONDS)
