"""`wait_bar`: sleep until every named security has closed a bar.

A security waits for its streams, one for each timeframe. Each has the close time of the
newest bar that the task has had. The wait judges the securities again whenever one of
their rings closes a bar:

    ready      at the newest instant at which one of its streams closed a bar that the
               task has not had, each of them whose grid ends there has closed one
    awaited    a stream that is needed for that may still close one
    missing    those that are needed are stale, dead, closed or waiting

It ends once no security is awaited and one is ready. Bars are compared by time, not by
number: a repair that fills a hole changes the numbers.
"""

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Literal

from shmfeed.bar import Timeframe, TimeframeAlias, check_timeframe, duration
from shmfeed.errors import (
    BadArgumentError,
    ContextError,
    MissingBarsWarning,
    NoDataError,
    StreamNotFoundError,
)
from shmfeed.feed import Ring
from shmfeed.spinning import Arrivals, Spinner, check_spin
from shmfeed.validation import check_feed_name, check_timeout, items_of
from shmfeed.waiting import RECHECK_NS, WaitSet
from wealthdata.attachment import AttachedFeed, attached_feed, selected_feed
from wealthdata.awaited_stream import AwaitedStream, ends_at
from wealthdata.carried import Missing, hint_of, name_nearest
from wealthdata.column_history import of_feed
from wealthdata.contexts_in_force import note_live_read
from wealthdata.freshness import is_first, warn
from wealthdata.handed import StreamId, TaskRecord, current_record
from wealthdata.merge import Sources, find_bars
from wealthdata.request import PriceRequest
from wealthdata.securities import Security, check_awaited
from wealthdata.sources import current_views, open_sources, strategy_time
from wealthdata.stand_ins import refuse_wait
from wealthdata.stream_source import NEVER

Frequency = Timeframe | TimeframeAlias
Judgement = Literal["ready", "awaited", "missing"]
ReadyAndMissing = tuple[list[str], list[str]]

_RECHECK_SECONDS = RECHECK_NS / 1e9
_warned: set[StreamId] = set()  # streams that no feed carries


# Quoted annotations: help(wait_bar) shows their names, not each accepted value.
def wait_bar(
    securities: str | Iterable[str],
    frequency: "Frequency | Iterable[Frequency]",
    timeout: float | None = None,
    *,
    feed: str | None = None,
    spin: float = 0.0,
) -> tuple[list[str], list[str]]:
    """Sleep until each of these securities has closed a bar that this task has not had.

    What counts as had is what `wait_bar` has handed to this asyncio task or, outside of
    one, this thread. Before the first wait for a stream that is what the task has read
    of it and, if it has read nothing, what there is at the call. So a bar that closes
    while the strategy computes is handed over by the next call, at once.

    A security does not hold up the others while the stream that it waits for is stale,
    dead, closed or waiting, or its feed does not exist. If that is true of all of them,
    the call sleeps until one closes a bar, at most for the shortest limit of silence of
    their streams (3 timeframes, at least 30 s, if the feeder sets no other).

    Args:
        securities: Symbols, as for `get_price`: "BTCUSDT" or "BTCUSDT@FEED".
        frequency: A timeframe or several. With several, a security is ready when each
            one whose grid ends at that instant has closed: of "1m" and "5m" both at
            12:05, "1m" alone at 12:06.
        timeout: Seconds. None waits without an end, as long as a stream may close.
        feed: The feed of securities that name none; None for the chosen one.
        spin: Seconds to look without sleeping around each expected close, at most 1;
            as in `Ring.wait`.

    Returns:
        Two lists of the securities, as written and in the order given, each once:
        those that are ready, and those that are missing. Without a bar before the
        timeout all are missing. In a backtest the call returns at once: ready are those
        with a bar that closes at the context's `current_dt`.

    Raises:
        BadArgumentError: An argument is not accepted; the message says what is.
        StreamNotFoundError: The feed carries none of the streams, and none that they
            could be rolled up from.
        FeedChangedError: A feed is not the one that this process has read before.
        ContextError: In a backtest, no context says what time it is. In a replay of the
            runner, where no bar closes until the handler returns.
        SegmentError: The feed's shared memory cannot be used.

    Thread safety:
        Any thread may call it; each thread and asyncio task has a record of its own.
        It blocks its thread: in asyncio, call it through `asyncio.to_thread`, after a
        first call or read in the task itself.
    """
    named = check_awaited(securities)
    timeframes = check_frequencies(frequency)
    timeout, spin = check_timeout("timeout", timeout), check_spin(spin)
    chosen = selected_feed() if feed is None else check_feed_name(feed)
    views, history = current_views()
    sources = open_sources(views, history, chosen)
    if sources.backtest:
        sources = sources._replace(history=history)  # each security has its own feed
        return _find_closed(named, timeframes, sources, strategy_time(views))
    note_live_read()  # no backtest's context is meant for this thread or task
    refuse_wait("wait_bar")
    wait = _Wait(
        [AwaitedSecurity(each, timeframes, chosen) for each in named],
        current_record(),
        timeout,
    )
    return wait.run(spin)


