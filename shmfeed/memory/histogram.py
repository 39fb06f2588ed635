"""Latency histograms in a segment's header: their buckets, a store, a load.

One is HISTOGRAM_WORDS words: the number of its observations, their sum in ns, and the
observations of each bucket. The writer raises the number last. A reader that finds
another number than that of the buckets reads once more, and then trusts the buckets:
each word only grows, so what it returns never falls.
"""

from collections.abc import Sequence
from typing import NamedTuple

from shmfeed.layout import COUNT_LIMIT, H_HISTOGRAM, HISTOGRAM_WORDS
from shmfeed.memory.words import Words, fence

# Upper bounds of the buckets in seconds, each included; the last bucket has none.
BOUNDS = (
    *(1e-5, 2e-5, 3e-5, 5e-5),
    *(1e-4, 2e-4, 3e-4, 5e-4),
    *(0.001, 0.002, 0.003, 0.005),
    *(0.01, 0.02, 0.03, 0.05),
    *(0.1, 0.2, 0.3, 0.5),
    *(1.0, 2.0, 3.0, 5.0),
    *(10.0, 20.0, 30.0, 50.0),
    100.0,
)
BUCKETS = len(BOUNDS) + 1
VENUE, PUBLISH = 0, 1  # event time to received, received to published

_SECOND = 1_000_000_000
_SUM = 1
_FIRST = HISTOGRAM_WORDS - BUCKETS  # the word of the first bucket
_TRIES = 8


class Histogram(NamedTuple):
    """A latency histogram.

    Attributes:
        number: The number of observations.
        seconds: Their sum.
        buckets: The number of observations of each bucket, BUCKETS in all.
    """

    number: int
    seconds: float
    buckets: tuple[int, ...]


class Latencies(NamedTuple):
    """The latency histograms of a feed.

    Attributes:
        venue: From the venue's event time to the message's receipt.
        publish: From the receipt to the publishing of its bars.
    """

    venue: Histogram
    publish: Histogram


def read_latencies(words: Words) -> Latencies:
    """Return both histograms of a segment. A value that is out of range counts 0."""
    return Latencies(_read(words, VENUE), _read(words, PUBLISH))


def add_observations(
    words: Words, number: int, buckets: Sequence[int], total_ns: int
) -> None:
    """Add observations to a histogram: those of each bucket, and their sum in ns.

    A histogram that would leave the range of a counter stays as it is.
    """
    ints, at = words.ints, H_HISTOGRAM + number * HISTOGRAM_WORDS
    count = sum(buckets)
    if max(ints[at + _SUM] + total_ns, ints[at] + count) >= COUNT_LIMIT:
        return
    for bucket, observed in enumerate(buckets, at + _FIRST):
        if observed:
            ints[bucket] += observed
    ints[at + _SUM] += total_ns
    fence()  # release: pairs with the acquire of `_read`
    ints[at] += count


def _read(words: Words, number: int) -> Histogram:
    at = H_HISTOGRAM + number * HISTOGRAM_WORDS
    count, total, buckets = 0, 0, [0]
    for _ in range(_TRIES):
        count = words.ints[at]
        fence()  # acquire: pairs with the release of `add_observations`
        total, *buckets = words.ints[at + _SUM : at + HISTOGRAM_WORDS].tolist()
        if count == sum(buckets):
            break
    valid = tuple(value if 0 <= value < COUNT_LIMIT else 0 for value in buckets)
    seconds = total / _SECOND if 0 <= total < COUNT_LIMIT else 0.0
    return Histogram(sum(valid), seconds, valid)
