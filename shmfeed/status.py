"""Status of a feed and of its streams, read from the segment."""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict, cast, get_args

from shmfeed.bar import TIMEFRAMES, duration, stale_after
from shmfeed.core import ReattachingReader, RingReader, oldest_live_age
from shmfeed.layout import (
    AHEAD_NS,
    CONNECTED,
    COUNTERS,
    E_GAPS,
    E_RECOVERING,
    E_SINCE,
    E_SUBSCRIBED,
    E_UPDATED,
    H_COUNTERS,
    H_LAST_MESSAGE,
    H_NOTE,
    H_STARTED,
    H_STATE,
    H_TICK,
    H_WRITER_EPOCH,
    H_WRITER_PID,
    NOTE_WORDS,
    STATES,
    State,
)
from shmfeed.memory.catalog import Entry, entries
from shmfeed.memory.identity import read_identity
from shmfeed.memory.integrity import damaged, describe_bar_damage
from shmfeed.memory.liveness import is_alive, is_working
from shmfeed.memory.note import unpack_note
from shmfeed.memory.words import Ints, Latch, boot_ns
from shmfeed.segment.mapping import Mapping
from shmfeed.validation import DEFAULT_FEED

Health = Literal["live", "quiet", "recovering", "stale", "dead"]  # from best to worst
HEALTHS: tuple[Health, ...] = get_args(Health)

_SECOND = 1_000_000_000
_MS = 1_000_000
_DISCONNECTED: State = "disconnected"
_QUIET_GRACE_NS = 2 * _SECOND
# By timeframe, ns without an update until a stream is quiet, and until it is stale.
_SILENCES = {
    timeframe: (
        duration(timeframe) * _MS + _QUIET_GRACE_NS,
        stale_after(timeframe) * _SECOND,
    )
    for timeframe in TIMEFRAMES
}
_make_tuple = tuple.__new__  # saves a tenth of a microsecond over a NamedTuple's own


class RingStatus(NamedTuple):
    """The status of one stream, as of the read.

    `age` is seconds since the stream's last update, None before the first one.
    `state` is the connection's. `health` is the stream's.
    """

    age: float | None
    state: State
    health: Health


class Heartbeat(NamedTuple):
    """The last sign of life of a feed's writer.

    `epoch` is raised by each writer, `tick` is the time of the last heartbeat of its
    main loop. `is_alive` is False if both heartbeats are older than 2 s.
    """

    pid: int
    epoch: int
    tick: int
    is_alive: bool


class StreamStatus(TypedDict):
    """One row of a feed status's `streams`."""

    symbol: str
    timeframe: str
    count: int  #: number of the next closed bar
    last_close_time: int | None  #: ms UTC, None before the first closed bar
    age: float | None  #: seconds since the last update, None before the first one
    gaps: int  #: missing bars so far
    health: Health


class ConnectionStatus(TypedDict):
    """The feeder's connection to its venue.

    The keys that are not required come from the feeder. A feed that is written through
    `shmfeed.create` may lack them.
    """

    state: State
    pid: int | None  #: pid of the feeder, None when it is dead
    writer: NotRequired[int | None]  #: pid of the last feeder, alive or dead
    endpoint: NotRequired[str | None]
    protocol: NotRequired[str | None]
    market_type: NotRequired[str | None]
    phase: NotRequired[str]  #: waiting, connecting, subscribing or streaming
    attempts: NotRequired[int]  #: failed ones in a row
    #: Connections that replaced a lost one, since this feeder started.
    losses: NotRequired[int]
    error_kind: NotRequired[str]  #: connection, subscription or ""
    last_error: NotRequired[str | None]


