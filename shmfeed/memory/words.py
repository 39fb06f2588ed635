"""A buffer seen as 8-byte words, memory fences, and the latch.

Any buffer will do: a mapping in production, a `bytearray` in a unit test. A word is
stored and loaded whole: the machine does not split an aligned 8-byte access, and
CPython makes exactly one for an item of a `memoryview`.
"""

import mmap
import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shmfeed.errors import BadArgumentError, BusyRingError
from shmfeed.layout import WORD
from shmfeed.text import repr_short

Ints = memoryview  # of 8-byte words, as ints

READ_LIMIT_NS = 10_000_000  # how long a writer may outrun a read


class _Fence:
    function: Callable[[], None] | None = None  # the C core's


def use_fence(function: Callable[[], None]) -> None:
    """Use the C core's fence from now on."""
    _Fence.function = function


def fence() -> None:
    """Order all accesses above this line before all below it, for every CPU.

    With the pure core it does nothing: x86-64 keeps loads and stores in order.
    """
    if _Fence.function is not None:
        _Fence.function()


def boot_ns() -> int:
    """Return CLOCK_BOOTTIME in ns, the clock of ages: it counts through a suspend."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def suspended_ns() -> int:
    """Return the time that this host has been suspended since its boot, in ns."""
    return boot_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Words:
    """The words of a buffer: `ints` and `floats` are memoryviews, `raw` is its bytes.

    `address` is where they are in this process, `mapped` is True if they are a mapping.
    `lookup` is private to this process, see `liveness.note_lookup`.

    Args:
        buffer: Any contiguous buffer of whole words at a multiple of 8.
        name: The buffer's name in messages.

    Raises:
        BadArgumentError: The buffer is not contiguous, not of whole words, or not
            aligned.
    """

    __slots__ = ("address", "floats", "ints", "lookup", "mapped", "name", "raw")

    def __init__(self, buffer: object, name: str = "the segment") -> None:
        self.name = name
        self.raw: memoryview = _whole_words(buffer, name)
        self.address = _address(self.raw)
        self.mapped = isinstance(self.raw.obj, mmap.mmap)
        self.ints = self.raw.cast("q")
        self.floats: memoryview[float] = self.raw.cast("d")
        self.lookup = array("q", (0, -1))  # no key is negative

    def columns(self, word: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Return a float64 array of this shape over the buffer, from `word` on."""
        # frombuffer keeps the buffer's owner alive: a mapping outlives its arrays.
        rows, width = shape
        flat = np.frombuffer(
            self.raw, np.float64, count=rows * width, offset=word * WORD
        )
        return flat.reshape(shape)

    def release(self) -> None:
        """Release the buffer; each later access through these views raises."""
        self.ints.release()
        self.floats.release()
        self.raw.release()


def _whole_words(buffer: Any, name: str) -> memoryview:
    try:
        raw = memoryview(buffer).cast("B")
    except (TypeError, ValueError) as error:
        raise BadArgumentError(
            f"{name} is {repr_short(buffer)}; it must be a contiguous buffer"
        ) from error
    size, address = len(raw), _address(raw)
    if not size or size % WORD or address % WORD:
        raise BadArgumentError(
            f"{name} has {size} bytes at {address:#x}; it must be whole words of {WORD}"
            " bytes, at a multiple of 8"
        )
    return raw


def _address(raw: memoryview) -> int:
    if not len(raw):  # of which numpy makes no array
        return 0
    address: int = np.frombuffer(raw, np.uint8).__array_interface__["data"][0]
    return address


def check_writable(words: Words) -> None:
    """Raise BadArgumentError if the buffer is read-only."""
    if words.raw.readonly:
        raise BadArgumentError(
            f"{words.name} is read-only; a writer needs a buffer that can be written to"
        )


class RetryBudget:
    """A bound on a retry loop: `spend()` raises BusyRingError after READ_LIMIT_NS.

    Time is the thread's own CPU time: a reader that the scheduler paused was not outrun
    by the writer. Each call reads the clock, since one try may copy millions of rows.
    Before it raises it calls `diagnose`, which may raise a more precise error.
    """

    __slots__ = ("_deadline", "_diagnose", "_tries", "_what")

    def __init__(self, what: str, diagnose: Callable[[], object] | None = None) -> None:
        self._what = what
        self._diagnose = diagnose
        self._tries = 0
        self._deadline = 0

    def spend(self) -> None:
        self._tries += 1
        now = time.thread_time_ns()
        if not self._deadline:
            self._deadline = now + READ_LIMIT_NS
        elif now > self._deadline:
            if self._diagnose is not None:
                self._diagnose()
            limit = READ_LIMIT_NS // 1_000_000
            raise BusyRingError(
                f"{self._what}: the writer outran this read for {limit} ms"
                f" ({self._tries} tries); read fewer rows, or try again"
            )


class Latch:
    """Two cells and a counter: one writer, any readers, no lock, no torn value.

    Linux calls this a seqcount_latch_t. The steps have the numbers of `ringbuf`:

    Write the value:                        Read it:
     (U1) release                            (F1) acquire-load the counter
     (U2) fill the cell that readers do      (F2) copy the cell that it names
          not read                           (F3) acquire
     (U3) release-store the counter + 1      (F4) load the counter; if it differs,
                                                  start again at F1

    The writer changes the counter before it touches the copied cell. A writer that is
    killed between any two steps leaves the last whole value readable for ever.
    """

    __slots__ = ("_bytes", "_counter", "_first", "_words")

    def __init__(self, words: Words, word: int, cell_words: int) -> None:
        self._words = words
        self._counter = word
        self._first = (word + 1) * WORD
        self._bytes = cell_words * WORD

    @staticmethod
    def size(cell_words: int) -> int:
        """Return the size of a latch in words."""
        return 1 + 2 * cell_words

    def write(self, value: bytes) -> None:
        """Replace the value, which is one cell long.

        Only one thread may write. A signal handler of that thread may write too: the
        interrupted write then comes after it.
        """
        ints, raw = self._words.ints, self._words.raw
        fence()  # U1, release: pairs with F3
        while True:
            # No call before the store: the cell is filled while no reader uses it.
            counter = ints[self._counter]
            start = self._first + (counter + 1 & 1) * self._bytes
            raw[start : start + self._bytes] = value
            fence()  # U3, release: pairs with F1. U1 too, if a handler wrote here
            if ints[self._counter] == counter:
                ints[self._counter] = counter + 1
                return

    def read(self) -> bytes | None:
        """Return the newest whole value, None before the first. Raise BusyRingError."""
        ints, raw = self._words.ints, self._words.raw
        budget = None
        while True:
            counter = ints[self._counter]
            fence()  # F1, acquire: pairs with U3
            if not counter:
                return None
            start = self._first + (counter & 1) * self._bytes
            value = bytes(raw[start : start + self._bytes])
            fence()  # F3, acquire: pairs with U1
            if ints[self._counter] == counter:
                return value
            budget = budget or RetryBudget("forming cells")
            budget.spend()
