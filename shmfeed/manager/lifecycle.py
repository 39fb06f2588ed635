"""Keeping one feeder at work for a manager: adopt or launch it, bring it back.

A feeder that runs already is spoken to; where none does, one is launched. One that died
is replaced; `deaths` says when, and when not any more.

How long to wait before a feeder that died is replaced, and when not to any more.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from shmfeed.control.client import ask
from shmfeed.control.messages import ControlError
from shmfeed.control.peer import process_start, wait_for_exit
from shmfeed.errors import (
    FeedBusyError,
    FeedNotFoundError,
    SegmentError,
    ShmfeedError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feed import Feed
from shmfeed.layout import State
from shmfeed.manager.process import FeederProcess
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import remove_unheld
from shmfeed.settings.model import Settings
from shmfeed.wire.backoff import full_jitter

DEATHS = 5  # in a row, without a connection between them
LEAST_LIFE = 1.0  # s between two launches: venues limit connections, Binance to 1/s


class RestartPolicy:
    """The deaths of one manager's feeders, counted."""

    def __init__(self) -> None:
        self._rng = random.Random()  # noqa: S311 # it spreads load, no secrets
        self._in_vain = 0  # in a row, never connected

    def forgive(self) -> None:
        """Begin anew: somebody asked for another try."""
        self._in_vain = 0

    def delay_after(
        self, lived: float, had_connected: bool, settings: Settings
    ) -> float | None:
        """Seconds until the next feeder; None: there shall be none.

        A feeder that had been connected is replaced at once; only one that `lived`
        for less than LEAST_LIFE, as if each connection killed it, is waited after.
        """
        if had_connected:
            self._in_vain = 0
            return max(0.0, LEAST_LIFE - lived)
        self._in_vain += 1
        if self._in_vain >= DEATHS:
            return None
        base, most = settings.reconnect_delay_base, settings.reconnect_delay_max
        return full_jitter(self._rng, base, most, self._in_vain - 1)


log = logging.getLogger(__name__)

BUSY_SECONDS = 3.0  # for a feeder that holds the feed to begin to answer
AGAIN_SECONDS = 0.2  # until the next try beside somebody else's feeder
ANSWER_SECONDS = 2.0  # for what a feeder answers at once, or is asked again
_SILENT = "the feeder gives no sign of life: it is stopped or stuck"
_NOT_YET = (None, "disconnected", "connecting")
END_SECONDS = 5.0  # for a feeder to end when it was asked to


