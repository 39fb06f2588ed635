"""A segment as this process reads it, shared by all attachments to it.

All rings of a stream in a process share one reader, whichever attachment they belong
to. So a verb of any of them sets aside the rows that slices of all of them hold.
"""

import weakref

from shmfeed.bar import StreamKey
from shmfeed.core import RingReader
from shmfeed.layout import Geometry
from shmfeed.memory.catalog import KnownStreams, known_streams
from shmfeed.segment.mapping import Identity, Mapping
from shmfeed.segment.reader_mark import make_reader_mark
from shmfeed.segment.stream_check import check_reader


class AttachedSegment:
    """A mapped segment, its streams and their readers.

    `attached_segment` returns one. It lives as long as an attachment uses it. Its
    readers, as they are freed, set aside the rows that slices hold.
    """

    __slots__ = ("__weakref__", "_known", "_mark", "_readers", "mapping")

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self._mark = make_reader_mark(mapping.identity)  # for `shmfeed readers`
        self._known: KnownStreams | None = None
        self._readers: dict[int, RingReader] = {}

    def streams(self) -> KnownStreams:
        """Return the streams of the catalog. Raise SegmentFormatError."""
        words, geometry, _ = self.mapping
        self._known = known = known_streams(words, geometry, self._known)
        return known

    def reader(self, index: int, key: StreamKey) -> RingReader:
        """Return the reader of the stream with this entry number.

        Raises SegmentFormatError if the times of its bars are damaged.
        """
        reader = self._readers.get(index)
        if reader is not None and not reader.is_carried:
            self._readers.pop(index, None)
            reader = None
        if reader is None:
            words, geometry, _ = self.mapping
            reader = RingReader(words, geometry, index)
            reader = self._readers.setdefault(index, reader)
        return check_reader(reader, key)


_segments: weakref.WeakValueDictionary[tuple[Identity, Geometry], AttachedSegment] = (
    weakref.WeakValueDictionary()
)


def attached_segment(mapping: Mapping) -> AttachedSegment:
    """Return the AttachedSegment that this process's attachments to a segment share.

    Its mapping is this one, or that of an earlier attachment which is still in use.
    """
    # Two threads may make one each. Both work, and later attachments share the one that
    # was stored last.
    found = _segments.get((mapping.identity, mapping.geometry))
    if found is None:
        found = AttachedSegment(mapping)
        _segments[mapping.identity, mapping.geometry] = found
    return found
