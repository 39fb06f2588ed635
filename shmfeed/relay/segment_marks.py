"""The marks of a segment's streams and of its feed, read for a flush.

A stream's words are compared for all streams at once, and only the marks of those that
have changed become objects. Moments become ages as late as possible: an age that is too
small would make a bar look fresher than it is.
"""

from typing import Any

import numpy as np

from shmfeed.health import connection_state
from shmfeed.identity import FeedIdentity
from shmfeed.layout import (
    E_AWAY,
    E_BACK,
    E_COMPARED,
    E_HOLES,
    E_REASON,
    E_RECOVERING,
    E_SILENCE,
    E_SINCE,
    E_SUBSCRIBED,
    E_UPDATED,
    E_WHY,
    H_CLOCK_KNOWN,
    H_CLOCK_OFFSET,
    H_LAST_MESSAGE,
    H_NOTE,
    NOTE_WORDS,
    REASONS,
    UNCOMPARED,
    WHY_WORDS,
    Reason,
    State,
)
from shmfeed.memory.holes import HoleRecord, read_holes
from shmfeed.memory.identity import read_identity
from shmfeed.memory.liveness import is_alive
from shmfeed.memory.note import unpack_note, unpack_text
from shmfeed.memory.rows import IntArray
from shmfeed.memory.words import Latch, boot_ns
from shmfeed.relay.flush import NEVER, Head, StreamMarks
from shmfeed.segment.mapping import Mapping

_MS = 1_000_000
NO_IDENTITY = FeedIdentity("", "")  # of rows that name no source
_MOMENTS = (E_SINCE, E_UPDATED, E_AWAY, E_BACK, E_COMPARED)
_LATCHES = (E_HOLES, E_WHY)
_OTHERS = slice(len(_MOMENTS), -len(_LATCHES))
MARK_WORDS = np.array(
    [*_MOMENTS, E_SUBSCRIBED, E_SILENCE, E_RECOVERING, E_REASON, *_LATCHES]
)
_COMPARED = _MOMENTS.index(E_COMPARED)


class MarksReader:
    """The marks of one segment's streams, by their entry numbers."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        entries = mapping.geometry.max_streams
        # Of each entry, what its latches held, and their counters then.
        self._holes: list[tuple[HoleRecord, ...]] = [()] * entries
        self._whys = [""] * entries
        self._counters: IntArray = np.zeros((entries, len(_LATCHES)), np.int64)

    def marks(self, entries: IntArray, cells: IntArray) -> list[StreamMarks]:
        """Return the marks of some entries.

        Args:
            entries: The entries' numbers.
            cells: The words MARK_WORDS of each, as they were loaded.

        Raises BusyRingError.
        """
        self._read_latches(entries, cells[:, -len(_LATCHES) :])
        moments = cells[:, : len(_MOMENTS)]
        is_uncompared = moments[:, _COMPARED] == UNCOMPARED
        ages = _ages(moments, boot_ns())
        ages[is_uncompared, _COMPARED] = 0
        subscribed, silence, recovering, reason = cells[:, _OTHERS].T
        numbers = entries.tolist()
        columns = (
            (subscribed != 0).tolist(),
            *ages.T.tolist(),
            is_uncompared.tolist(),
            (-(-silence // _MS)).tolist(),
            (recovering != 0).tolist(),
            map(_reason, reason.tolist()),
            map(self._whys.__getitem__, numbers),
            map(self._holes.__getitem__, numbers),
        )
        return list(map(StreamMarks._make, zip(*columns, strict=True)))

    def forget(self, entry: int) -> None:
        """Forget what is known of an entry that was given to another stream."""
        self._counters[entry] = 0
        self._holes[entry], self._whys[entry] = (), ""

    def _read_latches(self, entries: IntArray, counters: IntArray) -> None:
        """Read the holes and reasons that have changed."""
        words, geometry, _ = self._mapping
        has_changed = (counters != self._counters[entries]).any(axis=1)
        for entry in entries[has_changed].tolist():
            at = geometry.entry_word(entry)
            self._holes[entry] = tuple(read_holes(words, geometry, entry) or ())
            self._whys[entry] = unpack_text(Latch(words, at + E_WHY, WHY_WORDS).read())
        self._counters[entries] = counters


def _reason(code: int) -> Reason:
    return REASONS[code] if 0 <= code < len(REASONS) else ""


def _ages(moments: IntArray, now: int) -> IntArray:
    # Rounded up: an age may be too large, never too small.
    ages = np.maximum(0, -((moments - now) // _MS))
    return np.where(moments == 0, NEVER, ages)


def feed_state(mapping: Mapping) -> State:
    """Return the feed's state: `disconnected` if its feeder is dead."""
    ints = mapping.words.ints
    return connection_state(ints, is_alive(ints, boot_ns()))


def feed_identity(mapping: Mapping) -> FeedIdentity:
    """Return the identity of a segment's rows."""
    return read_identity(mapping.words, mapping.geometry) or NO_IDENTITY


def read_head(mapping: Mapping, leader: str, since: int) -> Head:
    """Return the head of a feed that `leader` publishes since then.

    Raises BusyRingError.
    """
    ints = mapping.words.ints
    note: dict[str, Any] = unpack_note(Latch(mapping.words, H_NOTE, NOTE_WORDS).read())
    error = note.get("last_error")
    last, now = ints[H_LAST_MESSAGE], boot_ns()
    return Head(
        feed_identity(mapping),
        leader,
        since,
        feed_state(mapping),
        error if isinstance(error, str) else "",
        ints[H_CLOCK_OFFSET] / _MS if ints[H_CLOCK_KNOWN] else None,
        max(0, -((last - now) // _MS)) if last else NEVER,
    )


def entry_words(mapping: Mapping) -> IntArray:
    """Return the word at which each entry of a segment begins."""
    geometry = mapping.geometry
    first, size = geometry.entry_word(0), geometry.entry_words
    return first + np.arange(geometry.max_streams) * size
