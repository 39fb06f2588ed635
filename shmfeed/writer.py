"""The writing half of a feed: who holds one, adds its streams and states how it is.

For the feeder, and for tests, benchmarks and other feeders through `create`.
"""

import os
import weakref
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Self

from shmfeed.bar import StreamKey, check_timeframe
from shmfeed.core import Eventcount, RingWriter
from shmfeed.errors import BadArgumentError, FeedLostError
from shmfeed.layout import (
    COUNTERS,
    E_GAPS,
    E_RECOVERING,
    H_ALIVE,
    H_COUNTERS,
    H_LAST_MESSAGE,
    H_NOTE,
    H_STARTED,
    H_STATE,
    H_TICK,
    H_WRITER_EPOCH,
    H_WRITER_PID,
    MAX_HISTORY,
    MAX_STREAMS,
    NOTE_WORDS,
    STATES,
    Geometry,
    State,
    default_guard,
)
from shmfeed.memory.catalog import Catalog, checked_names, entries
from shmfeed.memory.futex import ALL
from shmfeed.memory.integrity import trusted
from shmfeed.memory.note import pack_note
from shmfeed.memory.wakeup import bits_of
from shmfeed.memory.words import Latch, boot_ns
from shmfeed.segment.mapping import place
from shmfeed.segment.ownership import SegmentOwner
from shmfeed.segment.recovery import carry_over
from shmfeed.validation import (
    check_flag,
    check_integer,
    check_symbol,
    check_whole,
    check_word,
    shown,
)

_COUNTER = {name: H_COUNTERS + number for number, name in enumerate(COUNTERS)}
# A segment's first epoch is its birth in units that pass faster than streams are
# added: it is above every epoch of an earlier segment. 47 bits last for 18 years.
_EPOCH_NS = 4096


def create(
    name: str,
    history: int = 1000,
    guard: int | None = None,
    max_streams: int = 16,
    *,
    state: State = "connected",
    streams: Iterable[StreamKey] = (),
) -> "FeedWriter":
    """Become the writer of a feed: its segment is made, or gone on with.

    `history` is the number of closed bars kept for readers of each stream, `guard`
    how many more may close before a slice of them goes stale (default: a quarter of
    `history`, at least 16). A segment of the same geometry that no one holds is gone
    on with; of another geometry, or damaged, it is replaced, and the sound bars of
    what is subscribed are taken over, as far as there is room. `state` is what readers
    see at first, and `streams`, (symbol, timeframe) pairs, what they find: they are in
    a new segment before it can be attached to, unless there is no room for them all.
    The log names damage, and streams that had to be left out.

    Raises BadArgumentError, FeedBusyError naming the holder's pid, SegmentFullError,
    SegmentFormatError for a file that is not ours, and `attach`'s host errors.
    """
    history = check_whole("history", history, 1, MAX_HISTORY)
    if guard is None:
        guard = default_guard(history)
    guard = check_whole("guard", guard, 1, MAX_HISTORY)
    max_streams = check_whole("max_streams", max_streams, 1, MAX_STREAMS)
    check_word("state", state, STATES)
    wanted = checked_names(streams)
    return FeedWriter(name, Geometry(max_streams, history, guard), state, wanted)


