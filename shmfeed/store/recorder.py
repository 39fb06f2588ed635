"""The thread that keeps a store: it can never hold the feed up.

    main loop --record--> queue --thread--> process: one transaction --> SQLite file
    ring's rows --------------------------> compared with it, where versions are missing

The queue is bounded. A version that finds it full is forgotten, but not its bar: the
thread compares the ring's rows with the store later, and writes those that the store
lacks. The same comparison follows each opening of the file, so that a store which was
damaged, locked, full or away for a while, and versions that a killed feeder had not
written yet, are caught up as far as the ring reaches.

The thread waits for the store's process, which waits for locks and for the disk.
Neither holds the feeder's GIL.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from shmfeed.bar import StreamKey
from shmfeed.errors import BadArgumentError, BusyRingError, ShmfeedError
from shmfeed.identity import FeedIdentity
from shmfeed.store.blocks import Block
from shmfeed.store.file import RowBatch
from shmfeed.store.process import StoreProcess
from shmfeed.store.schema import StoreError, check_path
from shmfeed.text import counted

if TYPE_CHECKING:
    from shmfeed.feeder.row_events import RecordedRow

log = logging.getLogger(__name__)


class WritableFile(Protocol):
    """A store that is open to be written: a StoreFile, or one in another process."""

    def write_batches(self, batches: Sequence[RowBatch]) -> None: ...

    def catch_up(self, key: StreamKey, block: Block, now: int) -> int: ...

    def newest(self, key: StreamKey, count: int) -> Block: ...

    def drop_older(self, keep: Mapping[str, float | None], now_ms: int) -> int: ...

    def drop_rows(self, key: StreamKey, first_kept: int | None) -> int: ...

    def close(self) -> None: ...


OpenFile = Callable[[str, FeedIdentity, bool], WritableFile]

# Return the rows of a stream's ring as a block, or None where there is no such ring.
RowsOf = Callable[[StreamKey], Block | None]

# Wait for so many seconds at most, and return the rows that have been read.
NewestRows = Callable[[float], dict[StreamKey, Block]]

MOST_QUEUED = 100_000  # versions in memory, about 45 MB
TURN_SECONDS = 0.5  # between two transactions
RETRY_SECONDS = 60.0  # until a store that failed is tried again
LOCKED_SECONDS = 5.0  # for which a lock of another process is no failure yet
_LOCK_PAUSE = 0.05
_BATCH = 500  # versions of one transaction: encoding them holds the GIL
_KEEP_SECONDS = 60.0  # between two looks for bars that are too old
_START_SECONDS = 5.0  # that a feeder's start waits for the store, and its end
_KILL_SECONDS = 1.0  # that the end waits for a store that it has killed
_WHOLE = (0, 1 << 62)
_T = TypeVar("_T")


class RecorderTimes(NamedTuple):
    """The times of a recorder, in seconds."""

    turn: float = TURN_SECONDS
    retry: float = RETRY_SECONDS
    locked: float = LOCKED_SECONDS


class StoreRecorder:
    """A recorder of every version of each closed bar, with its own thread.

    Attributes:
        said: The last failure of the store, "" before the first.

    Thread safety: one thread, the feeder's main loop, calls the methods.
    """

    def __init__(
        self,
        path: str,
        identity: FeedIdentity,
        *,
        replace: bool = False,
        keep: Mapping[str, float | None] | None = None,
        open_file: OpenFile = StoreProcess,
        times: RecorderTimes = RecorderTimes(),  # noqa: B008 # immutable
    ) -> None:
        """Check the path; `open` starts the thread.

        Args:
            path: The file of the store.
            identity: Where the rows come from.
            replace: True drops stored bars of another identity.
            keep: The age in days at which bars are dropped, by timeframe.
            open_file: Opens the store; by default in a process of its own.
            times: The times of the thread.

        Raises:
            BadArgumentError: No file can be a store under this path.
        """
        check_path(path)
        self.said = ""
        self._path, self._identity, self._replace = path, identity, replace
        self._keep, self._times = keep or {}, times
        self._open_file = open_file
        self._queue: deque[RowBatch] = deque()
        self._recorded = 0  # versions put into the queue; the main loop counts
        self._written = 0  # versions taken out of it; the thread counts
        self._lock = threading.Lock()
        self._missed: dict[StreamKey, tuple[int, int]] = {}  # open times, inclusive
        self._rows_of: RowsOf | None = None
        self._followed: set[StreamKey] = set()
        self._tasks: deque[Callable[[], None]] = deque()
        self._is_abandoned = False  # the end has waited long enough
        self._awake, self._closing = threading.Event(), threading.Event()
        self._file: WritableFile | None = None
        self._failed_at: float | None = None
        self._failure = ""
        self._next_keep = 0.0
        # A daemon: a disk that does not answer must not keep the process alive.
        self._thread = threading.Thread(
            target=self._run, name="shmfeed-store", daemon=True
        )

    # The main loop's side

    def open(self) -> None:
        """Start the thread, and wait a few seconds for it to open the store.

        A store that cannot be used is a logged failure, and is tried again.

        Raises:
            BadArgumentError: The store holds bars of another identity.
        """
        self._thread.start()
        opened = self._ask(self._open_first)
        try:
            refusal = opened.result(_START_SECONDS)
        except FutureTimeoutError:
            self._say(f"store {self._path!r} does not answer")
            return
        if refusal is not None:
            self.close()
            raise BadArgumentError(str(refusal))

    def newest(
        self, keys: Sequence[StreamKey], count: int, seconds: float = _START_SECONDS
    ) -> dict[StreamKey, Block]:
        """Return the newest stored rows of streams, at most `count` of each.

        Streams that the store could not read within `seconds` are left out.
        """
        return self.read_newest(keys, count, seconds)(seconds)

    def read_newest(
        self, keys: Sequence[StreamKey], count: int, seconds: float
    ) -> NewestRows:
        """Begin to read the newest stored rows of streams, at most `count` of each.

        Return a function that waits for so many seconds at most, and returns the rows
        that have been read by then. Reading ends after `seconds`.
        """
        found: dict[StreamKey, Block] = {}
        deadline = time.monotonic() + seconds

        def read() -> None:
            for key in keys:
                if self._file is None or time.monotonic() > deadline:
                    return
                block = self._file.newest(key, count)
                if block.shape[1]:
                    found[key] = block

        outcome = self._ask(read)

        def wait(longest: float) -> dict[StreamKey, Block]:
            with suppress(FutureTimeoutError):
                outcome.result(longest)
            return dict(found)

        return wait

    def follow(self, keys: Iterable[StreamKey], rows_of: RowsOf) -> None:
        """Write the rows of these rings that the store lacks, now and after failures.

        `rows_of` is called in the recorder's thread.
        """
        with self._lock:
            self._rows_of = rows_of
            for key in keys:
                self._followed.add(key)
                self._missed[key] = _WHOLE
        self._awake.set()

    def drop_rows(
        self, firsts: Mapping[StreamKey, int | None], done: Callable[[list[int]], None]
    ) -> None:
        """Drop bars of streams, each those that open before a time, None for all.

        Drop them from the rings first. `done` is called in the recorder's thread with
        the number of bars of each stream, -1 where the store cannot be used.
        """
        counts = dict.fromkeys(firsts, -1)

        def drop() -> None:
            file = self._file
            if file is None:
                return
            while self._queue:  # versions of rows that were there until now
                self._write_some(file)
            for key, first in firsts.items():
                counts[key] = self._patiently(partial(file.drop_rows, key, first))

        def work() -> None:
            self._attempt(drop)
            done(list(counts.values()))

        self._tasks.append(work)
        self._awake.set()

    def record(self, rows: "Sequence[RecordedRow]", now: float, published: int) -> None:
        """Keep versions of rows, as `RowRecorder` says."""
        if self._waiting < MOST_QUEUED:
            self._recorded += len(rows)
            self._queue.append(RowBatch(rows, now, published))
        else:
            self._miss(rows)

    def close(self, seconds: float = _START_SECONDS) -> None:
        """Write the versions of the queue, and end the thread. Idempotent.

        A store that fails, or takes longer than `seconds`, is left as it is.
        """
        self._closing.set()
        self._awake.set()
        if not self._thread.is_alive():
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._is_abandoned = True
            if isinstance(self._file, StoreProcess):
                self._file.kill()
                self._thread.join(_KILL_SECONDS)  # it reaps the process
        if self._thread.is_alive() or self._waiting:
            log.warning(
                "store %r lacks the last %s; the next feeder adds those that the ring"
                " holds",
                self._path,
                counted(self._waiting, "version"),
            )

    def _ask(self, task: Callable[[], object]) -> "Future[StoreError | None]":
        """Have the thread do a task. The result is the error that it ended with."""
        outcome: Future[StoreError | None] = Future()

        def work() -> None:
            failure = self._attempt(task)
            is_refusal = failure is not None and failure.kind == "identity"
            outcome.set_result(failure if is_refusal else None)

        self._tasks.append(work)
        self._awake.set()
        return outcome

    @property
    def _waiting(self) -> int:
        """The versions in the queue."""
        return self._recorded - self._written

    def _miss(self, rows: "Iterable[RecordedRow]") -> None:
        with self._lock:
            for key, bar, _, _ in rows:
                opened = int(bar.open_time)
                first, last = self._missed.get(key, (opened, opened))
                self._missed[key] = min(first, opened), max(last, opened)

    # The thread's side

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._awake.wait(self._times.turn)
            is_last = self._closing.is_set()
            self._awake.clear()
            while self._tasks:
                self._tasks.popleft()()
            self._attempt(self._turn)
        if self._file is not None:
            with suppress(Exception):
                self._file.close()

    def _attempt(self, work: Callable[[], object]) -> StoreError | None:
        """Do a piece of work. Return the failure that it ended with, which is said."""
        try:
            work()
        except StoreError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 # the thread must not end
            text = f"store {self._path!r} cannot be used: {error!r}"
            failure = StoreError(text, "failed")
        else:
            return None
        self._fail(failure)
        return failure

    def _turn(self) -> None:
        """Open the file if it is time to, and write everything that waits."""
        if self._file is None and not self._is_due():
            return
        file = self._file or self._patiently(self._open)
        self._file = file
        written = 0
        while self._queue:
            written += self._write_some(file)
        written += self._catch_up(file)
        self._succeeded(written)
        if time.monotonic() >= self._next_keep and not self._closing.is_set():
            self._drop_old(file)

    def _is_due(self) -> bool:
        if self._is_abandoned:
            return False
        failed = self._failed_at
        waited = failed is None or time.monotonic() - failed >= self._times.retry
        return waited or self._closing.is_set()

    def _open(self) -> WritableFile:
        try:
            check_path(self._path)
        except BadArgumentError as error:  # a directory took the file's place
            raise StoreError(str(error), "failed") from None
        file = self._open_file(self._path, self._identity, self._replace)
        self._replace = False  # it counts for one start
        with self._lock:
            self._missed |= dict.fromkeys(self._followed, _WHOLE)
        return file

    def _open_first(self) -> None:
        self._file = self._patiently(self._open)

    def _write_some(self, file: WritableFile) -> int:
        """Write about _BATCH versions of the queue. Return how many."""
        batches: list[RowBatch] = []
        count = 0
        # By number: the main loop may append meanwhile.
        while count < _BATCH and len(batches) < len(self._queue):
            batches.append(self._queue[len(batches)])
            count += len(batches[-1].rows)
        try:
            self._patiently(lambda: file.write_batches(batches))
        except StoreError as error:
            if error.kind == "defect":  # the ring's rows take their place
                for batch in batches:
                    self._miss(batch.rows)
                self._drop(batches, count)
            raise
        self._drop(batches, count)
        return count

    def _drop(self, batches: Sequence[RowBatch], count: int) -> None:
        for _ in batches:
            self._queue.popleft()
        self._written += count

    def _catch_up(self, file: WritableFile) -> int:
        """Compare the rings of streams that have missed versions with the store."""
        if self._rows_of is None or not self._missed:
            return 0
        with self._lock:
            missed = dict(self._missed)
        written = 0
        for key, span in missed.items():
            try:
                block = self._rows_of(key)
            except BusyRingError:  # the next turn tries again
                continue
            except ShmfeedError:
                block = None
            if block is not None and block.shape[1]:
                written += self._catch_up_stream(file, key, block, span)
            with self._lock:
                if self._missed.get(key) == span:
                    del self._missed[key]
        return written

    def _catch_up_stream(
        self, file: WritableFile, key: StreamKey, block: Block, span: tuple[int, int]
    ) -> int:
        opens = block[0].view("int64")
        if span != _WHOLE and span[0] < opens[0]:
            log.warning(
                "store %r lacks bars of %s %s before %d: they have left the ring",
                self._path,
                *key,
                opens[0],
            )
        now = time.time_ns()
        within = block[:, (opens >= span[0]) & (opens <= span[1])]
        return self._patiently(lambda: file.catch_up(key, within, now))

    def _drop_old(self, file: WritableFile) -> None:
        """Drop one step of the bars that are too old."""
        now = time.time_ns() // 1_000_000
        if not self._patiently(lambda: file.drop_older(self._keep, now)):
            self._next_keep = time.monotonic() + _KEEP_SECONDS

    def _patiently(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns; try again while another process has a lock."""
        deadline = time.monotonic() + self._times.locked
        while True:
            try:
                return work()
            except StoreError as error:
                if error.kind != "locked" or time.monotonic() > deadline:
                    raise
            if self._closing.wait(_LOCK_PAUSE):
                deadline = 0.0

    def _fail(self, error: StoreError) -> None:
        self._failed_at = time.monotonic()
        file, self._file = self._file, None
        if file is not None:
            with suppress(Exception):
                file.close()
        if not self._is_abandoned:
            self._say(str(error))

    def _say(self, fault: str) -> None:
        if fault == self._failure:
            return  # said once an outage
        self._failure = fault
        self.said = (
            f"{fault}; the feed goes on without it, tries it again each minute, and"
            " catches up"
        )
        log.warning(self.said)

    def _succeeded(self, written: int) -> None:
        if self._failure:
            self._failure, self._failed_at = "", None
            log.warning(
                "store %r is in use again; %s caught up",
                self._path,
                counted(written, "bar"),
            )
