"""The journal of a feed's connections, as lines of its log.

Each loss, failed attempt, recovery, refusal and change of the subscription is one line,
logged when its event comes; the line of a failure says what follows. A connection that
breaks many times a second does not flood the log: each kind of line has a burst, then
one line each few seconds, which tells how many were left out.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable

from shmfeed.feeder.logs import facts
from shmfeed.text import counted
from shmfeed.wire.events import (
    ChangeRefused,
    Connected,
    ConnectionLost,
    NextAttempt,
    SessionEvent,
    SessionStatus,
    SettingsRefused,
    StatusChanged,
    Streams,
    StreamsRefused,
    Subscribed,
)

log = logging.getLogger(__name__)

BURST = 20  # lines of one kind that are logged however fast they come
LINE_EVERY = 5.0  # s, of one kind after its burst
TOLD_STALL = 3.0  # s; a busy host may hold a process up for less
_NAMED_STREAMS = 8
_INFO, _WARNING = logging.INFO, logging.WARNING
ERROR = "error"  # the kind of a failure that changes the state to error

Clock = Callable[[], float]


class LineLimit:
    """The limit of one kind of line: a burst, then one each LINE_EVERY seconds."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = 0.0
        self._omitted = 0

    def admit(self, now: float) -> int | None:
        """Return how many lines were left out before this one, or None to omit it."""
        self._left = min(BURST, self._left + (now - self._at) / LINE_EVERY)
        self._at = now
        if self._left < 1:
            self._omitted += 1
            return None
        self._left -= 1
        omitted, self._omitted = self._omitted, 0
        return omitted


class _Failure:
    """A loss or a failed attempt, until the next event tells the wait."""

    def __init__(self, kind: str, text: str, endpoint: str, away: str = "") -> None:
        self.kind = kind
        self.text = text
        self.endpoint = endpoint
        self.away = away  # which share of the streams it touches, if not all
        self.next_in = 0.0

    def line(self) -> str:
        """Return the text of the line."""
        text = f"{self.text}{self.away}"
        if self.kind == ERROR:
            text = f"{text}; the state is error"
        if self.next_in > 0:
            return f"{text}; next attempt in {self.next_in:.1f} s"
        # Without a next attempt in sight a feeder gives up, if its state is error.
        return text if self.kind == ERROR else f"{text}; next attempt at once"


