"""A segment of this process that stands in for a feed while a replay runs.

Its writer beats as long as the replay runs, also while a strategy computes, and its
clock stands at the time of the replay: so no read of it is stale, and no bar is due,
however old the bars are and however slow the strategy is.
"""

import os
import secrets
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import NamedTuple, Self

from shmfeed import create
from shmfeed.bar import StreamKey, duration
from shmfeed.errors import FeedLostError, SegmentError
from shmfeed.identity import FeedIdentity
from shmfeed.segment.inventory import has_files, is_replay, take_inventory
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import remove_unheld
from shmfeed.writer import FeedWriter

_BEAT_SECONDS = 0.2  # a bar of a second is not due meanwhile
_SILENCE_SECONDS = 10 * 365 * 86_400.0  # no stream is silent for too long
_numbers = count(1)


class Moment(NamedTuple):
    """The changes of a feed that a player has made.

    Attributes:
        streams: Those whose closed rows came or changed.
        has_reconnected: True if a recorded connection began or ended.
    """

    streams: Collection[StreamKey]
    has_reconnected: bool


class PrivateFeed:
    """A context manager: entering creates the segment, leaving removes it.

    A process that is killed leaves it to the next replay, or to `shmfeed clean`.

    Args:
        streams: The streams that it carries.
        history: The closed bars that a reader can ask for.
        identity: The identity of the rows, None if it is not known.

    Attributes:
        name: The name of the segment.
        writer: Its writer, to be used within `writing`.
    """

    writer: FeedWriter

    def __init__(
        self,
        streams: Collection[StreamKey],
        history: int,
        identity: FeedIdentity | None = None,
    ) -> None:
        self.name = f"replay-{os.getpid()}-{next(_numbers)}-{secrets.token_hex(2)}"
        self._streams, self._history = tuple(streams), history
        self._identity = identity
        self._lock = threading.Lock()
        self._venue_now: int | None = None
        self._lost: FeedLostError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._beat, name="replay-heartbeat", daemon=True
        )

    def __enter__(self) -> Self:
        _sweep()
        self.writer = create(
            self.name,
            self._history,
            max_streams=max(1, len(self._streams)),
            streams=self._streams,
            identity=self._identity,
        )
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()
        self.writer.close(unlink=True)
        # No other feed ever has this name, so the lock keeps no process out.
        place(self.name).lock.unlink(missing_ok=True)

    def never_silent(self) -> None:
        """Let no stream be stale for its silence: the replay sets the pace."""
        for key in self._streams:
            self.writer.set_silence(key, _SILENCE_SECONDS + duration(key[1]) / 1000)

    @contextmanager
    def writing(self) -> Iterator[FeedWriter]:
        """Keep the heartbeat away while the caller writes."""
        with self._lock:
            if self._lost is not None:
                raise self._lost
            yield self.writer

    def set_time(self, venue_now: int) -> None:
        """Let the venue's clock stand at this time, ms UTC, until the next call."""
        with self._lock:
            self._venue_now = venue_now
            self._store_time()

    def _store_time(self) -> None:
        if self._venue_now is not None:
            self.writer.set_clock_offset(self._venue_now - time.time_ns() / 1e6)

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            with self._lock:
                try:
                    self.writer.beat()
                    self._store_time()
                except FeedLostError as error:
                    self._lost = error
                    return


def _sweep() -> None:
    """Remove what replays that were killed have left; those that run stay."""
    names, _ = take_inventory()
    for name in names:
        if not is_replay(name):
            continue
        where = place(name)
        with suppress(SegmentError, OSError):  # the next replay tries again
            remove_unheld(where)
            # A replay that ended meanwhile has removed its lock, and this made another.
            if not has_files(where):
                where.lock.unlink(missing_ok=True)
