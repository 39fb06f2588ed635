"""An estimate of the venue's wall clock, from what the venue says about it.

Two things use it: it closes the bars of a venue without flags, and it bounds how far in
the future a bar may begin. A bar beyond the bound is malformed, so the estimate must
neither follow one absurd time nor trust a host whose clock is wrong.

**Time passes** by CLOCK_BOOTTIME. It counts through a suspend, and a step of the host's
wall clock, which is read once, closes no bar.

**Sources**, the better one first:

1. Event times. An event arrives late by its latency and never early, so the largest
   difference (event time minus this host's) of the last one to two minutes is the best
   estimate. Older differences are dropped, because clocks drift; a minute without
   events keeps the estimate.
2. The `Date` of a handshake. It has a resolution of one second: a host's clock that
   agrees with it is the better estimate.
3. This host's clock, while the venue says nothing.

**A leap** is a difference of more than a minute to the estimate, unless a later event
agrees with this host's clock, which makes it plausible. One message may hold an absurd
time, so a leap needs `LEAP_AFTER` messages in a row that ask for it, with none in
between that agrees with the estimate; the clock then follows the median of theirs, or
backwards the newest. Once the venue has said its time, most of them must agree. If
nothing has confirmed the estimate yet, a leap that nothing contradicts for
`LEAP_SECONDS` is made too: the first and only message of a quiet venue counts. Until
then the messages that ask for it are neither refused nor believed. A leap backwards
also needs a minute without a message or a `Date` that agrees, because a connection that
stalled delivers late messages in a row. The event time of a bar that begins later
contradicts itself: the intake does not show it to the clock.

**Bars that lead.** Where this host's clock serves, bars that begin ahead of it ask for
a leap as event times do, since a bar's begin is a time that the venue's clock has
passed. It may be long passed: a history, or a longer timeframe, asks for a leap that is
too short, and later bars ask for another one. Such a leap is undone by bars that are
current by the estimate before it and long over by the one after it: by three of them,
or by the first one if the leap had fewer than three messages. An event time that agrees
with this host's clock undoes such a weak leap too. `epoch` rises with each leap, and
with the first word of the venue: bars judged before must be judged again.
"""

import time
from typing import Literal

TOLERANCE_MS = 60_000  # a larger difference to the estimate is a leap
LEAP_AFTER = 3  # messages in a row
LEAP_SECONDS = 2.0
_WINDOW_SECONDS = 60.0
_DOUBT_SECONDS = 180.0  # until bars that ask for a leap in vain are wrong
_NOTHING = -(1 << 62)  # less than any difference
_DATE_MS = 1000  # the resolution of a Date
_DATE_LATE_MS = 2000  # how late it may be besides
_CONFIRM_SECONDS = 2.0
_FINAL_MS = 2000  # how long after its end the last message of a bar may come

Source = Literal["host", "bars", "date", "events"]


def host_clock() -> int:
    """Return the wall clock of this host, in ms UTC."""
    return time.time_ns() // 1_000_000


