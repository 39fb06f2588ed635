"""METRICS: samples of feeds as families of the package prometheus-client.

A figure that is not known, such as the offset of a clock before the venue has said its
time, is left out, and so are the figures of a feed without a segment that can be read.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    StateSetMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from shmfeed.health import GOOD_HEALTHS, HEALTHS
from shmfeed.layout import STATES
from shmfeed.memory.histogram import BOUNDS, Histogram
from shmfeed.observe.sample import FeedSample
from shmfeed.relay_status import ROLES

_FEED = ("feed",)
_STREAM = ("feed", "symbol", "timeframe")
_KINDS = "run", "manager", "lease"
_SECONDS = "seconds"
_EDGES = (*map(floatToGoString, BOUNDS), "+Inf")


class _Figure(NamedTuple):
    """A number of a feed or of a stream: its metric, and its value in a status."""

    name: str
    help: str
    value: Callable[[Any], float | None]


def _key(name: str) -> Callable[[Any], float | None]:
    return lambda status: status[name]


_FEED_COUNTERS = (
    _Figure("messages", "Messages of the venue.", _key("messages")),
    _Figure("bars", "Bars that were closed.", _key("bars")),
    _Figure("malformed", "Messages that were not accepted.", _key("malformed")),
    _Figure("ignored", "Messages that are about no bar.", _key("ignored")),
    _Figure("late", "Messages about bars that are too old.", _key("late")),
    _Figure("missed", "Messages lost, by the venue's numbers.", _key("missed")),
    _Figure("duplicates", "Messages that were had already.", _key("duplicates")),
    _Figure("revisions", "Closed bars that the venue changed.", _key("revisions")),
    _Figure(
        "disagreements",
        "Messages that contradict another connection.",
        _key("disagreements"),
    ),
    _Figure("unsubscribed", "Messages of other streams.", _key("unsubscribed")),
    _Figure("oversized", "Connections ended by a huge frame.", _key("oversized")),
    _Figure("reconnects", "Connections that replaced a lost one.", _key("reconnects")),
)
_FEED_GAUGES = (
    _Figure("missing_bars", "Bars missing between closed bars now.", _key("gaps")),
    _Figure(
        "failed_attempts",
        "Attempts to connect that failed in a row.",
        lambda status: status.get("attempts"),
    ),
)
_FEED_SECONDS = (
    _Figure(
        "clock_offset",
        "The venue's clock minus this host's, while it is known.",
        _key("clock_offset"),
    ),
    _Figure(
        "last_message_age",
        "Time since the venue last sent data.",
        _key("last_message_age"),
    ),
    _Figure("feed_uptime", "Time since the feeder took the feed.", _key("uptime")),
    _Figure(
        "feed_state_age",
        "Time since the last change of the state.",
        lambda status: _age_of(status["state_since"]),
    ),
)
_RELAY_GAUGES = (
    _Figure("relay_epoch", "Number of the present leadership.", _key("epoch")),
    _Figure("relay_behind", "The leader's flushes not yet taken here.", _key("behind")),
    _Figure(
        "relay_error",
        "1 if the relay does not work, as the status says.",
        lambda relay: relay["error"] is not None,
    ),
)
_RELAY_SECONDS = (
    _Figure("relay_lag", "Time from the leader's publishing to here.", _key("lag")),
    _Figure(
        "relay_since",
        "Time since which the leader leads, seconds UTC by its clock.",
        lambda relay: relay["since"] and relay["since"] / 1000,
    ),
)
_STREAM_GAUGES = (
    _Figure(
        "stream_ok",
        "1 if the stream is live or quiet, 0 if not.",
        lambda stream: stream["health"] in GOOD_HEALTHS,
    ),
    _Figure(
        "stream_missing_bars", "Bars missing between closed bars now.", _key("gaps")
    ),
)
_STREAM_SECONDS = (
    _Figure("stream_age", "Time since the stream's last update.", _key("age")),
)
_STREAM_COUNTERS = (
    _Figure("stream_bars", "Number of the stream's next closed bar.", _key("count")),
    _Figure(
        "stream_dropped",
        "Messages that gave no bar and no update.",
        _key("dropped"),
    ),
)


class FeedCollector:
    """The metrics of the feeds that `sample` returns, for a registry.

    Each `collect` takes one sample. Registration takes none. Its metrics have no time
    of creation.

    Thread safety: several threads may call `collect` at once, if they may call
    `sample` so.
    """

    def __init__(self, sample: Callable[[], Sequence[FeedSample]]) -> None:
        self._sample = sample

    def describe(self) -> list[Metric]:
        """Return no families: a registry would ask `collect` for them otherwise."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families of one sample."""
        samples = self._sample()
        yield from _feeders(samples)
        readable = [one for one in samples if one.latencies is not None]
        statuses = [((one.feed,), one.status) for one in readable]
        yield from _counters(_FEED_COUNTERS, _FEED, statuses)
        yield from _gauges(_FEED_GAUGES, _FEED, statuses)
        yield from _gauges(_FEED_SECONDS, _FEED, statuses, _SECONDS)
        yield from _relays(readable)
        yield _starts(readable)
        yield _healths(readable)
        yield _wants(readable)
        yield from _histograms(readable)
        streams = [
            ((one.feed, stream["symbol"], stream["timeframe"]), stream)
            for one in readable
            for stream in one.status["streams"]
        ]
        yield from _gauges(_STREAM_GAUGES, _STREAM, streams)
        yield from _gauges(_STREAM_SECONDS, _STREAM, streams, _SECONDS)
        yield from _counters(_STREAM_COUNTERS, _STREAM, streams)


