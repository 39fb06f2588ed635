"""The weight of REST requests that all feeders of a user may spend, by host and port.

The feeders share one small file beside their locks. It holds, for each host and port,
the weight spent in the last minute, a wait that the venue asks for, and the venue's own
count of this address in the present minute, which the user's other programs raise too:

    {"boot": ID, "venues": {"HOST:PORT": {"spent": [[TIME, WEIGHT], ..],
     "wait": [BEGIN, END], "strikes": [COUNT, TIME], "used": [WEIGHT, END]}}}

A weight is recorded when its request is permitted. The request reaches the venue later,
after a connect that may take seconds. So a slow answer moves the weight to its own
time; until then the weight counts where it is. No minute of the venue has more than the
share. Times from the future count for nothing.
"""

import copy
import logging
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.host_file import (
    RETRY,
    UNITS,
    WINDOW_UNITS,
    Book,
    HostFile,
    LockedError,
    venue_name,
)

FILE_NAME = "_rest"  # no feed's name begins so
USED_SHARE = 0.5  # of the venue's limit, by its own count of all programs
FIRST_WAIT = 30.0  # s, after a refusal that names no time; doubled by each further one
LONGEST_DOUBLED = 3600.0  # s
MAX_WAIT = 7 * 86_400.0  # s, more than any venue's
MAX_VENUES = 64

_MINUTE = 60_000  # ms
_MOST = 1_000_000  # weight, of one unit of time
_MOST_STRIKES = 20
_FORGOTTEN = int(2 * LONGEST_DOUBLED * UNITS)  # after which a refusal no longer counts
_TRIES, _INSIST_TRIES = 3, 20
_PROMPT = UNITS // 2  # such an answer moves no weight; see WINDOW

T = TypeVar("T")

log = logging.getLogger(__name__)


class RestWait(NamedTuple):
    """The seconds until a request may begin, 0.0 for now.

    Attributes:
        seconds: The wait.
        is_asked: True if the venue asks for it.
        recorded: When the weight was recorded, in units of time; 0 for a wait.
    """

    seconds: float
    is_asked: bool = False
    recorded: int = 0


class _Venue(msgspec.Struct):
    spent: list[tuple[int, int]] = msgspec.field(default_factory=list)
    wait: tuple[int, int] = (0, 0)
    strikes: tuple[int, int] = (0, 0)
    used: tuple[int, int] = (0, 0)

    @property
    def is_idle(self) -> bool:
        return not (self.spent or self.wait[1] or self.strikes[0] or self.used[1])

    def forget(self, now: int) -> None:
        """Drop entries that are past, and those of a clock that was ahead."""
        newest = now + 1  # a request's time is rounded up
        self.spent = [
            (at, weight)
            for at, weight in self.spent
            if now - WINDOW_UNITS < at <= newest and 0 < weight <= _MOST
        ]
        begin, end = self.wait
        if not (begin <= newest and now < end <= begin + MAX_WAIT * UNITS):
            self.wait = (0, 0)
        count, at = self.strikes
        if not (0 <= count <= _MOST_STRIKES and at <= newest <= at + _FORGOTTEN):
            self.strikes = (0, 0)
        if not (now < self.used[1] <= now + WINDOW_UNITS and 0 < self.used[0] <= _MOST):
            self.used = (0, 0)

    def wait_for(self, weight: int, now: int, share: float, limit: int) -> int:
        """Return the time until a request of this weight may begin."""
        used, until = self.used
        wait = until - now if used and used + weight > USED_SHARE * limit else 0
        # A request that is heavier than the share gets the minute to itself.
        over = sum(spent for _, spent in self.spent) + weight - max(share, weight)
        for at, spent in sorted(self.spent):
            if over <= 0:
                break
            over -= spent
            wait = max(wait, at + WINDOW_UNITS - now)
        return wait

    def record(self, time: int, weight: int) -> None:
        if self.used[1]:
            self.used = (self.used[0] + weight, self.used[1])
        self._spend(time, weight)

    def move(self, from_time: int, to_time: int, weight: int) -> None:
        """Count a recorded weight as of a later time."""
        for place, (time, spent) in enumerate(self.spent):
            if time == from_time and spent >= weight:
                left = [(time, spent - weight)] if spent > weight else []
                self.spent[place : place + 1] = left
                break
        self._spend(to_time, weight)

    def _spend(self, time: int, weight: int) -> None:
        if self.spent and self.spent[-1][0] == time:
            weight += self.spent.pop()[1]
        self.spent.append((time, weight))


class _Book(Book):
    venues: dict[str, _Venue] = msgspec.field(default_factory=dict)

    def venue(self, name: str, now: int) -> _Venue:
        """Return the venue of this name, without its past entries."""
        for venue in self.venues.values():
            venue.forget(now)
        self.venues = {n: v for n, v in self.venues.items() if not v.is_idle}
        if name not in self.venues and len(self.venues) >= MAX_VENUES:
            del self.venues[next(iter(self.venues))]  # used first
        return self.venues.setdefault(name, _Venue())


