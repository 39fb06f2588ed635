"""A venue, a manager with its feeder, and a reader of the feed, for long runs."""

from pathlib import Path
from typing import Any, Self

from support.venue_process import VenueProcess

import shmfeed
from shmfeed.manager import WebSocketManager
from shmfeed.segment.mapping import place


class StagedFeed:
    """A feed of a venue in a process of its own: a context manager.

    Entering starts the venue and calls `_start` of the subclass, leaving ends all.

    Args:
        name: The feed's name.
        venue: The venue, which is not started yet.
        folder: Where the feeder's log goes.
    """

    def __init__(self, name: str, venue: VenueProcess, folder: Path) -> None:
        self.name, self.venue = name, venue
        self._manager = WebSocketManager(name)
        self._log = folder / f"{name}.log"
        self._feed: shmfeed.Feed | None = None

    def __enter__(self) -> Self:
        try:
            self.venue.start()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, and remove the feed."""
        if self._feed is not None:
            self._feed.close()
        self._end_children()
        try:
            self._manager.stop()
        finally:
            self.venue.kill()
            place(self.name).lock.unlink(missing_ok=True)

    def _start(self) -> None:
        raise NotImplementedError

    def _end_children(self) -> None:
        """End the processes beside the venue and the feeder."""
        raise NotImplementedError

    def _start_feed(self, **settings: Any) -> None:
        """Start the feeder, and attach."""
        self._manager.configure(
            feed=self.name,
            endpoint=self.venue.url,
            log_file=str(self._log),
            stop_with_manager=True,
            **settings,
        )
        self._manager.start()
        self._feed = shmfeed.attach(self.name)
