"""THE STATES: the health of a stream and its reason, read from the segment.

Of a stream, the first that fits:

    dead        the feeder sends no heartbeat
    closed      the venue says that the symbol does not trade
    stale       the connection is away in state `error`, and the stream is not polled;
                the stream is unsubscribed, or left out because the venue refused it;
                all of its messages are dropped; the feeder's main loop stands still
    polled      closed bars come by REST while the socket gives none
    recovering  within the limit of silence: the connection is away, or is back and the
                bars that it missed may be on their way, or bars are held back, or the
                warm-up is under way; or the stream is silent for more than one
                timeframe, and the feeder has still to compare it with history
    waiting     no bar of the stream has come yet
    stale       silent beyond the limit
    quiet       silent for more than one timeframe; history, where a feeder has a
                source of it, has nothing newer
    live        none of these

The limit of silence is three timeframes, at least 30 s, if the feeder sets no other.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from shmfeed.bar import TIMEFRAMES, duration, stale_after
from shmfeed.core import RingReader
from shmfeed.layout import (
    AHEAD_NS,
    CONNECTED,
    E_AWAY,
    E_BACK,
    E_COMPARED,
    E_REASON,
    E_RECOVERING,
    E_SILENCE,
    E_SINCE,
    E_SUBSCRIBED,
    E_UPDATED,
    E_WHY,
    H_ALIVE,
    H_READY,
    H_RELAYED,
    H_REPAIR_GRACE,
    H_STATE,
    H_TICK,
    READY,
    REASONS,
    STATES,
    UNHEARD,
    WHY_WORDS,
    Reason,
    State,
)
from shmfeed.memory.liveness import is_alive, is_working
from shmfeed.memory.note import unpack_text
from shmfeed.memory.words import Ints, Latch, boot_ns

Health = Literal[
    "live", "quiet", "polled", "recovering", "waiting", "stale", "dead", "closed"
]
# From best to worst. A closed stream counts for nothing.
HEALTHS: tuple[Health, ...] = get_args(Health)[:-1]
GOOD_HEALTHS: tuple[Health, ...] = ("live", "quiet")  # they need no reason

_SECOND = 1_000_000_000
_MS = 1_000_000
_DISCONNECTED: State = "disconnected"
_ERROR = STATES.index("error")
_QUIET_GRACE_NS = 2 * _SECOND
_REPAIR_GRACE = 5.0  # s, the default of the setting
# By timeframe, ns without an update until a stream is quiet, and until it is stale.
_SILENCES = {
    timeframe: (
        duration(timeframe) * _MS + _QUIET_GRACE_NS,
        round(stale_after(timeframe) * _SECOND),
    )
    for timeframe in TIMEFRAMES
}
_make_tuple = tuple.__new__  # saves a tenth of a microsecond over a NamedTuple's own
_DROPPED, _REFUSED, _CLOSED, _POLLED, _WARMING = map(
    REASONS.index, ("dropped", "refused", "closed", "polled", "warming")
)
_TEXTS: dict[Reason, str] = {  # where the feeder gives no words
    "dropped": "all messages are dropped",
    "refused": "the venue refused it",
    "closed": "the symbol does not trade",
    "polled": "closed bars come by REST",
    "warming": "the warm-up is under way",
}


class RingStatus(NamedTuple):
    """The status of one stream, as of the read.

    `age` is seconds since the stream's last update, None before the first one.
    `state` is that of the stream's connection. `health` is the stream's.
    """

    age: float | None
    state: State
    health: Health


def health_rank(health: Health) -> int:
    """Return a number that is higher for a worse health, and lowest for closed."""
    return -1 if health == "closed" else HEALTHS.index(health)


def worst_health(healths: Iterable[Health], default: Health) -> Health:
    """Return the worst of these, `default` if no stream counts."""
    counting = (health for health in healths if health != "closed")
    return max(counting, key=HEALTHS.index, default=default)


def quiet_ns(timeframe: str) -> int:
    """Return the time after its last update for which a stream is live, in ns."""
    return _SILENCES[timeframe][0]


def connection_state(ints: Ints, alive: bool) -> State:
    """Return the feed's state: the worst of its connections, if the feeder lives."""
    state = ints[H_STATE]
    return STATES[state] if alive and 0 <= state < len(STATES) else _DISCONNECTED


def ring_status(reader: RingReader, timeframe: str) -> RingStatus:
    """Return the status of a reader's stream. The core decides the usual case."""
    age = reader.live_age(_SILENCES[timeframe][0])
    if age is not None:
        return _make_tuple(RingStatus, (age, "connected", "live"))
    return stream_status(reader, timeframe)


