"""ONE SAMPLER FOR ALL PAGES: reads the feeds each second while a page is open.

Without an open page it reads when a request asks, at most once in `MAX_AGE`. All reads
are made in one thread, so that other requests are answered meanwhile, and so that the
number of requests does not become a number of threads.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from shmfeed.observe.page.closes import LastCloses
from shmfeed.observe.page.model import Closes, PageModel
from shmfeed.observe.sample import FeedSample, Sampler
from shmfeed.status import FeedStatus

_T = TypeVar("_T")

PERIOD = 1.0  # s between samples while a page is open
MAX_AGE = 0.5  # s of the sample that a request is answered from


class Hub:
    """The model of all feeds, kept up to date for as many pages as are open.

    `feeds` are the names of the feeds, None for all of the user `owner`, who is this
    process's if it is None. Its methods are for one event loop.
    """

    def __init__(
        self, feeds: Sequence[str] | None = None, owner: int | None = None
    ) -> None:
        """Show these feeds. Raise BadArgumentError for a name that is not accepted."""
        self.feeds = feeds
        self.owner = owner
        self.model = PageModel()
        self.statuses: list[FeedStatus] = []
        self.is_stopping = False
        self._sampler = Sampler(feeds, owner=owner)
        self._closes = LastCloses(owner)
        self._reader = ThreadPoolExecutor(1, "feeds")
        self._lock = asyncio.Lock()
        self._sampled_at = float("-inf")
        self._pages = 0
        self._is_wanted = asyncio.Event()
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Sample while pages are open, until cancelled."""
        try:
            while True:
                await self._is_wanted.wait()
                started = time.monotonic()
                await self.refresh()
                await asyncio.sleep(max(0.0, started + PERIOD - time.monotonic()))
        finally:
            self._reader.shutdown()
            self._sampler.close()
            self._closes.close()

    async def read(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a function that reads feeds in the thread that does so."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, function, *arguments)

    async def refresh(self) -> None:
        """Sample now, unless the last sample is younger than `MAX_AGE`."""
        async with self._lock:
            started = time.monotonic()
            if started - self._sampled_at <= MAX_AGE:
                return
            now = time.time_ns() // 1_000_000
            samples, closes = await self.read(self._take)
            self._sampled_at = started
            self.statuses = [sample.status for sample in samples]
            self.model.update(samples, closes, now)
        async with self._changed:
            self._changed.notify_all()

    @property
    def pages(self) -> int:
        """The number of open pages."""
        return self._pages

    def open_page(self) -> None:
        """Count one more open page."""
        self._pages += 1
        self._is_wanted.set()

    def close_page(self) -> None:
        """Count one page less."""
        self._pages -= 1
        if not self._pages:
            self._is_wanted.clear()

    async def next_version(self, version: int) -> None:
        """Wait until the model is newer than `version`, or the server stops."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self.model.version > version or self.is_stopping
            )

    async def stop(self) -> None:
        """Wake every page that waits, for the last time."""
        self.is_stopping = True
        async with self._changed:
            self._changed.notify_all()

    def _take(self) -> tuple[list[FeedSample], Closes]:
        samples = self._sampler.sample()
        return samples, self._closes.read(samples)
