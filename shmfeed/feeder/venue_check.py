"""A look at a venue with a feeder's settings: dial, subscribe, wait for a bar of each.

It writes nothing: no segment, no lock, no store. The venue sees what it would see of a
feeder.
"""

import time
from collections.abc import Callable
from contextlib import closing

from shmfeed.bar import Bar, StreamKey
from shmfeed.codecs import get_codec
from shmfeed.codecs.interface import BarEvent, Malformed, Refused
from shmfeed.control.platform import check_feeder_platform
from shmfeed.errors import BadArgumentError
from shmfeed.feeder.clock import VenueClock
from shmfeed.feeder.credentials import DialGate
from shmfeed.feeder.ledger import Ledger
from shmfeed.feeder.ledger_events import Anomaly, RowWrite
from shmfeed.feeder.rest_check import (
    FirstBar,
    RestFindings,
    check_rest,
    closing_source,
)
from shmfeed.feeder.spellings import fold
from shmfeed.history.registry import make_source
from shmfeed.segment.mapping import place
from shmfeed.settings.model import Settings
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.dial_budget import DialBudget
from shmfeed.wire.events import (
    Connected,
    Received,
    SessionEvent,
    StatusChanged,
    StreamsRefused,
    Subscribed,
    VenueTime,
)
from shmfeed.wire.session import Session
from shmfeed.wire.silence import least_limit

_ONCE = Settings(max_reconnect_attempts=1, give_up=True)

Clock = Callable[[], float]


class VenueCheck:
    """The findings of a look at a venue.

    Attributes:
        streams: The streams that are asked for, in the venue's spelling.
        endpoints: The endpoints that acknowledged a subscription, in order.
        connected_after: Seconds until all connections were acknowledged, or None.
        bars: The first bar of each stream, and the seconds that it took.
        closed: The streams whose first bar was a closed one.
        rest: The findings about the REST service, None without one.
        missing: The reason why a stream has no bar, as far as one is known.
        errors: The venue's and the network's own words, each once.
        offset: The venue's clock minus this host's in seconds, None if not known.
    """

    def __init__(
        self,
        streams: tuple[StreamKey, ...],
        *,
        now: float,
        redact: Callable[[str], str] = str,
    ) -> None:
        """Begin at `now`; `redact` takes the secrets out of what the venue says."""
        self.streams = streams
        self.endpoints: list[str] = []
        self.connected_after: float | None = None
        self.bars: dict[StreamKey, tuple[Bar, float]] = {}
        self.closed: set[StreamKey] = set()  # of these bars
        self.rest: RestFindings | None = None
        self.missing: dict[StreamKey, str] = {}
        self.errors: list[str] = []
        self.is_refused = False  # no attempt follows
        self._begun = now
        self._redact = redact
        self._clock = VenueClock(time.time_ns() // 1_000_000, boot_seconds())
        self._ledgers = {fold(*key): (key, Ledger(key[1])) for key in streams}

    @property
    def offset(self) -> float | None:
        offset = self._clock.offset
        return None if offset is None else offset / 1000

    @property
    def is_good(self) -> bool:
        """True if each stream has a bar, and REST, where there is one, the same."""
        has_all = len(self.bars) == len(self.streams)
        return has_all and (self.rest is None or self.rest.is_good)

    @property
    def is_complete(self) -> bool:
        """True if nothing more is to come."""
        return self.is_refused or not (
            set(self.streams) - self.bars.keys() - self._refused
        )

    def waited(self, now: float) -> float:
        """Return the seconds since the connections were acknowledged, 0 before."""
        if self.connected_after is None:
            return 0.0
        return now - self._begun - self.connected_after

    def first_bars(self) -> dict[StreamKey, FirstBar]:
        """Return the first bar of each stream that has one."""
        return {
            key: FirstBar(bar, key in self.closed)
            for key, (bar, _) in self.bars.items()
        }

    @property
    def _refused(self) -> set[StreamKey]:
        return {key for key, why in self.missing.items() if why.startswith("refused")}

    def take(self, event: SessionEvent, now: float) -> None:
        """Note an event of the session."""
        match event:
            case Received(events):
                for one in events:
                    self._take_message(one, now)
            case VenueTime(stated, read_at):
                age = time.monotonic() - read_at
                self._clock.set_time(stated, boot_seconds() - age)
            case Connected():
                self.endpoints.append(event.endpoint)
            case Subscribed():
                self.connected_after = now - self._begun
            case StreamsRefused(streams, message):
                for key in streams:
                    self.missing[key] = f"refused: {self._redact(message)}"
            case StatusChanged(_, new):
                if new.last_error:
                    self._note(new.last_error)
                self.is_refused = self.is_refused or new.state == "error"
            case _:
                pass

    def _take_message(self, event: object, now: float) -> None:
        if isinstance(event, BarEvent):
            self._take_bar(event, now)
        elif isinstance(event, Malformed):
            self._note(f"malformed message: {event.reason}")
        elif isinstance(event, Refused):
            self._note(event.message)

    def _take_bar(self, event: BarEvent, now: float) -> None:
        if event.event_time:
            self._clock.observe(event.event_time, boot_seconds())
        known = self._ledgers.get(fold(event.symbol, event.timeframe))
        if known is None:
            self._note(f"not subscribed: a bar of {event.symbol} {event.timeframe}")
            return
        key, ledger = known
        if key not in self.bars:
            venue_now = self._clock.read(boot_seconds())
            for found in ledger.apply(event, venue_now, now):
                if isinstance(found, RowWrite):
                    self.bars[key] = found.bar, now - self._begun
                    if found.closed:
                        self.closed.add(key)
                    self.missing.pop(key, None)
                elif isinstance(found, Anomaly):
                    self.missing[key] = (
                        f"a bar was dropped, {found.kind} {found.reason}"
                    )

    def _note(self, error: str) -> None:
        error = self._redact(error)
        if error not in self.errors:
            self.errors.append(error)


def check_venue(settings: Settings, *, clock: Clock = time.monotonic) -> VenueCheck:
    """Connect as a feeder would, and return the findings.

    The check ends once each stream has a bar, once connecting has failed, or after
    `data_timeout` without all bars; by default 30 s, or ten of the venue's push
    intervals.

    Raises:
        BadArgumentError: There are no streams, or the venue does not offer them.
        UnsupportedPlatformError: No feeder can run on this host.
    """
    check_feeder_platform()
    once = settings.with_values_of(_ONCE, ("max_reconnect_attempts", "give_up"))
    codec = get_codec(once.protocol, once.market_type, once.read_token())
    endpoints = codec.endpoints(once.endpoint, once.port)
    streams = tuple(dict.fromkeys(codec.stream_key(*key) for key in once.streams))
    if not streams:
        raise BadArgumentError("no streams to subscribe; give symbols and resolutions")
    locks = place(once.feed).directory
    budget = DialBudget(locks if locks.is_dir() else None, once.dials_per_minute)
    gate = DialGate(budget, codec, lambda: once)
    session = Session(codec, once, endpoints, streams, budget=gate)
    wait = once.data_timeout or least_limit(codec.push_interval)
    found = VenueCheck(streams, now=clock(), redact=once.redact)
    with closing(session.batches()) as batches:
        for batch in batches:
            now = clock()
            for event in batch:
                found.take(event, now)
            if found.is_complete or found.waited(now) > wait:
                session.stop()
    with closing_source(make_source(once, codec)) as source:
        if source is not None:
            found.rest = check_rest(
                source, {key[0] for key in streams}, found.first_bars()
            )
    return found
