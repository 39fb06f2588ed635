"""The words of a segment that a status is made of: state, counters, reasons, the note.

They are the header's, for the feed, and those of a stream's catalog entry. A status
reads them in `status.py`; no bar depends on them.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from shmfeed.bar import StreamKey
from shmfeed.errors import BadArgumentError
from shmfeed.layout import (
    CONNECTED,
    COUNTERS,
    E_AWAY,
    E_BACK,
    E_COMPARED,
    E_COUNTERS,
    E_GAPS,
    E_REASON,
    E_RECOVERING,
    E_SILENCE,
    E_SINCE,
    E_UPDATED,
    E_WHY,
    H_CLOCK_KNOWN,
    H_CLOCK_OFFSET,
    H_COUNTERS,
    H_LAST_MESSAGE,
    H_NEXT_ATTEMPT,
    H_NOTE,
    H_RELAYED,
    H_REPAIR_GRACE,
    H_STATE,
    H_STATE_SINCE,
    H_TEXT,
    NOTE_WORDS,
    REASONS,
    STATES,
    STREAM_COUNTERS,
    TEXT_WORDS,
    UNCOMPARED,
    WHY_WORDS,
    Reason,
    State,
)
from shmfeed.memory.catalog import Catalog
from shmfeed.memory.histogram import add_observations
from shmfeed.memory.holes import HoleRecord, read_holes, write_holes
from shmfeed.memory.note import WRITER, pack_facts, pack_note, pack_text
from shmfeed.memory.words import Latch, boot_ns
from shmfeed.segment.ownership import SegmentOwner
from shmfeed.text import repr_short
from shmfeed.validation import check_choice, check_int

_COUNTER = {name: H_COUNTERS + number for number, name in enumerate(COUNTERS)}
_STREAM_COUNTER = {name: E_COUNTERS + n for n, name in enumerate(STREAM_COUNTERS)}
_SECOND = 1_000_000_000
_MS = 1_000_000


class StreamMoments(NamedTuple):
    """The moments from which readers tell a stream's health: CLOCK_BOOTTIME ns.

    Attributes:
        since: The last (un)subscription.
        updated: The last append or forming update, 0: none yet.
        away: The connection's loss, 0 while one carries the stream.
        back: The connection's return after a loss, 0: none.
        compared: The last comparison with history, as in `set_compared`; 0: silences
            are not compared, UNCOMPARED: none was made yet.
    """

    since: int
    updated: int
    away: int
    back: int
    compared: int


class FeedMarks:
    """The half of a FeedWriter that sets the marks of a status.

    Each method raises FeedLostError once the right to write has ended, and stores
    nothing then. Those that name one stream raise BadArgumentError if the feed does not
    carry it.

    Thread safety: the writing thread alone may call it.
    """

    def __init__(self, owner: SegmentOwner, catalog: Catalog, what: str) -> None:
        self._owner = owner
        self._what = what
        self._use(catalog)
        self._texts: dict[str, object] = {}
        self._marks_connections = False

    def _use(self, catalog: Catalog) -> None:
        """Write to the segment of this catalog from now on."""
        self._words, self.geometry = catalog.words, catalog.geometry
        self._catalog = catalog
        self._note = Latch(self._words, H_NOTE, NOTE_WORDS)

    # The marks of an earlier feeder are erased: this one may never set them again.

    def _reset_feed(self, state: int) -> None:
        ints = self._words.ints
        self._store_state(state)
        for word in (H_CLOCK_KNOWN, H_CLOCK_OFFSET, H_NEXT_ATTEMPT, H_REPAIR_GRACE):
            ints[word] = 0

    def _reset_stream(self, index: int) -> None:
        # Until a connection carries it, a stream's connection is away.
        ints, at = self._words.ints, self.geometry.entry_word(index)
        for word in (E_RECOVERING, E_SILENCE, E_REASON, E_BACK, E_COMPARED):
            ints[at + word] = 0
        ints[at + E_AWAY] = 0 if ints[H_STATE] == CONNECTED else boot_ns()

    def set_state(self, state: "State") -> None:
        """Set the connection's state, of several connections the worst.

        Until the first call of `mark_connection` it is that of every stream. Raises
        BadArgumentError if it is not one of `layout.STATES`.
        """
        self._owner.check(self._what)
        new = STATES.index(check_choice("state", state, STATES))
        ints = self._words.ints
        if ints[H_STATE] != new:
            self._store_state(new)
            if not self._marks_connections:
                self._mark_connection(self._catalog.index, new == CONNECTED)

    def _store_state(self, state: int) -> None:
        self._words.ints[H_STATE_SINCE] = time.time_ns() // _MS
        self._words.ints[H_STATE] = state

    def set_next_attempt(self, at: float) -> None:
        """Set when a connection is tried next: CLOCK_BOOTTIME in seconds, 0 if none is.

        Readers see the time that is left.
        """
        self._owner.check(self._what)
        self._words.ints[H_NEXT_ATTEMPT] = round(at * _SECOND)

    def set_repair_grace(self, seconds: float) -> None:
        """Set how long a stream may count as recovering after its connection's return.

        It counts so until its first update, and not at all without a call of this.
        """
        self._owner.check(self._what)
        self._words.ints[H_REPAIR_GRACE] = round(seconds * _SECOND)

    def set_clock_offset(self, ms: float | None) -> None:
        """Set the venue's clock minus this host's, in ms; None if it is not known."""
        self._owner.check(self._what)
        ints = self._words.ints
        if ms is None:
            ints[H_CLOCK_KNOWN] = 0
        else:
            ints[H_CLOCK_OFFSET] = round(ms * _MS)
            ints[H_CLOCK_KNOWN] = 1

    def count(self, counter: str, n: int = 1) -> None:
        """Add `n` to a counter.

        Raises BadArgumentError if it is not one of `layout.COUNTERS`.
        """
        self._owner.check(self._what)
        n = n if type(n) is int else check_int("n", n, None)
        try:
            self._words.ints[_COUNTER[counter]] += n
        except (KeyError, TypeError, ValueError):
            check_choice("counter", counter, COUNTERS)
            raise BadArgumentError(f"n is {repr_short(n)}; it must be an int") from None

    def count_stream(self, key: "StreamKey", counter: str, n: int = 1) -> None:
        """Add `n` to a counter of a stream.

        Raises BadArgumentError if it is not one of `layout.STREAM_COUNTERS`.
        """
        at = self._entry(key)
        word = _STREAM_COUNTER.get(counter)
        if word is None:
            check_choice("counter", counter, STREAM_COUNTERS)
        else:
            self._words.ints[at + word] += n

    def count_latencies(
        self, number: int, buckets: Sequence[int], total_ns: int
    ) -> None:
        """Add observations to a latency histogram, `histogram.VENUE` or `PUBLISH`.

        `buckets` are the observations of each bucket, `total_ns` is their sum.
        """
        self._owner.check(self._what)
        add_observations(self._words, number, buckets, total_ns)

    def mark_message(self) -> None:
        """Record that the venue has just sent data."""
        self._owner.check(self._what)
        self._words.ints[H_LAST_MESSAGE] = boot_ns()

    def mark_stream(self, key: "StreamKey", *, gaps: int, recovering: bool) -> None:
        """Add `gaps` missing bars to a stream, and set if newer bars are held back."""
        at = self._entry(key)
        self._words.ints[at + E_GAPS] += gaps
        self._words.ints[at + E_RECOVERING] = recovering

    def stream_gaps(self, key: "StreamKey") -> int:
        """Return the number of missing bars that is stored of a stream."""
        number: int = self._words.ints[self._entry(key) + E_GAPS]
        return number

    def mark_connection(
        self, streams: "Iterable[StreamKey]", is_connected: bool
    ) -> None:
        """Record that streams have lost their connection, or have one again.

        A stream that is so marked already keeps its time. One that the feed does not
        carry is passed over: a connection may have more than there is memory for.
        """
        self._owner.check(self._what)
        self._marks_connections = True
        self._mark_connection(streams, is_connected)

    def _mark_connection(
        self, streams: Iterable[StreamKey], is_connected: bool
    ) -> None:
        ints, now, numbers = self._words.ints, boot_ns(), self._catalog.index
        for key in streams:
            if key not in numbers:
                continue
            at = self.geometry.entry_word(numbers[key])
            if is_connected and ints[at + E_AWAY]:
                ints[at + E_BACK] = now if ints[H_REPAIR_GRACE] else 0
                ints[at + E_AWAY] = 0
            elif not is_connected and not ints[at + E_AWAY]:
                ints[at + E_AWAY] = now

    def explain(self, key: "StreamKey", reason: "Reason", text: str) -> None:
        """Set why a stream's health is what it is; with "" and "" there is no reason.

        Args:
            key: The stream, subscribed now or earlier.
            reason: One of `layout.REASONS`: dropped (all of its messages are), refused
                (the venue did; it is left out), closed (it does not trade), polled
                (its bars come by REST), warming (its history is under way), muted (it
                alone is silent, and was asked for again).
            text: The reason in words; one that is too long is shortened. Never a
                secret.
        """
        at = self._entry(key)
        code = REASONS.index(check_choice("reason", reason, REASONS))
        ints = self._words.ints
        ints[at + E_REASON] = code
        Latch(self._words, at + E_WHY, WHY_WORDS).write(pack_text(text, WHY_WORDS))

    def set_holes(self, key: "StreamKey", holes: "Iterable[HoleRecord]") -> None:
        """Replace what is known of a stream's holes; [] if it has none.

        The rows show readers which bars are missing, and these records why. More than
        `layout.HOLES` records are merged, the oldest ones first.

        Raises BadArgumentError if a record has a state, a reason or times that are not
        accepted. The earlier records stay then.
        """
        self._owner.check(self._what)
        index = self._catalog.number(key, "mark")
        write_holes(self._words, self.geometry, index, holes)

    def holes(self, key: "StreamKey") -> "list[HoleRecord]":
        """Return the records that this writer, or an earlier one, has set last."""
        index = self._catalog.number(key, "mark")
        return read_holes(self._words, self.geometry, index) or []

    def set_silence(self, key: "StreamKey", seconds: float | None) -> None:
        """Set after how long without an update a stream is stale.

        None sets the default again: three timeframes, at least 30 s.
        """
        ns = 0 if seconds is None else max(1, round(seconds * _SECOND))
        self._words.ints[self._entry(key) + E_SILENCE] = ns

    def set_compared(self, key: "StreamKey", at: float | None) -> None:
        """Set when a stream was last compared with history, which had nothing newer.

        A silent stream is then quiet, until its next update or its connection's return.

        Args:
            key: The stream.
            at: CLOCK_BOOTTIME in seconds; 0 for not yet: the stream is recovering
                where it would be quiet. None, the default: silences are not compared.
        """
        ns = 0 if at is None else max(UNCOMPARED, round(at * _SECOND))
        self._words.ints[self._entry(key) + E_COMPARED] = ns

    def copy_moments(
        self,
        key: "StreamKey",
        moments: StreamMoments,
        recovering: bool,
        *,
        with_away: bool,
    ) -> None:
        """Set the moments of a stream as the feeder of another host has them.

        An update of the stream's bars sets `updated` to the present. `recovering` is
        that of `mark_stream`. Without `with_away` the connection's loss stays as it is.
        """
        at, ints = self._entry(key), self._words.ints
        self._marks_connections = True
        since, updated, away, back, compared = moments
        ints[at + E_UPDATED] = updated  # first: a bar must not look fresher than it is
        ints[at + E_SINCE], ints[at + E_COMPARED] = since, compared
        ints[at + E_BACK], ints[at + E_RECOVERING] = back, recovering
        if with_away:
            ints[at + E_AWAY] = away

    def copy_updates(self, streams: "Iterable[StreamKey]", updated: int) -> None:
        """Set when streams were updated last as another host's feeder has it, ns."""
        self._owner.check(self._what)
        ints, numbers = self._words.ints, self._catalog.index
        for key in streams:
            ints[self.geometry.entry_word(numbers[key]) + E_UPDATED] = updated

    def mark_relayed(self, heard_at: int, message_at: int | None) -> None:
        """Record when the link to a leader brought something: CLOCK_BOOTTIME ns.

        `message_at` is when the venue sent the leader data, None if it has not changed.
        """
        self._owner.check(self._what)
        self._words.ints[H_RELAYED] = heard_at
        if message_at is not None:
            self._words.ints[H_LAST_MESSAGE] = message_at

    def note(self, facts: Mapping[str, object]) -> None:
        """Publish facts for a status (endpoint, last error), never a secret.

        If they are too long for the segment, the longest texts are shortened.
        """
        self._owner.check(self._what)
        self._note.write(pack_note(facts))

    def set_text(self, key: str, value: object) -> None:
        """Publish facts of varying length under a key, for a status and a next feeder.

        Args:
            key: A name: `wants`, who wants which streams.
            value: A value that JSON can hold, never a secret. If not all fits, the
                lists in dicts of a list are left out, those of its last dicts first.
        """
        self._owner.check(self._what)
        texts = {**self._texts, WRITER: self._owner.epoch, key: value}
        packed = pack_facts(texts, TEXT_WORDS)
        self._texts = texts
        Latch(self._words, H_TEXT, TEXT_WORDS).write(packed)

    def _entry(self, key: StreamKey) -> int:
        self._owner.check(self._what)
        return self.geometry.entry_word(self._catalog.number(key, "mark"))
