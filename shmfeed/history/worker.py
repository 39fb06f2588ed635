"""Threads that ask a source of history, the most urgent request first.

A thread asks for one page at a time, and then looks again what is most urgent. So a
hole of one bar overtakes a warm-up of many pages. The owner's loop never waits: it
hands jobs over, and drains outcomes when it is woken.
"""

import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import get_args

from shmfeed.bar import StreamKey
from shmfeed.history.blocks import joined
from shmfeed.history.interface import (
    Block,
    HistoryAnswer,
    HistoryError,
    HistoryJob,
    HistoryOutcome,
    HistoryPage,
    HistoryRequest,
    HistorySource,
    Purpose,
    RateLimitError,
)
from shmfeed.wire.boot_clock import boot_seconds

THREADS = 4
JOIN_SECONDS = 0.5  # for a thread to end, which a source may keep
_RANK = {purpose: rank for rank, purpose in enumerate(get_args(Purpose))}

log = logging.getLogger(__name__)


class HistoryWorker:
    """Threads that ask one source, started with the first job.

    Thread safety: one thread calls the methods; `wake` is called by the worker's own.
    """

    def __init__(
        self,
        source: HistorySource,
        wake: Callable[[], None],
        *,
        threads: int = THREADS,
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        """Take the source, which `close` closes too.

        Args:
            source: The source to ask.
            wake: Called after each outcome; it must not block.
            threads: The most requests under way at a time.
            clock: CLOCK_BOOTTIME in seconds.
        """
        self.source = source
        self._wake = wake
        self._count = threads
        self._clock = clock
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._waiting: list[HistoryTask] = []  # a heap
        self._running: set[HistoryTask] = set()
        self._outcomes: deque[HistoryOutcome] = deque()
        self._numbers = count()
        self._pause_until = 0.0  # the rate limit's
        self._pause_reason = ""
        self._is_closed = False

    @property
    def pending(self) -> int:
        """The jobs without an outcome."""
        with self._changed:
            return len(self._waiting) + len(self._running)

    @property
    def pause(self) -> str:
        """The reason for which no request begins now, "" without one."""
        with self._changed:
            is_paused = self._waiting and self._pause_until > self._clock()
            return self._pause_reason if is_paused else ""

    def ask(self, job: HistoryJob) -> None:
        """Queue a job. It has one outcome, unless it is cancelled."""
        with self._changed:
            if self._is_closed:
                return
            heapq.heappush(self._waiting, HistoryTask(job, next(self._numbers)))
            self._start_thread()
            self._changed.notify()

    def cancel(self, key: StreamKey) -> None:
        """Drop the jobs of a stream; none of them has an outcome from now on."""
        with self._changed:
            left = [task for task in self._waiting if task.job.request.key != key]
            self._waiting[:] = left
            heapq.heapify(self._waiting)
            for task in self._running:
                task.is_cancelled |= task.job.request.key == key
            kept = [one for one in self._outcomes if one.job.request.key != key]
            self._outcomes.clear()
            self._outcomes.extend(kept)

    def drain(self) -> list[HistoryOutcome]:
        """Return the outcomes since the last call, in the order of their end."""
        with self._changed:
            outcomes = list(self._outcomes)
            self._outcomes.clear()
        return outcomes

    def close(self) -> None:
        """Drop all jobs, close the source, and end the threads."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self.source.close()
        end = self._clock() + JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - self._clock()))
        self._outcomes.clear()

    def _start_thread(self) -> None:
        idle = len(self._threads) - len(self._running)
        if idle >= len(self._waiting) or len(self._threads) >= self._count:
            return
        # A daemon thread: one that a source keeps must not delay the end.
        name = f"shmfeed-history-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                self._fail_waiting("this host can start no thread for it")
            return
        self._threads.append(thread)

    def _fail_waiting(self, reason: str) -> None:
        failed = HistoryError(f"{self.source.name}: {reason}", "away")
        self._outcomes.extend(
            task.outcome(self.source, failed) for task in self._waiting
        )
        self._waiting.clear()
        self._wake()

    def _run(self) -> None:
        while (task := self._take()) is not None:
            try:
                page = self.source.fetch(task.follows)
                self._take_page(task, page)
            except RateLimitError as limit:
                self._put_back(task, self._clock() + limit.retry_after, str(limit))
            except HistoryError as error:
                self._finish(task, error)
            except Exception as error:
                if not self._is_closed:
                    log.exception("%s failed", self.source.name)
                self._finish(task, HistoryError(f"failed: {error!r}", "away"))

    def _take(self) -> "HistoryTask | None":
        with self._changed:
            while not self._is_closed:
                pause = self._pause_until - self._clock()
                if not self._waiting:
                    self._changed.wait()
                elif pause > 0:
                    self._changed.wait(pause)
                else:
                    task = heapq.heappop(self._waiting)
                    self._running.add(task)
                    task.asked_at = self._clock()
                    return task
            return None

    def _take_page(self, task: "HistoryTask", page: HistoryPage) -> None:
        task.add(page)
        if page.follows is None:
            self._finish(task, None)
        else:
            task.follows = page.follows
            self._put_back(task)

    def _put_back(
        self, task: "HistoryTask", pause_until: float = 0.0, reason: str = ""
    ) -> None:
        with self._changed:
            self._running.discard(task)
            if pause_until > self._pause_until:
                self._pause_until, self._pause_reason = pause_until, reason
            if not (task.is_cancelled or self._is_closed):
                heapq.heappush(self._waiting, task)
                self._changed.notify()

    def _finish(self, task: "HistoryTask", error: HistoryError | None) -> None:
        with self._changed:
            self._running.discard(task)
            if task.is_cancelled or self._is_closed:
                return
            self._outcomes.append(task.outcome(self.source, error))
        self._wake()


class HistoryTask:
    """A job, and the pages that have come of it.

    Attributes:
        job: The job.
        follows: The request for the next page.
        asked_at: When the last page was asked for.
    """

    def __init__(self, job: HistoryJob, number: int) -> None:
        self.job = job
        self.follows = job.request
        self.asked_at = 0.0
        self.is_cancelled = False
        self._pages: list[Block] = []
        self._venue_now = 0
        self._order = (_RANK[job.purpose], *_urgency(job.request), number)

    def __lt__(self, other: "HistoryTask") -> bool:
        return self._order < other._order

    def add(self, page: HistoryPage) -> None:
        """Take a page."""
        if page.block.shape[1]:
            self._pages.append(page.block)
        self._venue_now = page.venue_now or self._venue_now

    def outcome(
        self, source: HistorySource, error: HistoryError | None
    ) -> HistoryOutcome:
        """Return the end of the job, with the pages up to it."""
        if error is not None and not self._pages:
            return HistoryOutcome(self.job, None, error)
        answer = HistoryAnswer(
            self.job.request,
            joined(self._pages),
            source.is_own,
            source.name,
            self._venue_now,
            self.asked_at,
        )
        return HistoryOutcome(self.job, answer, error)


def _urgency(request: HistoryRequest) -> tuple[int, int]:
    """Return the order of jobs of one purpose: the newest, then the shortest."""
    if request.newest:
        return -(1 << 62), request.newest
    return -request.last, request.last - request.first
