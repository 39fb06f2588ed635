"""WHAT A PAGE SHOWS: feeds and streams as compact rows, and what has changed of them.

Times are absolute, ms UTC, so that a row need not be sent again because time passes:
the page computes ages. Each row has the version at which it changed last, and an open
page is sent the rows that are newer than what it has.
"""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from shmfeed.bar import StreamKey
from shmfeed.health import GOOD_HEALTHS
from shmfeed.observe.sample import FeedSample
from shmfeed.relay_status import describe_relay
from shmfeed.status import FeedStatus, StreamStatus

Closes = Mapping[str, Mapping[StreamKey, float]]  # by feed

# The counters that a page shows, those of the status.
COUNTERS = (
    "messages", "bars", "reconnects", "gaps", "late", "missed", "duplicates",
    "revisions", "disagreements", "malformed", "ignored",
)  # fmt: skip

_MS = 1000
_MANY_STREAMS = 300  # of a feed with more, ages are sent less often
_AGE_STEPS = (1 * _MS, 5 * _MS)
# Spans that grow while nothing changes. A page shows ages in a column of their own.
_GROWING = re.compile(r" (?:for \d+\.\d s|\d+\.\d s ago)")


class Row(NamedTuple):
    """One stream, in the order in which it is sent."""

    symbol: str
    timeframe: str
    health: str
    why: str
    close: float | None  # of the last closed bar
    close_time: int | None
    updated: int | None  # the last update
    bars: int  # closed so far
    gaps: int


class _Versioned(NamedTuple):
    row: Row
    version: int


class PageModel:
    """The feeds as a page shows them. `update` takes a sample and raises `version`."""

    def __init__(self) -> None:
        self.version = 0
        self.now = 0  # of the last sample
        self.feeds: dict[str, dict[str, Any]] = {}
        self._rows: dict[str, dict[StreamKey, _Versioned]] = {}
        self._base = 0  # pages of an older version are sent everything
        self._encoded: dict[int, bytes] = {}  # messages of this version, by older one

    def update(
        self,
        samples: Sequence[FeedSample],
        closes: Closes,
        now: int | None = None,
    ) -> None:
        """Take a sample of all feeds. `now` is its time, by default this moment."""
        self.now = time.time_ns() // 1_000_000 if now is None else now
        self.version += 1
        self._encoded.clear()
        if self.feeds.keys() - {sample.feed for sample in samples}:
            self._base = self.version
        self.feeds = {sample.feed: head_of(sample, self.now) for sample in samples}
        self._rows = {
            sample.feed: self._rows_of(sample, closes.get(sample.feed, {}))
            for sample in samples
        }

    def rows(self, feed: str) -> list[Row]:
        """Return the rows of a feed's streams, in the order of its status."""
        return [versioned.row for versioned in self._rows.get(feed, {}).values()]

    def is_good(self, feeds: Sequence[str] | None = None) -> bool:
        """Return True if each of these feeds, or each of all, is live or quiet.

        Return False without any feed, or if one of them is not known.
        """
        asked = list(self.feeds) if feeds is None else list(feeds)
        heads = [self.feeds.get(feed) for feed in asked]
        return bool(heads) and all(
            head is not None and head["health"] in GOOD_HEALTHS for head in heads
        )

    def message_since(self, version: int) -> bytes:
        """Return what a page of this version lacks, as JSON.

        `all` is True if the message has all feeds and rows, and replaces what the page
        has.
        """
        since = 0 if version < self._base else version
        if since not in self._encoded:
            self._encoded[since] = self._encode(since)
        return self._encoded[since]

    def _encode(self, since: int) -> bytes:
        changed = {
            feed: [one.row for one in rows.values() if one.version > since]
            for feed, rows in self._rows.items()
        }
        return msgspec.json.encode(
            {
                "all": since == 0,
                "now": self.now,
                "feeds": list(self.feeds.values()),
                "rows": {feed: rows for feed, rows in changed.items() if rows},
            }
        )

    def _rows_of(
        self, sample: FeedSample, closes: Mapping[StreamKey, float]
    ) -> dict[StreamKey, _Versioned]:
        before = self._rows.get(sample.feed, {})
        streams = sample.status["streams"]
        step = _AGE_STEPS[len(streams) > _MANY_STREAMS]
        found: dict[StreamKey, _Versioned] = {}
        for stream in streams:
            key: Any = stream["symbol"], stream["timeframe"]
            row = row_of(stream, closes.get(key), self.now)
            known = before.get(key)
            if known is None or is_news(known.row, row, step):
                known = _Versioned(row, self.version)
            found[key] = known
        if before.keys() - found.keys():
            self._base = self.version
        return found


def row_of(stream: StreamStatus, close: float | None, now: int) -> Row:
    """Return the row of a stream whose last closed bar has this close."""
    return Row(
        stream["symbol"],
        stream["timeframe"],
        stream["health"],
        _GROWING.sub("", stream["why"]),
        close,
        stream["last_close_time"],
        _moment(now, stream["age"], -1),
        stream["count"],
        stream["gaps"],
    )


def is_news(old: Row, new: Row, step: int) -> bool:
    """Return True if a page needs the new row.

    An update alone is news once it is `step` ms newer than the one that pages have, or
    older, as after a change of the clock.
    """
    if old._replace(updated=None) != new._replace(updated=None):
        return True
    if old.updated is None or new.updated is None:
        return old.updated != new.updated
    return not -step < new.updated - old.updated < step


def head_of(sample: FeedSample, now: int) -> dict[str, Any]:
    """Return what a page shows of a feed beside its streams."""
    status: FeedStatus = sample.status
    counts: Mapping[str, Any] = status
    offset, relay = status["clock_offset"], status["relay"]
    return {
        "feed": sample.feed,
        "health": status["health"],
        "state": status["state"],
        "state_since": status["state_since"],
        "pid": status["pid"],
        "writer": status["writer"],
        "started": _moment(now, status["uptime"], -1),
        "last_message": _moment(now, status["last_message_age"], -1),
        "next_attempt": _moment(now, status["next_attempt_in"], 1),
        "clock_offset": None if offset is None else round(offset, 3) + 0.0,  # no -0.0
        "identity": status["identity"] or status["protocol"],
        "endpoint": status["endpoint"],
        "last_error": status["last_error"],
        "relay": None if relay is None else describe_relay(relay),
        "wants": list(status["wants"]),
        "counts": {name: counts[name] for name in COUNTERS},
    }


def _moment(now: int, seconds: float | None, direction: int) -> int | None:
    return None if seconds is None else now + direction * round(seconds * _MS)
