"""Sleeping until a ring has closed a bar: the kernel wakes, nobody polls.

A sleep is cut in pieces. After each it is looked whether the feeder still lives, and
whether another segment serves: a death rings no bell.

Sleeping until one of several bells is rung; `bell` tells the protocol.
"""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from shmfeed.core import (
    ReattachingReader,
    RingReader,
    futex_load,
    futex_wait,
    sleep_past,
)
from shmfeed.layout import H_RETIRED
from shmfeed.memory.futex import futex_wait_any
from shmfeed.memory.liveness import is_alive
from shmfeed.memory.wakeup import WAKE_OFFSET, wake_bit
from shmfeed.memory.words import Words, boot_ns

WaitEntry = tuple[Words, int, int]  # a segment, its bell's count, the bits listened for


def load_key(words: Words) -> int:
    """How often a bell was rung so far, modulo 2**32: before the counts are read."""
    return futex_load(words.raw, WAKE_OFFSET)


def wait_any(listening: Sequence[WaitEntry], timeout_ns: int) -> bool:
    """Sleep until one of these bells has been rung since it was heard.

    False at the timeout, else True; it may be True without a cause.
    """
    if not listening:
        time.sleep(timeout_ns / 10**9)
        return False
    if len(listening) == 1:
        words, count, bits = listening[0]
        return futex_wait(words.raw, WAKE_OFFSET, count, bits, timeout_ns)
    waited = [(words.raw, WAKE_OFFSET, count) for words, count, _ in listening]
    return futex_wait_any(waited, timeout_ns)


PIECE_NS = 500_000_000  # the feeder beats as often
GONE_NS = 100_000_000  # where nobody feeds, a successor may come any moment


def is_fed(words: Words) -> bool:
    """Whether somebody writes this segment."""
    return not words.ints[H_RETIRED] and is_alive(words.ints, boot_ns())


class Deadline:
    """So many seconds from now; None: for as long as a feeder lives."""

    __slots__ = ("_moment",)

    def __init__(self, timeout: float | None) -> None:
        self._moment = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float:
        """Seconds, below 0 when they are over; infinite where there is no limit."""
        return math.inf if self._moment is None else self._moment - time.monotonic()

    def piece_ns(self, fed: bool) -> int:
        """How long to sleep now; 0: the wait is over."""
        piece = PIECE_NS if fed else GONE_NS
        if self._moment is None:
            return piece if fed else 0
        return max(0, int(min(self.left() * 1e9, piece)))


def wait_past(ring: ReattachingReader, after: int, timeout: float | None) -> int | None:
    """Sleep until the ring's count is past `after`: the count.

    None at the deadline or, without one, when the feeder has died. Where bars are
    numbered anew in another segment, its first bar is what is waited for.
    """
    deadline = Deadline(timeout)
    reader, after = _begun(ring, after)
    while True:
        piece = deadline.piece_ns(is_fed(reader.words))
        # The way to the caller is short: woken, he has the count.
        count = sleep_past(reader, after, piece)
        if count > after:
            return count
        last, reader = reader, ring.reader()
        if reader is not last:
            after = after if reader.count >= after else 0
        elif not piece:
            return None


def _begun(ring: ReattachingReader, after: int) -> tuple[RingReader, int]:
    """Its reader, and the number to pass there: `after` is of the segment in which the
    ring was last, and that may have gone while the caller was computing."""
    last, reader = ring.last_reader, ring.reader()
    anew = reader is not last and reader.count < after
    return reader, 0 if anew else after


R = TypeVar("R", bound=ReattachingReader)


class Post(NamedTuple, Generic[R]):
    """A ring that is watched, in one segment, and the bar number it is to pass."""

    ring: R
    reader: RingReader
    after: int


class Watch(Generic[R]):
    """What one caller waits for: the first of some rings to pass its bar number.

    Errors of a ring's verbs are those of `follow`, `wait` and the construction.
    """

    def __init__(self, wanted: Iterable[tuple[R, int]], timeout: float | None) -> None:
        self.deadline = Deadline(timeout)
        self._set([Post(ring, *_begun(ring, after)) for ring, after in wanted])

    def _set(self, posts: Sequence[Post[R]]) -> None:
        bits: dict[int, int] = {}
        segments: dict[int, Words] = {}
        for post in posts:
            words = post.reader.words
            segments[id(words)] = words
            bits[id(words)] = bits.get(id(words), 0) | wake_bit(post.reader.entry)
        self._posts = posts
        self.segments = [(segments[key], bits[key]) for key in segments]

    def closed(self) -> list[R]:
        """The rings that have passed their numbers, in the order given."""
        return [ring for ring, reader, after in self._posts if reader.count > after]

    def follow(self) -> bool:
        """Whether rings are in another segment by now; from here on they are watched
        there, as `wait_past` does."""
        posts: list[Post[R]] = []
        followed = False
        for ring, old, after in self._posts:
            reader = ring.reader()
            followed = followed or reader is not old
            anew = reader is not old and reader.count < after
            posts.append(Post(ring, reader, 0 if anew else after))
        if followed:
            self._set(posts)
        return followed

    def moved(self) -> bool:
        """Whether `follow` would find another segment."""
        return any(ring.reader() is not reader for ring, reader, _ in self._posts)

    def piece_ns(self) -> int:
        """How long to sleep now; 0 where the wait is over: at the deadline or, without
        one, when all the feeders have died."""
        return self.deadline.piece_ns(any(is_fed(words) for words, _ in self.segments))

    def wait(self) -> list[R]:
        """Sleep until some have `closed`: these; none where the wait is over."""
        while True:
            # Before the counts: see `bell`.
            keys: list[WaitEntry] = [
                (w, load_key(w), bits) for w, bits in self.segments
            ]
            closed = self.closed()
            if closed:
                return closed
            if self.follow():
                continue
            piece = self.piece_ns()
            if not piece:
                return self.closed()
            if wait_any(keys, piece) and (closed := self.closed()):
                return closed
