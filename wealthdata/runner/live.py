"""The live mode of the runner: steps of the bars that a feed closes.

A step is made once each symbol that can close a bar at its time has, or `repair_grace`
after the first one. A symbol whose stream is dead, stale, closed or waiting is not
waited for. A bar that comes after its step was made belongs to no step: the strategy's
clock never goes back. It is reported, and reads have it from then on.

The run begins at the venue's time. Bars that close while the strategies are loaded and
initialized make steps, too.
"""

import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Self

from shmfeed.bar import Timeframe
from shmfeed.errors import BadArgumentError, ShmfeedError, StreamNotFoundError
from shmfeed.health import repair_grace
from shmfeed.text import format_ms
from shmfeed.venue_time import is_venue_time_known, venue_now
from wealthdata.attachment import attached_feed, selected_feed
from wealthdata.awaited_stream import AwaitedStream
from wealthdata.bar_history import BarHistory
from wealthdata.choices import use
from wealthdata.events import Closed
from wealthdata.followed_stream import FollowedStream
from wealthdata.following import follow
from wealthdata.freshness import name_feeds
from wealthdata.handed import StreamId, current_record
from wealthdata.runner.report import tell, tell_shortages
from wealthdata.runner.step_assembly import StepAssembly, ignore_behind
from wealthdata.runner.steps import Event, RunRequest, Step
from wealthdata.securities import Security, check_securities
from wealthdata.stream_source import NEVER

_TOLD_SECONDS = 60.0  # between two lines about late bars of one stream


class LiveMode:
    """A run on a feed, as its bars close. It never ends by itself.

    Args:
        request: The streams of the run.

    Raises:
        BadArgumentError: A symbol is not accepted, or this process reads no feed.
    """

    run_type = "live"
    history: BarHistory | None = None

    def __init__(self, request: RunRequest) -> None:
        self._request = request
        self._securities = check_securities(request.symbols)
        self._streams: dict[tuple[str, Timeframe], AwaitedStream] = {}
        self._late: dict[tuple[str, Timeframe], float] = {}  # told last
        self._newest: dict[StreamId, int] = {}  # close times, as the run began
        self._venue_start: int | None = None  # None if the venue's time is not known
        self.start = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        request = self._request
        if request.feed is not None:
            use(feed=request.feed)
        chosen = selected_feed()
        if chosen is None:
            raise BadArgumentError(
                "a live run reads a feed, and this process reads none"
                " (SHMFEED_FEED=off, or context_only); unset it, or run with --replay"
                " or --backtest"
            )
        self.feed: str | None = chosen
        self._begin()
        ignore_behind(self._stack)
        # `follow` would name the line of the runner; the run tells of it in words.
        warnings.filterwarnings(
            "ignore", ".*; follow waits until it lives", UserWarning
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _begin(self) -> None:
        """Note the venue's time, and the newest bar of each stream."""
        times = []
        for stream in self._find_streams().values():
            with suppress(ShmfeedError):  # the steps raise it
                stream.find(attached_feed(stream.id[0]))
                stream.look()
                if stream.ring is None:
                    continue
                newest = stream.newest
                self._newest[stream.id] = NEVER if newest is None else newest
                reader = stream.ring._current_reader()
                if is_venue_time_known(reader):
                    times.append(venue_now(reader))
        self._venue_start = min(times, default=None)
        self.start = self._venue_start or time.time_ns() // 1_000_000

    def steps(self) -> Iterator[Step | Event]:
        """Yield each step, and each event of `follow`, as they come."""
        self._find_feeds()
        self._follow_from_start()
        request, grace = self._request, self._grace()
        assembly = StepAssembly(
            request.symbols, request.timeframes, grace, self._may_close, self.start
        )
        while True:
            left = assembly.deadline - time.monotonic()
            timeout = min(max(left, 0.0), grace / 2)
            for event in follow(
                request.symbols, request.timeframes, timeout, feed=request.feed
            ):
                if isinstance(event, Closed):
                    self._add(assembly, event)
                else:
                    yield event
                yield from self._complete(assembly)
                if assembly.deadline - time.monotonic() < timeout:
                    break  # `follow` would return after the deadline
            yield from self._complete(assembly)

    def _find_feeds(self) -> None:
        # The strategy may have chosen another feed since the run began.
        self._streams = self._find_streams()
        for stream in self._streams.values():
            stream.find(attached_feed(stream.id[0]))
        for name in dict.fromkeys(one.id[0] for one in self._streams.values()):
            if attached_feed(name) is None:
                tell(
                    f"the run waits for feed {name!r}, which is not on this host"
                    f"{name_feeds(name)}; start it, or name another one by --feed"
                )
            elif all(self._is_dead(one) for one in self._streams.values()):
                tell(
                    f"the run waits for the feeder of feed {name!r}, which is dead; see"
                    f" `shmfeed status --feed {name}`"
                )
        tell_shortages(self._streams.values())

    def _wanted(self) -> Iterator[tuple[str, Security, Timeframe]]:
        """Yield each stream of the run, with the feed that it is read from now."""
        for each in self._securities:
            feed = selected_feed(each.feed or self._request.feed) or ""
            for timeframe in self._request.timeframes:
                yield feed, each, timeframe

    def _find_streams(self) -> dict[tuple[str, Timeframe], AwaitedStream]:
        return {
            (each.written, timeframe): AwaitedStream(feed, each.symbol, timeframe)
            for feed, each, timeframe in self._wanted()
        }

    def _follow_from_start(self) -> None:
        """Let `follow` begin with what has closed since the run began."""
        record = current_record()
        for feed, each, timeframe in self._wanted():
            stream = FollowedStream(feed, each, timeframe)
            if stream.id in record.followed:
                continue  # by the strategy
            newest = self._newest.get(stream.id)
            if newest is not None and stream.id not in record.handed:
                record.hand_over(stream.id, newest, turned_back=False)
            stream.find(attached_feed(feed))
            stream.begin(record, self._venue_start)
            stream.release()

    @staticmethod
    def _is_dead(stream: AwaitedStream) -> bool:
        status = stream.status()
        return status is not None and status.health == "dead"

    @staticmethod
    def _complete(assembly: StepAssembly) -> Iterator[Step]:
        while (step := assembly.take(time.monotonic())) is not None:
            yield step

    def _add(self, assembly: StepAssembly, closed: Closed) -> None:
        now = time.monotonic()
        if assembly.add(closed, now):
            return
        key = closed.symbol, closed.timeframe
        if closed.bar.close_time <= self.start:
            return
        if now - self._late.get(key, -_TOLD_SECONDS) >= _TOLD_SECONDS:
            self._late[key] = now
            tell(
                f"late: {closed.symbol} {closed.timeframe}, the bar that closed at"
                f" {format_ms(closed.bar.close_time)} came after its step, or after a"
                " newer one, and is handed to no handler; reads have it from now on"
            )

    def _may_close(self, symbol: str, timeframe: Timeframe) -> bool:
        stream = self._streams[symbol, timeframe]
        stream.find(attached_feed(stream.id[0]))
        return not stream.is_stuck

    def _grace(self) -> float:
        """Return the longest `repair_grace` of the feeds, in seconds."""
        found = []
        for stream in self._streams.values():
            if stream.ring is not None:
                try:
                    found.append(repair_grace(stream.ring._current_reader()))
                except StreamNotFoundError:
                    continue
        return max(found, default=repair_grace(None))
