"""Status of a feed and of its streams, read from the segment."""

from collections.abc import Collection
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

from shmfeed.bar import StreamKey
from shmfeed.core import RingReader
from shmfeed.errors import BusyRingError, StreamNotFoundError
from shmfeed.health import (
    Health,
    connection_state,
    explain_health,
    ring_status,
    seconds_since,
    stream_status,
    worst_health,
)
from shmfeed.holes import find_holes
from shmfeed.layout import (
    COUNTERS,
    E_COUNTERS,
    E_GAPS,
    E_REASON,
    H_CLOCK_KNOWN,
    H_CLOCK_OFFSET,
    H_COUNTERS,
    H_LAST_MESSAGE,
    H_NEXT_ATTEMPT,
    H_NOTE,
    H_STARTED,
    H_STATE,
    H_STATE_SINCE,
    H_TICK,
    H_WRITER_EPOCH,
    H_WRITER_PID,
    NOTE_WORDS,
    REASONS,
    STREAM_COUNTERS,
    State,
)
from shmfeed.memory.catalog import Entry, entries
from shmfeed.memory.identity import read_identity
from shmfeed.memory.integrity import damaged, describe_bar_damage
from shmfeed.memory.liveness import is_alive, is_working
from shmfeed.memory.note import read_facts, unpack_note
from shmfeed.memory.words import Ints, Latch, boot_ns
from shmfeed.relay_status import RelayStatus, relay_in
from shmfeed.segment.mapping import Mapping
from shmfeed.validation import DEFAULT_FEED

_SECOND = 1_000_000_000
_DISCONNECTED: State = "disconnected"
_REFUSED = REASONS.index("refused")
# The health of a feed without streams that count, by state; else it is stale.
_WITHOUT_STREAMS: dict[State, Health] = {
    "connected": "quiet",
    "connecting": "recovering",
    "reconnecting": "recovering",
}

_WANTED = ("kind", "name", "pid", "since", "count", "symbols", "resolutions")
_WANTED_TYPES = {"kind": str, "name": str, "pid": int, "since": int, "count": int}


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
    gaps: int  #: bars missing now, without those that the venue lacks
    health: Health
    why: str  #: why the stream has this health; "" for live and quiet
    messages: int  #: messages of the venue for this stream
    dropped: int  #: of them, those that gave no bar and no update
    missed: int  #: by the venue's numbers, messages that never came


class Wanted(TypedDict):
    """One row of a feed status's `wants`: a run, a manager or a lease.

    The lists are absent where there is no room for them.
    """

    kind: str  #: run, manager or lease
    name: str  #: the name that it gave itself, by default its command
    pid: int  #: its pid as the feeder sees it, 0 in another PID namespace
    since: int  #: ms UTC
    #: Seconds until its streams are let go, as its connection has ended; else None.
    ends_in: float | None
    count: int  #: the number of its streams
    symbols: NotRequired[list[str]]
    resolutions: NotRequired[list[str]]


class ConnectionStatus(TypedDict):
    """The feeder's connection to its venue.

    The keys that are not required come from the feeder. A feed that is written through
    `shmfeed.create` may lack them.
    """

    state: State
    pid: int | None  #: pid of the feeder, None when it is dead
    writer: NotRequired[int | None]  #: pid of the last feeder, alive or dead
    version: NotRequired[str]  #: of its package
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
    #: The worst of the streams; those that are closed or left out do not count.
    health: Health
    pid: int | None  #: pid of the feeder, None when it is dead
    writer: int | None  #: pid of the last feeder, alive or dead
    uptime: float | None  #: seconds, None when the feeder is dead
    #: ms UTC of the last change of `state`, None if it is not known.
    state_since: int | None
    next_attempt_in: float | None  #: seconds until a connection is tried, or None
    #: Seconds, the venue's clock minus this host's, None if it is not known.
    clock_offset: float | None
    symbols: list[str]
    resolutions: list[str]
    endpoint: str | None
    protocol: str | None
    market_type: str | None
    venue: str | None  #: the venue's names in the feed's identity
    identity: str | None  #: protocol/market_type/venue, None of rows without one
    #: Settings of this manager that an adopted feeder does not have.
    differs: list[str]
    store: str | None  #: the file that keeps the bars
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
    relay: RelayStatus | None  #: the relay to other hosts, None without one
    #: Who wants which streams: a row each, by its kind, its name and its pid.
    wants: dict[str, Wanted]
    #: The subscribed streams, and those that the venue refused.
    streams: list[StreamStatus]
    version: NotRequired[str]  #: of the last feeder's package
    phase: NotRequired[str]
    attempts: NotRequired[int]
    losses: NotRequired[int]
    error_kind: NotRequired[str]


