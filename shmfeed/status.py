"""How a feed and its streams are, read from outside out of the segment."""

from typing import Any, NamedTuple

from shmfeed.bar import TIMEFRAMES, duration, stale_after
from shmfeed.core import RingReader
from shmfeed.layout import (
    AHEAD_NS,
    CONNECTED,
    COUNTERS,
    DEAD_NS,
    E_GAPS,
    E_RECOVERING,
    E_SINCE,
    E_SUBSCRIBED,
    E_UPDATED,
    H_ALIVE,
    H_COUNTERS,
    H_LAST_MESSAGE,
    H_NOTE,
    H_STARTED,
    H_STATE,
    H_TICK,
    H_WRITER_PID,
    NOTE_WORDS,
    STATES,
    STUCK_NS,
)
from shmfeed.memory.catalog import Entry, entries
from shmfeed.memory.integrity import bar_damage, damaged
from shmfeed.memory.note import unpack_note
from shmfeed.memory.words import Ints, Latch, boot_ns
from shmfeed.segment.mapping import Mapping

HEALTHS = ("live", "quiet", "recovering", "stale", "dead")  # from best to worst


_SECOND = 1_000_000_000
_MS = 1_000_000
_DISCONNECTED = STATES[0]
_QUIET_GRACE_NS = 2 * _SECOND
# By timeframe, ns of silence after which a stream is no longer live, no longer quiet.
_SILENCES = {
    timeframe: (
        duration(timeframe) * _MS + _QUIET_GRACE_NS,
        stale_after(timeframe) * _SECOND,
    )
    for timeframe in TIMEFRAMES
}
_new = tuple.__new__  # a NamedTuple's own costs a tenth of a microsecond more


class StreamStatus(NamedTuple):
    """One stream, as of the read. `age` is seconds since its last update, or None."""

    age: float | None
    state: str
    health: str


def is_alive(ints: Ints, now: int) -> bool:
    """Whether the feeder has given a sign of life lately; `now` in BOOTTIME ns."""
    return (
        -AHEAD_NS <= now - ints[H_TICK] <= DEAD_NS
        or -AHEAD_NS <= now - ints[H_ALIVE] <= DEAD_NS
    )


def connection_state(ints: Ints, alive: bool) -> str:
    """The connection's state; a feeder that died is connected to nothing."""
    state = ints[H_STATE]
    return STATES[state] if alive and 0 <= state < len(STATES) else STATES[0]


def ring_status(reader: RingReader, timeframe: str) -> StreamStatus:
    """The stream of a reader; the usual case is decided by the reader's core."""
    age = reader.live_age(_SILENCES[timeframe][0])
    if age is not None:
        return _new(StreamStatus, (age, "connected", "live"))
    return stream_status(reader.words.ints, reader.entry, timeframe)


def stream_status(ints: Ints, at: int, timeframe: str) -> StreamStatus:
    """The stream whose entry begins at word `at`."""
    now = boot_ns()
    updated = ints[at + E_UPDATED]
    age = _seconds_since(updated, now)
    if not is_alive(ints, now):
        return _new(StreamStatus, (age, _DISCONNECTED, "dead"))
    state = ints[H_STATE]
    if state != CONNECTED or now - ints[H_TICK] > STUCK_NS:
        return _new(StreamStatus, (age, connection_state(ints, True), "stale"))
    health = _health(ints, at, timeframe, now, updated)
    return _new(StreamStatus, (age, "connected", health))


def _seconds_since(moment: int, now: int) -> float | None:
    """At least 0; None for 0, which is never, and for a moment far in the future."""
    if 0 < moment <= now:
        return (now - moment) / _SECOND
    return 0.0 if now < moment <= now + AHEAD_NS else None


