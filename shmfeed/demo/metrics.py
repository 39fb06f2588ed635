"""The numbers of a demo: latency histograms, and metrics of a moment and of the whole.

Strategies report counts and sparse histograms; `MetricsCollector` adds them up.
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from shmfeed.status import FeedStatus

_SUBBUCKET_BITS = 4  # 16 buckets an octave, each at most 1/16 of its value wide
_SUBBUCKETS = 1 << _SUBBUCKET_BITS
_BUCKETS = _SUBBUCKETS * 40  # up to 2**43 ns, over two hours
_RATE_SECONDS = 3.1  # rates cover this much of the past; bars close each second


class Histogram:
    """Counts of integers from 0 on, in buckets about 6 % wide."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS

    def add(self, value: int) -> None:
        shift = max(0, value.bit_length() - _SUBBUCKET_BITS - 1)
        bucket = (shift << _SUBBUCKET_BITS) + (value >> shift)
        self._counts[bucket if bucket < _BUCKETS else _BUCKETS - 1] += 1

    def quantile(self, share: float) -> float | None:
        """Return the value that `share` of all values do not exceed; None if empty."""
        left = share * sum(self._counts)
        for bucket, count in enumerate(self._counts):
            left -= count
            if count and left <= 0:
                return _middle(bucket)
        return None

    def merge(self, sparse: Mapping[str, int]) -> None:
        """Add the counts of another histogram's `sparse`."""
        for bucket, count in sparse.items():
            self._counts[int(bucket)] += count

    def sparse(self) -> dict[str, int]:
        """Return the non-zero counts by bucket, for JSON."""
        return {str(bucket): n for bucket, n in enumerate(self._counts) if n}


def _middle(bucket: int) -> float:
    shift = max(0, (bucket >> _SUBBUCKET_BITS) - 1)
    low = bucket - (shift << _SUBBUCKET_BITS)
    return low if not shift else (low + 0.5) * (1 << shift)


class WorkerReport:
    """The latest report of one strategy process, and its failure.

    Attributes:
        number: The process's number, counted from 1.
        values: The report, {} before the first.
        rate: Reads a second between the last two reports.
        failure: A sentence if the process ended early, else "".
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.values: dict[str, Any] = {}
        self.rate = 0.0
        self.failure = ""

    def update(self, values: dict[str, Any]) -> None:
        """Replace the report by a newer one."""
        before = self.values or {"at": values["began"], "reads": 0}
        passed = values["at"] - before["at"]
        if passed > 0:
            self.rate = (values["reads"] - before["reads"]) / passed
        self.values = values

    def fail(self, failure: str) -> None:
        self.failure = failure
        self.rate = 0.0


class ReadMetrics(NamedTuple):
    """The reads of one strategy, or of all together.

    Attributes:
        reads: Calls of `get_price`.
        rate: Reads a second, over the last report.
        rows: Rows checked.
        torn: Rows that differ from the venue's.
        lapped: Frames that were overwritten during the check and say so themselves.
        errors: Reads that raised.
        p50: Median time of a read, ns.
        p99: 99th percentile, ns.
    """

    reads: int
    rate: float
    rows: int
    torn: int
    lapped: int
    errors: int
    p50: float | None
    p99: float | None


class DemoMetrics(NamedTuple):
    """The state of a demo. Times in seconds unless stated otherwise.

    Attributes:
        bars: Closed bars that the feeder has written.
        first_bars: Bars present at the start, from the venue's history.
        bars_rate: Bars a second, over the last seconds.
        messages_rate: Messages a second, over the last seconds.
        newest_age: Seconds since the newest bar closed.
        delay: Median time from a bar's close to the first read that has it, us.
        all: Reads of all strategies together.
        each: (number, reads) of each strategy.
        failures: A sentence for each strategy that failed.
        leaders: The leaders of a relay in their order, host:pid each.
        take_over: Seconds from the leader's end until a follower had another one's
            data; None before.
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
    all: ReadMetrics
    each: tuple[tuple[int, ReadMetrics], ...]
    failures: tuple[str, ...]
    leaders: tuple[str, ...] = ()
    take_over: float | None = None

    @property
    def live_bars(self) -> int:
        """Bars that closed while the demo ran."""
        return self.bars - self.first_bars

    @property
    def passed(self) -> bool:
        """True if rows were checked and nothing was wrong."""
        wrong = self.all.torn or self.all.errors or self.failures
        return self.all.rows > 0 and not wrong


class MetricsCollector:
    """Makes metrics of the feed's status and the strategies' reports.

    Args:
        status: The feed's status at the start.
    """

    def __init__(self, status: FeedStatus) -> None:
        self._began = time.monotonic()
        self._first_bars = status["bars"]
        self._past: deque[tuple[float, int, int]] = deque()  # (time, bars, messages)
        self._leaders: list[str] = []
        self._troubled: float | None = None
        self._take_over: float | None = None
        self._rates(status)
        self.note_leader(status)

    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def note_trouble(self) -> None:
        """Begin the time of a take-over."""
        self._troubled = self.elapsed()

    def note_leader(self, status: FeedStatus) -> None:
        """Note the leader that a feed follows, if it follows one."""
        relay = status["relay"]
        leader = relay and relay["leader"]
        if not leader or leader in self._leaders[-1:]:
            return
        self._leaders.append(leader)
        if self._troubled is not None and self._take_over is None:
            self._take_over = self.elapsed() - self._troubled

    def collect(
        self, status: FeedStatus, reports: Sequence[WorkerReport]
    ) -> DemoMetrics:
        """Return the metrics of this moment."""
        bars_rate, messages_rate = self._rates(status)
        return DemoMetrics(
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
            leaders=tuple(self._leaders),
            take_over=self._take_over,
            **_of_reports(reports),
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


def with_reports(metrics: DemoMetrics, reports: Sequence[WorkerReport]) -> DemoMetrics:
    """Return these metrics with the strategies' present reports."""
    return metrics._replace(**_of_reports(reports))


def _of_reports(reports: Sequence[WorkerReport]) -> dict[str, Any]:
    errors = [
        f"strategy {report.number}: {report.values['error']}"
        for report in reports
        if report.values.get("error")
    ]
    return {
        "delay": _merged(reports, "delays").quantile(0.5),
        "all": _reads(reports),
        "each": tuple((report.number, _reads([report])) for report in reports),
        "failures": (*(r.failure for r in reports if r.failure), *errors),
    }


def _newest_age(status: FeedStatus) -> float | None:
    closes = [stream["last_close_time"] for stream in status["streams"]]
    newest = max((close for close in closes if close is not None), default=None)
    return None if newest is None else max(0.0, time.time() - newest / 1000)


def _reads(reports: Sequence[WorkerReport]) -> ReadMetrics:
    def total(name: str) -> int:
        return sum(report.values.get(name, 0) for report in reports)

    took = _merged(reports, "took")
    return ReadMetrics(
        reads=total("reads"),
        rate=sum(report.rate for report in reports),
        rows=total("rows"),
        torn=total("torn"),
        lapped=total("lapped"),
        errors=total("errors"),
        p50=took.quantile(0.5),
        p99=took.quantile(0.99),
    )


def _merged(reports: Iterable[WorkerReport], name: str) -> Histogram:
    histogram = Histogram()
    for report in reports:
        histogram.merge(report.values.get(name, {}))
    return histogram
