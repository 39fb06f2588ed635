"""The room of a feed for streams: what fits, its memory, and a larger segment."""

from collections.abc import Iterable

from shmfeed.bar import StreamKey
from shmfeed.core import Eventcount, RingWriter
from shmfeed.layout import MAX_STREAMS
from shmfeed.marks import FeedMarks
from shmfeed.memory.catalog import Catalog
from shmfeed.memory.futex import ALL_BITS
from shmfeed.memory.slots import Reserve
from shmfeed.memory.words import boot_ns
from shmfeed.segment.enlarging import copy_feed
from shmfeed.segment.mapping import Mapping
from shmfeed.segment.ownership import SegmentOwner
from shmfeed.validation import check_int

# A segment's first epoch is the time of its creation, in units shorter than it takes
# to add a stream. It is above each epoch of an earlier segment of this boot. 47 bits
# last 18 years.
_EPOCH_NS = 4096


def first_epoch() -> int:
    """Return an epoch above each of this feed's earlier segments."""
    return boot_ns() // _EPOCH_NS


class FeedCapacity(FeedMarks):
    """The part of a FeedWriter that has room for streams, and makes more of it.

    Thread safety: the writing thread alone may call it.
    """

    def __init__(self, owner: SegmentOwner, catalog: Catalog, what: str) -> None:
        super().__init__(owner, catalog, what)
        self._rings: dict[StreamKey, RingWriter] = {}
        self._eventcount = Eventcount(catalog.words)

    def has_capacity_for(self, streams: "Iterable[StreamKey]") -> bool:
        """Return True if all these streams fit beside those that are subscribed."""
        return self._catalog.has_capacity_for(set(streams))

    def reserve_for(self, streams: "Iterable[StreamKey]") -> None:
        """Reserve the memory that these streams need beside those that have bars.

        Call it before a change of the subscription, so that `add_stream` will not fail.

        Raises:
            SegmentFullError: /dev/shm has no room for all of them. The feed is
                unchanged, and takes no memory.
        """
        self._owner.check(self._what)
        known = self._catalog.index.keys()
        new = set(streams) - known
        # A stream that takes another one's entry frees that one's slot.
        vacant = self.geometry.max_streams - len(known)
        self._catalog.slots.prepare(min(len(new), vacant + 1))

    def known_first(self, streams: "Iterable[StreamKey]") -> "list[StreamKey]":
        """Return these streams in the order in which to add them.

        Those that have bars come first: a new one could take the entry of one that was
        unsubscribed and is wanted again.
        """
        return sorted(streams, key=lambda key: key not in self._catalog.index)

    def enlarge(self, max_streams: int) -> None:
        """Give the feed capacity for more streams, and keep its bars.

        The segment is copied into a larger one. Readers follow at their next verb, as
        after a recreation: epochs rise, bar numbers stay. Writers of rings are closed;
        `add_stream` returns new ones.

        Args:
            max_streams: The new capacity, above that of `geometry`.

        Raises:
            BadArgumentError: It is not above the old capacity, or not accepted.
            SegmentFullError: /dev/shm has no room for both segments.
            FeedLostError: The writer is closed, or lost the feed.

        The feed is unchanged after an error.
        """
        old, least = self._catalog, self.geometry.max_streams + 1
        max_streams = check_int("max_streams", max_streams, least, MAX_STREAMS)
        geometry = self.geometry._replace(max_streams=max_streams)
        made: list[Catalog] = []

        def fill(mapping: Mapping, reserve: Reserve) -> None:
            made.append(Catalog(mapping.words, geometry, first_epoch(), reserve))
            copy_feed(old, made[0])

        self._owner.enlarge(geometry, fill)
        eventcount, rings = self._eventcount, self._rings
        self._rings = {}
        self._use(made[0])
        self._eventcount = Eventcount(self._words)
        for ring in rings.values():
            ring.close()
        eventcount.notify(ALL_BITS)  # readers of the retired segment