def stream_status(reader: RingReader, timeframe: str) -> RingStatus:
    """Return the status of a reader's stream, without a question to the core."""
    ints, entry, now = reader.words.ints, reader.entry, boot_ns()
    age = seconds_since(ints[entry + E_UPDATED], now)
    if not is_alive(ints, now):
        return _make_tuple(RingStatus, (age, _DISCONNECTED, "dead"))
    health = _health(reader, timeframe, now)
    return _make_tuple(RingStatus, (age, _stream_state(ints, entry), health))


class Silence(NamedTuple):
    """The seconds since a stream's last update, and those after which it is stale.

    Before the first update they count from the subscription.
    """

    seconds: float
    limit: float


def silence(reader: RingReader, timeframe: str) -> Silence:
    """Return how long a stream has been silent, and how long it may be."""
    ints, entry, now = reader.words.ints, reader.entry, boot_ns()
    silent = seconds_since(ints[entry + E_UPDATED], now)
    if silent is None:
        silent = seconds_since(ints[entry + E_SINCE], now) or 0.0
    return Silence(silent, _limit_ns(ints, entry, timeframe) / _SECOND)


def seconds_since(moment: int, now: int) -> float | None:
    """Return the seconds since a time of CLOCK_BOOTTIME, None if it was never.

    A time far in the future is damage.
    """
    if 0 < moment <= now:
        return (now - moment) / _SECOND
    return 0.0 if now < moment <= now + AHEAD_NS else None


def relay_age(reader: RingReader, moment: int) -> float | None:
    """Return the seconds from a leader's last news to a moment of CLOCK_BOOTTIME, ns.

    0 if there were some later. None for rows that are not relayed, and before the first
    news.
    """
    if reader.geometry.version == 1:
        return None
    heard: int = reader.words.ints[H_RELAYED]
    return max(0, moment - heard) / _SECOND if heard > UNHEARD else None


def _health(reader: RingReader, timeframe: str, now: int) -> Health:
    ints, entry = reader.words.ints, reader.entry
    reason = ints[entry + E_REASON]
    decided = _health_by_reason(ints, entry, reason, now)
    if decided is not None:
        return decided
    is_overdue = _is_overdue(ints, entry, timeframe, now)
    if not is_overdue and _is_recovering(reader, reason, now):
        return "recovering"
    updated = ints[entry + E_UPDATED]
    if not _has_come(reader, updated):
        return "waiting"
    if is_overdue:
        return "stale"
    if updated and now - updated <= _SILENCES[timeframe][0]:
        return "live"
    return "quiet" if _is_compared(ints, entry) else "recovering"


def _health_by_reason(ints: Ints, entry: int, reason: int, now: int) -> Health | None:
    # As far as it does not depend on the time of the last update.
    if reason == _CLOSED:
        return "closed"
    if _is_given_up(ints, entry, reason, now):
        return "stale"
    return "polled" if reason == _POLLED else None


def _is_given_up(ints: Ints, entry: int, reason: int, now: int) -> bool:
    # Nothing will come, whatever has come up to now.
    return (
        not ints[entry + E_SUBSCRIBED]
        or reason in {_DROPPED, _REFUSED}
        or not is_working(ints, now)
        or (ints[H_STATE] == _ERROR and reason != _POLLED and _is_away(ints, entry))
    )


def _is_away(ints: Ints, entry: int) -> bool:
    # A feeder of layout 1 has one connection, and marks no stream.
    if ints[H_READY] == READY:
        return ints[entry + E_AWAY] != 0
    return bool(ints[H_STATE] != CONNECTED)


def _is_recovering(reader: RingReader, reason: int, now: int) -> bool:
    ints, entry = reader.words.ints, reader.entry
    if ints[entry + E_RECOVERING] or reason == _WARMING or _is_away(ints, entry):
        return True
    return _is_back(ints, entry, now) and _has_come(reader, ints[entry + E_UPDATED])


def _is_back(ints: Ints, entry: int, now: int) -> bool:
    # Up to its first update after the return, at most for the grace.
    back: int = ints[entry + E_BACK]
    if not back or ints[entry + E_UPDATED] > back:
        return False
    return now - back <= ints[H_REPAIR_GRACE]  # layout 1 has no E_BACK


