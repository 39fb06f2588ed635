"""The feeder of a segment whose identity a reader has accepted.

A new segment may hold rows of another market. Within a segment the next feeder's rows
are of the same identity, by the rule of `segment.identity`, or of its first one; but
its venues may be others. So a reader that cares compares the feeder, after it took rows
and before it uses them: a feeder stores its identity and source, then its start, then
rows.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from shmfeed.identity import FeedIdentity
from shmfeed.layout import H_NOTE, H_RELAYED, H_STARTED, Geometry
from shmfeed.memory.identity import read_identity
from shmfeed.memory.words import Ints
from shmfeed.segment.mapping import Mapping

# While this word of its `ints` is its `mark`, a feeder is the present one. It never is
# in layout 1.
STARTED = H_STARTED

Source = Literal["live", "relayed"]
Accept = Callable[[FeedIdentity | None], object]


class AcceptedFeeder(NamedTuple):
    """A feeder, as it was when its identity was accepted.

    Attributes:
        ints: The words of its segment.
        mark: A number that another feeder of the segment changes: H_STARTED or, in
            layout 1, one that H_STARTED never is. So one load tells if it is current.
        identity: The identity of its rows as text, None without one.
        source: "relayed" if a leader on another host made its rows, else "live".
    """

    ints: Ints
    mark: int
    identity: str | None
    source: Source = "live"

    def is_of(self, mapping: Mapping) -> bool:
        """Return True if it is the present feeder of this segment."""
        ints = mapping.words.ints
        return ints is self.ints and _mark(ints, mapping.geometry) == self.mark


def accept_feeder(mapping: Mapping, accept: Accept) -> AcceptedFeeder:
    """Return the feeder of a segment. Raise what `accept` raises for its identity."""
    words, geometry, _ = mapping
    mark = _mark(words.ints, geometry)  # before the identity, which is stored first
    identity = read_identity(words, geometry)
    accept(identity)
    name = None if identity is None else str(identity)
    return AcceptedFeeder(words.ints, mark, name, source_of(words.ints, geometry))


def source_of(ints: Ints, geometry: Geometry) -> Source:
    """Return where the rows of a segment come from."""
    is_relayed = geometry.version > 1 and ints[H_RELAYED] != 0
    return "relayed" if is_relayed else "live"


def _mark(ints: Ints, geometry: Geometry) -> int:
    # A feeder of layout 1 tells its identity in its note alone: there each note counts.
    return ints[H_STARTED] if geometry.version > 1 else -1 - ints[H_NOTE]
