"""A buffer seen as 8-byte words, and the cell pair, the protocol for hot small values.

Any buffer will do: a mapping in production, a `bytearray` in a unit test. A word is
stored and loaded whole: the machine never splits an aligned 8-byte access, and
CPython makes exactly one for a `memoryview` item.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shmfeed.errors import BadArgumentError, BusyRingError
from shmfeed.layout import WORD
from shmfeed.text import repr_short

Ints = memoryview  # of 8-byte words, as ints

READ_LIMIT_NS = 10_000_000  # how long a read may be outrun by a writer


class _Order:
    """How this process keeps the order of its accesses: see `fence`."""

    fence: Callable[[], None] | None = None


def order_by(fence: Callable[[], None]) -> None:
    """Let this be the fence from now on: the C core's, where it serves."""
    _Order.fence = fence


def fence() -> None:
    """What was read or written before is so for everybody before what comes after.

    Where pure Python serves it is nothing: x86-64 keeps loads in order, and stores.
    """
    if _Order.fence is not None:
        _Order.fence()


def boot_ns() -> int:
    """CLOCK_BOOTTIME in ns: the clock of ages, it counts through a suspend."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Words:
    """A buffer's words: `ints` and `floats` are memoryviews, `raw` its bytes.

    `name` is what the buffer is called in a message. BadArgumentError for a buffer that
    is no contiguous run of whole, aligned words.
    """

    __slots__ = ("floats", "ints", "name", "raw")

    def __init__(self, buffer: object, name: str = "the segment") -> None:
        self.name = name
        self.raw: memoryview = _whole_words(buffer, name)
        self.ints = self.raw.cast("q")
        self.floats: memoryview[float] = self.raw.cast("d")

    def columns(self, word: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """The float64 array of this shape that begins at `word`; shares the buffer.

        `frombuffer` keeps the buffer's owner alive, so that a mapping cannot vanish
        under the array.
        """
        rows, width = shape
        flat = np.frombuffer(
            self.raw, np.float64, count=rows * width, offset=word * WORD
        )
        return flat.reshape(shape)

    def release(self) -> None:
        """Let go of the buffer; any later access through these views raises."""
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
    size = len(raw)
    address = np.frombuffer(raw, np.uint8).__array_interface__["data"][0] if size else 0
    if not size or size % WORD or address % WORD:
        raise BadArgumentError(
            f"{name} has {size} bytes at {address:#x}; it must be whole words of {WORD}"
            " bytes, at a multiple of 8"
        )
    return raw


def check_writable(words: Words) -> None:
    """BadArgumentError for a buffer that nothing can be written into."""
    if words.raw.readonly:
        raise BadArgumentError(
            f"{words.name} is read-only; a writer needs a buffer that can be written to"
        )


class RetryBudget:
    """Bounds a retry loop: `spend()` raises BusyRingError after READ_LIMIT_NS.

    The clock is the thread's own, which stands still while another runs: that this
    reader was paused is not the writer's doing. It is looked at each time, since one
    try may be a copy of millions of rows. Before it gives up it calls `look`, which
    may know a better reason and raise that.
    """

    __slots__ = ("_deadline", "_look", "_tries", "_what")

    def __init__(self, what: str, look: Callable[[], object] | None = None) -> None:
        self._what = what
        self._look = look
        self._tries = 0
        self._deadline = 0

    def spend(self) -> None:
        self._tries += 1
        now = time.thread_time_ns()
        if not self._deadline:
            self._deadline = now + READ_LIMIT_NS
        elif now > self._deadline:
            if self._look is not None:
                self._look()
            limit = READ_LIMIT_NS // 1_000_000
            raise BusyRingError(
                f"{self._what}: the writer outran this read for {limit} ms"
                f" ({self._tries} tries); read fewer rows, or try again"
            )


class Latch:
    """Two cells and a counter: one writer, any readers, no lock, no torn value.

    Write: (1) release fence; (2) fill the cell that readers do not read; (3) release-
    store the counter. Read: (1) acquire-load the counter; (2) copy its cell;
    (3) acquire fence; (4) load the counter, equal or again: it moves on before the
    writer touches the copied cell. A writer killed between any two steps leaves the
    last whole value readable for ever.
    """

    __slots__ = ("_bytes", "_counter", "_first", "_words")

    def __init__(self, words: Words, word: int, cell_words: int) -> None:
        self._words = words
        self._counter = word
        self._first = (word + 1) * WORD
        self._bytes = cell_words * WORD

    @staticmethod
    def size(cell_words: int) -> int:
        """Words that a pair takes."""
        return 1 + 2 * cell_words

    def write(self, value: bytes) -> None:
        """Replace the value; `value` is exactly one cell long. The writer only."""
        ints = self._words.ints
        counter = ints[self._counter] + 1
        fence()  # release: pairs with read's second
        start = self._first + (counter & 1) * self._bytes
        self._words.raw[start : start + self._bytes] = value
        fence()  # release: pairs with read's first
        ints[self._counter] = counter

    def read(self) -> bytes | None:
        """The newest whole value, None if there has been none; BusyRingError."""
        ints, raw = self._words.ints, self._words.raw
        budget = None
        while True:
            counter = ints[self._counter]
            fence()  # acquire: pairs with write's second
            if not counter:
                return None
            start = self._first + (counter & 1) * self._bytes
            value = bytes(raw[start : start + self._bytes])
            fence()  # acquire: pairs with write's first
            if ints[self._counter] == counter:
                return value
            budget = budget or RetryBudget("forming cells")
            budget.spend()
