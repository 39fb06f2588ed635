"""Decide when the defects of a stream's rows are asked for, and when they are given up.

A defect is a hole, or a run of rows that are `unconfirmed`. The rows are the memory:
defects are found in them again after each change, and keep what is known of their
attempts. A defect is asked for at once, and its state follows from the answers:

    open      history could not be asked: again after 1, 2, 4, 8, 15, 15 .. seconds
              history has no such bars: again after 10 s, and given up the second time
    given_up  again after 1, 10 and 60 minutes, 6 and 24 hours
    none_at_venue   the venue has no such bars after all of these, or as a user asks
                    for them again, or a user accepts it

Without a source of history a hole is given up at once. No I/O.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from shmfeed.bar import UNCONFIRMED, bars_between
from shmfeed.layout import HoleReason, HoleState
from shmfeed.memory.holes import HoleRecord, find_gaps
from shmfeed.memory.rows import Rows

AGAIN_SECONDS = 10.0  # between the two answers without bars
MOST_SECONDS = 15.0  # between two attempts while history cannot be asked
RETRY_SECONDS = (60.0, 600.0, 3600.0, 6 * 3600.0, 24 * 3600.0)  # after the giving up
SPAN_BARS = 450  # defects that lie so close together are asked for at once
_NEVER = float("inf")

DefectKind = Literal["hole", "unconfirmed"]
Urgency = Literal["hole", "confirm", "retry"]


class Defect(NamedTuple):
    """Bars that are missing or not final. Open times in ms UTC, both included."""

    kind: DefectKind
    first: int
    last: int
    bars: int


class DefectRequest(NamedTuple):
    """The range of open times to ask history for, and why."""

    first: int
    last: int
    purpose: Urgency


def retry_delay(failures: int) -> float:
    """Return the seconds to the next attempt after so many failures in a row."""
    return min(MOST_SECONDS, 2.0 ** min(failures - 1, 4))


def find_defects(rows: Rows, timeframe: str) -> list[Defect]:
    """Return the defects of a stream's rows, the oldest first."""
    found = [Defect("hole", *gap) for gap in find_gaps(rows, timeframe)]
    doubtful = np.flatnonzero(rows["flags"] & UNCONFIRMED)
    if len(doubtful):
        opened = rows.open_time
        for run in np.split(doubtful, np.flatnonzero(np.diff(doubtful) > 1) + 1):
            first, last = int(opened[run[0]]), int(opened[run[-1]])
            found.append(Defect("unconfirmed", first, last, len(run)))
        found.sort(key=lambda defect: defect.first)
    return found


@dataclass(slots=True)
class _Case:
    """A defect, and what is known of the attempts to mend it."""

    defect: Defect
    next_at: float = -_NEVER
    state: HoleState = "open"
    reason: HoleReason = ""
    failures: int = 0  # attempts in a row for which history could not be asked
    given_up_at: float = 0.0
    retries: int = 0  # answers without bars since then
    empty_at: float | None = None  # the first answer without bars
    is_wanted: bool = False  # a user has asked for it again

    def heir(self, defect: Defect) -> "_Case":
        """Return the case of a part of this defect, which is what is left of it."""
        return _Case(
            defect,
            self.next_at,
            self.state,
            self.reason,
            self.failures,
            self.given_up_at,
            self.retries,
            self.empty_at,
            self.is_wanted,
        )

    @property
    def is_retry(self) -> bool:
        return self.state == "given_up" and not self.is_wanted

    def fail(self, reason: HoleReason, now: float) -> None:
        self.failures += 1
        if self.state == "open":
            self.reason = reason
        is_settled = self.state == "none_at_venue"
        self.next_at = _NEVER if is_settled else now + retry_delay(self.failures)

    def miss(self, reason: HoleReason, is_own: bool, now: float) -> bool:
        """Record an answer without bars. Return True if that gives the defect up."""
        self.failures = 0
        if self.state == "none_at_venue":
            self.next_at = _NEVER
            return False
        if self.state == "given_up":
            self._retried(reason, is_own, now)
            return False
        # A request for another defect, or for a user, may have come before its time.
        self.empty_at = now if self.empty_at is None else self.empty_at
        if now < self.empty_at + AGAIN_SECONDS:
            self.reason = reason
            self.next_at = self.empty_at + AGAIN_SECONDS
            return False
        self.give_up(reason, now)
        self.next_at = now + RETRY_SECONDS[0]
        return True

    def give_up(self, reason: HoleReason, now: float) -> None:
        self.state, self.reason = "given_up", reason
        self.given_up_at, self.retries, self.next_at = now, 0, _NEVER

    def _retried(self, reason: HoleReason, is_own: bool, now: float) -> None:
        # An answer to a request for another defect comes before its time.
        self.reason = reason
        due_at = self._due_at(self.retries)
        if now >= due_at:
            # A late one, as after a suspend of the host, makes the later ones late.
            self.given_up_at += now - due_at
            self.retries += 1
        self.next_at = self._due_at(self.retries)
        is_last = self.next_at == _NEVER or self.is_wanted
        self.is_wanted = False
        if is_last and is_own and reason == "absent" and self.defect.kind == "hole":
            self.state, self.next_at = "none_at_venue", _NEVER

    def _due_at(self, retries: int) -> float:
        if retries >= len(RETRY_SECONDS):
            return _NEVER
        return self.given_up_at + RETRY_SECONDS[retries]