class FeederLifecycle:
    """One feed's feeder, as one manager wants it. `look` belongs to one thread.

    `subscribed` says that the feeder knows what is wanted, `error` what stands in the
    way, `final` that nothing more is tried until `forgive`.
    """

    def __init__(self, settings: Settings, manager: str) -> None:
        self.settings = settings
        self.error: ShmfeedError | None = None
        self.final = False
        self.subscribed = False
        self._manager = manager
        self._where = place(settings.feed)
        self._existed = self._where.segment.exists()
        self._wanting = threading.Lock()  # what is asked for and `settings` agree
        self._feed: Feed | None = None
        self._child: FeederProcess | None = None
        self._adopted: tuple[int, int | None] | None = None  # pid, and its start
        self._was_connected = False
        self._launched = 0.0
        self._deaths = RestartPolicy()
        self._not_before = self._busy_until = 0.0

    def look(self) -> None:
        """One step: see to it that there is a feeder, and that it knows our wants."""
        if self.final:
            return
        if self._child is not None:
            if self._child.ended() is not None:
                self._bury(self._child)
        elif self._adopted is not None:
            if self._is_gone(*self._adopted):
                self._adopted = None
                self.subscribed = False
            elif not self.subscribed:
                self._claim()
        elif time.monotonic() >= self._not_before:
            self._bring_up()

    def judge(self) -> tuple[State, int]:
        """The connection's state, and how often the venue was reached anew.

        What the feeder says of its failures becomes `error`.
        """
        facts = self.facts()
        state = facts.get("state")
        kind, words = facts.get("error_kind"), facts.get("last_error") or "no words"
        if self.final:
            state = "error"
        elif state is None and self.subscribed:  # else it is just beginning
            self.error = WebSocketConnectionError(_SILENT)
        elif state == "connected":
            self.error = None
            self._was_connected = True
            self._busy_until = 0.0
            self.subscribed = self.subscribed or self._child is not None
        elif kind == "subscription":
            self.error = WebSocketSubscriptionError(words)
        elif kind == "connection":
            self.error = WebSocketConnectionError(words)
        if state in _NOT_YET:  # a new feeder does not know of the one before it
            state = "reconnecting" if self._was_connected else "connecting"
        return cast("State", state), facts.get("losses", 0)

    def facts(self) -> Mapping[str, Any]:
        """State, pid and the words of the feeder that is kept; maybe nothing."""
        feed = self.attached()
        facts: Mapping[str, Any] = feed.connection() if feed else {}
        kept = self._child.pid if self._child else (self._adopted or [0])[0]
        # Its own words: until it says something, a predecessor's are there.
        return facts if facts.get("pid") == facts.get("writer") == kept else {}

    def attached(self) -> Feed | None:
        """The feed, if it is there."""
        if self._feed is None:
            with suppress(FeedNotFoundError, SegmentError):
                self._feed = Feed(self._where)
        return self._feed

    def ask(
        self, op: str, timeout: float = ANSWER_SECONDS, **fields: Any
    ) -> dict[str, Any]:
        """What the feeder answers; any thread. Raises what `control.ask` raises."""
        fields |= {"manager": self._manager, "pid": os.getpid()}
        return ask(self._where.socket, op, timeout, **fields)

    def want(self, settings: Settings, timeout: float) -> None:
        """Want the streams of `settings`; returns once they are acknowledged.

        Any thread. Raises what the feeder answers, or that it does not; then nothing
        has changed, or is changed back as soon as the feeder can.
        """
        changed = self.settings.with_streams_of(settings)  # the rest is as launched
        with self._wanting:
            try:
                self._subscribe(changed, timeout)
            except ControlError:
                with suppress(ShmfeedError):
                    self._subscribe(self.settings, 0.1)  # it waits in the feeder
                raise
            self.settings = changed

    def forgive(self) -> None:
        """Try again as if nothing had failed."""
        self._deaths.forgive()
        self._not_before = self._busy_until = 0.0
        self.error = None
        self.final = False

    def fail(self, error: ShmfeedError) -> None:
        """Give up, until `forgive`."""
        self.error = error
        self.final = True

    def stumble(self, error: OSError) -> None:
        """This host refused something: it counts as a death."""
        text = f"no feeder can be had on this host: {error}"
        self._count_death(WebSocketConnectionError(text), had_connected=False)

    def end(self, keep: bool) -> None:
        """Let go of the feeder; it ends, unless another manager wants it.

        With `keep` the segment stays. No `look` comes after it.
        """
        others = self._release(unlink=not keep)
        child, self._child = self._child, None
        if child is not None and not others:
            child.end(END_SECONDS)
        self._feed = None
        if not keep and not others:
            with suppress(SegmentError):  # not ours: it stays
                remove_unheld(self._where)

    def abandon(self) -> None:
        """After a start that failed: leave what there was before it, and no more."""
        if self._adopted is None:
            self.end(keep=self._existed)
            return
        nothing: dict[str, Any] = {"symbols": (), "resolutions": ()}
        with suppress(ShmfeedError):
            self.ask("subscribe", **nothing)
        self._feed = None

    def _subscribe(self, settings: Settings, timeout: float) -> None:
        self.ask(
            "subscribe",
            timeout,
            symbols=settings.symbols,
            resolutions=settings.resolutions,
        )

    def _is_gone(self, pid: int, started: int | None) -> bool:
        if process_start(pid) != started or started is None:
            return True
        # It may live on and have let go of the feed.
        return not self.facts() and not self._where.socket.exists()

    def _bring_up(self) -> None:
        try:
            answer = self.ask("status")
            if answer["state"] == "error":
                orphan = not answer.get("wanted")
                self.ask("stop" if orphan else "start")
                if orphan:  # nobody's, and of no use as it was told to work
                    self._not_before = time.monotonic() + AGAIN_SECONDS
                    return
        except (FeedNotFoundError, ControlError):
            self._launched = time.monotonic()
            self._child = FeederProcess(self.settings, self._manager)
        except WebSocketConnectionError:  # it stops just now
            self._not_before = time.monotonic() + AGAIN_SECONDS
        else:
            pid = int(answer["pid"])
            self._adopted = pid, process_start(pid)
            self._busy_until = 0.0

    def _claim(self) -> None:
        """Tell an adopted feeder what is wanted; a slow venue is asked again."""
        facts = self.facts()
        if facts.get("state") != "connected" or not self._wanting.acquire(False):
            return
        try:
            self._subscribe(self.settings, ANSWER_SECONDS)
        except (FeedNotFoundError, ControlError, WebSocketConnectionError) as error:
            self.error = error
            return
        finally:
            self._wanting.release()
        self.subscribed = True
        for name in ("protocol", "market_type"):
            runs, wanted = facts.get(name), getattr(self.settings, name)
            if runs != wanted:
                text = "feed %s: the feeder that runs already has %s %s, not %s"
                log.warning(text, self.settings.feed, name, runs, wanted)

    def _bury(self, child: FeederProcess) -> None:
        why = child.why()
        child.close()
        self._child = None
        had_connected, self.subscribed = self.subscribed, False
        if isinstance(why, FeedBusyError):
            self._meet_holder(why)
            return
        log.warning("feed %s: %s", self.settings.feed, why)
        if child.failure is not None and not self._was_connected:
            self.fail(why)  # it says itself that it cannot
        else:
            self._count_death(why, had_connected)

    def _meet_holder(self, why: FeedBusyError) -> None:
        # Somebody else's feeder was faster: it will answer soon, or it is no feeder.
        now = time.monotonic()
        self.error = why
        self._busy_until = self._busy_until or now + BUSY_SECONDS
        self._not_before = now + AGAIN_SECONDS
        if now > self._busy_until:
            self.fail(why)

    def _count_death(self, why: ShmfeedError, had_connected: bool) -> None:
        now = time.monotonic()
        lived = now - self._launched
        delay = self._deaths.delay_after(lived, had_connected, self.settings)
        if delay is None:
            self.fail(
                WebSocketConnectionError(
                    f"the feeder died {DEATHS} times in a row before it was connected;"
                    f" the last time: {why}"
                )
            )
        else:
            self.error = why
            self._not_before = now + delay

    def _release(self, unlink: bool) -> bool:
        """Whether the feeder goes on for others; if not, it ends, or has ended."""
        pid, started = self._adopted or (0, None)
        try:
            answer = self.ask("release", unlink=unlink)
            if not answer["stopping"]:
                return True
            if self._child is None and not pid:  # met before it was adopted
                pid = int(answer["pid"])
                started = process_start(pid)
        except ControlError as error:
            if self._adopted and self.facts():
                log.warning("feed %s: its feeder goes on: %s", self._where.name, error)
                return True
        except (FeedNotFoundError, WebSocketConnectionError):
            pass  # it ends without us
        if self._child is not None or started is None:
            return False  # reaped by the caller; or it had ended before
        if not wait_for_exit(pid, started, END_SECONDS):
            log.warning("feed %s: feeder %d does not end", self._where.name, pid)
        return False
