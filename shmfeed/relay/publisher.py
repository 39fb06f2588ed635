"""The publisher of a feed: a reader of its segment that writes flushes to an engine.

    feeder --rings--> segment <--reads-- publisher --flushes--> engine --> followers

It is a process of its own: however slow the engine is, or away, the feeder and its
other readers do not notice. While it leads it sleeps on the feed's eventcount. It
flushes at once when a bar has closed, and each flush interval what else has changed.
Each beat it renews its leadership, and tells the feed's state and its own.

After an error of the engine it does not know what has arrived: it tries again after a
delay, and its next flush is a whole one. A feed that is not there yet, dead, recreated
or enlarged is no error.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from shmfeed.bar import StreamKey
from shmfeed.errors import (
    BadArgumentError,
    BusyRingError,
    FeedNotFoundError,
    ShmfeedError,
)
from shmfeed.feed import Feed, attach
from shmfeed.identity import FeedIdentity
from shmfeed.layout import H_TICK
from shmfeed.memory.catalog import known_streams
from shmfeed.memory.futex import ALL_BITS
from shmfeed.relay.changes import ChangeReader, StreamNumbers, check_layout
from shmfeed.relay.engine import (
    Engine,
    EngineAwayError,
    EngineRefusedError,
    FencedError,
)
from shmfeed.relay.flush import Flush, Head
from shmfeed.relay.leadership import Candidate, OwnFeed, member_name
from shmfeed.relay.requests import RequestedStreams
from shmfeed.relay.segment_marks import feed_identity, feed_state, read_head
from shmfeed.relay_status import RelayStatus, relay_in
from shmfeed.segment.mapping import Mapping
from shmfeed.status import feed_health
from shmfeed.waiting import load_key, wait_any
from shmfeed.wire.backoff import equal_jitter
from shmfeed.wire.boot_clock import boot_seconds

BEAT_SECONDS = 0.5
_SLOW_SECONDS = 1.0  # between two looks at members, requests and warnings
_WARN_SECONDS = 60.0
_ATTACH_SECONDS = 0.2
_BUSY_SECONDS = 0.005
_FIRST_DELAY, _MOST_DELAY = 0.1, 2.0  # s after an error of the engine
_REFUSED_DELAY = 5.0
_MOST_UNSENT = 2  # flushes in a row, where all else is taken, until a leader gives way
_UNFIT_SECONDS = 20.0  # after that
_UNFIT = OwnFeed("error", "dead")

log = logging.getLogger(__name__)


class UnpublishableError(BadArgumentError):
    """A feed that cannot be published under this name."""


class Publisher:
    """Publishes one feed of this host. One thread runs it.

    Attributes:
        status: The status key `relay`, replaced at each change; any thread may read
            it. Of a leader `lag` is the seconds that the engine took for the last
            flush, and `behind` the attempts that have failed since the last success.
    """

    def __init__(
        self,
        feed: str,
        engine: Engine,
        flush_interval: float = 0.02,
        tell: Callable[[RelayStatus], None] = lambda _: None,
        member: str = "",
    ) -> None:
        """Take the parts; nothing is read or written before `run`.

        Args:
            feed: The feed's name on this host.
            engine: The engine. Only this publisher uses it; `close` closes it.
            flush_interval: Seconds between two flushes of what waits.
            tell: Called with the status at each change, and each second. It must not
                block.
            member: This publisher's name, by default host:pid.
        """
        self._feed_name = feed
        self._engine = engine
        self._interval = flush_interval
        self._tell = tell
        self._candidate = Candidate(engine, member or member_name())
        self._requests = RequestedStreams(feed)
        self._feed: Feed | None = None
        self._changes: ChangeReader | None = None
        self._numbers = StreamNumbers()
        self._head: Head | None = None  # the last one told
        self._error: str | None = None
        self._lag: float | None = None
        self._failures = 0
        self._unsent = 0  # flushes that failed since the last one that did not
        self._unfit_until = 0.0
        self._beat_due = self._slow_due = self._flush_due = 0.0
        self._warn_due = self._told_at = 0.0
        self._key = self._tick = -1  # as of the last read of changes
        self._read_at = 0.0  # everything
        self._warned: list[str] = []
        self._rng = random.Random()  # noqa: S311 # it spreads load, no secrets
        self.status = self._make_status()

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop` is set; resign then."""
        try:
            while not stop.is_set():
                stop.wait(self._turn())
                self._report()
        finally:
            self.close()

    def close(self) -> None:
        """Resign, and give everything back. Idempotent."""
        self._requests.close()
        with suppress(ShmfeedError):
            if self._candidate.leads and not self._failures:  # else it ends by itself
                self._candidate.resign()
        with suppress(ShmfeedError):
            self._engine.close()
        self._detach()

    # One turn

    def _turn(self) -> float:
        """Do what is due; return the seconds to wait before the next turn."""
        try:
            mapping = self._attached()
            if self._candidate.leads:
                return self._lead(mapping)
            return self._stand_by(mapping)
        except BusyRingError:
            if self._changes is not None:
                self._changes.start_again()  # what was read is lost
            return _BUSY_SECONDS
        except ShmfeedError as error:
            return self._recover(error)

    def _recover(self, error: ShmfeedError) -> float:
        """Do what an error asks for; return the seconds until the next turn."""
        if isinstance(error, FencedError):
            self._stop_leading()
            log.warning(
                "feed %s: this publisher stands by: %s", self._feed_name, str(error)
            )
            return 0.0
        if isinstance(error, EngineAwayError):
            return self._failed(error, _MOST_DELAY)
        if isinstance(error, EngineRefusedError | UnpublishableError):
            return self._failed(error, _REFUSED_DELAY)
        return self._lost_feed(error)

    def _attached(self) -> Mapping:
        """Return the feed's segment. Raises as `attach` does."""
        if self._feed is None:
            self._feed = attach(self._feed_name)
        return self._feed.current()

    def _detach(self) -> None:
        feed, self._feed, self._changes = self._feed, None, None
        if feed is not None:
            feed.close()

    def _lost_feed(self, error: ShmfeedError) -> float:
        """Leave a segment that cannot be read; another member may lead meanwhile."""
        self._detach()
        self._note(str(error), isinstance(error, FeedNotFoundError))
        if self._candidate.leads:
            with suppress(EngineAwayError, EngineRefusedError):
                self._candidate.resign()
            self._stop_leading()
        return _ATTACH_SECONDS

    def _failed(self, error: ShmfeedError, most: float) -> float:
        """Tell all again once the engine answers; return the delay until then."""
        if isinstance(error, UnpublishableError) and self._candidate.leads:
            with suppress(EngineAwayError, EngineRefusedError):
                self._candidate.resign()
            self._stop_leading()
        self._note(str(error))
        self._failures += 1
        if self._changes is not None:
            self._changes.start_again()
        self._beat_due = self._slow_due = 0.0  # first of all, see who leads, and lives
        return equal_jitter(self._rng, _FIRST_DELAY, most, self._failures - 1)

    def _note(self, error: str, is_minor: bool = False) -> None:
        if error != self._error:
            self._error = error
            if is_minor:
                log.info("feed %s is not published: %s", self._feed_name, error)
            else:
                log.warning("feed %s is not published: %s", self._feed_name, error)

    def _stop_leading(self) -> None:
        self._candidate.lose()
        self._requests.close()
        self._changes = None
        self._lag = None
        self._unsent = 0

    # Standing by

    def _stand_by(self, mapping: Mapping) -> float:
        self._warn()
        self._check_feed(mapping)  # one that may not lead is no member
        own = self._own_feed(mapping)
        leads = self._candidate.stand_by(own, lambda: self._prepare(mapping))
        self._well()
        if not leads:
            return BEAT_SECONDS
        self._prepare(mapping)  # another one may have led and gone meanwhile
        self._beat_due = self._slow_due = 0.0
        log.info(
            "feed %s: this publisher leads %r with epoch %d",
            self._feed_name,
            self._engine.name,
            self._candidate.epoch,
        )
        return 0.0

    def _own_feed(self, mapping: Mapping) -> OwnFeed:
        is_unfit = time.monotonic() < self._unfit_until
        if is_unfit or self._unsent >= _MOST_UNSENT:
            return _UNFIT
        # A stream for followers alone would be the next leader's too.
        health = feed_health(mapping, self._requests.added)
        return OwnFeed(feed_state(mapping), health)

    def _prepare(self, mapping: Mapping) -> None:
        """Prepare to lead; raise an error if this feed cannot be published."""
        self._check_feed(mapping)
        self._numbers = StreamNumbers()
        self._changes = ChangeReader(mapping, self._numbers)
        self._head = None

    def _check_feed(self, mapping: Mapping) -> None:
        """Raise an error if this feed cannot be published."""
        check_layout(mapping)
        relay = relay_in(mapping)
        if relay is not None and relay["role"] == "follower":
            raise UnpublishableError(
                f"feed {self._feed_name!r} is itself followed from another host;"
                " publish it on a host whose feeder is connected to the venue"
            )
        self._check(feed_identity(mapping))

    def _warn(self) -> None:
        """Log what the engine's operator should change, each once."""
        now = time.monotonic()
        if now < self._warn_due:
            return
        self._warn_due = now + _WARN_SECONDS
        warnings = self._engine.warnings()
        for text in warnings:
            if text not in self._warned:
                log.warning("feed %s: %s", self._feed_name, text)
        self._warned = warnings

    def _check(self, identity: FeedIdentity) -> None:
        """Raise UnpublishableError if the engine holds rows of another identity."""
        head = self._engine.head()
        if head is not None and not head.identity.matches(identity):
            raise UnpublishableError(
                f"the engine holds rows of {head.identity} under the name"
                f" {self._engine.name!r}, and feed {self._feed_name!r} has those of"
                f" {identity}; publish it under another name"
            )

    def _well(self) -> None:
        if self._error is not None:
            log.info("feed %s: the error of this publisher is over", self._feed_name)
        self._error = None
        self._failures = 0

    # Leading

    def _lead(self, mapping: Mapping) -> float:
        """Flush what is due, or sleep until something is."""
        now = time.monotonic()
        if now >= self._beat_due:
            self._engine.renew()
            if now >= self._slow_due and not self._may_stay(mapping, now):
                return 0.0
            self._answer_requests(mapping)
        changes = self._changes_of(mapping)
        read_at, sent = boot_seconds(), time.time_ns() // 1_000_000
        key = load_key(mapping.words)  # before the changes are read
        flush = self._read(changes, key, now)
        is_whole = flush is not None and flush.is_whole
        head = self._new_head(mapping, now, is_whole)
        if flush is None and head is None:
            due = min(self._flush_due, self._beat_due) - time.monotonic()
            if due > 0:
                wait_any([(mapping.words, key, ALL_BITS)], int(due * 1e9))
            return 0.0
        flush = flush or Flush(sent)
        self._send(flush._replace(head=head, sent=sent, read_at=read_at))
        return 0.0

    def _answer_requests(self, mapping: Mapping) -> None:
        def carried() -> list[StreamKey]:
            return known_streams(mapping.words, mapping.geometry, None).subscribed

        requests = self._engine.requests()
        for follower, answer in self._requests.update(requests, carried):
            self._engine.answer(follower, answer)

    def _read(self, changes: ChangeReader, key: int, now: float) -> Flush | None:
        """Read the changes if there may be any.

        Readers are woken by each closed bar, and each bar moves the main loop's
        heartbeat. Other changes wait for it, or for BEAT_SECONDS.
        """
        tick = changes.mapping.words.ints[H_TICK]
        is_due, has_woken = now >= self._flush_due, key != self._key
        if is_due:
            self._flush_due = now + self._interval
        is_old = now - self._read_at >= BEAT_SECONDS
        everything = is_due and (tick != self._tick or is_old)
        if not (everything or has_woken or changes.is_first):
            return None
        self._key = key
        if everything or changes.is_first:
            self._tick, self._read_at = tick, now
        return changes.read(everything=everything)

    def _changes_of(self, mapping: Mapping) -> ChangeReader:
        changes = self._changes
        if changes is None or not changes.is_of(mapping):
            self._check(feed_identity(mapping))
            self._changes = changes = ChangeReader(mapping, self._numbers)
            self._head = None
        return changes

    def _new_head(self, mapping: Mapping, now: float, is_whole: bool) -> Head | None:
        """Return the head if it is due, or the feed's state has changed."""
        told = self._head
        is_due = told is None or is_whole or now >= self._beat_due
        if not is_due and told is not None and feed_state(mapping) == told.state:
            return None
        self._beat_due = now + BEAT_SECONDS
        return read_head(
            mapping, self._candidate.name, self._candidate.leadership.since
        )

    def _send(self, flush: Flush) -> None:
        started = time.monotonic()
        self._unsent += 1
        self._engine.flush(flush)
        self._unsent = 0
        self._lag = time.monotonic() - started
        if flush.head is not None:
            self._head = flush.head
        self._well()

    def _may_stay(self, mapping: Mapping, now: float) -> bool:
        """Look at the other members; return False if this leader has resigned."""
        self._slow_due = now + _SLOW_SECONDS
        self._warn()
        own = self._own_feed(mapping)
        if self._candidate.stay(own):
            return True
        if self._unsent >= _MOST_UNSENT:
            self._unfit_until = now + _UNFIT_SECONDS
            log.warning(
                "feed %s: this publisher resigns: the engine answers, and takes none of"
                " its flushes",
                self._feed_name,
            )
        else:
            log.warning(
                "feed %s: this publisher resigns: its feed is %s and %s, and another"
                " publisher's is in better health",
                self._feed_name,
                own.state,
                own.health,
            )
        self._requests.close()  # first, for the engine may be away
        self._changes = self._lag = None
        self._unsent = 0
        self._candidate.resign()
        return False

    # The status

    def _make_status(self) -> RelayStatus:
        candidate = self._candidate
        leader = candidate.leadership
        return {
            "role": "leader" if candidate.leads else "standby",
            "leader": leader.leader or None,
            "epoch": leader.epoch or None,
            "since": leader.since or None,
            "lag": self._lag,
            "behind": self._failures if candidate.leads else 0,
            "error": self._error,
        }

    def _report(self) -> None:
        status = self._make_status()
        has_changed = status | {"lag": 0} != self.status | {"lag": 0}
        self.status = status
        now = time.monotonic()
        if has_changed or now - self._told_at >= _SLOW_SECONDS:
            self._told_at = now
            self._tell(status)
