"""The dials that all feeders of a user may begin, by host and port.

The feeders share one small file beside their locks. It holds, for each host and port,
the dials of the last minute, and a venue's ban:

    {"boot": ID, "venues": {"HOST:PORT": {"dials": [[TIME, COUNT], ..], "ban": [..]}}}

Times from the future count for nothing.
"""

import logging
import math
import os
from collections.abc import Callable
from pathlib import Path

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

FILE_NAME = "_dials"  # no feed's name begins so
MAX_BAN = 7 * 86_400.0  # s, more than any venue's
MAX_VENUES = 256

_MOST = 100_000  # dials of one unit of time, which share an entry
_RESERVE_TRIES, _BAN_TRIES = 3, 20

log = logging.getLogger(__name__)


class _Venue(msgspec.Struct):
    """The dials to one host and port as [time, count], and a ban as [begin, end]."""

    dials: list[tuple[int, int]] = msgspec.field(default_factory=list)
    ban: tuple[int, int] = (0, 0)

    def forget(self, now: int) -> None:
        """Drop entries that are past, and those of a clock that was ahead."""
        newest = now + 1  # a dial's time is rounded up
        self.dials = [
            (at, count)
            for at, count in self.dials
            if now - WINDOW_UNITS < at <= newest and 0 < count <= _MOST
        ]
        begin, end = self.ban
        if not (begin <= newest and now < end <= begin + MAX_BAN * UNITS):
            self.ban = (0, 0)

    def wait(self, now: int, most: int) -> int:
        """Return the time until a dial is permitted; for `most` 0 any is."""
        ban = max(0, self.ban[1] - now)
        over = sum(count for _, count in self.dials) - most
        if not most or over < 0:
            return ban
        for at, count in sorted(self.dials):
            over -= count
            if over < 0:
                return max(ban, at + WINDOW_UNITS - now)
        return max(ban, WINDOW_UNITS)

    def record(self, time: int) -> None:
        if self.dials and self.dials[-1][0] == time:
            self.dials[-1] = (time, self.dials[-1][1] + 1)
        else:
            self.dials.append((time, 1))


class _Book(Book):
    """The content of the file."""

    venues: dict[str, _Venue] = msgspec.field(default_factory=dict)

    def venue(self, name: str, now: int) -> _Venue:
        """Return the venue of this name, without its past entries."""
        for venue in self.venues.values():
            venue.forget(now)
        self.venues = {n: v for n, v in self.venues.items() if v.dials or v.ban[1]}
        if name not in self.venues and len(self.venues) >= MAX_VENUES:
            del self.venues[next(iter(self.venues))]  # used first
        return self.venues.setdefault(name, _Venue())


class DialBudget:
    """The budget of this process's dials, shared with all feeders of its user.

    Where the file cannot be used, this process counts its own dials alone; that is
    logged once.

    Thread safety: one thread at a time.

    Attributes:
        is_banned: True if a venue's ban made the last `reserve` wait.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        per_minute: int,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Take the limits; the first dial opens the file.

        Args:
            directory: The directory of the feeds' locks; it is not created here. None:
                this process counts alone.
            per_minute: The most dials to a host and port in any 60 s; 0: no limit.
            clock: Seconds since the boot of this host.
        """
        self.per_minute = per_minute
        self.is_banned = False
        self._clock = clock or boot_seconds
        self._file = HostFile(_Book, directory, FILE_NAME, _complain)

    def reserve(self, host: str, port: int) -> float:
        """Return 0.0 if a dial may begin now, and record it.

        Otherwise return the seconds after which to ask again.
        """
        name, clock = venue_name(host, port), self._clock()
        now = int(clock * UNITS)

        def take(book: _Book) -> int:
            venue = book.venue(name, now)
            wait = venue.wait(now, self.per_minute)
            self.is_banned = wait > 0 and wait == venue.ban[1] - now
            if not wait:
                venue.record(math.ceil(clock * UNITS))
            return wait

        own = self._file.own.venue(name, now)
        if wait := own.wait(now, self.per_minute):
            self.is_banned = wait == own.ban[1] - now
            return wait / UNITS
        try:
            wait = self._file.update(take, _RESERVE_TRIES) or 0
        except LockedError:
            if not self._file.is_stuck(clock):
                return RETRY
        return (wait or take(self._file.own)) / UNITS

    def block(self, host: str, port: int, seconds: float) -> None:
        """Let no feeder of this user dial for `seconds`, as a venue's ban demands.

        A ban that lasts longer stays. At most a week counts.
        """
        if not seconds > 0:
            return
        name, clock = venue_name(host, port), self._clock()
        # Rounded up: a venue may ban a client again that comes a moment too early.
        begin = math.ceil(clock * UNITS)
        end = begin + math.ceil(min(seconds, MAX_BAN) * UNITS)

        def ban(book: _Book) -> None:
            venue = book.venue(name, int(clock * UNITS))
            if end > venue.ban[1]:
                venue.ban = (begin, end)

        ban(self._file.own)
        try:
            self._file.update(ban, _BAN_TRIES)
        except LockedError:
            self._file.fall_back("another process holds its lock")


def _complain(path: Path, reason: str) -> None:
    log.warning(
        "the file of dials %s cannot be used: %s; this feeder counts its own dials"
        " alone",
        path,
        reason,
    )