def check_frequencies(frequency: object) -> list[Timeframe]:
    """Return the timeframes, shortest first, each once. Raise BadArgumentError."""
    listed = None if isinstance(frequency, str) else items_of(frequency)
    if listed is None:
        return [check_timeframe(frequency, "frequency")]
    if not listed:
        raise BadArgumentError(
            "frequency is an empty list; name at least one timeframe"
        )
    return sorted({check_timeframe(each, "frequency") for each in listed}, key=duration)


def _split(
    named: "Iterable[Security | AwaitedSecurity]", ready: set[str]
) -> ReadyAndMissing:
    written = [each.written for each in named]
    return [w for w in written if w in ready], [w for w in written if w not in ready]


def _find_closed(
    named: Sequence[Security],
    timeframes: Sequence[Timeframe],
    sources: Sources,
    now: int | None,
) -> ReadyAndMissing:
    """Return the securities with a bar that closes at `now`, and those without one.

    Raise ContextError without a time, StreamNotFoundError or NoDataError if none of the
    securities is known.
    """
    if now is None:
        raise ContextError(
            "this is a backtest, and no context says what time it is; set its"
            " current_dt, and hand it over by set_context(context)"
        )
    ready: set[str] = set()
    unknown: list[Missing] = []
    for each in named:
        try:
            history = of_feed(sources.history, each.feed or sources.named)
            own = sources._replace(history=history)
            if _closes_at(now, each.symbol, timeframes, own):
                ready.add(each.written)
        except (StreamNotFoundError, NoDataError) as error:
            unknown.append(error)
    if len(unknown) == len(named):
        raise name_nearest(unknown[0], named[0], sources.named)
    return _split(named, ready)


def _closes_at(
    now: int, symbol: str, timeframes: Sequence[Timeframe], sources: Sources
) -> bool:
    """Return True if each timeframe whose grid ends at `now` has a bar there."""
    request, closed = PriceRequest(1, now=now), []
    for timeframe in timeframes:
        found = find_bars((symbol, timeframe), request, sources, private=True)
        closes = found.columns.close_time[found.first : found.last].tolist()
        newest = closes[-1] if closes else None
        if ends_at(now, timeframe, newest):
            closed.append(newest == now)
    return bool(closed) and all(closed)


class AwaitedSecurity:
    """A security of a wait, with a stream for each timeframe, the shortest first.

    Attributes:
        handed: The newest bar of each stream, as of the last time at which it was
            ready; empty before.
    """

    __slots__ = ("handed", "streams", "written")

    def __init__(
        self, security: Security, timeframes: Iterable[Timeframe], chosen: str | None
    ) -> None:
        feed = selected_feed(security.feed or chosen) or ""
        self.written = security.written
        self.streams = [
            AwaitedStream(feed, security.symbol, timeframe) for timeframe in timeframes
        ]
        self.handed: dict[StreamId, int] = {}

    def judge(self) -> Judgement:
        """Return what the security is. Once it was ready, it stays so."""
        new = [s.newest for s in self.streams if s.newest is not None and s.has_new]
        if new:
            instant = max(new)
            needed = [s for s in self.streams if s.ends_at(instant)]
            lacking = [s for s in needed if not s.has_closed(instant)]
            if not lacking:
                self.handed = {
                    s.id: s.newest for s in self.streams if s.newest is not None
                }
        else:
            lacking = self.streams[:1]  # the next instant is one of its closes
        if self.handed:
            return "ready"
        return "missing" if all(s.is_stuck for s in lacking) else "awaited"


