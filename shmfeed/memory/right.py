"""The right to write a segment: a private word, tested before each store.

Locks keep a second writer out, but a first writer that lost them is not told: a
daemoniser closed its descriptors, or it is a forked child. Each store is therefore
preceded by one comparison. `word` equals the segment's writer epoch while this process
may write, and is 0 otherwise. A new writer raises the epoch, also that of a segment
that it replaces; a process that removes a segment raises it too.
"""

import os
from typing import NoReturn

from shmfeed.errors import FeedLostError
from shmfeed.layout import COUNT_LIMIT, H_WRITER_EPOCH, TIME_LIMIT, WORD
from shmfeed.memory.bar_cells import append_error
from shmfeed.memory.words import Ints, Words


class Right:
    """The right of this process to write one segment, from `take` to `end`.

    Each RingWriter holds its right. The locks that keep other writers out belong to it
    (`segment.ownership.SegmentOwner`), so they last as long as any RingWriter.

    Args:
        page: A writable buffer for the word. Memory that a fork wipes makes the word 0
            in the child, whatever forked it.

    Attributes:
        word: The private word, a memoryview of one int.
    """

    __slots__ = ("__weakref__", "_epoch", "_ints", "_pid", "_why", "word")

    def __init__(self, page: object = None) -> None:
        page = bytearray(WORD) if page is None else page
        self.word: Ints = memoryview(page).cast("B")[:WORD].cast("q")  # type: ignore[arg-type]
        self._ints: Ints = memoryview(bytes(WORD * (H_WRITER_EPOCH + 1))).cast("q")
        self._epoch = 0
        self._pid = os.getpid()
        self._why = ""

    @property
    def epoch(self) -> int:
        """The writer epoch that this right has raised, 0 before `take`."""
        return self._epoch

    def take(self, words: Words) -> None:
        """Become the one writer of this segment: raise its writer epoch."""
        self._ints = words.ints
        self._epoch = next_epoch(words.ints[H_WRITER_EPOCH])
        words.ints[H_WRITER_EPOCH] = self._epoch
        self.word[0] = self._epoch

    @property
    def is_held(self) -> bool:
        """True while this process may write and no other writer took the segment."""
        # The word first: once it is 0 the segment may be truncated, a load SIGBUS.
        return self.word[0] > 0 and self._ints[H_WRITER_EPOCH] == self.word[0]

    def check(self, what: str) -> None:
        """Raise FeedLostError if this process may not write `what`."""
        if not self.is_held:
            self.refuse(what)

    def end(self, why: str = "") -> None:
        """Give up the right, for good. `why` is empty if nothing went wrong."""
        if self.word[0]:
            self._why = why
        self.word[0] = 0

    def refuse(self, what: str) -> NoReturn:
        """Raise the FeedLostError that says why this process may not write `what`."""
        pid = os.getpid()
        if pid != self._pid:
            raise FeedLostError(
                f"process {pid} is a forked child of {self._pid}, which writes {what};"
                " call create() in this process"
            )
        if self.word[0]:
            raise FeedLostError(
                f"another writer took the segment of {what}: its writer epoch is"
                f" {self._ints[H_WRITER_EPOCH]}, this writer's is {self._epoch};"
                " restart the feeder"
            )
        if self._why:
            raise FeedLostError(f"the writer of {what} has stopped: {self._why}")
        raise FeedLostError(
            f"the writer of {what} is closed; write before close(), in the process"
            " that called create()"
        )

    def __reduce__(self) -> NoReturn:
        raise not_copied(type(self).__name__)


def next_epoch(last: int) -> int:
    """Return the writer epoch that follows another one, which may be damaged."""
    return last + 1 if 0 <= last < COUNT_LIMIT else 1


ENDED = Right()  # stands for the right of a writer that is closed


def refuse_append(
    right: Right, stream: str, open_time: int, last_open: int, published: int, own: int
) -> None:
    """Raise the error for a bar that was refused.

    Return if nothing is wrong with it now: another append has just come first.

    Args:
        right: The right by which the bar would be written.
        stream: Symbol and timeframe.
        open_time: The bar's.
        last_open: The open time of the writer's last closed bar.
        published: The number of rows in the ring.
        own: The number of rows after the writer's last append.

    Raises:
        FeedLostError: The right has ended, or another program wrote the rows.
        BadArgumentError: The bar is not newer than the last closed one, or its time is
            out of range.
    """
    right.check(stream)
    if not last_open < open_time < TIME_LIMIT:
        raise append_error(stream, last_open, open_time)
    if published != own:
        raise FeedLostError(
            f"another program wrote {stream}: {published} rows are published, this"
            f" writer published {own}; restart the feeder"
        )


def not_copied(name: str) -> TypeError:
    """Return the error for a copy or pickle of a writer."""
    return TypeError(
        f"a {name} cannot be copied or pickled: a feed has one writer; pass the object"
        " itself, and read with shmfeed.attach() elsewhere"
    )