class FeedWriter:
    """The one writer of a feed; all writing from one thread.

    A context manager: leaving it closes the writer, and the segment stays. In a
    forked child it is closed from the start.
    """

    def __init__(
        self,
        name: str,
        geometry: Geometry,
        state: State = "connected",
        streams: Collection[StreamKey] = (),
    ) -> None:
        where = place(name)
        self._holding = SegmentOwner(where, geometry)
        self.name = where.name
        self.adopted = self._holding.adopted
        self._open = True
        words, self.geometry, _ = self._holding.mapping
        self._words = words
        self._rings: dict[StreamKey, RingWriter] = {}
        self._catalog = Catalog(words, geometry, boot_ns() // _EPOCH_NS)
        self._note = Latch(words, H_NOTE, NOTE_WORDS)
        self._eventcount = Eventcount(words)
        try:
            self._take_over(STATES.index(state), streams)
        except BaseException:
            self._holding.release(unlink=not self.adopted)
            raise
        _writers.add(self)

    def _take_over(self, state: int, streams: Collection[StreamKey]) -> None:
        ints = self._words.ints
        ints[H_WRITER_PID] = os.getpid()
        ints[H_WRITER_EPOCH] += 1
        ints[H_STARTED] = boot_ns()
        ints[H_STATE] = state
        for index in self._catalog.index.values():
            ints[self.geometry.entry_word(index) + E_RECOVERING] = 0
        self.beat()
        previous, mapping = self._holding.previous, self._holding.mapping
        if previous is not None:
            carry_over(previous, mapping, self._catalog, streams)
        if self.room(streams):
            for names in streams:
                self.add_stream(*names)
        self._holding.publish()
        if previous is not None:
            Eventcount(previous.words).ring(ALL)  # it is retired: look for this one
        self._holding.previous = None  # its pages go with its last reader
        self._eventcount.ring(ALL)

    def add_stream(self, symbol: str, timeframe: str) -> RingWriter:
        """The ring of a stream, made if the feed does not have it yet.

        Raises BadArgumentError for names that are not accepted, or no room left,
        SegmentFormatError where the segment was damaged meanwhile.
        """
        self._check_open()
        names = check_symbol(symbol), check_timeframe(timeframe)
        with trusted(self._words):
            index = self._catalog.add(names, boot_ns())
            if names not in self._rings:
                self._rings[names] = RingWriter(
                    self._words, self.geometry, index, names, self._eventcount
                )
        return self._rings[names]

    def unsubscribe(self, symbol: str, timeframe: str) -> None:
        """Say that a stream is no longer fed; its bars stay readable."""
        self._check_open()
        names = check_symbol(symbol), check_timeframe(timeframe)
        self._catalog.unsubscribe(names, boot_ns())

    def streams(self) -> list[StreamKey]:
        """What is subscribed."""
        return [
            (entry.symbol, entry.timeframe)
            for entry in entries(self._words, self.geometry)
            if entry.subscribed
        ]

    def room(self, streams: Iterable[StreamKey]) -> bool:
        """Whether all these streams fit, beside those that were carried already."""
        new = set(streams) - self._catalog.index.keys()
        return len(self._catalog.index) + len(new) <= self.geometry.max_streams

    def beat(self) -> None:
        """Say that this writer lives, at least every 0.5 s where nothing is written.

        Raises FeedLostError when segment or lock were taken away: stop writing then.
        """
        self._check_open()
        self._holding.check()  # first: in a segment that was cut a store is death
        now = boot_ns()
        self._words.ints[H_ALIVE] = now
        self._words.ints[H_TICK] = now

    def beat_alive(self) -> None:
        """The beat thread's half of `beat`: the process lives, working or not."""
        self._check_open()
        self._holding.check()
        self._words.ints[H_ALIVE] = boot_ns()

    def tick(self) -> None:
        """The main loop's half of `beat`: it works."""
        self._check_open()
        self._words.ints[H_TICK] = boot_ns()

    def set_state(self, state: State) -> None:
        """The connection's state, one of `layout.STATES`; else BadArgumentError."""
        self._check_open()
        self._words.ints[H_STATE] = STATES.index(check_word("state", state, STATES))

    def count(self, counter: str, n: int = 1) -> None:
        """Add to one of `layout.COUNTERS`."""
        self._check_open()
        n = n if type(n) is int else check_integer("n", n)
        try:
            self._words.ints[_COUNTER[counter]] += n
        except (KeyError, TypeError, ValueError):
            check_word("counter", counter, COUNTERS)
            raise BadArgumentError(f"n is {shown(n)}; it must be an int") from None

    def mark_message(self) -> None:
        """Say that the venue has sent data just now."""
        self._check_open()
        self._words.ints[H_LAST_MESSAGE] = boot_ns()

    def mark_stream(self, names: StreamKey, *, gaps: int, recovering: bool) -> None:
        """How many bars a stream missed more, and whether newer ones are held back."""
        self._check_open()
        at = self.geometry.entry_word(self._catalog.index[names])
        self._words.ints[at + E_GAPS] += gaps
        self._words.ints[at + E_RECOVERING] = recovering

    def note(self, facts: Mapping[str, object]) -> None:
        """Text for whoever observes (endpoint, last error); never a secret.

        A text too long for its place is cut, the longest of them first.
        """
        self._check_open()
        self._note.write(pack_note(facts))

    def wake(self, streams: Iterable[StreamKey] | None = None) -> None:
        """Wake who waits for bars of these streams, by one call for all of them:
        after `append(..., wake=False)` to each. None: wake whoever waits.

        Raises BadArgumentError for a stream that the feed does not carry.
        """
        self._check_open()
        bits = ALL if streams is None else bits_of(self._catalog.numbers(streams))
        if bits:
            self._eventcount.ring(bits)

    def close(self, unlink: bool = False) -> None:
        """Stop writing. With `unlink` the segment goes; else it stays, readable.

        Idempotent; in a forked child it does nothing.
        """
        unlink = check_flag("unlink", unlink)
        if not self._open:
            return
        ints, whole = self._words.ints, self._holding.is_whole()
        if whole:
            ints[H_STATE] = 0
            ints[H_ALIVE] = ints[H_TICK] = 0
            self._eventcount.ring(ALL)  # while nobody else may write
        self._holding.release(unlink)
        if whole and unlink:
            self._eventcount.ring(ALL)  # now that it is retired; it is nobody else's
        self.disown()

    def disown(self) -> None:
        """Write nothing any more, and release nothing: what a forked child does."""
        self._open = False
        for ring in self._rings.values():
            ring.close()

    def _check_open(self) -> None:
        if not self._open:
            raise FeedLostError(
                f"this writer of feed {self.name!r} is closed, or was made by the"
                " parent of this process"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_writers: weakref.WeakSet[FeedWriter] = weakref.WeakSet()


def _disown_all() -> None:
    for writer in list(_writers):
        writer.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