class FeedStatus(TypedDict):
    """The status of a feed: plain values.

    `WebSocketManager.get_status` returns the same keys. Counters start when the segment
    is created, and continue when it is recreated with its bars. The keys that are not
    required are those of ConnectionStatus.
    """

    feed: str
    state: State
    health: Health  #: the worst of the subscribed streams
    pid: int | None  #: pid of the feeder, None when it is dead
    writer: int | None  #: pid of the last feeder, alive or dead
    uptime: float | None  #: seconds, None when the feeder is dead
    symbols: list[str]
    resolutions: list[str]
    endpoint: str | None
    protocol: str | None
    market_type: str | None
    venue: str | None  #: the venue's names in the feed's identity
    identity: str | None  #: protocol/market_type/venue, None of rows without one
    #: Settings of this manager that an adopted feeder does not have.
    differs: list[str]
    last_error: str | None
    last_message_age: float | None  #: seconds, None before the first message
    bars: int
    messages: int
    malformed: int
    ignored: int
    late: int
    gaps: int
    duplicates: int
    revisions: int
    unsubscribed: int
    reconnects: int
    oversized: int
    missed: int
    disagreements: int
    streams: list[StreamStatus]
    phase: NotRequired[str]
    attempts: NotRequired[int]
    losses: NotRequired[int]
    error_kind: NotRequired[str]


def connection_state(ints: Ints, alive: bool) -> State:
    """Return the connection's state: disconnected when the feeder is dead."""
    state = ints[H_STATE]
    return STATES[state] if alive and 0 <= state < len(STATES) else _DISCONNECTED


def quiet_ns(timeframe: str) -> int:
    """Return the time after its last update for which a stream is live, in ns."""
    return _SILENCES[timeframe][0]


def ring_status(reader: RingReader, timeframe: str) -> RingStatus:
    """Return the status of a reader's stream. The core decides the usual case."""
    age = reader.live_age(_SILENCES[timeframe][0])
    if age is not None:
        return _make_tuple(RingStatus, (age, "connected", "live"))
    return entry_status(reader.words.ints, reader.entry, timeframe)


def rings_status(
    rings: Iterable[ReattachingReader], timeframe: str
) -> RingStatus | None:
    """Return the status of rings of one timeframe, with the oldest age.

    Return None if one of them is not live: `ring.status()` then says which.
    """
    age = oldest_live_age(rings, _SILENCES[timeframe][0])
    return None if age is None else RingStatus(age, "connected", "live")


def entry_status(ints: Ints, entry: int, timeframe: str) -> RingStatus:
    """Return the status of the stream whose catalog entry begins at word `entry`."""
    now = boot_ns()
    updated = ints[entry + E_UPDATED]
    age = _seconds_since(updated, now)
    if not is_alive(ints, now):
        return _make_tuple(RingStatus, (age, _DISCONNECTED, "dead"))
    if not _is_ready(ints, now):
        return _make_tuple(RingStatus, (age, connection_state(ints, True), "stale"))
    health = _health(ints, entry, timeframe, now, updated)
    return _make_tuple(RingStatus, (age, "connected", health))


def _seconds_since(moment: int, now: int) -> float | None:
    # 0 is "never". A time far in the future is damage.
    if 0 < moment <= now:
        return (now - moment) / _SECOND
    return 0.0 if now < moment <= now + AHEAD_NS else None


def _is_ready(ints: Ints, now: int) -> bool:
    return ints[H_STATE] == CONNECTED and is_working(ints, now)


def _health(ints: Ints, entry: int, timeframe: str, now: int, updated: int) -> Health:
    if not ints[entry + E_SUBSCRIBED]:  # a new bar may be there, none will follow
        return "stale"
    if ints[entry + E_RECOVERING]:
        return "recovering"
    quiet_ns, stale_ns = _SILENCES[timeframe]
    since = ints[entry + E_SINCE]
    silent = now - (updated if updated > since else since)  # noqa: FURB136 # hot
    if not -AHEAD_NS <= silent <= stale_ns:
        return "stale"
    return "live" if updated and now - updated <= quiet_ns else "quiet"


