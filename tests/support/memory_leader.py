"""A leader in memory, and the engine through which followers read its feed.

It keeps what the Protocol asks for and no more: rows by open time, a log of flushes
that can be trimmed, the newest marks. A test can take it away and make it refuse.
"""

import threading
import time

import numpy as np
from support.blocks import bar_block

from shmfeed.bar import CLOSED_BY_VENUE
from shmfeed.identity import FeedIdentity
from shmfeed.layout import NO_BAR
from shmfeed.relay.engine import (
    Answer,
    EngineAwayError,
    EngineRefusedError,
    Entry,
    Joined,
    MustJoinError,
    Position,
)
from shmfeed.relay.flush import (
    NO_ROWS,
    Catalog,
    Flush,
    Head,
    RowsOfStreams,
    StreamMarks,
)

IDENTITY = FeedIdentity("binance", "usdm", ("fstream.binance.com",))
LIVE = StreamMarks(since=60_000, updated=0)
NO_DELAY = 0.0


def stacked_rows(blocks):
    """Return the rows of a mapping of stream numbers to blocks."""
    blocks = dict(sorted(blocks.items()))
    if not blocks:
        return NO_ROWS
    counts = [block.shape[1] for block in blocks.values()]
    numbers = np.repeat(np.fromiter(blocks, np.int64), counts)
    return RowsOfStreams(numbers, np.concatenate(list(blocks.values()), axis=1))


class MemoryFeed:
    """One feed in the engine. Its lock guards all; `changed` wakes followers."""

    def __init__(self, streams=(("BTCUSDT", "1m"),), history=100, identity=IDENTITY):
        self.changed = threading.Condition()
        self.away = self.refused = ""
        self.delay = NO_DELAY
        self.epoch, self.leader = 1, "one:1"
        self.incarnation = 1
        self.identity = identity
        self.catalog = Catalog(tuple(streams), history)
        self.state, self.last_error = "connected", ""
        self.rings = {number: {} for number in range(len(streams))}
        self.marks = dict.fromkeys(range(len(streams)), LIVE)
        self.forming = {}
        self.log, self.trimmed = [], 0
        self.before = {}  # the rings before the last flush
        self.is_late = False  # the rings that followers read are those
        self.asked = {}
        self.answer = lambda streams: Answer(streams, {})
        self.open = self.joins = 0

    # The leader

    @property
    def head(self):
        return Head(self.identity, self.leader, 5, self.state, self.last_error)

    def flush(self, **parts):
        """Write a flush; the feeder's beat is one without parts."""
        with self.changed:
            flush = Flush(time.time_ns() // 1_000_000, **parts)
            self.before = {number: dict(ring) for number, ring in self.rings.items()}
            if flush.catalog is not None:
                self.catalog = flush.catalog
            for number in flush.whole:
                self.rings[number] = {}
            for at, number in enumerate(flush.closed.numbers.tolist()):
                row = flush.closed.block[:, at].copy()
                self.rings.setdefault(number, {})[int(row.view(np.int64)[0])] = row
            for at, number in enumerate(flush.forming.numbers.tolist()):
                cell = flush.forming.block[:, at : at + 1].copy()
                if cell.view(np.int64)[0, 0] == NO_BAR:
                    self.forming.pop(number, None)
                else:
                    self.forming[number] = cell
            self.marks.update(flush.marks)
            self.log.append((self.epoch, flush))
            self.changed.notify_all()

    def close(self, numbers, stream=0, close=1.5, flags=CLOSED_BY_VENUE, **parts):
        """Close bars of a stream."""
        block = bar_block(numbers, flags, self.catalog.streams[stream][1], close)
        self.flush(closed=stacked_rows({stream: block}), **parts)

    def form(self, number, stream=0, close=1.5):
        """Tell a forming bar of a stream."""
        block = bar_block([number], 0, self.catalog.streams[stream][1], close)
        self.flush(forming=stacked_rows({stream: block}))

    def unform(self, stream=0):
        """Take the forming bar of a stream back."""
        block = np.zeros((9, 1))
        block.view(np.int64)[:2] = NO_BAR
        self.flush(forming=stacked_rows({stream: block}))

    def mark(self, stream=0, **changes):
        """Tell a stream's marks."""
        self.flush(marks={stream: self.marks[stream]._replace(**changes)})

    def lead(self, leader, rings=None):
        """Let another leader write a whole flush."""
        with self.changed:
            self.epoch, self.leader = self.epoch + 1, leader
            if rings is not None:
                self.rings = rings
            blocks = {n: self.block(n) for n in range(len(self.catalog.streams))}
            self.flush(
                closed=stacked_rows(blocks),
                whole=tuple(blocks),
                marks=dict(self.marks),
                catalog=self.catalog,
                head=self.head,
                is_whole=True,
            )

    def beat(self):
        """Tell the head."""
        self.flush(head=self.head)

    def block(self, number):
        """Return the rows of a ring."""
        return self._block(self.rings.get(number) or {})

    def engine_block(self, number):
        """Return the rows of a ring of the engine."""
        rings = self.before if self.is_late else self.rings
        return self._block(rings.get(number) or {})

    @staticmethod
    def _block(ring):
        if not ring:
            return np.empty((9, 0))
        return np.stack([ring[opened] for opened in sorted(ring)], axis=1)

    # Faults

    def lose(self, away="no answer"):
        """Let no follower reach the engine."""
        with self.changed:
            self.away = away
            self.changed.notify_all()

    def come_back(self):
        with self.changed:
            self.away = ""
            self.changed.notify_all()

    def trim(self):
        """Forget the log, so that a follower's position is of no use."""
        with self.changed:
            self.incarnation += 1
            self.changed.notify_all()

    def check(self):
        if self.refused:
            raise EngineRefusedError(self.refused)
        if self.away:
            raise EngineAwayError(self.away)


class FollowerEngine:
    """An engine as a follower uses it, of a feed above."""

    name = "memory"

    def __init__(self, feed):
        self._feed = feed
        feed.open += 1

    def join(self):
        feed = self._feed
        with feed.changed:
            feed.check()
            feed.joins += 1
            return Joined(
                self._position(len(feed.log), feed.epoch),
                feed.head,
                feed.catalog,
                dict(feed.marks),
                stacked_rows(feed.forming),
                feed.delay,
            )

    def rings(self, catalog):
        for number, key in enumerate(catalog.streams):
            with self._feed.changed:
                self._feed.check()
                at = self._feed.catalog.streams.index(key)
                block = self._feed.engine_block(at)
            if block.shape[1]:
                yield stacked_rows({number: block})

    def follow(self, position, timeout):
        feed, at = self._feed, int(position.entry)
        with feed.changed:
            feed.changed.wait_for(
                lambda: (
                    feed.away
                    or feed.refused
                    or len(feed.log) > at
                    or position.incarnation != str(feed.incarnation)
                ),
                timeout,
            )
            feed.check()
            if position.incarnation != str(feed.incarnation):
                raise MustJoinError("the log was trimmed")
            return [
                Entry(self._position(at + n + 1, epoch), flush, feed.delay)
                for n, (epoch, flush) in enumerate(feed.log[at:])
            ]

    def request(self, request):
        feed = self._feed
        with feed.changed:
            feed.check()
            feed.asked[request.follower] = request.streams
            return feed.answer(request.streams)

    def warnings(self):
        return []

    def close(self):
        self._feed.open -= 1

    def _position(self, at, epoch):
        return Position(str(self._feed.incarnation), str(at), epoch, at)