class RestBudget:
    """The budget of this process's requests, shared with all feeders of its user.

    Where the file cannot be used, this process counts its own requests alone; that is
    logged once.

    Thread safety: any thread may call the methods.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        share: float,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Take the limits; the first request opens the file.

        Args:
            directory: The directory of the feeds' locks. Until it is there, and for
                None, this process counts alone.
            share: The part of a venue's limit that all feeders together may use.
            clock: Seconds since the boot of this host.
        """
        self.share = share
        self._clock = clock or boot_seconds
        self._directory = directory
        self._file = HostFile(_Book, None, FILE_NAME, _complain)
        self._lock = threading.Lock()

    def reserve(self, host: str, port: int, weight: int, limit: int) -> RestWait:
        """Record a request of this weight if it may begin now; return the wait.

        `limit` is the weight that the venue permits in a minute.
        """
        clock = self._clock()
        now = int(clock * UNITS)

        def take(venue: _Venue) -> RestWait:
            if venue.wait[1]:
                return RestWait((venue.wait[1] - now) / UNITS, True)
            wait = venue.wait_for(weight, now, self.share * limit, limit)
            if wait:
                return RestWait(wait / UNITS)
            recorded = math.ceil(clock * UNITS)
            venue.record(recorded, weight)
            return RestWait(0.0, recorded=recorded)

        with self._lock:
            try:
                return self._change(venue_name(host, port), now, take, _TRIES)
            except LockedError:
                if not self._file.is_stuck(clock):
                    return RestWait(RETRY)
                return take(self._file.own.venue(venue_name(host, port), now))

    def settle(self, host: str, port: int, weight: int, recorded: int) -> None:
        """Count a request as of now: its answer has come, or the attempt has failed.

        `recorded` is that of the `reserve` which permitted it.
        """
        clock = self._clock()
        now, ended = int(clock * UNITS), math.ceil(clock * UNITS)
        if ended > recorded + _PROMPT:
            self._insist(
                host, port, now, lambda venue: venue.move(recorded, ended, weight)
            )

    def note_used(
        self, host: str, port: int, used: int | None, venue_now: int | None
    ) -> None:
        """Take a good answer, with the count that the venue states.

        Args:
            host: The venue's host.
            port: Its port.
            used: The weight that this address has used in the present minute.
            venue_now: The venue's time, ms UTC.
        """
        now = int(self._clock() * UNITS)
        left = _MINUTE - (venue_now or 0) % _MINUTE  # ms of the venue's minute
        end = now + left * UNITS // 1000 + UNITS

        def note(venue: _Venue) -> None:
            # During a wait, an answer is that to a request from before the refusal.
            if not venue.wait[1]:
                venue.strikes = (0, 0)
            if used and 0 < used <= _MOST:
                # Within a minute a count only grows: a smaller one is older.
                is_same = abs(end - venue.used[1]) <= 2 * UNITS
                most = max(used, venue.used[0]) if is_same else used
                venue.used = (most, end)

        self._insist(host, port, now, note)

    def block(self, host: str, port: int, seconds: float, first: float = 0.0) -> float:
        """Let no feeder of this user ask for `seconds`, and return the wait.

        A wait that lasts longer stays. Without a time (`seconds` 0) the first wait is
        `first`, and each refusal that follows doubles it; several refusals of requests
        that were under way together count as one.
        """
        clock = self._clock()
        now, begin = int(clock * UNITS), math.ceil(clock * UNITS)

        def extend(venue: _Venue) -> float:
            wait = seconds
            if not wait > 0:
                if venue.wait[1]:
                    return (venue.wait[1] - now) / UNITS
                count = venue.strikes[0]
                wait = min((first or FIRST_WAIT) * 2**count, LONGEST_DOUBLED)
                venue.strikes = (min(count + 1, _MOST_STRIKES), begin)
            end = begin + math.ceil(min(wait, MAX_WAIT) * UNITS)
            if end > venue.wait[1]:
                venue.wait = (begin, end)
            return (venue.wait[1] - now) / UNITS

        return self._insist(host, port, now, extend)

    def _insist(
        self, host: str, port: int, now: int, change: Callable[[_Venue], T]
    ) -> T:
        """Apply a change that must not be lost, to this process's own part at least."""
        name = venue_name(host, port)
        with self._lock:
            try:
                return self._change(name, now, change, _INSIST_TRIES)
            except LockedError:
                self._file.fall_back("another process holds its lock")
                return change(self._file.own.venue(name, now))

    def _change(
        self, name: str, now: int, change: Callable[[_Venue], T], tries: int
    ) -> T:
        own = self._file.own
        if self._directory is not None and os.path.isdir(self._directory):  # noqa: PTH112
            self._file.directory = self._directory

        def apply(book: _Book) -> tuple[_Venue, T]:
            venue = book.venue(name, now)
            if venue.is_idle:  # the file may have been removed meanwhile
                venue = book.venues[name] = copy.deepcopy(own.venue(name, now))
            return venue, change(venue)

        changed = self._file.update(apply, tries)
        if changed is None:
            return change(own.venue(name, now))
        own.venues[name] = changed[0]
        return changed[1]


def _complain(path: Path, reason: str) -> None:
    log.warning(
        "the file of REST requests %s cannot be used: %s; this feeder counts its own"
        " requests alone",
        path,
        reason,
    )