def feed_status(mapping: Mapping, feed: str) -> FeedStatus:
    """Return the status of the feed in this segment.

    Raises SegmentFormatError for a damaged catalog.
    """
    ints, now = mapping.words.ints, boot_ns()
    alive = is_alive(ints, now)
    carried = entries(mapping.words, mapping.geometry)
    listed = [entry for entry in carried if _is_listed(mapping, entry)]
    subscribed = [entry for entry in listed if entry.subscribed]
    streams = [_stream_status(mapping, entry) for entry in listed]
    counters = ints[H_COUNTERS : H_COUNTERS + len(COUNTERS)].tolist()
    state = connection_state(ints, alive)
    found: dict[str, Any] = {
        **status_without_feed(feed),
        "state": state,
        "health": (
            _feed_health(mapping, now, listed, [one["health"] for one in streams])
            if alive
            else "dead"
        ),
        "pid": ints[H_WRITER_PID] if alive else None,
        "uptime": (now - ints[H_STARTED]) / _SECOND if alive else None,
        "symbols": list(dict.fromkeys(entry.symbol for entry in subscribed)),
        "resolutions": list(dict.fromkeys(entry.timeframe for entry in subscribed)),
        "last_message_age": _message_age(ints, now, streams),
        **_read_note(mapping),
        **_identity_keys(mapping),
        **_times(mapping, alive, now),
        **dict(zip(COUNTERS, counters, strict=True)),
        "relay": relay_in(mapping) if alive else None,
        "wants": _wants(mapping, now),
        "streams": streams,
    }
    # The counter has the bars too that no venue has.
    counted = sum(_counted_gaps(mapping, entry) for entry in listed)
    found["gaps"] -= counted - sum(stream["gaps"] for stream in streams)
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


def feed_health(mapping: Mapping, without: Collection[StreamKey] = ()) -> Health:
    """Return the `health` of a feed's status, which costs less than `feed_status`.

    The streams in `without` do not count. Raises SegmentFormatError for a damaged
    catalog.
    """
    words, geometry, _ = mapping
    now = boot_ns()
    if not is_alive(words.ints, now):
        return "dead"
    counting = [one for one in entries(words, geometry) if one.key not in without]
    listed = [entry for entry in counting if _is_listed(mapping, entry)]
    healths = []
    for entry in listed:
        reader = RingReader(words, geometry, entry.number)
        healths.append(ring_status(reader, entry.timeframe).health)
    return _feed_health(mapping, now, listed, healths)


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
        "state_since": None,
        "next_attempt_in": None,
        "clock_offset": None,
        "store": None,
        "relay": None,
        "wants": {},
        **dict.fromkeys(COUNTERS, 0),
        "streams": [],
    }
    return cast("FeedStatus", found)


def _read_note(mapping: Mapping) -> dict[str, Any]:
    return unpack_note(Latch(mapping.words, H_NOTE, NOTE_WORDS).read())


def _wants(mapping: Mapping, now: int) -> dict[str, Wanted]:
    found: dict[str, Wanted] = {}
    for one in wants_in(mapping):
        ends_at = one.get("ends_at")
        left = None if ends_at is None else round(max(0.0, ends_at - now / _SECOND), 1)
        row = {key: one[key] for key in _WANTED if key in one} | {"ends_in": left}
        name = plain_name = f"{one['kind']} {one['name']} {one['pid']}"
        number = 1
        while name in found:
            number += 1
            name = f"{plain_name} ({number})"
        found[name] = cast("Wanted", row)
    return found