def feed_status(mapping: Mapping, feed: str) -> FeedStatus:
    """Return the status of the feed in this segment.

    Raises SegmentFormatError for a damaged catalog.
    """
    ints, now = mapping.words.ints, boot_ns()
    alive = is_alive(ints, now)
    subscribed = [e for e in entries(mapping.words, mapping.geometry) if e.subscribed]
    streams = [_stream_status(mapping, entry) for entry in subscribed]
    counters = ints[H_COUNTERS : H_COUNTERS + len(COUNTERS)].tolist()
    found: dict[str, Any] = {
        **status_without_feed(feed),
        "state": connection_state(ints, alive),
        "health": _feed_health(ints, now, streams) if alive else "dead",
        "pid": ints[H_WRITER_PID] if alive else None,
        "uptime": (now - ints[H_STARTED]) / _SECOND if alive else None,
        "symbols": list(dict.fromkeys(entry.symbol for entry in subscribed)),
        "resolutions": list(dict.fromkeys(entry.timeframe for entry in subscribed)),
        "last_message_age": _message_age(ints, now, streams),
        **_read_note(mapping),
        **_identity_keys(mapping),
        **dict(zip(COUNTERS, counters, strict=True)),
        "streams": streams,
    }
    return cast("FeedStatus", found)


def connection_status(mapping: Mapping) -> ConnectionStatus:
    """Return the status of a feed's connection, which costs less than `feed_status`."""
    ints = mapping.words.ints
    alive = is_alive(ints, boot_ns())
    found: dict[str, Any] = {
        **_read_note(mapping),
        "state": connection_state(ints, alive),
        "pid": ints[H_WRITER_PID] if alive else None,
    }
    return cast("ConnectionStatus", found)


def heartbeat(mapping: Mapping) -> Heartbeat:
    """Return the last sign of life of the feed's writer."""
    ints = mapping.words.ints
    alive = is_alive(ints, boot_ns())
    return Heartbeat(ints[H_WRITER_PID], ints[H_WRITER_EPOCH], ints[H_TICK], alive)


def status_without_feed(feed: str | None) -> FeedStatus:
    """Return the status of a feed that does not exist."""
    found: dict[str, Any] = {
        "feed": feed or DEFAULT_FEED,
        "state": _DISCONNECTED,
        "health": "dead",
        "pid": None,
        "writer": None,
        "uptime": None,
        "symbols": [],
        "resolutions": [],
        "endpoint": None,
        "protocol": None,
        "market_type": None,
        "venue": None,
        "identity": None,
        "differs": [],
        "last_error": None,
        "last_message_age": None,
        **dict.fromkeys(COUNTERS, 0),
        "streams": [],
    }
    return cast("FeedStatus", found)


def _read_note(mapping: Mapping) -> dict[str, Any]:
    return unpack_note(Latch(mapping.words, H_NOTE, NOTE_WORDS).read())


def _identity_keys(mapping: Mapping) -> dict[str, Any]:
    identity = read_identity(mapping.words, mapping.geometry)
    if identity is None:
        return {}
    return {
        "protocol": identity.protocol,
        "market_type": identity.market_type,
        "venue": identity.venue or None,
        "identity": str(identity),
    }


def _stream_status(mapping: Mapping, entry: Entry) -> StreamStatus:
    ints, at = mapping.words.ints, mapping.geometry.entry_word(entry.number)
    ring = RingReader(mapping.words, mapping.geometry, entry.number)
    closed = ring.last_closed()
    if closed and (damage := describe_bar_damage(closed, entry.timeframe)):
        raise damaged(mapping.words, f"{' '.join(entry.key)}: {damage}")
    status = entry_status(ints, at, entry.timeframe)
    return {
        "symbol": entry.symbol,
        "timeframe": entry.timeframe,
        "count": ring.count,
        "last_close_time": closed.close_time if closed else None,
        "age": status.age,
        "gaps": ints[at + E_GAPS],
        "health": status.health,
    }


def _feed_health(ints: Ints, now: int, streams: list[StreamStatus]) -> Health:
    if not _is_ready(ints, now):
        return "stale"
    healths = (stream["health"] for stream in streams)
    return max(healths, key=HEALTHS.index, default="quiet")


def _message_age(ints: Ints, now: int, streams: list[StreamStatus]) -> float | None:
    age = _seconds_since(ints[H_LAST_MESSAGE], now)
    if age is not None:
        return age
    ages = (stream["age"] for stream in streams if stream["age"] is not None)
    return min(ages, default=None)
