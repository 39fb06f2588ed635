"""The feeder's store: it fills the rings of a new segment, and keeps their rows.

Without the setting `store` all of it does nothing.
"""

import logging
import os
import time
from collections.abc import Iterable, Sequence

import numpy as np

from shmfeed.bar import AFTER_GAP, TIMEFRAMES, StreamKey
from shmfeed.errors import SegmentFullError
from shmfeed.history.interface import Block
from shmfeed.identity import FeedIdentity
from shmfeed.layout import C_FLAGS
from shmfeed.settings.model import Settings
from shmfeed.store.recorder import NewestRows, StoreRecorder
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

WARM_SECONDS = 5.0  # that a start waits for the rows of a store
LATER_SECONDS = 0.3  # that a change of the subscription waits for them
_AT_ONCE = 50  # streams between two heartbeats


class FeedStore:
    """The store of one feed, or none.

    Attributes:
        recorder: Takes the versions of rows; None without a store.
        path: The file, absolute; None without a store.

    Thread safety: the main loop alone uses it.
    """

    def __init__(
        self,
        settings: Settings,
        identity: FeedIdentity,
        writer: FeedWriter,
        replace: bool,
    ) -> None:
        """Open the store that the settings name, for this writer's rows of an identity.

        Raises:
            BadArgumentError: No file can be a store under this path, or it holds bars
                of another identity and `replace` is False.
        """
        self._writer = writer
        self._followed: set[StreamKey] = set()  # their rows are kept
        self._asked: dict[StreamKey, tuple[NewestRows, float]] = {}
        self.recorder: StoreRecorder | None = None
        self.path: str | None = None
        if settings.store is not None:
            self.path = os.path.abspath(settings.store)  # noqa: PTH100 # keeps links
            self.recorder = StoreRecorder(
                self.path,
                identity,
                replace=replace,
                keep={name: settings.store_keep_of(name) for name in TIMEFRAMES},
            )
            self.recorder.open()

    @property
    def last_error(self) -> str:
        """The last failure of the store, "" before the first."""
        return "" if self.recorder is None else self.recorder.said

    def warm(self, streams: Sequence[StreamKey]) -> None:
        """Put stored rows before those of the rings, of streams that the feed has.

        It takes at most WARM_SECONDS. Call it before the ledgers read the rings.
        """
        if self.recorder is None:
            return
        deadline = time.monotonic() + WARM_SECONDS
        history = self._writer.geometry.history
        for keys in _pieces(self._lacking(streams), _AT_ONCE):
            left = max(0.0, deadline - time.monotonic())
            for key, block in self.recorder.newest(keys, history, left).items():
                self._warm_stream(key, block)
            self._writer.beat()

    def read_ahead(self, streams: Iterable[StreamKey]) -> None:
        """Begin to read the rows of streams that a change is to add."""
        if self.recorder is None:
            return
        carried = set(self._writer.streams())
        new = [key for key in streams if key not in carried]
        history = self._writer.geometry.history
        until = time.monotonic() + LATER_SECONDS
        rows = self.recorder.read_newest(new, history, LATER_SECONDS) if new else None
        self._asked = {} if rows is None else dict.fromkeys(new, (rows, until))

    def fill(self, key: StreamKey) -> None:
        """Put stored rows before those of a stream that was just added.

        They are those that `read_ahead` was called for. All streams of a change wait
        LATER_SECONDS for them together; history fills the others. Call it before the
        ledger reads the ring.
        """
        asked = self._asked.pop(key, None)
        if asked is not None:
            rows, until = asked
            stored = rows(max(0.0, until - time.monotonic())).get(key)
            if stored is not None:
                self._warm_stream(key, stored)

    def follow(self, streams: Iterable[StreamKey]) -> None:
        """Keep the rows of these streams too, those that they have already included."""
        new = set(streams) - self._followed
        if self.recorder is not None and new:
            self._followed |= new
            self.recorder.follow(new, self._rows_of)

    def close(self) -> None:
        """Write the last versions, and close the file. Idempotent."""
        if self.recorder is not None:
            self.recorder.close()

    def _lacking(self, streams: Sequence[StreamKey]) -> list[StreamKey]:
        """Return those streams of the feed whose rings have room for older rows."""
        carried, history = set(self._writer.streams()), self._writer.geometry.history
        return [
            key
            for key in streams
            if key in carried and self._rows_of(key).shape[1] < history
        ]

    def _warm_stream(self, key: StreamKey, stored: Block) -> None:
        rows = self._rows_of(key)
        if rows.shape[1]:
            first = rows[0].view(np.int64)[0]
            stored = stored[:, stored[0].view(np.int64) < first]
        if not stored.shape[1]:
            return
        if rows.shape[1]:
            adjoins = stored[1].view(np.int64)[-1] == rows[0].view(np.int64)[0]
            flags = rows[C_FLAGS].view(np.int64)
            flags[0] = flags[0] & ~AFTER_GAP if adjoins else flags[0] | AFTER_GAP
        self._writer.add_stream(*key)
        try:
            self._writer.replace_rows(*key, np.concatenate((stored, rows), axis=1))
        except SegmentFullError as error:
            log.warning("cannot fill %s %s from the store: %s", *key, error)

    def _rows_of(self, key: StreamKey) -> Block:
        """Return the rows of a stream's ring. The recorder's thread calls it too."""
        return self._writer.reader(key).snapshot(self._writer.geometry.history).block


def open_feed_store(
    settings: Settings, identity: FeedIdentity, writer: FeedWriter, replace: bool
) -> FeedStore:
    """Return the store of the settings, for the rows of a feed that was just taken.

    An error gives the feed back, and removes a segment that was created for it.

    Raises:
        BadArgumentError: As FeedStore does.
    """
    try:
        return FeedStore(settings, identity, writer, replace)
    except BaseException:
        writer.close(unlink=not writer.reused)
        raise


def _pieces(keys: Sequence[StreamKey], size: int) -> Iterable[Sequence[StreamKey]]:
    return (keys[at : at + size] for at in range(0, len(keys), size))
