"""The rules of liveness: when a feeder is alive or working, and a segment current.

The feeder leaves two heartbeats in the header, both CLOCK_BOOTTIME in ns: its heartbeat
thread stores `alive`, its main loop stores `tick`. The boot clock is one for all
processes of a host and counts through a suspend, so a heartbeat's age needs no pid and
no system call.

A segment without a live feeder may have a successor under its feed's name. Readers look
that up, a system call, at most once in LOOKUP_NS, so that reading a dead feed stays
cheap. A notification makes the next lookup due at once.

After a suspend the last heartbeats are old, and the feeder needs a moment for the next
one. It is not dead then: for `is_alive` a suspend since the last heartbeat does not
count. `live_age` and `is_working` count it, so nothing is live before the feeder runs
again.

A heartbeat that lies more than AHEAD_NS in the future does not count: it is damage, and
would never expire. `csrc/liveness.h` states the same rules in C.
"""

from shmfeed.layout import (
    AHEAD_NS,
    CONNECTED,
    DEAD_NS,
    E_AWAY,
    E_BACK,
    E_REASON,
    E_RECOVERING,
    E_SILENCE,
    E_SINCE,
    E_SUBSCRIBED,
    E_UPDATED,
    H_ALIVE,
    H_READY,
    H_RETIRED,
    H_STATE,
    H_SUSPENDED,
    H_TICK,
    H_WAKE,
    LOOKUP_NS,
    READY,
    STUCK_NS,
)
from shmfeed.memory.words import Ints, Words, suspended_ns

LEAST_SUSPEND_NS = 100_000_000


def is_alive(ints: Ints, now: int) -> bool:
    """Return True if a heartbeat is at most DEAD_NS older than `now`.

    A suspend of the host since then does not count.
    """
    return (
        -AHEAD_NS <= now - ints[H_TICK] <= DEAD_NS
        or -AHEAD_NS <= now - ints[H_ALIVE] <= DEAD_NS
        or _was_alive_awake(ints, now)
    )


def alive_until(ints: Ints) -> int:
    """Return until when a feeder counts as alive without a further heartbeat.

    In ns of CLOCK_BOOTTIME; a suspend of the host moves it on.
    """
    beats: tuple[int, int] = ints[H_TICK], ints[H_ALIVE]
    return max(beats) + DEAD_NS


def _was_alive_awake(ints: Ints, now: int) -> bool:
    known = ints[H_SUSPENDED]
    slept = suspended_ns() - (known - 1) if known else 0
    if slept < LEAST_SUSPEND_NS:  # two clocks are not read at the same moment
        return False
    beats = ints[H_TICK], ints[H_ALIVE]
    return any(0 <= now - slept - beat <= DEAD_NS for beat in beats if beat)


def is_working(ints: Ints, now: int) -> bool:
    """Return True if the main loop's heartbeat is at most STUCK_NS older than `now`."""
    return -AHEAD_NS <= now - ints[H_TICK] <= STUCK_NS


def is_current(ints: Ints, now: int) -> bool:
    """Return True if the segment counts as the feed's current one.

    If this is False, the reader looks up the feed's name, and keeps its segment if the
    name does not lead to another one. A heartbeat more than DEAD_NS in the future does
    not count here: it could outlast its feeder.
    """
    return not ints[H_RETIRED] and (
        abs(now - ints[H_TICK]) <= DEAD_NS or abs(now - ints[H_ALIVE]) <= DEAD_NS
    )


def is_lookup_due(words: Words, now: int) -> bool:
    """Return True if readers should look up the feed's name again.

    Ask it only if `is_current` is False.
    """
    looked, key = words.lookup
    return now - looked >= LOOKUP_NS or key != words.ints[H_WAKE]


def note_lookup(words: Words, key: int, now: int) -> None:
    """Record that the feed's name led to no other segment.

    `key` is the word H_WAKE, loaded before the name was looked up: a recreation
    notifies the old segment after it has taken the name.
    """
    words.lookup[0], words.lookup[1] = now, key


def live_age(ints: Ints, entry: int, most: int, now: int) -> float | None:
    """Return the seconds since a stream's last update, None unless all is well.

    `entry` is the word of its catalog entry; `RingReader.live_age` says what is well.
    """
    updated = ints[entry + E_UPDATED]
    age = now - updated
    well = (
        updated  # 0 before the first one
        and 0 <= age <= most
        and (
            abs(now - ints[H_TICK]) <= DEAD_NS  # the usual case, without a call
            or (is_working(ints, now) and is_alive(ints, now))
        )
        # A feeder of layout 1 does not mark the streams that a connection lacks.
        and (ints[H_STATE] == CONNECTED or ints[H_READY] == READY)
        and ints[entry + E_SINCE] <= now
        and ints[entry + E_SUBSCRIBED]
        and not (
            ints[entry + E_RECOVERING] or ints[entry + E_AWAY] or ints[entry + E_REASON]
        )
        and ints[entry + E_BACK] <= updated  # the last update came after the return
        and (not ints[entry + E_SILENCE] or age <= ints[entry + E_SILENCE])
    )
    return age / 1_000_000_000 if well else None
