"""History from a function of a manager, which is called in the manager's process.

A manager asks at the feeder's control socket for a question. The control thread waits
until there is one, and the manager brings the answer with its next request. So no
request is sent to a manager, which listens nowhere. Questions are asked one at a time.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from shmfeed.bar import FREE_PHASE, close_time, duration, floor, step
from shmfeed.history.blocks import (
    Row,
    check_rows,
    cut_to,
    empty_block,
    times_of,
)
from shmfeed.history.interface import (
    Block,
    FailureKind,
    HistoryError,
    HistoryPage,
    HistoryRequest,
    SymbolState,
)

PAGE_BARS = 1000  # bars of one question
ANSWER_SECONDS = 10.0  # for a manager to take a question, and for its answer
SHORT_WAIT = 0.5  # s for a manager to come, after none came for the last question

# Open time, open, high, low, close, volume, money.
ManagerRow = tuple[int, float, float, float, float, float, float | None]


class Question(NamedTuple):
    """Bars that a manager's function is asked for; open times, both included."""

    number: int
    symbol: str
    timeframe: str
    start_ms: int
    end_ms: int


class ManagerAnswer(NamedTuple):
    """The answer to a question: rows, or a failure and its kind."""

    number: int
    rows: Sequence[ManagerRow] = ()
    failure: str = ""
    kind: FailureKind = "away"


class ManagerSource:
    """A source of history that asks a manager.

    Thread safety: any thread may call any method.
    """

    name = "the manager's backfill function"
    is_own = False

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """Wait for managers. `now` is this host's time in seconds since 1970."""
        self._now = now
        self._turn = threading.Lock()  # one question at a time
        self._changed = threading.Condition()
        self._number = 0
        self._question: Question | None = None
        self._is_taken = False
        self._answer: ManagerAnswer | None = None
        self._came = True  # a manager has, since the last question began
        self._round = 0  # raised to send waiting managers away
        self._is_closed = False

    def fetch(self, request: HistoryRequest) -> HistoryPage:
        """Return a page of closed bars; wait for a manager's answer.

        Pages go back in time. Of a request for the newest bars those that have not
        closed by this host's clock are left out.

        Raises:
            HistoryError: No manager asks, or its function failed, or did not return
                within ANSWER_SECONDS, or returned no history.
        """
        if request.first > request.last and not request.newest:
            return HistoryPage(empty_block(), 0, None)
        timeframe = request.key[1]
        last = request.last or self._newest(timeframe)
        wanted = request.newest or PAGE_BARS
        bound = -1 if request.newest else request.first
        first = max(_earlier(last, min(wanted, PAGE_BARS) - 1, timeframe), bound, 0)
        block = self._ask(request, first, last)
        return HistoryPage(block, 0, _rest(request, block, first))

    def symbols(self, wanted: Collection[str]) -> dict[str, SymbolState] | None:
        """Return None: a function tells no states."""
        del wanted
        return None

    def close(self) -> None:
        """End all waits."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def exchange(
        self, answer: ManagerAnswer, is_there: Callable[[], bool], seconds: float
    ) -> Question | None:
        """Take a manager's answer; return the next question, or None without one.

        Args:
            answer: The answer to the question of this number; the number 0 says that
                it brings no answer. An answer that comes too late is dropped.
            is_there: Returns False if the manager has ended meanwhile.
            seconds: The limit of the wait for a question.
        """
        with self._changed:
            self._came = True
            question = self._question
            if question is not None and answer.number == question.number:
                self._answer = answer
                self._changed.notify_all()
            begun = self._round
            self._changed.wait_for(
                lambda: self._is_open or self._round != begun or self._is_closed,
                seconds,
            )
            if not self._is_open or self._is_closed or not is_there():
                return None
            self._is_taken = True
            self._changed.notify_all()
            return self._question

    def send_away(self) -> None:
        """Return from each `exchange` at once: a manager may want to end."""
        with self._changed:
            self._round += 1
            self._changed.notify_all()

    @property
    def _is_open(self) -> bool:
        return self._question is not None and not self._is_taken

    def _newest(self, timeframe: str) -> int:
        """Return the latest time at which a bar may have opened that has closed."""
        now = int(self._now() * 1000)
        if timeframe == FREE_PHASE:  # its grid is not known
            return now - step(timeframe)
        return _before(floor(now, timeframe), timeframe)

    def _ask(self, request: HistoryRequest, first: int, last: int) -> Block:
        with self._turn:
            answer = self._put(request, first, last)
        if answer.failure:
            raise HistoryError(
                f"the manager's backfill function {answer.failure}", answer.kind
            )
        rows: list[Row] = [
            (row[0], 0, *row[1:6], np.nan if row[6] is None else row[6], 0)
            for row in answer.rows
        ]
        block = cut_to(check_rows(rows, request.key[1]), first, last)
        if not request.newest:
            return block
        opens, now = times_of(block), self._now() * 1000
        closed = [close_time(one, request.key[1]) <= now for one in opens.tolist()]
        return block[:, closed][:, -request.newest :]

    def _put(self, request: HistoryRequest, first: int, last: int) -> ManagerAnswer:
        with self._changed:
            self._number += 1
            self._question = Question(self._number, *request.key, first, last)
            self._is_taken, self._answer = False, None
            self._changed.notify_all()
            try:
                return self._await_answer()
            finally:
                self._question = None

    def _await_answer(self) -> ManagerAnswer:
        seconds = ANSWER_SECONDS if self._came else SHORT_WAIT
        self._came = False
        if not self._wait(lambda: self._is_taken, seconds):
            raise HistoryError(
                "the manager's backfill function cannot be asked: no manager of this"
                " feed that has one runs, or the function is still at work",
                "away",
            )
        if not self._wait(lambda: self._answer is not None, ANSWER_SECONDS):
            raise HistoryError(
                "the manager's backfill function has not returned within"
                f" {ANSWER_SECONDS:g} s",
                "away",
            )
        assert self._answer is not None  # noqa: S101 # for the type checker
        return self._answer

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        self._changed.wait_for(lambda: condition() or self._is_closed, seconds)
        if self._is_closed:
            raise HistoryError("the feeder is stopping", "away")
        return condition()


def _before(opened: int, timeframe: str) -> int:
    return opened - step(timeframe) if step(timeframe) else floor(opened - 1, timeframe)


def _earlier(opened: int, bars: int, timeframe: str) -> int:
    """Return an open time about so many bars before; exactly, but for months."""
    length = step(timeframe)
    if length:
        return opened - bars * length
    return floor(opened - bars * duration(timeframe), timeframe)


def _rest(request: HistoryRequest, block: Block, first: int) -> HistoryRequest | None:
    """Return the request for what lies before a page, None if nothing does."""
    if request.newest:
        left, count = request.newest - block.shape[1], block.shape[1]
        # A page without bars is the end: the function has none that are older.
        if not left or not count or not first:
            return None
        oldest = int(times_of(block)[0])
        return request._replace(newest=left, last=_before(oldest, request.key[1]))
    if first <= request.first:
        return None
    return request._replace(last=_before(first, request.key[1]))