Labelled = Sequence[tuple[tuple[str, ...], Any]]  # labels, and a status


def _feeders(samples: Sequence[FeedSample]) -> Iterator[Metric]:
    info = InfoMetricFamily(
        "shmfeed_feed", "The origin of a feed's rows.", labels=_FEED
    )
    up = GaugeMetricFamily("shmfeed_feed_up", "1 if a feeder lives.", labels=_FEED)
    readable = GaugeMetricFamily(
        "shmfeed_feed_readable",
        "1 if there is a segment that this version can read.",
        labels=_FEED,
    )
    state = StateSetMetricFamily(
        "shmfeed_feed_state", "The state of the connection.", labels=_FEED
    )
    health = StateSetMetricFamily(
        "shmfeed_feed_health",
        "The health of the data, that of the worst stream.",
        labels=_FEED,
    )
    for name, status, latencies, *_ in samples:
        if latencies is not None:
            info.add_metric([name], _origin(status))
        up.add_metric([name], status["pid"] is not None)
        readable.add_metric([name], latencies is not None)
        state.add_metric([name], {one: one == status["state"] for one in STATES})
        health.add_metric([name], {one: one == status["health"] for one in HEALTHS})
    return iter((info, up, readable, state, health))


def _relays(samples: Sequence[FeedSample]) -> Iterator[Metric]:
    """Yield the families of the relay, which have samples of relayed feeds alone."""
    relays = [((one.feed,), one.status["relay"]) for one in samples]
    known = [(labels, relay) for labels, relay in relays if relay is not None]
    role = StateSetMetricFamily(
        "shmfeed_relay_role", "The role of this host in the relay.", labels=_FEED
    )
    for labels, relay in known:
        role.add_metric(labels, {one: one == relay["role"] for one in ROLES})
    yield role
    yield from _gauges(_RELAY_GAUGES, _FEED, known)
    yield from _gauges(_RELAY_SECONDS, _FEED, known, _SECONDS)


def _origin(status: Any) -> dict[str, str]:
    names = "protocol", "market_type", "venue", "version"
    return {name: str(status.get(name) or "") for name in names}


def _counters(
    figures: Sequence[_Figure], labels: Sequence[str], statuses: Labelled
) -> Iterator[Metric]:
    for name, text, value in figures:
        family = CounterMetricFamily(f"shmfeed_{name}", text, labels=labels)
        for labelled, status in statuses:
            family.add_metric(labelled, value(status) or 0)
        yield family


def _gauges(
    figures: Sequence[_Figure],
    labels: Sequence[str],
    statuses: Labelled,
    unit: str = "",
) -> Iterator[Metric]:
    for name, text, value in figures:
        family = GaugeMetricFamily(f"shmfeed_{name}", text, labels=labels, unit=unit)
        for labelled, status in statuses:
            found = value(status)
            if found is not None:
                family.add_metric(labelled, found)
        yield family


def _starts(samples: Sequence[FeedSample]) -> Metric:
    family = CounterMetricFamily(
        "shmfeed_feed_starts", "Feeders that have taken the segment.", labels=_FEED
    )
    for one in samples:
        family.add_metric([one.feed], one.starts)
    return family


def _healths(samples: Sequence[FeedSample]) -> Metric:
    family = GaugeMetricFamily(
        "shmfeed_streams", "Streams by health.", labels=(*_FEED, "health")
    )
    for one in samples:
        counts = dict.fromkeys([*HEALTHS, "closed"], 0)
        for stream in one.status["streams"]:
            counts[stream["health"]] += 1
        for health, count in counts.items():
            family.add_metric([one.feed, health], count)
    return family


def _wants(samples: Sequence[FeedSample]) -> Metric:
    family = GaugeMetricFamily(
        "shmfeed_wants", "Processes that want streams.", labels=(*_FEED, "kind")
    )
    for one in samples:
        kinds = [wanted["kind"] for wanted in one.status["wants"].values()]
        for kind in _KINDS:
            family.add_metric([one.feed, kind], kinds.count(kind))
    return family


def _histograms(samples: Sequence[FeedSample]) -> Iterator[Metric]:
    for name, text in (
        ("venue", "Time from the venue's event to its receipt."),
        ("publish", "Time from a message's receipt to the publishing of its bars."),
    ):
        family = HistogramMetricFamily(
            f"shmfeed_{name}_latency", text, labels=_FEED, unit=_SECONDS
        )
        for one in samples:
            found: Histogram = getattr(one.latencies, name)
            buckets = list(zip(_EDGES, accumulate(found.buckets), strict=True))
            family.add_metric([one.feed], buckets, found.seconds)
        yield family


def _age_of(moment_ms: int | None) -> float | None:
    """Return the seconds since a time of this host's clock, at least 0."""
    return None if moment_ms is None else max(0.0, time.time() - moment_ms / 1000)
