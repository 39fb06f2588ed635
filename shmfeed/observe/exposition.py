"""The metrics of the feeds of a sampler, as text."""

import gzip

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from shmfeed.observe.metrics import FeedCollector
from shmfeed.observe.sample import Sampler

# Content types: they name the formats.
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus' older format
_FAST = 1  # a level of gzip


class Exposition:
    """The metrics of the feeds of a sampler.

    Thread safety: any thread may call it.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(FeedCollector(sampler.sample))  # a Collector

    def text(self, kind: str = OPENMETRICS, is_zipped: bool = False) -> bytes:
        """Return a new sample in one of the two formats, compressed by gzip or not.

        Raises UnsupportedPlatformError if live feeds cannot work here.
        """
        generate = generate_latest if kind == PLAIN else openmetrics.generate_latest
        text: bytes = generate(self._registry)
        return gzip.compress(text, _FAST) if is_zipped else text