class VenueClock:
    """An estimate of the venue's wall clock. One thread uses it.

    `wall_ms` is this host's wall clock in ms UTC at the moment `now`. Every `now` is a
    reading of one clock that never steps, in seconds.

    Attributes:
        source: Where the estimate comes from.
        epoch: Raised when the estimate leaps, and when the venue's word replaces this
            host's.
    """

    __slots__ = (
        "_agreed_at",
        "_asking",
        "_base",
        "_before",
        "_best",
        "_confirmed",
        "_confirmed_from",
        "_contradicted",
        "_former",
        "_leap",
        "_leap_from",
        "_offset",
        "_weak",
        "_window_end",
        "epoch",
        "source",
    )

    def __init__(self, wall_ms: int, now: float) -> None:
        self.source: Source = "host"
        self.epoch = 0
        self._base = wall_ms - int(now * 1000)
        self._offset = 0  # the venue's clock minus this host's, ms
        self._best = self._before = _NOTHING  # of this window, of the one before
        self._window_end = now + _WINDOW_SECONDS
        self._agreed_at = -_WINDOW_SECONDS + now  # the last word that agreed
        self._leap: list[int] = []  # differences that ask for a leap
        self._leap_from = now
        self._asking: Source = "events"  # what asks for it
        self._weak = False  # the leap of the bars had fewer than LEAP_AFTER messages
        self._former: tuple[Source, int] = ("host", 0)  # the estimate before the leap
        self._contradicted = 0
        self._confirmed = 0  # bars that agree with this host's clock, in a row
        self._confirmed_from = now

    @property
    def is_known(self) -> bool:
        """True once the venue has stated its time."""
        return self.source in ("date", "events")

    @property
    def is_confirmed(self) -> bool:
        """True if rows ahead of the clock can be cut off.

        The venue has said its time, or its bars agree with this host's clock.
        """
        return self.is_known or self._confirmed >= LEAP_AFTER

    def watches_bars(self, is_sample: bool) -> bool:
        """Return True if a bar must be shown to `see_bar`.

        While nothing is in question, a sample of the bars will do.
        """
        if self.is_known:
            return False
        if self.source == "bars" or self._leap:
            return True
        return is_sample and not self.is_confirmed

    @property
    def is_doubtful(self) -> bool:
        """True while messages ask for a leap that is not decided."""
        return bool(self._leap)

    @property
    def must_hear_all(self) -> bool:
        """True while a leap ahead is in doubt: an event that agrees must not be missed.

        Otherwise a sample of the event times will do.
        """
        return bool(self._leap) and self._leap[0] > self._offset

    @property
    def offset(self) -> int | None:
        """The venue's clock minus this host's as it was at the start, in ms.

        None if the venue has said nothing.
        """
        return None if self.source == "host" else self._offset

    def describe_error(self) -> str:
        """Return how wrong this host's clock is, "" within the tolerance."""
        offset = self.offset
        if offset is None or abs(offset) <= TOLERANCE_MS:
            return ""
        lag = "behind" if offset > 0 else "ahead of"
        by = f"{abs(offset) / 1000:.0f} s"
        if self.source == "bars":
            by = f"at least {by}"
        return (
            f"this host's clock is {lag} the venue's by {by}; bars are judged by the"
            " venue's"
        )

    def read(self, now: float) -> int:
        """Return the venue's time in ms UTC."""
        return self._base + int(now * 1000) + self._offset

    def observe(self, event_time_ms: int, now: float) -> bool:
        """Correct the estimate by an event's time; a leap needs several.

        Return `must_hear_all`.
        """
        difference = event_time_ms - self._base - int(now * 1000)
        if self._weak and -TOLERANCE_MS <= difference <= TOLERANCE_MS:
            self._weak = False  # this host's clock was right
            self._enter("host", 0)
        # Late events came first, if a newer one agrees with this host's clock.
        is_plausible = (
            self.source == "events"
            and self._offset < 0
            and (abs(difference) <= TOLERANCE_MS)
        )
        if abs(difference - self._offset) > TOLERANCE_MS and not is_plausible:
            self._ask("events", difference, now)
            return self.must_hear_all
        self._leap.clear()
        self._agreed_at = now
        if self.source != "events":
            self._enter("events", difference)
            self._best, self._before = difference, _NOTHING
            self._window_end = now + _WINDOW_SECONDS
        elif now >= self._window_end:
            self._window_end = now + _WINDOW_SECONDS
            if self._best != _NOTHING:
                self._before = self._best
            self._best = difference
            self._offset = max(difference, self._before)
        elif difference > self._best:
            self._best = difference
            self._offset = max(difference, self._before)
        return False

    def set_time(self, time_ms: int, now: float) -> None:
        """Take the time that a handshake's `Date` stated at the moment `now`.

        Event times are better, and a clock that has them ignores it.
        """
        if self.source == "events" and not self._weak:
            return
        self._agreed_at = now
        difference = time_ms - self._base - int(now * 1000)
        if -_DATE_MS - _DATE_LATE_MS <= difference <= _DATE_MS:
            difference = 0
        else:
            difference += _DATE_MS // 2
        moved = abs(difference - self._offset) > _DATE_MS
        if self.source != "date" or moved:
            self._leap.clear()
            self._weak = False
            self._enter("date", difference)

    def ask_ahead(self, open_time: int, now: float) -> bool:
        """Return True if a bar that begins ahead of the clock must not be refused yet.

        The clock has leapt, or the bar is one of those that ask for it.
        """
        if self.is_known:
            return False
        epoch = self.epoch
        self._ask("bars", open_time - self._base - int(now * 1000), now)
        return self.is_doubtful or self.epoch != epoch

    def see_bar(self, opened: int, ends: int, now: float) -> None:
        """Compare a bar with the estimate, while the venue has not said its time."""
        host = self._base + int(now * 1000)
        former = host + (self._offset if self._leap else self._former[1])
        is_current = opened - TOLERANCE_MS <= former <= ends + TOLERANCE_MS
        if self.source == "host" and not self._leap:
            self._confirm(is_current, now)
            return
        ahead = min(self._leap) if self._leap else self._offset
        if opened > host + ahead:
            self._contradicted = 0
            if not self._leap:
                self._offset = opened - host
        elif is_current and ends + _FINAL_MS < host + ahead:
            self._contradict()

    def settle(self, now: float) -> None:
        """Make a leap that nothing contradicts, once it has waited long enough."""
        if not self._leap or now < self._leap_from + LEAP_SECONDS:
            return
        is_ahead = self._leap[0] > self._offset
        if is_ahead and not self.is_known and not self._confirmed:
            self._leap_to(min(self._leap), now, True)
        elif now >= self._leap_from + (
            _WINDOW_SECONDS if self.is_known else _DOUBT_SECONDS
        ):
            self._leap.clear()

    def follow_host(self, wall_ms: int, now: float) -> None:
        """Read this host's wall clock again, after something set it.

        It changes nothing once the venue has said its time.
        """
        if not self.is_known:
            self._base = wall_ms - int(now * 1000)
            self._leap.clear()
            self._confirmed = 0
            self._enter("host", 0)

    def _confirm(self, is_current: bool, now: float) -> None:
        # Over some seconds: a history that a venue sends at once passes this host's
        # time by accident if that is a day behind.
        if not is_current:
            self._confirmed = 0
        elif self._confirmed < LEAP_AFTER - 1:
            if not self._confirmed:
                self._confirmed_from = now
            self._confirmed += 1
        elif now >= self._confirmed_from + _CONFIRM_SECONDS:
            self._confirmed = LEAP_AFTER
            self.epoch += 1

    def _contradict(self) -> None:
        if self._leap:
            self._leap.clear()
            return
        self._contradicted += 1
        if self._weak or self._contradicted >= LEAP_AFTER:
            self._weak = False
            self._enter(*self._former)
            self._former = ("host", 0)
            self._confirmed = LEAP_AFTER if self.source == "host" else 0

    def _ask(self, source: Source, difference: int, now: float) -> None:
        leap = self._leap
        is_ahead = difference > self._offset
        if leap and (source != self._asking or (leap[-1] > self._offset) != is_ahead):
            leap.clear()
        if not leap:
            self._leap_from = now
            self._asking = source
        leap.append(difference)
        del leap[:-LEAP_AFTER]
        if len(leap) < LEAP_AFTER:
            return
        may_fall = now >= self._agreed_at + _WINDOW_SECONDS
        if is_ahead or may_fall:
            # All are late, or one may be absurd.
            best = sorted(leap)[LEAP_AFTER // 2] if is_ahead else max(leap)
            agreeing = sum(abs(one - best) <= TOLERANCE_MS for one in leap)
            if 2 * agreeing > len(leap) or not self.is_known:
                self._leap_to(best, now, False)

    def _leap_to(self, difference: int, now: float, weak: bool) -> None:
        self._leap.clear()
        self._weak = weak
        self._former = (self.source, self._offset)
        self._contradicted = self._confirmed = 0
        self._best, self._before = difference, _NOTHING
        self._window_end = now + _WINDOW_SECONDS
        self._enter(self._asking, difference)

    def _enter(self, source: Source, difference: int) -> None:
        self.source = source
        self._offset = difference
        self.epoch += 1
