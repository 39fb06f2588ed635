"""`follow`: the events of streams, one by one, for a `for` or `async for` loop.

A look finds the events of all streams since those that the task was handed, and sorts
them. The loop hands them over one by one; once none is left, it sleeps until a ring
closes a bar, and looks at those rings. All streams are looked at again each half second
and when a feeder's last heartbeat has expired: no repair, death or recreated feed
wakes a waiting reader.
"""

import math
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from importlib import import_module
from operator import is_
from typing import Self

from shmfeed.accepted_feeder import AcceptedFeeder
from shmfeed.errors import (
    ContextError,
    ShmfeedError,
    StaleFeedWarning,
    StreamNotFoundError,
)
from shmfeed.feed import Ring
from shmfeed.validation import check_feed_name, check_timeout
from shmfeed.waiting import RECHECK_DEAD_NS, RECHECK_NS, WaitSet
from wealthdata.attachment import AttachedFeed, attached_feed, selected_feed
from wealthdata.choices import current_choices
from wealthdata.contexts_in_force import note_live_read
from wealthdata.followed_stream import Event, Expected, FollowedStream
from wealthdata.freshness import name_feeds, warn
from wealthdata.handed import TaskRecord, current_record
from wealthdata.securities import check_awaited
from wealthdata.sources import current_views
from wealthdata.stand_ins import refuse_wait
from wealthdata.waiting import Frequency, check_frequencies, warn_of_unknown

_RECHECK_SECONDS = RECHECK_NS / 1e9
_RETRY_SECONDS = RECHECK_DEAD_NS / 1e9  # a stream without a ring may get one
_MOMENT = 0.001  # after it a feeder without a heartbeat is dead
_PAUSE = 32  # events in a row, after which other asyncio tasks run


# Quoted annotations: help(follow) shows their names, not each accepted value.
def follow(
    securities: str | Iterable[str],
    frequency: "Frequency | Iterable[Frequency]",
    timeout: float | None = None,
    *,
    feed: str | None = None,
) -> "Follow":
    """Follow streams: iterate over what happens to them, in `for` or `async for`.

    The events are `Closed` (a bar has closed), `Revised` (a bar that was handed over as
    `Closed` has been corrected), `Gap` (bars are missing, or are there now) and
    `Health` (the health of a stream has changed: the feeder died, or is back).

    Each bar comes once. The first is the one that closes after what this asyncio task
    or, outside of one, this thread has had: what `wait_bar` or `follow` has handed over
    to it; before the first of these calls, what it has read; if it has read nothing,
    what there is at the call. So no event is missed while the strategy computes, nor
    between two loops: the next `follow` of the task goes on where a loop was left.

    All events that there are come at once, the oldest first: by close time, then in the
    order of the securities, of each the shortest timeframe first. The end of an outage
    comes before the bars, any other change of health after them. The bars that fill a
    hole are older than what was handed over; they do not come as `Closed`, but as a
    `Gap` that is `filled`.

    Args:
        securities: Symbols, as for `get_price`: "BTCUSDT" or "BTCUSDT@FEED".
        frequency: A timeframe or several. One that the feed does not carry is rolled
            up: it closes a bar when the last one of a group closes.
        timeout: Seconds without an event after which the iteration ends, counted from
            the beginning of each wait. None waits without an end.
        feed: The feed of securities that name none; None for the chosen one.

    Returns:
        An iterator and asynchronous iterator over the events. It is a context manager
        too; `close()` or `await aclose()` ends it, from any thread.

    Raises:
        BadArgumentError: An argument is not accepted; the message says what is.
        StreamNotFoundError: The feed carries none of the streams, and none that they
            could be rolled up from.
        FeedChangedError: A feed is not the one that this process has read before. The
            iteration raises it too, and goes on after `use(feed=...)`.
        ContextError: In a backtest, and in a replay of the runner. In a backtest the
            iteration raises it too.
        SegmentError: The feed's shared memory cannot be used.

    Thread safety:
        Any thread or task may call it. One at a time may iterate over the result.
        `for` blocks its thread; `async for` lets other tasks run.
    """
    named = check_awaited(securities)
    timeframes = check_frequencies(frequency)
    timeout = check_timeout("timeout", timeout)
    chosen = selected_feed() if feed is None else check_feed_name(feed)
    _refuse_backtest()
    refuse_wait("follow")
    streams = [
        FollowedStream(selected_feed(each.feed or chosen) or "", each, timeframe)
        for each in named
        for timeframe in timeframes
    ]
    return Follow(streams, current_record(), timeout)


