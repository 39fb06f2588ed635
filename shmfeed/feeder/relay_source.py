"""A leader on another host as the source of a feeder's rows."""

import logging
import random
import time
from collections.abc import Callable
from contextlib import closing

from shmfeed.codecs import Codec, get_codec
from shmfeed.errors import BadArgumentError, ShmfeedError
from shmfeed.feed import Feed
from shmfeed.feeder.credentials import DialGate
from shmfeed.feeder.feed_history import FeedHistory
from shmfeed.feeder.feed_store import FeedStore
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.reasons import Reasons
from shmfeed.feeder.relayed_history import RelayedHistory
from shmfeed.feeder.relayed_intake import RelayedIntake
from shmfeed.feeder.requests import RequestQueue
from shmfeed.feeder.taking import in_venue_spelling
from shmfeed.feeder.wants import Wants
from shmfeed.identity import FeedIdentity
from shmfeed.relay.engine import Engine, EngineAwayError
from shmfeed.relay.flush import carried_streams
from shmfeed.relay.leadership import member_name
from shmfeed.relay.link import MOST_DELAY, OpenEngine
from shmfeed.relay.session import RelaySession
from shmfeed.segment.identity import stored_identity
from shmfeed.segment.mapping import place
from shmfeed.settings.backfill import AUTO, OFF
from shmfeed.settings.model import Settings
from shmfeed.wire.backoff import equal_jitter
from shmfeed.wire.events import Delivery, Streams
from shmfeed.wire.interface import FeedSession
from shmfeed.writer import FeedWriter

Pause = Callable[[float], bool]
log = logging.getLogger(__name__)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def open_relay(settings: Settings, pause: Pause | None) -> "RelaySource":
    """Return the source of a follower, once it knows the identity of its rows.

    Raises:
        ShmfeedError: As RelaySource does.
    """
    return RelaySource(settings, make_engine, pause or _sleep)


