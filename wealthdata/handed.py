"""The record of each task: the newest bars that it was handed, and that it has read.

A *task* is an asyncio task or, outside of one, a thread. A bar is *handed over* when a
wait returns it to the task; a read hands over nothing. So a task that reads one symbol
of a pair does not miss the other's bar at its next wait.

A call through `asyncio.to_thread` runs in another thread, in a copy of its task's
context, and so finds the record of that task, if there is one: the first call in the
task itself makes it. Without it the task cannot be told, and threads change from call
to call. So all calls in the threads of asyncio's executor that find no record share
one, and a task's own begins as a copy of what was handed over there.
"""

import sys
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from numpy.typing import NDArray

from shmfeed.bar import Bar
from wealthdata import price_table
from wealthdata.kept_bars import Origin
from wealthdata.read_log import ReadLog, acting

StreamId = tuple[str, str, str]  # feed, symbol, timeframe


class TaskRecord:
    """The newest bars that one task was handed, and has read: close times by stream.

    Args:
        task: The asyncio task, None for a thread.
    """

    __slots__ = (
        "_lists",
        "_task",
        "followed",
        "handed",
        "logs",
        "read",
        "unsettled",
    )

    def __init__(self, task: object = None) -> None:
        self._task = None if task is None else weakref.ref(task)
        self.handed: dict[StreamId, int] = {}
        self.read: dict[StreamId, int] = {}
        self.followed: dict[StreamId, Any] = {}  # the Progress of each stream
        # Bars that `follow` has handed over and not yet noted, with stream and log.
        self.unsettled: deque[tuple[Any, Any, ReadLog]] = deque()
        self._lists: dict[int, tuple[Sequence[StreamId], NDArray[Any]]] = {}
        self.logs: dict[str | None, ReadLog] = {}

    @property
    def log(self) -> ReadLog:
        """The reads since the last decision, of the strategy that acts."""
        self.settle()
        strategy = acting.get()
        log = self.logs.get(strategy)
        # Two threads of asyncio's executor may make it at once: one of both is kept.
        return self.logs.setdefault(strategy, ReadLog()) if log is None else log

    def is_of(self, task: object) -> bool:
        """Return True if this is the record of an asyncio task."""
        return self._task is not None and self._task() is task

    def had(self, stream: StreamId, newest: int) -> int:
        """Return the close time of the newest bar of a stream that the task has had.

        That is the bar that it was handed last, else the newest that it has read, else
        `newest`.
        """
        self.settle()
        had = self.handed.get(stream)
        if had is None:
            price_table.keep_reads()
            self._keep_lists()
            had = self.read.get(stream)
        return newest if had is None else had

    def hand_over(self, stream: StreamId, closed: int, turned_back: bool) -> None:
        """Note that the task has had the bar with this close time.

        It is not forgotten for an older bar, unless the stream has `turned_back`.
        """
        if turned_back or closed > self.handed.get(stream, closed - 1):
            self.handed[stream] = closed

    def forget(self, stream: StreamId) -> None:
        """Forget what the task has had and read of a stream: it begins again."""
        self.settle()
        price_table.keep_reads()
        self._keep_lists()
        for known in (self.handed, self.read, self.followed):
            known.pop(stream, None)

    def hand_bar(self, origin: Origin, bar: Bar) -> None:
        """Note a bar that the task was handed, for its next decision."""
        self.log.hand(origin, bar)

    def settle(self) -> None:
        """Note the bars that were handed over in haste."""
        while self.unsettled:
            try:
                stream, event, log = self.unsettled.popleft()
            except IndexError:  # another thread of this task has noted it
                return
            stream.hand_over(event, self, log)

    def note_read(self, stream: StreamId, closed: int) -> None:
        """Note that the task has read the bar with this close time."""
        if closed > self.read.get(stream, closed - 1):
            self.read[stream] = closed

    def note_list(self, streams: Sequence[StreamId], closes: NDArray[Any]) -> None:
        """Note that the task has read these bars, one of each stream; 0 for none.

        A list may be long, and few tasks ask later: nothing is looked at here.
        """
        if len(self._lists) >= _MAX_LISTS:
            self._keep_lists()
        self._lists[id(streams)] = streams, closes

    def _keep_lists(self) -> None:
        lists, self._lists = self._lists, {}
        for streams, closes in lists.values():
            for stream, closed in zip(streams, closes.tolist(), strict=True):
                if closed:
                    self.note_read(stream, closed)


_MAX_LISTS = 64


class _OfThread(threading.local):
    """The record of this thread."""

    def __init__(self) -> None:
        self.record = TaskRecord()


_of_thread = _OfThread()
_of_task: ContextVar[TaskRecord | None] = ContextVar("wealthdata_record", default=None)
_of_executor = TaskRecord()
_EXECUTOR = "asyncio_"  # begins the name of a thread of asyncio's executor


def current_record() -> TaskRecord:
    """Return the record of this task, else of this thread."""
    record, task = _of_task.get(), _current_task()
    if task is not None:
        return record if record and record.is_of(task) else _begin_record(task)
    if record is not None:
        return record
    in_executor = threading.current_thread().name.startswith(_EXECUTOR)
    return _of_executor if in_executor else _of_thread.record


def logs_of_decision() -> list[ReadLog]:
    """Return the logs of what the current task has read.

    Those reads in asyncio's executor that found no record of a task may be a task's.
    """
    own = current_record().log
    return [own] if _current_task() is None else [own, _of_executor.log]


def bars_read() -> dict[StreamId, int]:
    """Return the bars that the current task has read, for the C core to add to."""
    return current_record().read


def _begin_record(task: object) -> TaskRecord:
    record = TaskRecord(task)
    _of_executor.settle()
    record.handed.update(_of_executor.handed)
    _of_task.set(record)
    return record


def _current_task() -> Any:
    """Return the asyncio task that runs in this thread, or None."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    return asyncio.current_task()