class StreamDefects:
    """The defects of one stream. Every `now` is a reading of CLOCK_BOOTTIME, seconds.

    Attributes:
        next_at: When `request` may have something to ask for.
    """

    def __init__(self, timeframe: str, marked: Iterable[HoleRecord] = ()) -> None:
        """Begin with the holes that an earlier feeder of the segment has marked."""
        self.next_at = _NEVER
        self._timeframe = timeframe
        self._cases: list[_Case] = []
        self._asked: DefectRequest | None = None
        self._marked = [mark for mark in marked if mark.state != "open"]

    def __len__(self) -> int:
        return len(self._cases)

    @property
    def holes(self) -> list[HoleRecord]:
        """The holes as readers see them, the oldest first."""
        return [
            HoleRecord(*case.defect[1:], case.state, case.reason)
            for case in self._cases
            if case.defect.kind == "hole"
        ]

    def update(self, defects: Sequence[Defect], now: float) -> None:
        """Take the defects that the rows show now. Attempts of their parts stay."""
        cases = [self._case_of(defect, now) for defect in defects]
        self._cases, self._marked = cases, []
        self._set_next()

    def request(self, now: float, *, retries: bool = True) -> DefectRequest | None:
        """Return the range to ask for now, the newest first; one range at a time.

        Without `retries` holes that were given up wait, unless a user wants them.
        """
        if now < self.next_at or self._asked is not None:
            return None
        due = [
            case
            for case in reversed(self._cases)
            if case.next_at <= now and (retries or not case.is_retry)
        ]
        if not due:
            return None
        first, last = due[0].defect.first, due[0].defect.last
        cases = due[:1]
        for case in due[1:]:
            if bars_between(case.defect.first, last, self._timeframe) > SPAN_BARS:
                break
            first = case.defect.first
            cases.append(case)
        self._asked = DefectRequest(first, last, _purpose(cases))
        self.next_at = _NEVER
        return self._asked

    def reach(self, first: int, now: float) -> int:
        """Return where a request must begin that has the defects before `first` too.

        Defects count that are due and lie within SPAN_BARS of it.
        """
        due = (case.defect.first for case in self._cases if case.next_at <= now)
        near = (
            begin
            for begin in due
            if bars_between(begin, first, self._timeframe) < SPAN_BARS
        )
        return min([first, *near])

    def failed(self, reason: HoleReason, now: float) -> None:
        """Record that history could not be asked for the last request."""
        for case in self._take_asked():
            case.fail(reason, now)
        self._set_next()

    def answered(self, reason: HoleReason, is_own: bool, now: float) -> list[Defect]:
        """Record the answer to the last request, after `update`.

        What is still defective was not in it, for this reason. Return the holes that
        are given up now. `is_own` as in `HistorySource`.
        """
        given_up = [
            case.defect
            for case in self._take_asked()
            if case.miss(reason, is_own, now) and case.defect.kind == "hole"
        ]
        self._set_next()
        return given_up

    def give_up(self, reason: HoleReason, now: float) -> list[Defect]:
        """Give up each open hole, and return these: there is no history to ask."""
        given_up = []
        for case in self._cases:
            if case.state == "open":
                case.give_up(reason, now)
                if case.defect.kind == "hole":
                    given_up.append(case.defect)
        self._set_next()
        return given_up

    def retry(self, now: float) -> int:
        """Ask for every hole soon, whatever its state. Return how many there are."""
        for case in self._cases:
            case.next_at = min(case.next_at, now)
            case.is_wanted = case.state == "given_up"
        self._set_next()
        return len(self.holes)

    def accept(self) -> int:
        """Accept the holes that are given up: the venue has no such bars."""
        accepted = 0
        for case in self._cases:
            if case.state == "given_up" and case.defect.kind == "hole":
                case.state, case.reason, case.next_at = (
                    "none_at_venue",
                    "accepted",
                    _NEVER,
                )
                accepted += 1
        self._set_next()
        return accepted

    def _case_of(self, defect: Defect, now: float) -> _Case:
        for case in self._cases:
            known = case.defect
            if known == defect:
                return case
            if known.kind == defect.kind and _overlap(known, defect):
                return case.heir(defect)
        for mark in self._marked:
            if defect.kind == "hole" and mark.first <= defect.first <= mark.last:
                return _marked_case(defect, mark, now)
        return _Case(defect)

    def _take_asked(self) -> list[_Case]:
        asked, self._asked = self._asked, None
        if asked is None:
            return []
        return [
            case
            for case in self._cases
            if asked.first <= case.defect.first and case.defect.last <= asked.last
        ]

    def _set_next(self) -> None:
        if self._asked is None:
            self.next_at = min((case.next_at for case in self._cases), default=_NEVER)


def _purpose(cases: Iterable[_Case]) -> Urgency:
    open_kinds = {case.defect.kind for case in cases if case.state == "open"}
    if "hole" in open_kinds:
        return "hole"
    return "confirm" if open_kinds else "retry"


def _overlap(one: Defect, other: Defect) -> bool:
    return one.first <= other.last and other.first <= one.last


def _marked_case(defect: Defect, mark: HoleRecord, now: float) -> _Case:
    # A new feeder asks once more for a hole that was given up.
    case = _Case(defect, state=mark.state, reason=mark.reason, given_up_at=now)
    case.next_at = _NEVER if mark.state == "none_at_venue" else now
    return case