def _health(ints: Ints, at: int, timeframe: str, now: int, updated: int) -> str:
    """A stream's health while the feeder lives, works and is connected."""
    if not ints[at + E_SUBSCRIBED]:  # however new its last bar is, no newer one comes
        return "stale"
    if ints[at + E_RECOVERING]:
        return "recovering"
    quiet_ns, stale_ns = _SILENCES[timeframe]
    since = ints[at + E_SINCE]
    silent = now - (updated if updated > since else since)  # noqa: FURB136 # hot
    if not -AHEAD_NS <= silent <= stale_ns:
        return "stale"
    return "live" if updated and now - updated <= quiet_ns else "quiet"


def feed_status(mapping: Mapping, feed: str) -> dict[str, Any]:
    """All that can be said of a feed: the manager's status keys, plain values.

    SegmentFormatError for a damaged catalog."""
    ints, now = mapping.words.ints, boot_ns()
    alive = is_alive(ints, now)
    carried = [e for e in entries(mapping.words, mapping.geometry) if e.subscribed]
    streams = [_stream_row(mapping, entry) for entry in carried]
    status = empty_status(feed)
    status |= {
        "state": connection_state(ints, alive),
        "health": _feed_health(ints, now, streams) if alive else "dead",
        "pid": ints[H_WRITER_PID] if alive else None,
        "uptime": (now - ints[H_STARTED]) / _SECOND if alive else None,
        "symbols": list(dict.fromkeys(entry.symbol for entry in carried)),
        "resolutions": list(dict.fromkeys(entry.timeframe for entry in carried)),
        "last_message_age": _message_age(ints, now, streams),
    }
    status.update(read_note(mapping))
    counters = ints[H_COUNTERS : H_COUNTERS + len(COUNTERS)].tolist()
    status.update(zip(COUNTERS, counters, strict=True))
    status["streams"] = streams
    return status


def connection(mapping: Mapping) -> dict[str, Any]:
    """State, pid and what the feeder says of its connection; cheaper than a status."""
    ints = mapping.words.ints
    alive = is_alive(ints, boot_ns())
    return {
        **read_note(mapping),
        "state": connection_state(ints, alive),
        "pid": ints[H_WRITER_PID] if alive else None,
    }


def empty_status(feed: str | None) -> dict[str, Any]:
    """The status of a feed that is not there."""
    return {
        "feed": feed or "default",
        "state": STATES[0],
        "health": "dead",
        "pid": None,
        "writer": None,  # the pid of the last feeder, alive or not
        "uptime": None,
        "symbols": [],
        "resolutions": [],
        "endpoint": None,
        "protocol": None,
        "last_error": None,
        "last_message_age": None,
        **dict.fromkeys(COUNTERS, 0),
        "streams": [],
    }


def read_note(mapping: Mapping) -> dict[str, Any]:
    """What the feeder says in words: endpoint, protocol, last error."""
    return unpack_note(Latch(mapping.words, H_NOTE, NOTE_WORDS).read())


def _stream_row(mapping: Mapping, entry: Entry) -> dict[str, Any]:
    ints, at = mapping.words.ints, mapping.geometry.entry_word(entry.number)
    ring = RingReader(mapping.words, mapping.geometry, entry.number)
    closed = ring.last_closed()
    if closed and (what := bar_damage(closed, entry.timeframe)):
        raise damaged(mapping.words, f"of {entry.symbol} {entry.timeframe} {what}")
    how = stream_status(ints, at, entry.timeframe)
    return {
        "symbol": entry.symbol,
        "timeframe": entry.timeframe,
        "count": ring.count,
        "last_close_time": closed.close_time if closed else None,
        "age": how.age,
        "gaps": ints[at + E_GAPS],
        "health": how.health,
    }


def _feed_health(ints: Ints, now: int, streams: list[dict[str, Any]]) -> str:
    if ints[H_STATE] != CONNECTED or now - ints[H_TICK] > STUCK_NS:
        return "stale"
    healths = (row["health"] for row in streams)
    return max(healths, key=HEALTHS.index, default="quiet")


def _message_age(ints: Ints, now: int, streams: list[dict[str, Any]]) -> float | None:
    heard = _seconds_since(ints[H_LAST_MESSAGE], now)
    if heard is not None:
        return heard
    return min((row["age"] for row in streams if row["age"] is not None), default=None)