def _refuse_backtest() -> None:
    views, _ = current_views()
    if selected_feed() is None or any(view.is_backtest for view in views):
        raise ContextError(
            "follow is for live bars, and this is a backtest; let the runner hand over"
            " its bars: `python -m wealthdata run STRATEGY.py --symbols .. --frequency"
            " .. --backtest FILE.csv`"
        )
    note_live_read()  # no backtest's context is meant for this thread or task


class Follow:
    """The events of streams, as `follow` describes them."""

    def __init__(
        self,
        streams: Sequence[FollowedStream],
        record: TaskRecord,
        timeout: float | None,
    ) -> None:
        self._streams = streams
        self._places = {stream: place for place, stream in enumerate(streams)}
        self._record = record
        self._timeout = math.inf if timeout is None else timeout
        self._feeds: dict[str, _KnownFeed] = {
            name: _KnownFeed(name) for name, _, _ in (s.id for s in streams)
        }
        self._due: deque[tuple[FollowedStream, Event]] = deque()
        self._rings: list[Ring] = []  # of `_wait_set`
        self._wait_set: WaitSet[Ring] | None = None
        self._log = record.log
        self._expected: list[Expected] = []  # of each of these rings
        self._recheck_at = 0.0
        self._is_waiting = self._is_closed = False
        self._streak = 0
        self._begin_streams()

    def _begin_streams(self) -> None:
        for known in self._feeds.values():
            known.refresh()
        for stream in self._streams:
            stream.find(self._feeds[stream.id[0]].feed)
        errors = [s.unknown for s in self._streams if s.unknown]
        if len(errors) == len(self._streams):
            raise errors[0]
        for stream in self._streams:
            stream.begin(self._record)
            feed = self._feeds[stream.id[0]].feed
            if feed is not None:
                stream.note_market(feed.number, feed.identity, feed.source)
        warn_of_unknown(
            [s.id for s in self._streams if s.unknown],
            "follow waits until it does",
        )
        self._warn_of_outages()

    def _warn_of_outages(self) -> None:
        """Warn of feeds without a feeder: no change of health would tell of them."""
        if current_choices().reactions.on_stale == "ignore":
            return
        dead = {s.id[0]: s for s in self._streams if s.is_new and s.health() == "dead"}
        for name, stream in dead.items():
            why = (
                stream.why("dead")
                if stream.ring
                else f"not on this host{name_feeds(name)}"
            )
            warn(
                f"feed {name!r} is dead: {why}; follow waits until it lives, see"
                f" `shmfeed status --feed {name}`",
                StaleFeedWarning,
            )

    def _find(self) -> None:
        """Find the rings of the streams, where anything may have changed."""
        changed = {name for name, feed in self._feeds.items() if feed.refresh()}
        for stream in self._streams:
            name = stream.id[0]
            if name in changed or stream.ring is None:
                feed = self._feeds[name].feed
                stream.find(feed)
                if feed is not None and name in changed:
                    stream.note_market(feed.number, feed.identity, feed.source)

    def _look(self, streams: Sequence[FollowedStream]) -> None:
        """Find the events of these streams that are due now."""
        now = time.monotonic()
        if now >= self._recheck_at:
            self._recheck_at = now + _RECHECK_SECONDS
            self._find()
            streams = self._streams
        try:
            found = [(s, event) for s in streams for event in s.look()]
            for feed in self._feeds.values():
                feed.check()  # the bars may be of a feeder that began meanwhile
        except ShmfeedError:
            for stream in streams:
                stream.forget_look()  # what it found is not handed over
            raise
        if len(found) > 1:
            found.sort(key=self._order)
        self._due.extend(found)

    def _order(self, found: tuple[FollowedStream, Event]) -> tuple[int, int]:
        stream, event = found
        return stream.instant(event), self._places[stream]

    def _prepare(self, seconds: float) -> WaitSet[Ring]:
        """Return the rings to wait for. Raise StreamNotFoundError.

        It waits at most until the streams are to be looked at again.
        """
        streams = [stream for stream in self._streams if stream.ring is not None]
        rings = [stream.ring for stream in streams if stream.ring is not None]
        seen, epochs = [s.seen for s in streams], [s.epoch for s in streams]
        wait_set, known = self._wait_set, self._rings
        is_known = len(rings) == len(known) and all(map(is_, rings, known))
        if wait_set is None or not is_known:
            wait_set = WaitSet(zip(rings, seen, strict=True), seconds, epochs=True)
            self._wait_set, self._rings = wait_set, rings
        now = time.monotonic()
        longest = wait_set.seconds_alive() + _MOMENT
        if len(rings) < len(self._streams):
            longest = min(longest, _RETRY_SECONDS)
        self._recheck_at = min(self._recheck_at, now + longest)
        self._log = self._record.log
        wait_set.reattach()
        wait_set.renew(seen, epochs, min(seconds, max(0.0, self._recheck_at - now)))
        self._expected = [
            stream.expect(reader, self._feeds[stream.id[0]].feeder)
            for stream, reader in zip(streams, wait_set.readers, strict=True)
        ]
        return wait_set

    def _sleep(self, seconds: float) -> Event | None:
        """Sleep once. Return an event that is due then."""
        try:
            wait_set = self._prepare(seconds)
            index = wait_set.sleep_once()
            if index >= 0 and (event := self._take(index, wait_set)) is not None:
                return event
            return self._look_at(wait_set.ready())
        except StreamNotFoundError:  # a look at all tells which
            return self._look_at_all()

    async def _sleep_in_task(self, seconds: float) -> Event | None:
        """Sleep once, as `_sleep`, while other tasks run."""
        aio = import_module("shmfeed.aio")  # it loads asyncio: the caller has done so
        try:
            wait_set = self._prepare(seconds)
            ready: list[Ring] = await aio.wait_ready(wait_set)
            if len(ready) == 1:
                event = self._take(self._rings.index(ready[0]), wait_set)
                if event is not None:
                    return event
            return self._look_at(ready)
        except StreamNotFoundError:
            return self._look_at_all()

    def _take(self, index: int, wait_set: WaitSet[Ring]) -> Event | None:
        """Return the next bar of a stream if it is the expected one, else None.

        The usual case after a wake-up. All else takes a look.
        """
        expected = self._expected[index]
        event = expected.take(wait_set.readers[index])
        if event is None or self._is_closed:
            return None
        self._record.unsettled.append((expected[0], event, self._log))
        return event

    def _look_at(self, rings: Sequence[Ring]) -> Event | None:
        """Look at the streams of these rings. Return an event that is due."""
        woken = {id(ring) for ring in rings}
        self._look([s for s in self._streams if id(s.ring) in woken])
        return self._next_due()

    def _look_at_all(self) -> Event | None:
        self._recheck_at = 0.0
        self._look(self._streams)
        return self._next_due()

    def _next_due(self) -> Event | None:
        """Return the next event that is due, None if no event is left."""
        if not self._due or self._is_closed:
            return None
        stream, event = self._due.popleft()
        stream.hand_over(event, self._record)
        return event

    def _begin_turn(self) -> float:
        """Return the end of the wait that begins."""
        _refuse_backtest()
        self._record.settle()
        if self._is_waiting:
            raise ContextError(
                "another thread or task waits for this follow's next event; call"
                " follow() in each"
            )
        self._is_waiting = True
        return time.monotonic() + self._timeout

    def _begin(self) -> Event | None:
        """Return an event that is due without a wait."""
        if not self._due:
            self._look(self._streams)
        return self._next_due()

    def _left(self, end: float) -> float:
        return 0.0 if self._is_closed else end - time.monotonic()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        end = self._begin_turn()
        try:
            event = self._begin()
            while event is None and (left := self._left(end)) > 0:
                event = self._sleep(left)
        finally:
            self._is_waiting = False
        if event is None:
            self.close()
            raise StopIteration
        return event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        end = self._begin_turn()
        try:
            self._streak += 1
            if self._streak > _PAUSE:
                self._streak = 0
                await _Pause()
            event = self._begin()
            while event is None and (left := self._left(end)) > 0:
                self._streak = 0
                event = await self._sleep_in_task(left)
        finally:
            self._is_waiting = False
        if event is None:
            self.close()
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """End the iteration, a wait of another thread too. Idempotent."""
        self._is_closed = True
        self._record.settle()
        self._due.clear()
        for stream in self._streams:
            stream.release()

    async def aclose(self) -> None:
        """End the iteration. Idempotent."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()


class _Pause:
    """A pause of an asyncio task in which others run, as `asyncio.sleep(0)`."""

    def __await__(self) -> Generator[None]:
        yield


class _KnownFeed:
    """A feed of a follow, as of its last look at all streams."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._catalog: object = None
        self.feed: AttachedFeed | None = None
        self.feeder: AcceptedFeeder | None = None  # the one that was accepted last

    def refresh(self) -> bool:
        """Look for the feed. Return True if streams may have come or gone.

        Raise FeedChangedError.
        """
        feed = attached_feed(self._name)
        catalog = None if feed is None else feed.known_streams()[0]
        changed = feed is not self.feed or catalog is not self._catalog
        self.feed, self._catalog = feed, catalog
        return changed

    def check(self) -> None:
        """Raise FeedChangedError if the present feeder is not accepted."""
        self.feeder = None if self.feed is None else self.feed.check()
