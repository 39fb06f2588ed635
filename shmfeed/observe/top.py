"""WHAT `top` SHOWS: the streams of feeds by rate, age, gaps and lateness.

The way of a bar has three parts. The venue's event time to its receipt, and the receipt
to its publishing, are the feeder's own histograms, one of each for a feed. The third is
measured here: the time from a bar's publishing until a waiting reader has it.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from shmfeed.bar import check_timeframe
from shmfeed.errors import ShmfeedError
from shmfeed.feed import Feed, Ring, attach, wait
from shmfeed.health import Health, health_rank
from shmfeed.layout import State
from shmfeed.memory.histogram import BOUNDS, Histogram
from shmfeed.observe.sample import FeedSample
from shmfeed.relay_status import RelayStatus

SORTS = ("rate", "age", "gaps", "late", "health", "name")
_HALF, _MOST = 0.5, 0.99

TopKey = tuple[str, str, str]  # feed, symbol, timeframe


class Quantiles(NamedTuple):
    """Latencies in seconds: half and 99 % of them are no longer than this."""

    half: float
    most: float


class FeedRow(NamedTuple):
    """A feed since the last sample.

    `rate` is messages, or closed bars where there are more, a second. `venue` is from
    the venue's event time to the feeder, `publish` from there to the ring, None without
    an observation. `relay` is that of the status. `error` says why the feed cannot be
    read.
    """

    feed: str
    health: Health
    state: State
    streams: int
    rate: float | None
    venue: Quantiles | None
    publish: Quantiles | None
    relay: RelayStatus | None
    error: str


class StreamRow(NamedTuple):
    """A stream since the last sample.

    `late` is the time in seconds from the publishing of its newest bar until this
    process had it, None before it has waited for one.
    """

    feed: str
    symbol: str
    timeframe: str
    health: Health
    rate: float | None
    bars: int
    age: float | None
    gaps: int
    late: float | None
    why: str


class Top(NamedTuple):
    """Feeds and streams at one moment, `time` in ms UTC."""

    time: int
    feeds: list[FeedRow]
    streams: list[StreamRow]


def compare(
    earlier: Sequence[FeedSample],
    newer: Sequence[FeedSample],
    seconds: float,
    late: Mapping[TopKey, float],
) -> Top:
    """Return what has changed between two samples, `seconds` apart.

    Args:
        earlier: The sample before; without it, or without a feed in it, there are no
            rates.
        newer: The sample now.
        seconds: The time between them.
        late: The lateness of the newest bars, as `BarWatch` measures it.
    """
    known = {sample.feed: sample for sample in earlier}
    feeds, streams = [], []
    for sample in newer:
        before = known.get(sample.feed)
        rows = _stream_rows(before, sample, seconds, late)
        feeds.append(_feed_row(before, sample, rows))
        streams += rows
    return Top(time.time_ns() // 1_000_000, feeds, streams)


def sort_streams(
    rows: Iterable[StreamRow], by: str, is_reversed: bool = False
) -> list[StreamRow]:
    """Return the rows in an order of SORTS: the highest or worst first, names from A.

    A value that is not known comes last.
    """

    def rank(row: StreamRow) -> float:
        if by == "health":
            return -health_rank(row.health)
        value: float | None = {
            "rate": row.rate, "age": row.age, "gaps": row.gaps, "late": row.late
        }.get(by, 0.0)  # fmt: skip
        return 1.0 if value is None else -value

    ordered = sorted(rows, key=lambda row: row[:3])
    ordered.sort(key=rank)
    return ordered[::-1] if is_reversed else ordered


def _stream_rows(
    before: FeedSample | None,
    sample: FeedSample,
    seconds: float,
    late: Mapping[TopKey, float],
) -> list[StreamRow]:
    counted = {
        (stream["symbol"], stream["timeframe"]): (stream["messages"], stream["count"])
        for stream in (before.status["streams"] if before else ())
    }
    rows = []
    for stream in sample.status["streams"]:
        key = stream["symbol"], stream["timeframe"]
        now = stream["messages"], stream["count"]
        rows.append(
            StreamRow(
                sample.feed,
                *key,
                stream["health"],
                _rate(counted.get(key), now, seconds),
                stream["count"],
                stream["age"],
                stream["gaps"],
                late.get((sample.feed, *key)),
                stream["why"],
            )
        )
    return rows


def _rate(
    before: tuple[int, int] | None, now: tuple[int, int], seconds: float
) -> float | None:
    # Without a venue, as of `create`, no messages are counted: there bars count.
    if before is None or seconds <= 0:
        return None
    more = max(now[0] - before[0], now[1] - before[1])
    has_restarted = now[0] < before[0] or now[1] < before[1]
    return None if has_restarted else more / seconds


def _feed_row(
    before: FeedSample | None, sample: FeedSample, rows: Sequence[StreamRow]
) -> FeedRow:
    rates = [row.rate for row in rows if row.rate is not None]
    old, new = before and before.latencies, sample.latencies
    return FeedRow(
        sample.feed,
        sample.status["health"],
        sample.status["state"],
        len(rows),
        sum(rates) if rates else None,
        new and quantiles(old and old.venue, new.venue),
        new and quantiles(old and old.publish, new.publish),
        sample.status["relay"],
        sample.error,
    )


def quantiles(before: Histogram | None, now: Histogram) -> Quantiles | None:
    """Return the quantiles of the observations since `before`, else of all.

    They are the upper bounds of the histogram's buckets. None without an observation.
    """
    buckets = list(now.buckets)
    if before is not None and now.number > before.number:
        new = [a - b for a, b in zip(now.buckets, before.buckets, strict=True)]
        if min(new) >= 0:  # else the feed was recreated
            buckets = new
    if not sum(buckets):
        return None
    return Quantiles(_quantile(buckets, _HALF), _quantile(buckets, _MOST))


def _quantile(buckets: Sequence[int], share: float) -> float:
    left = share * sum(buckets)
    for bound, number in zip(BOUNDS, buckets, strict=False):
        left -= number
        if left <= 0:
            return bound
    return BOUNDS[-1]


class BarWatch:
    """Wait for bars of streams, and measure how late they are seen.

    `late` has seconds by feed and stream. Close it, or use its process to the end.
    """

    def __init__(self) -> None:
        self.late: dict[TopKey, float] = {}
        self._feeds: dict[str, Feed] = {}

    def watch(self, keys: Sequence[TopKey], seconds: float) -> None:
        """Wait for bars of these streams, for so long."""
        deadline = time.monotonic() + seconds
        rings = self._rings(keys)
        numbers = [ring.count for ring in rings.values()]
        names = {id(ring): key for key, ring in rings.items()}
        while rings and (left := deadline - time.monotonic()) > 0:
            try:
                pairs = list(zip(rings.values(), numbers, strict=True))
                for ring in wait(pairs, left):
                    age = ring.status().age
                    if age is not None:
                        self.late[names[id(ring)]] = age
                numbers = [ring.count for ring in rings.values()]
            except ShmfeedError:  # a stream, or a whole feed, has gone
                break
        time.sleep(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        feeds, self._feeds = self._feeds, {}
        for feed in feeds.values():
            feed.close()

    def _rings(self, keys: Sequence[TopKey]) -> dict[TopKey, Ring]:
        rings = {}
        for feed, symbol, timeframe in keys:
            try:
                if feed not in self._feeds:
                    self._feeds[feed] = attach(feed)
                ring = self._feeds[feed].ring(symbol, check_timeframe(timeframe))
                ring.count  # noqa: B018 # raises where the stream has gone
            except ShmfeedError:
                continue
            rings[feed, symbol, timeframe] = ring
        return rings


def stream_keys(rows: Iterable[StreamRow]) -> list[TopKey]:
    return [(row.feed, row.symbol, row.timeframe) for row in rows]