class Journal:
    """The journal of one feed. Only the main loop uses it.

    Attributes:
        is_pending: True while a failure waits for `flush`.
    """

    def __init__(self, feed: str, *, clock: Clock = time.monotonic) -> None:
        self.is_pending = False
        self._feed = feed
        self._clock = clock
        self._failures: list[_Failure] = []  # of this batch
        self._new_error = ""  # the last error with which the state became error
        self._away: deque[float] = deque()  # when connections were lost, oldest first
        self._streams = 0  # of the feed, once they are acknowledged
        self._limits: dict[str, LineLimit] = {}

    def started(self, streams: int) -> None:
        """Log the start of this process as the feeder."""
        count = counted(streams, "stream")
        log.info(
            "feed %s: the feeder starts, pid %d, %s", self._feed, os.getpid(), count
        )

    def take(self, event: SessionEvent) -> None:
        """Log an event of the session. A failure waits for what follows it."""
        match event:
            case StatusChanged(old, new):
                self._status_changed(old, new)
            case ConnectionLost(was_connected=True, is_planned=False):
                self._lost(event)
            case NextAttempt():
                self._next_attempt(event)
            case Connected():
                self.flush()
                self._connected(event)
            case StreamsRefused(streams, message):
                self.refused(streams, message)
            case SettingsRefused(message):
                text = f"the new settings are refused, and the old ones stay: {message}"
                self._say("settings", _WARNING, text)
            case ChangeRefused(message):
                text = f"a change is refused, and the old streams stay: {message}"
                self._say("refused", _WARNING, text)
            case Subscribed(streams, ends_change):
                self._streams = len(streams)
                if ends_change:
                    now = counted(len(streams), "stream")
                    text = f"the subscription has changed, {now} now"
                    self._say("changed", _INFO, text)
            case _:
                pass

    def muted(self, ask: Streams, move: Streams) -> None:
        """Log the steps for streams that are mute while others speak."""
        if ask:
            text = f"mute while others speak, asked for again: {_names(ask)}"
            self._say("mute", _WARNING, text)
        if move:
            text = f"still mute, moved to a new connection: {_names(move)}"
            self._say("mute", _WARNING, text)

    def refused(self, streams: Streams, message: str, fails: bool = False) -> None:
        """Log streams that the venue refused. With `fails` they end each connection."""
        self._say("refused", _WARNING, describe_refused(streams, message, fails))

    def stalled(self, seconds: float) -> None:
        """Log that the feeder stood still, once it goes on."""
        if seconds >= TOLD_STALL:
            text = (
                f"the feeder stood still for {seconds:.1f} s: it was stopped, or this"
                " host was suspended or overloaded"
            )
            self._say("stalled", _WARNING, text)

    def flush(self) -> None:
        """Log the failures of this batch. Call it after each batch."""
        failures, self._failures = self._failures, []
        self.is_pending = False
        error, self._new_error = self._new_error, ""
        if error:
            failures = failures or [_Failure(ERROR, error, "")]
            failures[-1].kind = ERROR
        for failure in failures:
            level = logging.ERROR if failure.kind == ERROR else _WARNING
            more = {"endpoint": failure.endpoint, "next_attempt_in": failure.next_in}
            self._say(failure.kind, level, failure.line(), **more)

    def _status_changed(self, old: SessionStatus, new: SessionStatus) -> None:
        if new.state == "error" != old.state:
            self._new_error = new.last_error
            self.is_pending = True

    def _lost(self, event: ConnectionLost) -> None:
        self._away.append(self._clock())
        text = f"lost {event.endpoint}: {event.reason}"
        streams, away = len(event.uncovered), ""
        if streams < self._streams:  # other connections, or a second line, go on
            away = f"; {streams} of {counted(self._streams, 'stream')} away"
        self._failures.append(_Failure("loss", text, event.endpoint, away))
        self.is_pending = True

    def _next_attempt(self, event: NextAttempt) -> None:
        last = self._failures[-1] if self._failures else None
        if last is None or last.next_in or last.text != event.reason:
            text = event.reason
            if event.endpoint not in text:
                text = f"{event.endpoint}: {event.reason}"
            last = _Failure("attempt", text, event.endpoint)
            self._failures.append(last)
        last.next_in = event.seconds
        self.is_pending = True

    def _connected(self, event: Connected) -> None:
        endpoint, away = event.endpoint, None
        if event.is_planned:
            text = f"connected to {endpoint}, in place of an older connection"
        elif event.is_reconnect and self._away:
            away = self._clock() - self._away.popleft()
            text = f"connected again to {endpoint}, after {away:.1f} s"
        else:
            text = f"connected to {endpoint}"
        self._say("connected", _INFO, text, endpoint=endpoint, away=away)

    def _say(self, kind: str, level: int, text: str, **more: object) -> None:
        limit = self._limits.setdefault(kind, LineLimit())
        omitted = limit.admit(self._clock())
        if omitted is None:
            return
        rest = f" ({omitted} such lines were left out before)" if omitted else ""
        log.log(
            level,
            "feed %s: %s%s",
            self._feed,
            text,
            rest,
            extra=facts(event=kind, omitted=omitted, **more),
        )


def describe_refused(streams: Streams, message: str, fails: bool = False) -> str:
    """Return the words for streams that the venue refused with this message."""
    if fails:
        return (
            f"the venue refused {_names(streams)}, which ends each connection, as"
            f" on_refused says: {message}"
        )
    return f"the venue refused {_names(streams)}, which are left out: {message}"


def _names(streams: Streams) -> str:
    names = ", ".join(" ".join(key) for key in streams[:_NAMED_STREAMS])
    more = len(streams) - _NAMED_STREAMS
    return f"{names} and {more} more" if more > 0 else names
