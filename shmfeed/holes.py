"""The holes of a feed, as readers see them: missing bars, and why they are missing."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shmfeed.bar import StreamKey, Timeframe, check_timeframe
from shmfeed.core import RingReader
from shmfeed.layout import Geometry, HoleReason, HoleState
from shmfeed.memory.catalog import streams_not_found
from shmfeed.memory.holes import (
    Gap,
    HoleRecord,
    find_gaps,
    read_holes,
    worst_record,
)
from shmfeed.memory.identity import read_identity
from shmfeed.memory.words import Words
from shmfeed.validation import check_symbol

_TEXTS: dict[HoleReason, str] = {
    "": "history has not been asked for it yet",
    "no_source": "there is no source of history",
    "away": "history does not answer",
    "blocked": "the source of history asks to wait",
    "refused": "the source of history refuses the request",
    "malformed": "the answers of history cannot be used",
    "disbelieved": "history disagrees with the venue's closing messages",
    "absent": "history has no such bars",
    "no_room": "/dev/shm has no room for the repair",
    "accepted": "accepted by shmfeed gaps --accept",
}
_UNREPAIRED = "no feeder repairs these rows"


class Hole(NamedTuple):
    """Bars that are missing between two closed bars of a stream.

    Attributes:
        symbol, timeframe: The stream.
        first, last: Open times of the first and the last missing bar, int ms UTC.
        missing: The number of missing bars.
        state: `open` (history is asked for it), `given_up` (it is asked for again at
            long distances, and by `shmfeed gaps --retry`), `none_at_venue` (the venue
            has no such bars, which is not a fault).
        reason: The reason in words.
    """

    symbol: str
    timeframe: Timeframe
    first: int
    last: int
    missing: int
    state: HoleState
    reason: str


def named_streams(
    feed: str, subscribed: Sequence[StreamKey], symbol: object, timeframe: object
) -> Sequence[StreamKey]:
    """Return the streams of a feed that a symbol and a timeframe name; None names all.

    Both together name one stream, subscribed or not.

    Raises:
        BadArgumentError: A name is not accepted.
        StreamNotFoundError: No subscribed stream has this name.
    """
    named = None if symbol is None else check_symbol(symbol)
    length = None if timeframe is None else check_timeframe(timeframe)
    if named is not None and length is not None:
        return [(named, length)]
    found = [
        key
        for key in subscribed
        if named in (None, key[0]) and length in (None, key[1])
    ]
    if not found and (named or length):
        raise streams_not_found(feed, named or f"any {length}", subscribed)
    return found


def find_holes(reader: RingReader, key: StreamKey) -> list[Hole]:
    """Return the holes between the stream's closed bars, oldest first.

    The rows show the holes, and the feeder's marks say what became of each.

    Raises BusyRingError if the writer outran the read for 10 ms.
    """
    gaps = _read_gaps(reader, key[1])
    if not gaps:
        return []
    words, geometry = reader.words, reader.geometry
    marks = read_holes(words, geometry, reader.index)
    reader.check_carried()
    if marks is None and not _is_repaired(words, geometry):
        return [Hole(*key, *gap, "given_up", _UNREPAIRED) for gap in gaps]
    return [_explain(key, gap, marks or ()) for gap in gaps]


def _is_repaired(words: Words, geometry: Geometry) -> bool:
    # A feeder has an identity; one of layout 1 repairs nothing.
    return geometry.version > 1 and read_identity(words, geometry) is not None


def _read_gaps(reader: RingReader, timeframe: str) -> list[Gap]:
    budget = None
    while True:
        rows = reader.view(reader.geometry.history)
        gaps = find_gaps(rows, timeframe)
        if rows.valid:
            return gaps
        budget = budget or reader.retry_budget("holes")
        budget.spend()


def _explain(key: StreamKey, gap: Gap, marks: Iterable[HoleRecord]) -> Hole:
    about = [m for m in marks if m.first <= gap.last and gap.first <= m.last]
    mark = worst_record(about or [HoleRecord(*gap)])
    return Hole(*key, *gap, mark.state, _TEXTS[mark.reason])
