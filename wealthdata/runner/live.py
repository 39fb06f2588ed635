"""The live mode of the runner: steps of the bars that a feed closes.

A step is made once each symbol that can close a bar at its time has, or `repair_grace`
after the first one. A symbol whose stream is dead, stale, closed or waiting is not
waited for. A bar that comes after its step was made belongs to no step: the strategy's
clock never goes back. It is told, and reads have it from then on.
"""

import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Self

from shmfeed.bar import Timeframe
from shmfeed.errors import BadArgumentError, StreamNotFoundError
from shmfeed.health import repair_grace
from shmfeed.text import format_ms
from wealthdata.attachment import attached_feed, selected_feed
from wealthdata.awaited_stream import AwaitedStream
from wealthdata.bar_history import BarHistory
from wealthdata.choices import use
from wealthdata.events import Closed
from wealthdata.following import follow
from wealthdata.freshness import name_feeds
from wealthdata.runner.report import tell, tell_shortages
from wealthdata.runner.step_assembly import StepAssembly, ignore_behind
from wealthdata.runner.steps import Event, RunRequest, Step
from wealthdata.securities import check_securities

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
        self.start = time.time_ns() // 1_000_000
        ignore_behind(self._stack)
        # `follow` would name the line of the runner; the run tells of it in words.
        warnings.filterwarnings(
            "ignore", ".*; follow waits until it lives", UserWarning
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def steps(self) -> Iterator[Step | Event]:
        """Yield each step, and each event of `follow`, as they come."""
        self._find_feeds()
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
        for each in self._securities:
            name = selected_feed(each.feed or self._request.feed) or ""
            for timeframe in self._request.timeframes:
                self._streams[each.written, timeframe] = AwaitedStream(
                    name, each.symbol, timeframe
                )
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
