"""A stream that is repaired: its requests under way, and the wait of its newer bars."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import (
    LAST_TIME,
    TIMEFRAMES,
    Bar,
    StreamKey,
    close_time,
    floor,
    grid_steps,
    phase_of,
)
from shmfeed.feeder.belief import LEAST_ROWS, told_by_venue
from shmfeed.feeder.defects import StreamDefects
from shmfeed.feeder.repair_ports import RepairIntake
from shmfeed.feeder.row_events import DueBars
from shmfeed.history.interface import HistoryRequest
from shmfeed.memory.holes import HoleRecord
from shmfeed.memory.rows import Rows

COMPARED_BARS = 3  # the rows beside what is asked for, by which an answer is believed
MOST_BESIDE = 500  # bars beside it among which such rows are looked for
LEAD_MS = 2000  # a bar that closes so soon is asked for too: the clock may be behind

# The kinds of requests; of each kind at most one of a stream is under way.
Kind = Literal["warmup", "reconnect", "defect", "poll", "recheck"]


class Asked(NamedTuple):
    """A request under way, which the worker hands back with its outcome."""

    key: StreamKey
    kind: Kind
    request: HistoryRequest
    at: float  # when it was made, CLOCK_BOOTTIME seconds


class RepairStream:
    """A stream that is repaired."""

    __slots__ = (
        "asked",
        "begins",
        "carried_from",
        "catch_up_at",
        "defects",
        "failures",
        "held_until",
        "is_restart",
        "next_scan",
        "published",
        "recheck_at",
        "recheck_from",
        "trades",
    )

    def __init__(
        self, defects: StreamDefects, published: list[HoleRecord], begins: int
    ) -> None:
        self.defects = defects
        self.begins = begins  # no bar that closed before is due, ms UTC
        self.published = published  # holes, as readers see them
        self.asked: dict[Kind, Asked] = {}
        self.next_scan = 0.0
        self.held_until = 0.0  # newer bars wait until then
        self.catch_up_at: float | None = None  # when to ask for what was missed
        self.failures = 0  # of the request for what was missed
        # The venue's time at which a connection came, ms UTC; None without one.
        self.carried_from: int | None = None
        self.recheck_at: float | None = None  # when its newest rows have settled
        self.recheck_from = LAST_TIME  # the oldest row that is to be compared then
        # Its warm-up asks for what it missed, too, as an earlier feeder left rows.
        self.is_restart = False
        self.trades = True  # False also if the venue does not know the symbol

    def recheck(self, open_time: int, at: float) -> None:
        """Have history compared with the rows from `open_time` on, at a time."""
        self.recheck_at = at
        self.recheck_from = min(self.recheck_from, open_time)

    @property
    def is_catching_up(self) -> bool:
        """True while a request for what the stream missed is under way, or due."""
        return self.is_restart or "reconnect" in self.asked

    def expects(self, key: StreamKey, opened: int) -> bool:
        """Return True if the bar that opens then closes after the stream began."""
        return close_time(opened, key[1]) > self.begins

    def hold(
        self, key: StreamKey, intake: RepairIntake, now: float, grace: float
    ) -> None:
        """Have newer bars wait for `grace`, unless they wait already.

        So connections that come and go hold nothing for longer than one that stays.
        """
        if self.held_until <= now:
            self.held_until = now + grace
            intake.hold([key], self.held_until)

    def release(self, key: StreamKey, intake: RepairIntake) -> None:
        """Let the newer bars that wait be published."""
        if self.held_until:
            self.held_until = 0.0
            intake.release([key])


def is_behind(last: Bar | None, key: StreamKey, time: int | None) -> bool:
    """Return True if the bar after the last one had closed by a time, ms UTC."""
    if last is None or time is None:
        return False
    return close_time(last.close_time, key[1]) <= time


def missed_range(
    key: StreamKey, last: Bar, venue_now: int, history: int
) -> HistoryRequest:
    """Return the request for the last closed bar and all bars after it.

    At most `history` bars are asked for, the newest, and a few before them.
    """
    timeframe, opened = key[1], last.open_time
    newest = max(opened, _floor(venue_now + LEAD_MS, key, opened))
    reach = newest - (history - 1) * TIMEFRAMES[timeframe]
    first = _floor(max(reach, opened), key, opened)
    return with_rows_beside(HistoryRequest(key, first, newest), newest)


def restart_range(
    key: StreamKey, rows: Rows, venue_now: int, warmup: int, history: int
) -> HistoryRequest:
    """Return the request of a stream with rows for its warm-up and what it missed.

    It is for the newest `warmup` bars, the bar under way included, and for all bars
    from the last row on. Where the rows are fewer than the warm-up wants, it is for the
    newest bars, however old.
    """
    last = rows.bar(len(rows) - 1)
    missed = missed_range(key, last, venue_now, history)
    older = warmup - grid_steps(last.open_time, missed.last, key[1])
    if older <= 0:
        return missed
    if older > len(rows):
        return HistoryRequest(key, 0, 0, warmup)
    # Among the rows there may be holes, however long.
    reach = missed.last - (warmup - 1) * TIMEFRAMES[key[1]]
    reach = _floor(max(reach, 0), key, last.open_time)
    first = max(int(rows.open_time[-older]), reach)
    return missed._replace(first=min(first, missed.first))


def bars_of(request: HistoryRequest) -> int:
    """Return how many bars a request is for."""
    if request.newest:
        return request.newest
    return grid_steps(request.first, request.last, request.key[1]) + 1


def due_range(due: DueBars, last: Bar | None, history: int) -> HistoryRequest:
    """Return the request for closed bars that have not come after the last row.

    At most `history` bars are asked for, the newest: a misjudged clock expects many.
    """
    key, first, newest = due[:3]
    reach = newest - (history - 1) * TIMEFRAMES[key[1]]
    if reach > first:
        return HistoryRequest(key, _floor(reach, key, first), newest)
    request = HistoryRequest(key, first, newest)
    return request if last is None else with_rows_beside(request, newest)


def settled_range(
    key: StreamKey, last: Bar, venue_now: int, settle: float, from_open: int = LAST_TIME
) -> HistoryRequest:
    """Return the request for the rows that had not settled `settle` seconds ago.

    If `from_open` is older than these, it begins there.
    """
    opened = last.open_time
    from_time = venue_now - round(2 * settle * 1000) - TIMEFRAMES[key[1]]
    first = _floor(min(max(from_time, 0), opened, from_open), key, opened)
    return HistoryRequest(key, first, opened)


def seconds_to_close(key: StreamKey, last: Bar, venue_now: int) -> float:
    """Return the seconds until the next bar closes, by the grid of the last row."""
    begun = _floor(venue_now, key, last.open_time)
    return (close_time(begun, key[1]) - venue_now) / 1000


def with_rows_beside(request: HistoryRequest, newest: int) -> HistoryRequest:
    """Return the request with a few bars more at both ends, none beyond `newest`."""
    key, first, last = request[:3]
    beside = COMPARED_BARS * TIMEFRAMES[key[1]]
    earlier = _floor(max(first - beside, 0), key, first)
    later = max(last, min(_floor(last + beside, key, first), newest))
    return request._replace(first=earlier, last=later)


def with_comparable_rows(
    request: HistoryRequest, opened: NDArray[np.int64], flags: NDArray[np.int64]
) -> HistoryRequest:
    """Return the request with enough rows whose values the venue's socket told.

    Rows beside a hole may themselves come from history, and a history that agrees with
    itself proves nothing. Then the nearest earlier rows of the socket are asked for
    too, or the nearest later ones, unless they are far away.

    Args:
        request: The request.
        opened: int64 (n,), the open times of the stream's newest rows, ms UTC.
        flags: int64 (n,), their flags.
    """
    beside = MOST_BESIDE * TIMEFRAMES[request.key[1]]
    is_near = opened >= request.first - beside
    is_near &= opened <= request.last + beside
    told = opened[told_by_venue(flags) & is_near]
    before = told[told < request.first]
    after = told[told > request.last]
    lacking = LEAST_ROWS - (len(told) - len(before) - len(after))
    if lacking <= 0:
        return request
    if len(before):
        request = request._replace(first=int(before[-min(lacking, len(before))]))
        lacking -= len(before)
    if lacking > 0 and len(after):
        request = request._replace(last=int(after[min(lacking, len(after)) - 1]))
    return request


def _floor(time: int, key: StreamKey, opened: int) -> int:
    """Return the open time of the bar that contains a time, on the grid of a bar."""
    return floor(time, key[1], phase_of(opened, key[1]))
