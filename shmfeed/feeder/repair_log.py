"""The log of repairs: rows that history changed, and holes that it could not fill.

Repairs of one outage come as many answers. They are gathered for a second and logged in
one line, which names the streams.
"""

import logging
from collections import Counter
from collections.abc import Iterable

from shmfeed.bar import Bar, StreamKey
from shmfeed.feeder.defects import Defect
from shmfeed.feeder.journal import LineLimit
from shmfeed.feeder.logs import facts
from shmfeed.feeder.row_events import HistoryEffect
from shmfeed.feeder.warmup import WarmupProgress
from shmfeed.history.interface import HistoryError
from shmfeed.text import counted, format_ms, plain

log = logging.getLogger(__name__)

GATHER_SECONDS = 1.0
PROGRESS_SECONDS = 5.0
_NAMED_STREAMS = 8
_FIELDS = ("open", "high", "low", "close", "volume", "money")
_INFO, _WARNING = logging.INFO, logging.WARNING


class RepairLog:
    """The log of one feed's repairs. Only the main loop uses it.

    Attributes:
        is_paused: True while no request begins, because of the rate limit.
    """

    def __init__(self, feed: str, source: str) -> None:
        self._feed = feed
        self._source = source
        self._done: dict[StreamKey, Counter[str]] = {}
        self._given_up: Counter[StreamKey] = Counter()
        self._why_given_up = ""
        self._due = 0.0
        self._failing_since: float | None = None
        self.is_paused = False
        self._failures: set[str] = set()  # the kinds that were said since then
        self._refused: set[StreamKey] = set()
        self._refusing: dict[StreamKey, str] = {}  # not yet logged
        self._said = self._blocked = ""
        self._limits: dict[str, LineLimit] = {}
        self._warmup_from: float | None = None
        self._next_progress = 0.0

    def take_said(self) -> str:
        """Return the newest text for `last_error` since the last call, else ""."""
        said, self._said = self._said, ""
        return said

    def take_blocked(self) -> str:
        """Return why the source may not be asked, if that is new, else ""."""
        blocked, self._blocked = self._blocked, ""
        return blocked

    def repaired(self, key: StreamKey, effect: HistoryEffect, now: float) -> None:
        """Gather the changes that an answer made to a stream's rows."""
        done = {
            "filled": effect.filled + effect.appended,
            "corrected": effect.corrected,
            "confirmed": effect.confirmed,
        }
        if any(done.values()):
            self._gather(now)
            self._done.setdefault(key, Counter()).update(done)

    def given_up(
        self, key: StreamKey, holes: Iterable[Defect], why: str, now: float
    ) -> None:
        """Gather holes that are given up."""
        missing = sum(hole.bars for hole in holes)
        if missing:
            self._gather(now)
            self._given_up[key] += missing
            self._why_given_up = why

    def corrected(self, key: StreamKey, old: Bar, new: Bar, now: float) -> None:
        """Log a row whose values were replaced, with both."""
        text = f"corrected by {self._source}: {describe_change(key, old, new)}"
        self._say("corrected", _WARNING, text, now)

    def disbelieved(self, key: StreamKey, reason: str, now: float) -> None:
        """Log that a history was not believed."""
        text = f"history of {' '.join(key)} is not believed: {reason}"
        self._say("disbelieved", _WARNING, text, now)
        self._said = text

    def failed(self, key: StreamKey, error: HistoryError, now: float) -> None:
        """Log that history cannot be asked, at the first failure of its kind in a row.

        A refusal is about one stream alone, and is logged a second later: the venue may
        not know the symbol, which is logged elsewhere.
        """
        if error.kind == "refused":
            if key not in self._refused:
                self._refused.add(key)
                self._gather(now)
                self._refusing[key] = str(error)
        elif error.kind not in self._failures:
            if not self._failures:
                self._failing_since = now
            self._failures.add(error.kind)
            text = f"{self._source} cannot be asked for history: {error}"
            self._say(error.kind, _WARNING, text, now)
            self._said = text
            if error.kind == "blocked":
                self._blocked = text

    def unknown(self, keys: Iterable[StreamKey]) -> None:
        """Log no refusals of these streams: the venue does not know their symbols."""
        for key in keys:
            self._refused.add(key)
            self._refusing.pop(key, None)

    def answered(self, now: float) -> None:
        """Log that history can be asked again, after failures."""
        since, self._failing_since = self._failing_since, None
        self._failures.clear()
        if since is not None:
            text = f"{self._source} answers again, after {now - since:.1f} s"
            self._say("answers", _INFO, text, now)

    def paused(self, reason: str, now: float) -> None:
        """Log that requests wait, as often as they begin to; "" while none does."""
        if reason and not self.is_paused:
            text = f"requests for history wait: {self._source}: {reason}"
            self._say("paused", _INFO, text, now)
        self.is_paused = bool(reason)

    def lying(self, keys: Iterable[StreamKey], now: float) -> None:
        """Log that the socket has not sent bars that history has."""
        text = (
            f"{self._source} has bars that the connection has not sent, which is left:"
            f" {_names(keys)}"
        )
        self._say("lying", _WARNING, text, now)
        self._said = text

    def warming(self, progress: WarmupProgress, now: float) -> None:
        """Log the progress of a warm-up from time to time, and its end."""
        if self._warmup_from is None:
            self._warmup_from, self._next_progress = now, now + PROGRESS_SECONDS
        if progress.streams_done >= progress.streams:
            seconds, self._warmup_from = now - self._warmup_from, None
            text = (
                f"warm-up done: {counted(progress.streams, 'stream')},"
                f" {counted(progress.bars_done, 'bar')} by {self._source} in"
                f" {seconds:.1f} s"
            )
            self._say("warmup", _INFO, text, now)
        elif now >= self._next_progress:
            self._next_progress = now + PROGRESS_SECONDS
            self._say("warmup", _INFO, str(progress), now)

    def flush(self, now: float) -> None:
        """Log what was gathered, if it is time to."""
        if now < self._due or not self._has_gathered():
            return
        for key, error in self._refusing.items():
            text = f"{self._source} refuses history of {' '.join(key)}: {error}"
            self._say("refused", _WARNING, text, now)
            self._said = text
        self._refusing.clear()
        if self._done:
            parts = [f"{_describe(done)} of {' '.join(k)}" for k, done in self._named()]
            more = len(self._done) - len(parts)
            others = f", and {counted(more, 'more stream')}" if more else ""
            text = f"repaired by {self._source}: {', '.join(parts)}{others}"
            self._done.clear()
            self._say("repaired", _INFO, text, now)
        if self._given_up:
            named = ", ".join(
                f"{missing} of {' '.join(key)}"
                for key, missing in self._given_up.most_common(_NAMED_STREAMS)
            )
            more = len(self._given_up) - _NAMED_STREAMS
            others = f", and of {counted(more, 'more stream')}" if more > 0 else ""
            text = f"bars are given up: {named}{others}: {self._why_given_up}"
            self._given_up.clear()
            self._say("given_up", _WARNING, text, now)
            self._said = text

    def _gather(self, now: float) -> None:
        if not self._has_gathered():
            self._due = now + GATHER_SECONDS

    def _has_gathered(self) -> bool:
        return bool(self._done or self._given_up or self._refusing)

    def _named(self) -> list[tuple[StreamKey, "Counter[str]"]]:
        most = sorted(self._done.items(), key=lambda item: -item[1].total())
        return most[:_NAMED_STREAMS]

    def _say(self, kind: str, level: int, text: str, now: float) -> None:
        limit = self._limits.setdefault(kind, LineLimit())
        omitted = limit.admit(now)
        if omitted is None:
            return
        rest = f" ({omitted} such lines were left out before)" if omitted else ""
        more = facts(event=kind, omitted=omitted)
        log.log(level, "feed %s: %s%s", self._feed, text, rest, extra=more)


def describe_change(key: StreamKey, old: Bar, new: Bar) -> str:
    """Return the place of a row that got other values, with the changes."""
    changes = ", ".join(
        f"{field} {plain(getattr(old, field))} is now {plain(getattr(new, field))}"
        for field in _FIELDS
        if getattr(old, field) != getattr(new, field)
        and getattr(new, field) == getattr(new, field)
    )
    return f"{' '.join(key)} {format_ms(new.open_time)}, {changes}"


def _describe(done: "Counter[str]") -> str:
    return " and ".join(f"{n} {what}" for what, n in done.items() if n)


def _names(keys: Iterable[StreamKey]) -> str:
    names = [" ".join(key) for key in keys]
    more = len(names) - _NAMED_STREAMS
    text = ", ".join(names[:_NAMED_STREAMS])
    return f"{text} and {more} more" if more > 0 else text