def wants_in(mapping: Mapping) -> list[dict[str, Any]]:
    """Return the wants that the feeder has published, without damaged ones."""
    listed = read_facts(mapping.words, mapping.geometry).get("wants", [])
    if not isinstance(listed, list):
        return []
    return [one for one in listed if isinstance(one, dict) and is_wanted(one)]


def is_wanted(one: dict[str, Any]) -> bool:
    """Return True if a row of the wants has what it must have."""
    ends_at = one.get("ends_at")
    return all(isinstance(one.get(k), kind) for k, kind in _WANTED_TYPES.items()) and (
        ends_at is None or isinstance(ends_at, float | int)
    )


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
    status = stream_status(ring, entry.timeframe)
    counters = ints[at + E_COUNTERS : at + E_COUNTERS + len(STREAM_COUNTERS)].tolist()
    found: dict[str, Any] = {
        "symbol": entry.symbol,
        "timeframe": entry.timeframe,
        "count": ring.count,
        "last_close_time": closed.close_time if closed else None,
        "age": status.age,
        "gaps": _count_gaps(ring, entry, _counted_gaps(mapping, entry)),
        "health": status.health,
        "why": explain_health(ring, entry.timeframe, status.health),
        **dict(zip(STREAM_COUNTERS, counters, strict=True)),
    }
    return cast("StreamStatus", found)


def _counted_gaps(mapping: Mapping, entry: Entry) -> int:
    return mapping.words.ints[mapping.geometry.entry_word(entry.number) + E_GAPS]


def _count_gaps(ring: RingReader, entry: Entry, counted: int) -> int:
    """Return a stream's missing bars without those that the venue has not either."""
    if not counted:
        return 0
    try:
        holes = find_holes(ring, entry.key)
    except (BusyRingError, StreamNotFoundError):
        return counted
    absent = sum(hole.missing for hole in holes if hole.state == "none_at_venue")
    return max(0, counted - absent)


def _is_left_out(mapping: Mapping, entry: Entry) -> bool:
    at = mapping.geometry.entry_word(entry.number)
    return bool(mapping.words.ints[at + E_REASON] == _REFUSED)


def _is_listed(mapping: Mapping, entry: Entry) -> bool:
    return entry.subscribed or _is_left_out(mapping, entry)


def _feed_health(
    mapping: Mapping, now: int, listed: list[Entry], healths: list[Health]
) -> Health:
    ints = mapping.words.ints
    if not is_working(ints, now):
        return "stale"
    counting = [
        health
        for entry, health in zip(listed, healths, strict=True)
        if not _is_left_out(mapping, entry)
    ]
    state = connection_state(ints, alive=True)
    return worst_health(counting, _WITHOUT_STREAMS.get(state, "stale"))


def _times(mapping: Mapping, alive: bool, now: int) -> dict[str, Any]:
    # Layout 1 has none of these words, and other ones in the place of two.
    if mapping.geometry.version == 1:
        return {}
    ints = mapping.words.ints
    offset, attempt = ints[H_CLOCK_OFFSET] / _SECOND, ints[H_NEXT_ATTEMPT]
    remaining = max(0, attempt - now) / _SECOND
    # A feeder that was killed has told no change of its state.
    is_told = alive or ints[H_STATE] == 0
    return {
        "state_since": (ints[H_STATE_SINCE] or None) if is_told else None,
        "next_attempt_in": remaining if alive and attempt else None,
        "clock_offset": offset if alive and ints[H_CLOCK_KNOWN] else None,
    }


def _message_age(ints: Ints, now: int, streams: list[StreamStatus]) -> float | None:
    age = seconds_since(ints[H_LAST_MESSAGE], now)
    if age is not None:
        return age
    ages = (stream["age"] for stream in streams if stream["age"] is not None)
    return min(ages, default=None)
