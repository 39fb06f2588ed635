"""The cached query of one stream that is rolled up from another one's bars."""

import pandas as pd

from shmfeed.bar import StreamKey
from wealthdata.attachment import FEED_ERRORS, AttachedFeed
from wealthdata.choices import Choices
from wealthdata.contexts_in_force import note_live_read
from wealthdata.frame import FrameTemplate
from wealthdata.judging import attrs_of, judge, log_frame, note_rows
from wealthdata.merge import FoundBars, Sources, find_rolled
from wealthdata.request import PriceRequest, ReadArguments
from wealthdata.rolled_ring import RolledRing
from wealthdata.sources import bounded_request


class CachedRolledQuery:
    """A prepared read of a rolled-up stream: its ring, its source and its template."""

    def __init__(
        self,
        feed: AttachedFeed,
        key: StreamKey,
        ring: RolledRing,
        template: FrameTemplate,
        choices: Choices,
    ) -> None:
        """Prepare the read. The template has float fields only.

        The read serves these `choices` alone.
        """
        self.choices = choices
        self._feed = feed
        self._feeder = feed.check()
        self._known = feed.known_streams()
        self._key = key
        self._ring = ring
        self._template = template
        self._sources = Sources(feed, None, False, 0, feed.name, None)

    def prepared(self) -> None:
        """Return None: the C core cannot serve this read."""
        return

    def read(self, asked: ReadArguments, choices: Choices) -> pd.DataFrame | None:
        """Return the bars, or None if the general query must decide.

        Raise BadArgumentError, StaleFeedError or BusyRingError.
        """
        timeframe = self._key[1]
        request, history = bounded_request(asked, timeframe)
        if request is None:
            return None
        labels = asked.labels(choices.label, timeframe)
        reactions = asked.reactions(choices.reactions)
        try:
            found = self._find(request, history is not None)
        except FEED_ERRORS:
            return None  # they matter only if the read is not a backtest's
        if found is None:
            return None
        note_live_read()
        judge(found, self._key, request, self._sources, reactions)
        note_rows(found, self._key)
        attrs = attrs_of(found, self._key, request, self._sources)
        window = slice(found.first, found.last)
        frame = self._template.build_private(found.columns, window, labels, attrs)
        log_frame(attrs)
        return frame

    def _find(self, request: PriceRequest, has_history: bool) -> FoundBars | None:
        """Return the rows, None if they may be others by now or lack older ones."""
        ring, feed = self._ring, self._feed
        found, lacks = find_rolled(ring, request)
        status = ring.status()
        # The rows are those of this feeder, or older.
        if feed.check() is not self._feeder or feed.known_streams() is not self._known:
            return None
        if has_history and lacks:
            return None
        return found._replace(feed=feed.name, status=status, ring=ring.source)
