"""The writing half of a feed: add streams, send heartbeats, close.

The feeder uses it. Through `create` tests, benchmarks and other feeders do.
"""

import math
import os
from collections.abc import Collection, Iterable
from typing import NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import StreamKey, Timeframe, TimeframeAlias, check_timeframe
from shmfeed.capacity import FeedCapacity, first_epoch
from shmfeed.core import Eventcount, RingReader, RingWriter
from shmfeed.identity import FeedIdentity
from shmfeed.layout import (
    E_FORMING,
    FORMING_WORDS,
    H_ALIVE,
    H_RELAYED,
    H_STARTED,
    H_SUSPENDED,
    H_TICK,
    H_WRITER_PID,
    MAX_HISTORY,
    MAX_STREAMS,
    NO_BAR,
    STATES,
    TIME_LIMIT,
    UNHEARD,
    Geometry,
    State,
    default_guard,
)
from shmfeed.memory.catalog import Catalog, check_keys, entries, no_stream
from shmfeed.memory.futex import ALL_BITS
from shmfeed.memory.identity import read_identity, write_identity
from shmfeed.memory.integrity import damage_as_error
from shmfeed.memory.right import not_copied
from shmfeed.memory.rows import ROW
from shmfeed.memory.swap import cut_rows, drop_rows, replace_rows
from shmfeed.memory.wakeup import wake_bits
from shmfeed.memory.words import Latch, boot_ns, suspended_ns
from shmfeed.segment.identity import IdentityRule
from shmfeed.segment.locking import FeedLocks
from shmfeed.segment.mapping import place
from shmfeed.segment.ownership import SegmentOwner
from shmfeed.segment.recovery import migrate
from shmfeed.validation import (
    check_choice,
    check_flag,
    check_int,
    check_symbol,
)


def create(
    name: str,
    history: int = 1000,
    guard: int | None = None,
    max_streams: int = 16,
    *,
    state: "State" = "connected",
    streams: "Iterable[StreamKey]" = (),
    identity: "FeedIdentity | None" = None,
    replace: bool = False,
    group: str | None = None,
) -> "FeedWriter":
    """Create the segment of a feed, or reuse one of the same geometry, and write it.

    A segment that is damaged or of another geometry is recreated: the bars of its
    subscribed streams are copied into the new one, as far as they fit. The log names
    damage and what was dropped.

    Args:
        name: The feed's name.
        history: Closed bars that a reader of a stream can ask for, at least 1.
        guard: Bars that may close before a slice of `history` bars is invalid, at
            least 1. Default: a quarter of `history`, at least 16.
        max_streams: Streams that the segment can carry.
        state: The initial state of the connection.
        streams: (symbol, timeframe) pairs to add before a new segment can be attached
            to. If they do not all fit, none is added.
        identity: Where the rows come from, for a segment that names it. None leaves
            what an earlier writer has stored.
        replace: True drops stored bars of another identity, with their streams and
            the counters.
        group: A group of this process, by name or number, whose members may read the
            feed; see `attach(owner=...)`. None: this user alone.

    Returns:
        The feed's one writer. Close it, or use it as a context manager.

    Raises:
        BadArgumentError: A name or a number is not accepted, bars of another identity
            are stored, or this process is not in the group.
        FeedBusyError: Another process writes the feed; `pid` names it.
        SegmentFullError: /dev/shm has not enough space for the segment.
        SegmentFormatError: A file of the segment's name is not a segment of this user.
        SegmentError: The host refuses: permissions, descriptors, memory.
        UnsupportedPlatformError: Live feeds cannot work on this host.

    Thread safety: any thread may call it. The writer belongs to one thread.
    """
    history = check_int("history", history, 1, MAX_HISTORY)
    if guard is None:
        guard = default_guard(history)
    guard = check_int("guard", guard, 1, MAX_HISTORY)
    max_streams = check_int("max_streams", max_streams, 1, MAX_STREAMS)
    check_choice("state", state, STATES)
    wanted = check_keys(streams)
    rule = None if identity is None else IdentityRule(name, identity, replace)
    geometry = Geometry(max_streams, history, guard)
    return FeedWriter(name, geometry, state, wanted, rule, group)


