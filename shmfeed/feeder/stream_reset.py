"""Drop the rows of streams in ring and store, and fill them again as at a start."""

import logging
from collections.abc import Sequence

from shmfeed.bar import StreamKey, floor, phase_of
from shmfeed.core import RingReader
from shmfeed.errors import BadArgumentError
from shmfeed.feeder.feed_history import FeedHistory
from shmfeed.feeder.feed_store import FeedStore
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.requests import PendingRequest
from shmfeed.text import counted, shorten
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)


def first_kept(before: int, key: StreamKey, reader: RingReader) -> int | None:
    """Return the open time of the first bar that closes after `before`, ms UTC.

    None for `before` 0: no bar is kept.
    """
    if not before:
        return None
    last = reader.last_closed() or reader.forming()
    phase = 0 if last is None else phase_of(last.open_time, key[1])
    return floor(before, key[1], phase)


class StreamReset:
    """The resets of one feeder's streams. Only the main loop uses it."""

    def __init__(
        self, writer: FeedWriter, intake: Intake, history: FeedHistory, store: FeedStore
    ) -> None:
        self._writer = writer
        self._intake = intake
        self._history = history
        self._store = store

    def reset(self, pending: PendingRequest) -> None:
        """Drop the rows of the named streams, and ask for their history again.

        The answer names each stream, the bars that its ring lost, and those that the
        store lost: None without a store, -1 where it cannot be used.

        Raises:
            BadArgumentError: The feed carries none of the streams.
            SegmentFullError: There is no room to drop a part of a stream's rows.
        """
        request = pending.request
        symbols, resolutions = request.symbols or (), request.resolutions
        keys = [
            key
            for key in self._intake.carry()
            if key[0] in symbols and (resolutions is None or key[1] in resolutions)
        ]
        if not keys:
            raise BadArgumentError(
                f"the feed carries no stream of {' '.join(symbols)[:80]} to reset"
            )
        firsts = {
            key: first_kept(request.before, key, self._intake.reader(key))
            for key in keys
        }
        dropped = [self._intake.drop_rows(key, first) for key, first in firsts.items()]
        for key, first in firsts.items():
            if first is None:
                self._writer.set_holes(key, [])
        self._history.begin_again(keys, boot_seconds())
        log.warning(
            "a reset dropped %s of %s",
            counted(sum(dropped), "bar"),
            shorten(", ".join(" ".join(key) for key in keys)),
        )

        def finish(stored: Sequence[int | None]) -> None:
            counts = zip(keys, dropped, stored, strict=True)
            pending.finish(streams=[[*key, rows, count] for key, rows, count in counts])

        recorder = self._store.recorder
        if recorder is None:
            finish([None] * len(keys))
        else:
            recorder.drop_rows(firsts, finish)
