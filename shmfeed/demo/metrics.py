"""A demo in numbers: of a moment, and of the whole.

How long reads took, in a few hundred counters.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from shmfeed.demo.workers import Crew, Member
from shmfeed.status import FeedStatus

_BITS = 4  # 16 steps an octave: a step is at most 1/16 of its value
_STEPS = 1 << _BITS
_SIZE = _STEPS * 40  # to 2**43 ns, over two hours


class Histogram:
    """Counts of whole numbers of at least 0, in steps of about 6 %."""

    def __init__(self) -> None:
        self._counts = [0] * _SIZE

    def add(self, value: int) -> None:
        shift = max(0, value.bit_length() - _BITS - 1)
        step = (shift << _BITS) + (value >> shift)
        self._counts[step if step < _SIZE else _SIZE - 1] += 1

    def quantile(self, share: float) -> float | None:
        """The value that `share` of all do not exceed; None if there is none."""
        left = share * sum(self._counts)
        for step, count in enumerate(self._counts):
            left -= count
            if count and left <= 0:
                return _middle(step)
        return None

    def merge(self, sparse: Mapping[str, int]) -> None:
        """Add what another one's `sparse` says."""
        for step, count in sparse.items():
            self._counts[int(step)] += count

    def sparse(self) -> dict[str, int]:
        """The counts that are not 0, for JSON."""
        return {str(step): n for step, n in enumerate(self._counts) if n}


def _middle(step: int) -> float:
    shift = max(0, (step >> _BITS) - 1)
    low = step - (shift << _BITS)
    return low if not shift else (low + 0.5) * (1 << shift)


_RATE_SECONDS = 3.1  # of the past, for rates: bars close each second


class Reads(NamedTuple):
    """What one strategy, or all of them together, have read so far.

    `rate` is a second, over the last report. Times of one `get_price` in ns.
    """

    reads: int
    rate: float
    rows: int
    torn: int
    lapped: int
    errors: int
    p50: float | None
    p99: float | None


class Figures(NamedTuple):
    """All that a screen shows. Times in seconds unless they say otherwise.

    `bars` are closed bars written to the feed, of which the feeder began with
    `first_bars`, the venue's history. `delay` is from a bar's close to the first read
    that has it, the median, in us.
    """

    elapsed: float
    state: str
    health: str
    pid: int | None
    bars: int
    first_bars: int
    bars_rate: float
    messages_rate: float
    reconnects: int
    gaps: int
    newest_age: float | None
    delay: float | None
    all: Reads
    each: tuple[tuple[int, Reads], ...]
    failures: tuple[str, ...]

    @property
    def live_bars(self) -> int:
        """Bars that closed while the demo ran."""
        return self.bars - self.first_bars

    @property
    def good(self) -> bool:
        """Whether bars were read, and nothing was wrong with any."""
        nothing = self.all.torn or self.all.errors or self.failures
        return self.all.rows > 0 and not nothing


class Counter:
    """Makes figures of statuses and reports; rates are those of the last seconds."""

    def __init__(self, status: FeedStatus) -> None:
        self._began = time.monotonic()
        self._first_bars = status["bars"]
        self._past: deque[tuple[float, int, int]] = deque()
        self._rates(status)

    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def figures(self, status: FeedStatus, crew: Crew) -> Figures:
        """The state of things, now."""
        bars_rate, messages_rate = self._rates(status)
        return Figures(
            elapsed=self.elapsed(),
            state=status["state"],
            health=status["health"],
            pid=status["pid"],
            bars=status["bars"],
            first_bars=self._first_bars,
            bars_rate=bars_rate,
            messages_rate=messages_rate,
            reconnects=status["reconnects"],
            gaps=status["gaps"],
            newest_age=_newest_age(status),
            **_of_crew(crew),
        )

    def _rates(self, status: FeedStatus) -> tuple[float, float]:
        now, bars, messages = time.monotonic(), status["bars"], status["messages"]
        past = self._past
        past.append((now, bars, messages))
        while now - past[0][0] > _RATE_SECONDS:
            past.popleft()
        then, bars_then, messages_then = past[0]
        passed = max(now - then, 0.001)
        return max(0, bars - bars_then) / passed, (messages - messages_then) / passed


def renewed(figures: Figures, crew: Crew) -> Figures:
    """The same, with what the strategies have said since."""
    return figures._replace(**_of_crew(crew))


def _of_crew(crew: Crew) -> dict[str, Any]:
    members = crew.members
    errors = [
        f"strategy {member.number}: {member.report['error']}"
        for member in members
        if member.report.get("error")
    ]
    return {
        "delay": _merged(members, "delays").quantile(0.5),
        "all": _reads(members),
        "each": tuple((member.number, _reads([member])) for member in members),
        "failures": (*(m.failure for m in members if m.failure), *errors),
    }


def _newest_age(status: FeedStatus) -> float | None:
    closes = [stream["last_close_time"] for stream in status["streams"]]
    newest = max((close for close in closes if close is not None), default=None)
    return None if newest is None else max(0.0, time.time() - newest / 1000)


def _reads(members: Sequence[Member]) -> Reads:
    def total(name: str) -> int:
        return sum(member.report.get(name, 0) for member in members)

    took = _merged(members, "took")
    return Reads(
        reads=total("reads"),
        rate=sum(member.rate for member in members),
        rows=total("rows"),
        torn=total("torn"),
        lapped=total("lapped"),
        errors=total("errors"),
        p50=took.quantile(0.5),
        p99=took.quantile(0.99),
    )


def _merged(members: Sequence[Member], name: str) -> Histogram:
    histogram = Histogram()
    for member in members:
        histogram.merge(member.report.get(name, {}))
    return histogram