class FeedWriter(FeedCapacity):
    """The one writer of a feed, made by `create`.

    As a context manager it closes itself on exit and keeps the segment. `reused` is
    True if the segment existed before.

    The right to write ends with `close`. Without it, the right lasts as long as this
    object or any RingWriter of it. It also ends when this process loses the feed: a
    file of it was removed or replaced, a descriptor of its locks was closed, or another
    writer took it. A forked child has no right. Each method that writes then raises
    FeedLostError and stores nothing.

    Thread safety: one thread writes. Another one may call `beat_alive`.
    """

    def __init__(
        self,
        name: str,
        geometry: Geometry,
        state: "State" = "connected",
        streams: "Collection[StreamKey]" = (),
        rule: IdentityRule | None = None,
        group: str | None = None,
        locks: FeedLocks | None = None,
        is_relayed: bool = False,
    ) -> None:
        where = place(name)
        self._owner = SegmentOwner(where, geometry, rule, group, locks)
        self.name = where.name
        self.reused = self._owner.reused
        words, geometry, _ = self._owner.mapping
        reserve = self._owner.reserve_slots
        catalog = Catalog(words, geometry, first_epoch(), reserve)
        super().__init__(self._owner, catalog, f"feed {self.name!r}")
        try:
            self._take_over(STATES.index(state), streams, rule, is_relayed)
        except BaseException:
            self._owner.release(unlink=not self.reused)
            raise

    def _take_over(
        self,
        state: int,
        streams: Collection[StreamKey],
        rule: IdentityRule | None,
        is_relayed: bool,
    ) -> None:
        ints, previous = self._words.ints, self._owner.previous
        identity = rule.identity if rule is not None else None
        if identity is None and previous is not None:
            identity = read_identity(previous.words, previous.geometry)
        if identity is not None:  # before the pid, by which others find the identity
            write_identity(self._words, identity)
        ints[H_RELAYED] = UNHEARD if is_relayed else 0  # before the start, as identity
        ints[H_WRITER_PID] = os.getpid()
        ints[H_STARTED] = boot_ns()
        self._reset_feed(state)
        self.beat()
        mapping = self._owner.mapping
        if previous is not None and self._owner.keeps_bars:
            migrate(previous, mapping, self._catalog, streams)
        for index in self._catalog.index.values():
            self._reset_stream(index)
        if self.has_capacity_for(streams):
            for key in self.known_first(streams):
                self.add_stream(*key)
        self._owner.publish()
        if previous is not None:
            Eventcount(previous.words).notify(ALL_BITS)  # its readers look for this one
        self._owner.previous = None  # unmapped with its last reader
        self._eventcount.notify(ALL_BITS)

    def add_stream(
        self, symbol: str, timeframe: "Timeframe | TimeframeAlias"
    ) -> RingWriter:
        """Subscribe a stream, new or known, and return the writer of its ring.

        Once `max_streams` is reached, a new stream takes the place of the one that was
        unsubscribed longest ago; that stream's writer is closed and its bars are gone.

        Args:
            symbol: As readers will ask for it; case matters.
            timeframe: One of `bar.TIMEFRAMES`, or an alias.

        Returns:
            The stream's RingWriter, the same one at each call.

        Raises:
            BadArgumentError: A name is not accepted.
            SegmentFullError: `max_streams` is reached, or /dev/shm is full. Nothing was
                changed.
            SegmentFormatError: The segment was damaged by another program.
        """
        self._owner.check(self._what)
        key = check_symbol(symbol), check_timeframe(timeframe)
        with damage_as_error(self._words):
            displaced = self._catalog.displaced_by(key)
            was_subscribed = self._catalog.is_subscribed(key)
            index = self._catalog.add(key, boot_ns())
            if not was_subscribed:
                self._reset_stream(index)
            if displaced in self._rings:
                self._rings.pop(displaced).close()
            if key not in self._rings:
                self._rings[key] = RingWriter(
                    self._words,
                    self.geometry,
                    index,
                    key,
                    self._eventcount,
                    self._owner,
                )
        return self._rings[key]

    def unsubscribe(self, symbol: str, timeframe: "Timeframe | TimeframeAlias") -> None:
        """Mark a stream as unsubscribed. Its bars stay readable.

        Raises BadArgumentError for a stream that the feed does not carry.
        """
        self._owner.check(self._what)
        key = check_symbol(symbol), check_timeframe(timeframe)
        self._catalog.unsubscribe(key, boot_ns())

    def replace_rows(
        self,
        symbol: str,
        timeframe: "Timeframe | TimeframeAlias",
        rows: "NDArray[np.float64]",
    ) -> int:
        """Replace a stream's closed bars by these, in one step. Wakes no reader.

        The stream's epoch rises, and its count by the number of bars that it did not
        have. Slices that were taken before stay valid for `guard` bars at least, if
        there is memory: see `unrested_slots`.

        Args:
            symbol, timeframe: A stream that `add_stream` has returned a writer of.
            rows: float64 (9, n), n at least 1, as `Rows.block`: all bars that the
                stream shall have, oldest first, up to its last closed bar or beyond.
                The newest `history` of them are used, and stored as they are.

        Returns:
            The stream's count, the number of its next bar.

        Raises:
            BadArgumentError: There is no such stream; the rows are malformed, or end
                before the stream's last closed bar.
            SegmentFullError: There is no room for another copy of the stream's rows.
            FeedLostError: The writer is closed, or lost the feed.

        No error changes the stream.
        """
        self._owner.check(self._what)
        key = check_symbol(symbol), check_timeframe(timeframe)
        index, ring = self._to_repair(key)
        with damage_as_error(self._words):
            return replace_rows(self._catalog, index, rows, key[1], ring._enter_slot)

    def cut_rows(
        self,
        symbol: str,
        timeframe: "Timeframe | TimeframeAlias",
        from_open_time: int,
    ) -> int:
        """Drop a stream's bars from `from_open_time` on, in one step. Wakes no reader.

        The stream's epoch rises, its count stays. A forming bar from then on is dropped
        too. Slices that were taken before stay valid as after `replace_rows`.

        Args:
            symbol, timeframe: A stream that `add_stream` has returned a writer of.
            from_open_time: int ms UTC.

        Returns:
            The number of bars that were dropped, a forming one among them.

        Raises:
            BadArgumentError: There is no such stream, or the time is not an int.
            SegmentFullError: There is no room for another copy of the stream's rows.
            FeedLostError: The writer is closed, or lost the feed.

        No error changes the closed bars.
        """
        self._owner.check(self._what)
        key = check_symbol(symbol), check_timeframe(timeframe)
        first = check_int("from_open_time", from_open_time, None)
        index, ring = self._to_repair(key)
        forming = ring.reader.forming()
        with damage_as_error(self._words):
            dropped = cut_rows(self._catalog, index, first, ring._enter_slot)
        # Afterwards: a forming bar that is older than the dropped rows is not seen.
        cell = ring.reader.forming_cell()
        if cell is not None and cell.open_time >= first:
            at = self.geometry.entry_word(index) + E_FORMING
            nothing = ROW.pack(NO_BAR, NO_BAR, *[math.nan] * 6, 0)
            Latch(self._words, at, FORMING_WORDS).write(nothing)
        return dropped + (forming is not None and forming.open_time >= first)

    def drop_rows(
        self,
        symbol: str,
        timeframe: "Timeframe | TimeframeAlias",
        first_kept: int | None = None,
    ) -> int:
        """Drop a stream's bars before one, in one step. Wakes no reader.

        The stream's epoch rises, its count stays, and so does its forming bar. Slices
        that were taken before stay valid as after `replace_rows`.

        Args:
            symbol, timeframe: A stream that `add_stream` has returned a writer of.
            first_kept: The open time from which bars are kept, int ms UTC; None drops
                all.

        Returns:
            The number of bars that were dropped, of those that readers could ask for.

        Raises:
            BadArgumentError: There is no such stream, or the time is not an int.
            SegmentFullError: There is no room for another copy of the stream's rows.
            FeedLostError: The writer is closed, or lost the feed.

        No error changes the bars.
        """
        self._owner.check(self._what)
        key = check_symbol(symbol), check_timeframe(timeframe)
        last = TIME_LIMIT if first_kept is None else first_kept
        first = check_int("first_kept", last, None)
        index, ring = self._to_repair(key)
        with damage_as_error(self._words):
            return drop_rows(self._catalog, index, first, ring._enter_slot)

    def _to_repair(self, key: StreamKey) -> tuple[int, RingWriter]:
        """Return a stream's entry number and writer. Raise BadArgumentError."""
        ring = self._rings.get(key)
        if ring is None:
            raise no_stream(key, "repair", self._rings)
        return self._catalog.index[key], ring

    @property
    def unrested_slots(self) -> int:
        """The number of repairs that used memory again within `guard` bars.

        Slices of the rows that lay there have become invalid, unless their process read
        the stream, or waited on it, before.
        """
        return self._catalog.slots.unrested

    def reader(self, key: "StreamKey") -> RingReader:
        """Return a reader of a stream's rows, for a thread other than the writer's.

        Raises BadArgumentError for a stream that the feed does not carry.
        """
        catalog = self._catalog  # `enlarge` may replace it meanwhile
        index = catalog.index.get(key)
        if index is None:
            raise no_stream(key, "read", catalog.index)
        return RingReader(catalog.words, catalog.geometry, index)

    def streams(self) -> "list[StreamKey]":
        """Return the subscribed (symbol, timeframe) pairs, in order of subscription."""
        return [
            (entry.symbol, entry.timeframe)
            for entry in entries(self._words, self.geometry)
            if entry.subscribed
        ]

    def share_locks(self) -> FeedLocks:
        """Return the feed's locks by descriptors of their own, for the next writer.

        Raises FeedLostError once the right to write has ended.
        """
        self._owner.check_owned()
        return self._owner.share_locks()

    @property
    def may_write(self) -> bool:
        """True while the right to write lasts."""
        return self._owner.is_held

    @property
    def epoch(self) -> int:
        """The number that tells this writer from each other one of the segment."""
        return self._owner.epoch

    def beat(self) -> None:
        """Store both heartbeats. Call it every 0.5 s if nothing is written.

        Raises FeedLostError if the segment or the lock file was removed or replaced,
        the segment was truncated, or a lock was lost. Writing has ended then.
        """
        self._owner.check_owned()  # first: a store past a truncated end is SIGBUS
        now = boot_ns()
        self._words.ints[H_SUSPENDED] = suspended_ns() + 1
        self._words.ints[H_ALIVE] = now
        self._words.ints[H_TICK] = now

    def beat_alive(self) -> None:
        """Store the heartbeat of the thread: the process runs, perhaps stuck."""
        self._owner.check_owned()
        self._words.ints[H_SUSPENDED] = suspended_ns() + 1
        self._words.ints[H_ALIVE] = boot_ns()

    def tick(self) -> None:
        """Store the heartbeat of the main loop."""
        self._owner.check(self._what)
        self._words.ints[H_TICK] = boot_ns()

    def wake(self, streams: "Iterable[StreamKey] | None" = None) -> None:
        """Wake the readers that wait for one of these streams, with one system call.

        Call it after `append(..., wake=False)`. None wakes all readers of the
        feed. Raises BadArgumentError for a stream that the feed does not carry.
        """
        self._owner.check(self._what)
        bits = (
            ALL_BITS if streams is None else wake_bits(self._catalog.indices(streams))
        )
        if bits:
            self._eventcount.notify(bits)

    def close(self, unlink: bool = False) -> None:
        """Stop writing and release the feed.

        The segment stays readable, or is removed with `unlink`. Idempotent. Does
        nothing in a forked child, and leaves a segment alone that was lost.
        """
        unlink = check_flag("unlink", unlink)
        ints, held = self._words.ints, self._owner.holds_segment()
        if held:
            self._store_state(0)
            ints[H_ALIVE] = ints[H_TICK] = 0
            self._eventcount.notify(ALL_BITS)  # before another writer can own it
        self._owner.release(unlink)
        if held and unlink:
            self._eventcount.notify(ALL_BITS)  # it is retired and has no other owner

    def __reduce__(self) -> NoReturn:
        raise not_copied("FeedWriter")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
