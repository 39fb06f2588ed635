"""The lifecycle of one feed's feeder, for one manager: adopt, launch, replace, stop.

A manager adopts the feeder that already runs for the feed, and launches one only if
none does. It replaces a feeder that died, as `RestartPolicy` permits.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import msgspec

from shmfeed.codecs.identity import identity_of
from shmfeed.control.client import ask, is_listening
from shmfeed.control.messages import ControlError
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
from shmfeed.manager.adopted import AdoptedFeeder
from shmfeed.manager.claim import HeldClaim, claim_name
from shmfeed.manager.manager_events import ManagerEvents
from shmfeed.manager.process import FeederProcess, Launcher
from shmfeed.manager.restart_policy import MAX_FAILURES, RestartPolicy
from shmfeed.manager.stuck import StuckTimer
from shmfeed.manager.tokens import TokenSource
from shmfeed.segment.identity import (
    check_running,
    check_stored,
    stored_identity,
)
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import remove_unheld
from shmfeed.settings.model import Settings, to_json
from shmfeed.status import Heartbeat

BUSY_SECONDS = 3.0  # for the process that owns the feed to begin to answer
RETRY_SECONDS = 0.2  # between tries while another process's feeder starts or stops
# Limit for an answer that a feeder gives at once; a slower one is polled for again.
ANSWER_SECONDS = 2.0
EXIT_SECONDS = 5.0  # for a feeder to end after it was asked to
# A running feeder beats each half second, a new one needs a while to its first beat.
LEAST_SILENCE, LEAST_START = 2.0, 15.0

_SILENT = (
    "the feeder has sent no heartbeat for 2 s: it is stopped or stuck; resume it"
    " (kill -CONT), or end it"
)
_NOT_YET = (None, "disconnected", "connecting")

log = logging.getLogger(__name__)


class FeederLifecycle:
    """The feeder of one feed, as one manager sees it.

    One thread calls `poll` and `evaluate`; any thread may call the other methods.

    Attributes:
        settings: The settings, with the streams that are wanted now.
        subscribed: True once the feeder knows these streams.
        error: The reason why there is no connection, or None.
        final: True if nothing more is tried until `reset`.
        token_source: The function that returns the token, None without one.
    """

    def __init__(self, settings: Settings, manager: str, replace: bool = False) -> None:
        self.settings = settings
        self.error: ShmfeedError | None = None
        self.final = False
        self.subscribed = False
        self._manager = manager
        self._where = place(settings.feed)
        self._existed = self._where.segment.exists()
        self._subscribing = threading.Lock()  # keeps requests and `settings` in step
        self._feed: Feed | None = None
        self._child: FeederProcess | None = None
        self.token_source: TokenSource | None = None
        self._identity = identity_of(settings)
        self._replace = replace  # for the first feeder only
        self._stuck_timer = StuckTimer()
        self._is_silence_told = False
        self._adopted: AdoptedFeeder | None = None
        self._claim = HeldClaim(self._where.socket, manager)
        self._was_connected = False
        self._launched = 0.0
        self._policy = RestartPolicy()
        self._not_before = self._busy_until = 0.0
        self._events = ManagerEvents(lambda: self.settings)

    def poll(self) -> None:
        """Take one step: reap, adopt or launch a feeder, or tell it the streams."""
        if self.final:
            return
        if self._child is not None:
            if self._child.exit_code() is not None:
                self._reap(self._child)
            else:
                self._kill_if_stuck(self._child)
        elif self._adopted is not None:
            beat = self._heartbeat()
            if self._adopted.is_gone(beat):
                self._events.adopted_gone(self._adopted.pid)
                self._forget_adopted()
            else:
                self._tell_if_stuck(self._adopted, beat)
                if not self.subscribed:
                    self._resubscribe()
                else:
                    self._adopted.compare(self.settings)
        elif time.monotonic() >= self._not_before:
            self._adopt_or_launch()
        if self._adopted is not None or (self._child and self._child.has_started):
            self._claim.keep(self.settings)
        if self.token_source is not None:
            facts = self.facts()
            request = (facts.get("writer", 0), facts.get("token_wanted", 0))
            self.token_source.serve(request, self._send_token)

    def evaluate(self) -> tuple[State, int]:
        """Return the connection's state and the number of reconnects of this feeder.

        Update `error` from what the feeder reports.
        """
        facts = self.facts()
        state = facts.get("state")
        kind, text = (
            facts.get("error_kind"),
            facts.get("last_error") or "no reason given",
        )
        if self.final:
            state = "error"
        elif state is None and self.subscribed:  # unless subscribed it is starting
            self.error = WebSocketConnectionError(_SILENT)
        elif state == "connected":
            self.error = None
            self._was_connected = True
            self._busy_until = 0.0
            self.subscribed = self.subscribed or self._child is not None
        elif kind == "subscription":
            self.error = WebSocketSubscriptionError(text)
        elif kind == "connection":
            self.error = WebSocketConnectionError(text)
        # A new feeder reports these states even if its predecessor was connected.
        if state in _NOT_YET:
            state = "reconnecting" if self._was_connected else "connecting"
        return cast("State", state), facts.get("losses", 0)

    def facts(self) -> Mapping[str, Any]:
        """Return the connection status of this manager's feeder; empty if unknown."""
        feed, adopted = self.attached(), self._adopted
        facts: Mapping[str, Any] = feed.connection() if feed else {}
        pid = self._child.pid if self._child else adopted.pid if adopted else 0
        # A new feeder inherits its predecessor's note until it writes its own.
        if not facts.get("pid") == facts.get("writer") == pid:
            return {}
        if feed is None or adopted is None or adopted.epoch is None:
            return facts
        # A feeder of another PID namespace may have the same pid.
        return facts if feed.heartbeat().epoch == adopted.epoch else {}

    @property
    def differs(self) -> list[str]:
        """The names of settings that an adopted feeder has in another value."""
        adopted = self._adopted
        return list(adopted.differs) if adopted is not None else []

    @property
    def running_pid(self) -> int | None:
        """The pid of the feeder, None if none runs."""
        child, adopted = self._child, self._adopted
        if child is not None:
            return child.pid if child.exit_code() is None else None
        return adopted.pid if adopted is not None else None

    def attached(self) -> Feed | None:
        """Return the feed, or None if its segment does not exist."""
        if self._feed is None:
            with suppress(FeedNotFoundError, SegmentError):
                self._feed = Feed(self._where)
        return self._feed

    def ask(
        self, op: str, timeout: float = ANSWER_SECONDS, **fields: Any
    ) -> dict[str, Any]:
        """Return the feeder's answer to a request, or raise its error."""
        fields |= {"manager": self._manager, "pid": os.getpid()}
        return ask(self._where.socket, op, timeout, **fields)

    def subscribe(self, settings: Settings, timeout: float) -> None:
        """Subscribe the streams of `settings`; return once the venue acknowledges.

        Raises:
            ShmfeedError: The feeder's answer is this error. The old streams stay.
            ControlError: No answer came. The old streams stay, or are restored as soon
                as the feeder can.
        """
        changed = self.settings.with_streams_of(settings)  # the rest is as launched
        with self._subscribing:
            try:
                self._send_subscription(changed, timeout)
            except ControlError:
                with suppress(ShmfeedError):  # the feeder queues the request
                    self._send_subscription(self.settings, 0.1)
                raise
            self.settings = changed

    def reload(self, settings: Settings) -> None:
        """Give a feeder that this manager launched other settings, but the streams.

        If one of them needs a restart, `settings` stays as it is.

        Raises:
            ShmfeedError: The feeder's answer is this error.
        """
        changed = settings.with_streams_of(self.settings)
        stops = changed.stop_with_manager  # which counts at the launch alone
        if self._child is None or stops != self.settings.stop_with_manager:
            return
        with self._subscribing:
            asks = self.token_source is not None
            text = msgspec.Raw(to_json(changed))
            answer = self.ask("reload", settings=text, asks=asks)
            if not answer["fixed"]:
                self.settings = changed

    def reset(self) -> None:
        """Forget all failures and try again."""
        self._policy.reset()
        self._not_before = self._busy_until = 0.0
        self.error = None
        self.final = False

    def give_up(self, error: ShmfeedError) -> None:
        """Try nothing more until `reset`."""
        self.error = error
        self.final = True

    def record_failure(self, error: OSError) -> None:
        """Count an operating system's refusal as a feeder that died."""
        text = f"cannot start a feeder on this host: {error}"
        self._schedule_restart(WebSocketConnectionError(text), was_launched=False)

    def stop(self, keep: bool) -> None:
        """Release the feeder, which ends unless another manager wants it.

        With `keep` the segment stays. `poll` must not be called afterwards.
        """
        self._events.close()
        others = self._release(unlink=not keep)
        self._claim.end()
        child, self._child = self._child, None
        if child is not None and not others:
            child.stop(EXIT_SECONDS)
        self._feed = None
        if not keep and not others and self._has_own_bars():
            with suppress(SegmentError):  # a segment that is not ours stays
                remove_unheld(self._where)

    def _has_own_bars(self) -> bool:
        """Return False if the bars are of another identity, and not ours to remove."""
        stored = stored_identity(self._where)
        if self._identity.is_of_follower:
            return stored is None or self._was_connected
        return stored is None or stored.matches(self._identity)

    def abandon(self) -> None:
        """Undo a failed start."""
        if self._adopted is None:
            self.stop(keep=self._existed)
            return
        nothing: dict[str, Any] = {"symbols": (), "resolutions": ()}
        with suppress(ShmfeedError):
            self.ask("subscribe", **nothing)
        self._claim.end()
        self._feed = None

    def _send_subscription(self, settings: Settings, timeout: float) -> None:
        self.ask(
            "subscribe",
            timeout,
            symbols=settings.symbols,
            resolutions=settings.resolutions,
        )

    def _heartbeat(self) -> Heartbeat | None:
        feed = self.attached()
        return feed.heartbeat() if feed else None

    def _kill_if_stuck(self, child: FeederProcess) -> None:
        """Kill a feeder whose main loop has stopped; `poll` then replaces it."""
        beat = self._heartbeat()
        runs = beat is not None and beat.pid == child.pid
        silent = self._stuck_timer.look(
            (child.pid, beat.tick if beat and runs else None)
        )
        limit = max(self.settings.stuck_timeout, LEAST_SILENCE if runs else LEAST_START)
        if silent > limit:
            log.error(
                "feed %s: feeder %d has given no sign of life for %.1f s; it is killed"
                " and replaced",
                self.settings.feed,
                child.pid,
                silent,
            )
            child.kill()
            self._stuck_timer.reset()

    def _tell_if_stuck(self, adopted: AdoptedFeeder, beat: Heartbeat | None) -> None:
        """Log that a feeder is stuck which another manager has launched, once."""
        silent = self._stuck_timer.look((adopted.pid, beat and (beat.epoch, beat.tick)))
        if silent <= max(self.settings.stuck_timeout, LEAST_SILENCE):
            self._is_silence_told = False
        elif not self._is_silence_told:
            self._is_silence_told = True
            log.error(
                "feed %s: feeder %d has given no sign of life for %.1f s; this manager"
                " has not launched it and leaves it alone; end it with kill -9",
                self.settings.feed,
                adopted.pid,
                silent,
            )

    def _forget_adopted(self) -> None:
        self._adopted = None
        self.subscribed = False

    def _adopt_or_launch(self) -> None:
        try:
            token = self._token()
        except WebSocketConnectionError as error:
            self._schedule_restart(error, was_launched=False)
            return
        if token is None:  # the function is at work
            self.error = self._describe_wait() or self.error
            return
        try:
            answer = self.ask("status")
            check_running(self._where, answer, self._identity)
            if answer["state"] == "error" and not answer.get("wanted"):
                self.ask("stop")  # no manager wants it, and its own settings failed
                self._not_before = time.monotonic() + RETRY_SECONDS
                return
            adopted = AdoptedFeeder(self._where, answer, self.ask)
            asks = self.token_source is not None
            adopted.hand_over(self.settings, answer["state"], token, asks)
        except (FeedNotFoundError, ControlError):
            self._launch(token)
        except WebSocketConnectionError:  # it is about to end
            self._not_before = time.monotonic() + RETRY_SECONDS
        else:
            self._adopted = adopted
            # First, so that the streams of an ended manager of this name are found.
            self._claim.keep(self.settings)
            self._stuck_timer.reset()
            self._busy_until = 0.0

    def _token(self) -> str | None:
        if self.token_source is not None:
            return self.token_source.take()
        return self.settings.read_token()

    def _describe_wait(self) -> WebSocketConnectionError | None:
        """Return the reason why no feeder is launched yet, if that takes a while."""
        if self.token_source is None or not self.token_source.is_slow:
            return None
        return WebSocketConnectionError("the csrf_token function has not returned yet")

    def _send_token(self, token: str) -> None:
        if self._adopted is not None:
            self._adopted.give_token(token, asks=True)
        else:
            self.ask("token", token=token, asks=True)

    def _launch(self, token: str) -> None:
        if self.settings.launch == "never":
            self._not_before = time.monotonic() + RETRY_SECONDS
            self.error = WebSocketConnectionError(
                f"no feeder of feed {self._where.name!r} runs, and launch is 'never';"
                f" start one with `shmfeed run --feed {self._where.name}`"
            )
            return
        if not is_listening(self._where.socket):  # else a feeder has it, perhaps stuck
            check_stored(self._where, self._identity, self._replace)
        self._launched = time.monotonic()
        self._stuck_timer.reset()
        settings, asks = self.settings, self.token_source is not None
        if asks:
            settings = settings.with_token(token)
        launcher = Launcher(self._manager, claim_name(settings))
        self._child = FeederProcess(settings, launcher, self._replace, asks)

    def _resubscribe(self) -> None:
        """Tell an adopted feeder the streams; the next poll retries after a failure."""
        facts = self.facts()
        if facts.get("state") != "connected" or not self._subscribing.acquire(False):
            return
        try:
            self._send_subscription(self.settings, ANSWER_SECONDS)
        except (FeedNotFoundError, ControlError, WebSocketConnectionError) as error:
            self.error = error
            return
        finally:
            self._subscribing.release()
        self.subscribed = True

    def _reap(self, child: FeederProcess) -> None:
        reason = child.exit_reason()
        child.close()
        self._child = None
        self._replace = self._replace and not child.has_started
        had_connected, self.subscribed = self.subscribed, False
        if isinstance(reason, FeedBusyError):
            self._retry_busy_feed(reason)
            return
        log.warning("feed %s: %s", self.settings.feed, reason)
        self._events.tell("dead", str(reason))
        if child.failure is not None and not self._was_connected:
            self.give_up(reason)  # the feeder itself reported that it cannot start
        else:
            self._schedule_restart(reason, had_connected=had_connected)

    def _retry_busy_feed(self, reason: FeedBusyError) -> None:
        # The owner is another manager's new feeder, which will answer soon, or a
        # process that is not a feeder.
        now = time.monotonic()
        self.error = reason
        self._busy_until = self._busy_until or now + BUSY_SECONDS
        self._not_before = now + RETRY_SECONDS
        if now > self._busy_until:
            self.give_up(reason)

    def _schedule_restart(
        self,
        reason: ShmfeedError,
        *,
        had_connected: bool = False,
        was_launched: bool = True,
    ) -> None:
        now = time.monotonic()
        lived = now - self._launched
        delay = self._policy.delay_after(lived, had_connected, self.settings)
        if delay is None and was_launched:
            text = (
                f"the feeder died {MAX_FAILURES} times in a row before it was"
                f" connected; the last time: {reason}"
            )
            self._events.tell("crash_loop", text)
            self.give_up(WebSocketConnectionError(text))
        elif delay is None:
            self.give_up(
                WebSocketConnectionError(
                    f"no feeder could be started in {MAX_FAILURES} attempts; the last"
                    f" one: {reason}"
                )
            )
        else:
            self.error = reason
            self._not_before = now + delay

    def _release(self, unlink: bool) -> bool:
        """Withdraw the streams; return True if the feeder runs on for others."""
        adopted = self._adopted
        try:
            if self._child is None and adopted is None:  # running, not adopted yet
                answer = self.ask("status")
                check_running(self._where, answer, self._identity)
                adopted = AdoptedFeeder(self._where, answer, self.ask)
            if not self.ask("release", unlink=unlink)["stopping"]:
                return True
        except ControlError as error:
            if self._adopted and self.facts():
                log.warning(
                    "feed %s: its feeder still runs: %s", self._where.name, error
                )
                return True
        except FeedBusyError:  # of another identity: this manager was refused
            return True
        except (FeedNotFoundError, WebSocketConnectionError):
            pass  # it has ended, or is about to
        if self._child is not None or adopted is None:
            return False  # the caller reaps a child; another process has ended
        if not adopted.wait_for_exit(EXIT_SECONDS):
            log.warning(
                "feed %s: feeder %d has not ended within %g s",
                self._where.name,
                adopted.pid,
                EXIT_SECONDS,
            )
        return False