def _is_compared(ints: Ints, entry: int) -> bool:
    # History was asked after all that could have changed, or is never asked.
    compared: int = ints[entry + E_COMPARED]  # layout 1 has none
    changed = max(ints[entry + word] for word in (E_UPDATED, E_SINCE, E_BACK))
    return not compared or compared > changed


def _has_come(reader: RingReader, updated: int) -> bool:
    # Rows of an earlier feeder count, and rows that came as history.
    return updated != 0 or reader.last_closed() is not None


def _limit_ns(ints: Ints, entry: int, timeframe: str) -> int:
    chosen: int = ints[entry + E_SILENCE]
    return chosen or _SILENCES[timeframe][1]


def _is_overdue(ints: Ints, entry: int, timeframe: str, now: int) -> bool:
    silent = now - max(ints[entry + E_UPDATED], ints[entry + E_SINCE])
    return not -AHEAD_NS <= silent <= _limit_ns(ints, entry, timeframe)


def _stream_state(ints: Ints, entry: int) -> State:
    if not _is_away(ints, entry):
        return "connected"
    state = connection_state(ints, alive=True)
    return "reconnecting" if state == "connected" else state


def repair_grace(reader: RingReader | None) -> float:
    """Return the seconds for which newer bars may wait for older ones.

    The feeder's setting, or its default: without a reader, and for rows that `create`
    has written.
    """
    ns: int = 0 if reader is None else reader.words.ints[H_REPAIR_GRACE]
    return ns / _SECOND if ns > 0 else _REPAIR_GRACE


def explain_health(reader: RingReader, timeframe: str, health: Health) -> str:
    """Return why a stream has this health, "" for live and quiet."""
    if health in GOOD_HEALTHS:
        return ""
    ints, entry, now = reader.words.ints, reader.entry, boot_ns()
    if health == "dead":
        beat = max(ints[H_TICK], ints[H_ALIVE])
        return f"no heartbeat of the feeder{_spell(beat, now)}"
    reason = _reason(ints, entry)
    if health in ("closed", "polled") or reason in ("dropped", "refused", "warming"):
        return _reason_text(reader, reason)
    parts = [_explain_silence(reader, timeframe, health, now)]
    parts.append(_reason_text(reader, reason))
    return "; ".join(filter(None, parts))


def _explain_silence(
    reader: RingReader, timeframe: str, health: Health, now: int
) -> str:
    ints, entry = reader.words.ints, reader.entry
    if not ints[entry + E_SUBSCRIBED]:
        return f"unsubscribed {_ago(ints[entry + E_SINCE], now)}"
    if not is_working(ints, now):
        return f"the feeder's main loop has stood still{_spell(ints[H_TICK], now)}"
    if _is_away(ints, entry):
        error = "; the feeder is in state error" if ints[H_STATE] == _ERROR else ""
        return f"connection away{_spell(ints[entry + E_AWAY], now)}{error}"
    if health == "waiting":
        return f"no bar yet, subscribed {_ago(ints[entry + E_SINCE], now)}"
    if health == "recovering":
        return _explain_recovery(ints, entry, now)
    silent = _silent(ints, entry, now)
    limit = _limit_ns(ints, entry, timeframe) / _SECOND
    return f"silent{silent}, limit {limit:g} s"


def _explain_recovery(ints: Ints, entry: int, now: int) -> str:
    if ints[entry + E_RECOVERING]:
        return "newer bars are held back until the older ones are settled"
    if _is_back(ints, entry, now):
        back = _ago(ints[entry + E_BACK], now)
        return f"connection back {back}, missed bars may be on their way"
    return f"silent{_silent(ints, entry, now)}, not yet compared with history"


def _silent(ints: Ints, entry: int, now: int) -> str:
    return _spell(max(ints[entry + E_UPDATED], ints[entry + E_SINCE]), now)


def _spell(moment: int, now: int) -> str:
    seconds = seconds_since(moment, now)
    return "" if seconds is None else f" for {seconds:.1f} s"


def _ago(moment: int, now: int) -> str:
    seconds = seconds_since(moment, now)
    return "at an unknown time" if seconds is None else f"{seconds:.1f} s ago"


def _reason(ints: Ints, entry: int) -> Reason:
    code = ints[entry + E_REASON]
    return REASONS[code] if 0 <= code < len(REASONS) else ""


def _reason_text(reader: RingReader, reason: Reason) -> str:
    if not reason:
        return ""
    cell = Latch(reader.words, reader.entry + E_WHY, WHY_WORDS).read()
    text = unpack_text(cell) or _TEXTS.get(reason, "")
    return f"left out: {text}" if reason == "refused" else text
