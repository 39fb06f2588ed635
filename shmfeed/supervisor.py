"""Watching one feed for a manager: adopt or launch its feeder, bring it back.

A thread looks twenty times a second. A feeder that runs already is spoken to; where
none does, one is launched. One that died is replaced: at once if it had been connected,
else after a growing random delay, and not after the fifth death in a row.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from shmfeed.config import Settings
from shmfeed.control import ControlError, ask
from shmfeed.errors import (
    FeedBusyError,
    FeedNotFoundError,
    SegmentFormatError,
    ShmfeedError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feed import Feed
from shmfeed.launch import FeederProcess
from shmfeed.removal import remove_unheld
from shmfeed.segment import place
from shmfeed.wants import process_start

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.05
DEATHS = 5  # in a row, without a connection between them
BUSY_SECONDS = 3.0  # for a feeder that holds the feed to begin to answer
ANSWER_SECONDS = 5.0
END_SECONDS = 5.0  # for a feeder to end when it was asked to


class Supervisor:
    """One feed's watch, from `begin` to `stop`.

    `state` is the connection's, `error` why there is none. `final` says that nothing
    more is tried. `changed(old, new)` is called in the watching thread.
    """

    def __init__(
        self, settings: Settings, manager: str, changed: Callable[[str, str], None]
    ) -> None:
        self.settings = settings
        self.state = "disconnected"
        self.error: ShmfeedError | None = None
        self.final = False
        self._manager = manager
        self._changed = changed
        self._where = place(settings.feed)
        self._existed = self._where.segment.exists()
        self._feed: Feed | None = None
        self._child: FeederProcess | None = None
        self._adopted = 0  # pid of a feeder that somebody else launched
        self._subscribed = False  # what is wanted is being fed
        self._connected_before = False
        self._deaths = 0
        self._not_before = 0.0
        self._busy_until = 0.0
        self._news = threading.Condition()
        self._end = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="shmfeed-supervisor", daemon=True
        )

    def begin(self) -> None:
        self._thread.start()

    def await_connected(self, timeout: float) -> None:
        """Return once the streams are subscribed; raise what stands in the way."""
        deadline = time.monotonic() + timeout
        with self._news:
            while not self._subscribed:
                refused = isinstance(self.error, WebSocketSubscriptionError)
                if self.error and (refused or self.final or self.state == "error"):
                    raise self.error
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._too_late(timeout)
                self._news.wait(left)

    def _too_late(self, timeout: float) -> ShmfeedError:
        facts = self.facts()
        where = facts.get("endpoint") or "the venue"
        if facts.get("phase") == "subscribing":
            return WebSocketSubscriptionError(
                f"no acknowledgement from {where} within {timeout:g} s"
            )
        last = facts.get("last_error") or self.error or "still trying"
        return WebSocketConnectionError(
            f"no connection to {where} within {timeout:g} s: {last}"
        )

    def retry(self) -> None:
        """Try anew after `final` or the connection's `error`."""
        self._deaths = 0
        self._not_before = 0.0
        self.error = None
        self.final = False
        if self.state == "error":
            self._ask("start")

    def facts(self) -> dict[str, Any]:
        """State, pid and the words of the feeder that is watched; maybe nothing."""
        feed = self.attached()
        facts = feed.connection() if feed else {}
        watched = self._child.pid if self._child else self._adopted
        return facts if facts.get("pid") == watched else {}

    def attached(self) -> Feed | None:
        """The feed, if it is there."""
        if self._feed is None:
            with suppress(FeedNotFoundError, SegmentFormatError):
                self._feed = Feed(self._where)
        return self._feed

    def subscribe(self, settings: Settings, timeout: float) -> None:
        """Want the streams of `settings`; returns once they are acknowledged."""
        self._ask(
            "subscribe",
            timeout,
            symbols=settings.symbols,
            resolutions=settings.resolutions,
        )
        self.settings = settings

    def _ask(
        self, op: str, timeout: float = ANSWER_SECONDS, **fields: Any
    ) -> dict[str, Any]:
        fields |= {"manager": self._manager, "pid": os.getpid()}
        return ask(self._where.socket, op, timeout, **fields)

    def _run(self) -> None:
        while not self._end.wait(LOOK_SECONDS):
            try:
                self._look()
            except ShmfeedError as error:
                self._fail(error)
            self._observe()

    def _look(self) -> None:
        if self.final:
            return
        if self._child is not None:
            if self._child.ended() is not None:
                self._bury(self._child)
        elif not self._adopted or process_start(self._adopted) is None:
            if self._adopted:
                self._adopted = 0
                self._lose()
            if time.monotonic() >= self._not_before:
                self._bring_up()
        elif not self._subscribed:
            self._claim()

    def _bring_up(self) -> None:
        try:
            answer = self._ask("status")
        except (FeedNotFoundError, ControlError):
            self._child = FeederProcess(self.settings, self._manager)
            return
        self._adopted = int(answer["pid"])
        self._busy_until = 0.0
        if answer["state"] == "error":
            self._ask("start")
        self._claim()

    def _claim(self) -> None:
        """Tell an adopted feeder what is wanted; a slow venue is asked again."""
        try:
            self.subscribe(self.settings, ANSWER_SECONDS)
        except ControlError as error:
            self.error = error
            return
        self._subscribed = True

    def _bury(self, child: FeederProcess) -> None:
        why = child.why()
        child.close()
        self._child = None
        had_connected = self._subscribed
        self._lose()
        log.warning("feed %s: %s", self.settings.feed, why)
        if isinstance(why, FeedBusyError):
            self._meet_holder(why)
        elif child.failure is not None and not self._deaths and not had_connected:
            self._fail(why)  # it says itself that it cannot
        else:
            self._count_death(why, had_connected)

    def _meet_holder(self, why: FeedBusyError) -> None:
        # Somebody else's feeder was faster: it will answer soon, or it is no feeder.
        now = time.monotonic()
        self._busy_until = self._busy_until or now + BUSY_SECONDS
        self._not_before = now + LOOK_SECONDS
        if now > self._busy_until:
            self._fail(why)

    def _count_death(self, why: ShmfeedError, had_connected: bool) -> None:
        self._deaths = 0 if had_connected else self._deaths + 1
        if self._deaths >= DEATHS:
            self._fail(
                WebSocketConnectionError(
                    f"the feeder died {DEATHS} times in a row before it was connected;"
                    f" the last time: {why}"
                )
            )
            return
        self.error = why
        settings = self.settings
        limit = settings.reconnect_delay_base * 2 ** (self._deaths - 1)
        delay = random.uniform(0, min(settings.reconnect_delay_max, limit))  # noqa: S311
        self._not_before = time.monotonic() + (delay if self._deaths else 0.0)

    def _lose(self) -> None:
        self._subscribed = False

    def _fail(self, error: ShmfeedError) -> None:
        self.error = error
        self.final = True

    def _observe(self) -> None:
        facts = self.facts()
        state = facts.get("state", "disconnected")
        if self.final:
            state = "error"
        elif not facts and (self._child or self._not_before):
            state = "reconnecting" if self._connected_before else "connecting"
        self._explain(state, facts)
        old, self.state = self.state, state
        with self._news:
            self._news.notify_all()
        if old != state:
            self._changed(old, state)

    def _explain(self, state: str, facts: dict[str, Any]) -> None:
        if state == "connected":
            self.error = None
            self._connected_before = True
            if self._child is not None:
                self._subscribed = True
        elif facts.get("error_kind") == "subscription":
            self.error = WebSocketSubscriptionError(facts["last_error"])
        elif facts.get("error_kind") == "connection":
            self.error = WebSocketConnectionError(facts["last_error"])

    def stop(self, keep: bool) -> None:
        """End the watch, and the feeder when no other manager wants it.

        With `keep` the segment stays. Leaves no process, no thread, no lock.
        """
        self._end.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        others = self._release(unlink=not keep)
        child, self._child = self._child, None
        if child is not None and not others:
            child.end(END_SECONDS)
        self._feed = None
        if not keep and not others:
            remove_unheld(self._where)
        old, self.state = self.state, "disconnected"
        if old != self.state:
            self._changed(old, self.state)

    def abandon(self) -> None:
        """After a start that failed: leave what was there before, and no more."""
        self.stop(keep=self._existed)

    def _release(self, unlink: bool) -> bool:
        """Whether the feeder goes on for others; if not, it is gone on return."""
        try:
            answer = self._ask("release", unlink=unlink)
        except (FeedNotFoundError, ControlError):
            return False
        if not answer["stopping"]:
            return True
        if self._child is None:
            self._await_end(int(answer["pid"]))
        elif not self._child.wait(END_SECONDS):
            log.warning("feed %s: its feeder does not end", self.settings.feed)
        return False

    def _await_end(self, pid: int) -> None:
        deadline = time.monotonic() + END_SECONDS
        started = process_start(pid)
        while process_start(pid) == started is not None:
            if time.monotonic() > deadline:
                log.warning("feed %s: feeder %d does not end", self.settings.feed, pid)
                return
            time.sleep(LOOK_SECONDS)