class _Wait:
    """One call of `wait_bar`."""

    def __init__(
        self,
        securities: Sequence[AwaitedSecurity],
        record: TaskRecord,
        timeout: float | None,
    ) -> None:
        self._securities = securities
        self._streams = [s for each in securities for s in each.streams]
        self._record = record
        self._begun = time.monotonic()
        self._end = math.inf if timeout is None else self._begun + timeout
        self._budget: Arrivals | None = None  # of the time to spin

    def run(self, spin: float) -> ReadyAndMissing:
        """Wait, and return the securities that are ready and those that are missing."""
        self._find_and_look(self._streams)
        self._begin()
        while True:
            judged = {each: each.judge() for each in self._securities}
            left = self._left(set(judged.values()))
            if left <= 0:
                return self._hand_over()
            pending = [
                stream
                for each, judgement in judged.items()
                if judgement != "ready"
                for stream in each.streams
            ]
            self._sleep(pending, min(left, _RECHECK_SECONDS), spin)
            self._find_and_look(pending)

    def _begin(self) -> None:
        """Note what the task has had of each stream. Raise StreamNotFoundError."""
        errors = [s.unknown for s in self._streams if s.unknown]
        if len(errors) == len(self._streams):
            feed, symbol, _ = self._streams[0].id
            raise name_nearest(errors[0], Security(symbol, symbol, feed), None)
        warn_of_unknown(
            [s.id for s in self._streams if s.unknown],
            "wait_bar does not wait for it, and returns it as missing",
        )
        record = self._record
        for stream in self._streams:
            newest = NEVER if stream.newest is None else stream.newest
            stream.begin(record.had(stream.id, newest))
            record.hand_over(stream.id, stream.had, stream.turned_back)

    def _find_and_look(self, streams: Sequence[AwaitedStream]) -> None:
        feeds: dict[str, AttachedFeed | None] = {}
        for stream in streams:
            name = stream.id[0]
            if name not in feeds:
                feeds[name] = attached_feed(name)
            stream.find(feeds[name])
            stream.look()
        for feed in feeds.values():
            if feed is not None:
                feed.check()  # the bars may be of a feeder that began meanwhile

    def _left(self, judgements: set[Judgement]) -> float:
        """Return the longest time to sleep, in seconds; 0 or less ends the wait."""
        left = self._end - time.monotonic()
        if "awaited" in judgements:
            return left
        if "ready" in judgements:
            return 0.0
        limit = self._begun + min(stream.limit for stream in self._streams)
        return min(left, limit - time.monotonic())

    def _sleep(
        self, pending: Sequence[AwaitedStream], seconds: float, spin: float
    ) -> None:
        """Sleep until one of these streams may have closed a bar."""
        wanted = [(s.ring, s.seen) for s in pending if s.ring is not None]
        spinner = self._make_spinner([ring for ring, _ in wanted], spin)
        with suppress(StreamNotFoundError):  # given up; the next look tells which
            WaitSet(wanted, seconds, spinner=spinner, epochs=True).wait()

    def _make_spinner(self, rings: Sequence[Ring], spin: float) -> Spinner | None:
        if not (spin and rings):
            return None
        arrivals = [ring._arrivals for ring in rings]
        if self._budget is None:
            self._budget = min(arrivals, key=lambda each: each.period)
        return Spinner(arrivals, spin, self._budget)

    def _hand_over(self) -> ReadyAndMissing:
        ready = [each for each in self._securities if each.handed]
        self._find_and_look([s for each in ready for s in each.streams])
        for each in ready:
            each.judge()
            for stream in each.streams:
                closed = each.handed.get(stream.id, NEVER)
                self._record.hand_over(stream.id, closed, stream.turned_back)
        return _split(self._securities, {each.written for each in ready})


def warn_of_unknown(streams: Iterable[StreamId], result: str) -> None:
    """Warn once of each stream that its feed does not carry, and of the `result`."""
    for stream in streams:
        if not is_first(_warned, stream):
            continue
        feed, symbol, timeframe = stream
        hint = hint_of(symbol, feed)
        warn(
            f"feed {feed!r} does not carry {symbol} {timeframe}{hint and f' ({hint})'};"
            f" {result}",
            MissingBarsWarning,
        )
