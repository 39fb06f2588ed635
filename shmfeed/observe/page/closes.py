"""The close of each stream's last closed bar, which a status does not have."""

from collections.abc import Iterable
from typing import cast

from shmfeed.bar import StreamKey
from shmfeed.errors import ShmfeedError
from shmfeed.feed import Feed, Ring, attach
from shmfeed.observe.sample import FeedSample
from shmfeed.status import FeedStatus


class LastCloses:
    """The reader of these closes. It stays attached to the feeds until `close`."""

    def __init__(self, owner: int | None = None) -> None:
        """Read the feeds of a user, by default those of this process's."""
        self._owner = owner
        self._feeds: dict[str, Feed] = {}
        self._rings: dict[str, dict[StreamKey, Ring]] = {}

    def read(self, samples: Iterable[FeedSample]) -> dict[str, dict[StreamKey, float]]:
        """Return the closes by feed and stream; a stream without bars has none."""
        readable = {one.feed: one.status for one in samples if one.latencies}
        for name in self._feeds.keys() - readable.keys():
            self._detach(name)
        return {name: self._read_feed(name, readable[name]) for name in readable}

    def close(self) -> None:
        """Detach from all feeds. A later `read` attaches again."""
        for name in list(self._feeds):
            self._detach(name)

    def _read_feed(self, name: str, status: FeedStatus) -> dict[StreamKey, float]:
        closes: dict[StreamKey, float] = {}
        try:
            if name not in self._feeds:
                self._feeds[name] = attach(name, owner=self._owner)
            before = self._rings.pop(name, {})
            rings = self._rings[name] = {}
            for stream in status["streams"]:
                key = cast("StreamKey", (stream["symbol"], stream["timeframe"]))
                ring = before.get(key) or self._feeds[name].ring(*key)
                rings[key] = ring
                close = _last_close(ring)
                if close is not None:
                    closes[key] = close
        except ShmfeedError:  # the feed has just gone: the next sample shows it
            self._detach(name)
        return closes

    def _detach(self, name: str) -> None:
        self._rings.pop(name, None)
        feed = self._feeds.pop(name, None)
        if feed is not None:
            feed.close()


def _last_close(ring: Ring) -> float | None:
    try:
        rows = ring.snapshot(1)
    except ShmfeedError:  # outrun, or not carried any more: no close this time
        return None
    return float(rows["close"][0]) if len(rows) else None
