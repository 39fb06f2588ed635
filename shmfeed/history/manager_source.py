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

from shmfeed.bar import StreamKey
from shmfeed.history.blocks import Row, check_rows, empty_block
from shmfeed.history.interface import (
    Block,
    FailureKind,
    HistoryError,
    HistoryPage,
    HistoryRequest,
    SymbolState,
)
from shmfeed.history.windows import page_of, window_of

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
        now = int(self._now() * 1000)
        window = window_of(request, now, PAGE_BARS)
        if window is None:
            return HistoryPage(empty_block(), 0, None)
        return page_of(request, window, self._ask(request.key, *window), now)

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

    def _ask(self, key: StreamKey, first: int, last: int) -> Block:
        with self._turn:
            answer = self._put(key, first, last)
        if answer.failure:
            raise HistoryError(
                f"the manager's backfill function {answer.failure}", answer.kind
            )
        rows: list[Row] = [
            (row[0], 0, *row[1:6], np.nan if row[6] is None else row[6], 0)
            for row in answer.rows
        ]
        return check_rows(rows, key[1])

    def _put(self, key: StreamKey, first: int, last: int) -> ManagerAnswer:
        with self._changed:
            self._number += 1
            self._question = Question(self._number, *key, first, last)
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