class RelaySource:
    """A leader, whose rows are taken as they are."""

    is_relayed = True

    def __init__(
        self, settings: Settings, open_engine: OpenEngine, pause: Pause = _sleep
    ) -> None:
        """Join the leader, to learn its identity and streams.

        Where the engine cannot be reached, those of the feed's rows serve, which an
        earlier feeder has left. Without any, it is tried as often as the settings say,
        or until `pause`, which waits for some seconds, returns True.

        Raises:
            WebSocketConnectionError: No leader has told its identity.
            BadArgumentError: The settings name a stream that cannot be.
        """
        if settings.backfill not in (AUTO, OFF):
            raise BadArgumentError(
                "backfill is of no use where a feed follows a leader, whose feeder asks"
                " for history: leave it out"
            )
        self.codec: Codec = get_codec(settings.protocol, settings.market_type)
        self._settings = settings
        self._open_engine, self._pause = open_engine, pause
        self._session: RelaySession | None = None
        self._intake: RelayedIntake | None = None
        self._addresses = self.codec.endpoints(settings.endpoint, settings.port)
        named = in_venue_spelling(self.codec, settings.streams)
        self.identity, followed = self._learn()
        self.streams = named or followed
        self._followed = frozenset(self.streams)  # by the feeder's own list

    def make_session(
        self,
        streams: Streams,
        requests: RequestQueue,
        gate: DialGate,  # noqa: ARG002 # of a venue's dials
    ) -> FeedSession:
        self._session = RelaySession(
            self._open_engine,
            self._addresses,
            self._settings,
            self.identity,
            streams,
            follower=member_name(),
            wake=requests.wake,
            wake_fd=requests.wake_fd,
        )
        return self._session

    def make_history(
        self, wake: Callable[[], None], current: Callable[[], Settings]
    ) -> FeedHistory:
        return RelayedHistory(self._settings, self.codec, wake, current, self._refill)

    def make_intake(
        self,
        settings: Settings,
        writer: FeedWriter,
        store: FeedStore,
        reasons: Reasons,
        history: bool,  # noqa: ARG002 # the leader's feeder has it
    ) -> Intake:
        self._intake = RelayedIntake(
            writer,
            settings.close_grace,
            self.codec.flags_closed,
            recorder=store.recorder,
            reasons=reasons,
            fill=store.fill,
            keeps_silence=settings.stale_after is not None,
            relay=lambda: {} if self._session is None else self._session.relay(),
        )
        return self._intake

    def take(self, news: Delivery) -> None:
        """Have the intake take the leader's news."""
        if self._intake is not None:
            self._intake.take_news(news)

    def adjust(
        self, wants: Wants, own: str, check_union: Callable[[Streams], None]
    ) -> str:
        """Let the feeder's own list be what it follows; return an error's text.

        Streams that its manager has added stay. Those of other claimants, and these,
        that the leader carries no longer are asked for.
        """
        session = self._session
        if session is None or not session.followed:
            return ""
        found = self._list_to_follow(wants, own)
        if found is None:  # its manager has left, and leases are left
            session.follow_named()
        else:
            claimant, streams = found
            more = (key for key in streams if key not in self._followed)
            wants.put(claimant, tuple(dict.fromkeys((*session.followed, *more))))
            self._followed = frozenset(session.followed)
        union = wants.union()
        try:
            check_union(union)
        except ShmfeedError as error:
            return str(error)
        wanted, carried = set(union), set(session.acknowledged)
        is_other = not wanted <= carried or (wanted and not session.followed)
        if is_other and not session.is_changing:
            session.claim(union)
        return ""

    def _list_to_follow(self, wants: Wants, own: str) -> tuple[str, Streams] | None:
        """Return the claimant whose list is what is followed, and that list.

        It is the feeder's own, or the manager that has come in its place. None without.
        """
        first = wants.get(own)
        if first is not None:
            return own, first.streams
        for claimant, one in wants.managers():
            if not one.streams or self._followed.issubset(one.streams):
                return claimant, one.streams
        return None

    def _refill(self) -> None:
        if self._session is not None:
            self._session.replace_connections()

    def _learn(self) -> tuple[FeedIdentity, Streams]:
        """Return the identity of the rows, and the streams that there are."""
        try:
            return self._ask()
        except EngineAwayError as error:
            stored = self._stored()
            if stored is not None:
                log.warning("feed %s: %s", self._settings.feed, str(error))
                return stored
            last = error
        most, failures = self._settings.max_reconnect_attempts, 1
        rng = random.Random()  # noqa: S311 - it spreads load, no secrets
        base = self._settings.reconnect_delay_base
        while most is None or failures < max(1, most):
            delay = equal_jitter(rng, base, MOST_DELAY, failures - 1)
            feed, why = self._settings.feed, str(last)  # a log may keep errors
            log.warning("feed %s: %s; next attempt in %.1f s", feed, why, delay)
            if self._pause(delay):
                break
            try:
                return self._ask()
            except EngineAwayError as error:
                last = error
                failures += 1
        raise last

    def _ask(self) -> tuple[FeedIdentity, Streams]:
        """Join at the next address, to learn both."""
        addresses = self._addresses
        addresses.append(addresses.pop(0))
        with closing(self._open_engine(self._settings, addresses[-1])) as engine:
            joined = engine.join()
        return joined.head.identity, carried_streams(joined.catalog, joined.marks)

    def _stored(self) -> tuple[FeedIdentity, Streams] | None:
        """Return the identity and the streams that an earlier feeder has left."""
        where = place(self._settings.feed)
        identity = stored_identity(where)
        try:
            with Feed(where) as feed:
                streams = tuple(feed.streams())
        except ShmfeedError:  # absent, not ready yet, or damaged
            return None
        return None if identity is None or not streams else (identity, streams)


def make_engine(settings: Settings, address: str) -> Engine:
    """Return the engine at an address, without touching the network."""
    # Late: a feeder with a venue needs no client of Redis.
    from shmfeed.relay.redis_engine import RedisEngine  # noqa: PLC0415
    from shmfeed.relay.redis_target import redis_target  # noqa: PLC0415

    return RedisEngine(settings.source_name, redis_target(settings, address))
