"""Samples of feeds, for observers that ask again and again.

A sample is one read of each feed's segment. It takes no lock and asks no feeder. Calls
that come while a sample is being made share it, so that the number of an observer's
clients costs nothing.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import NamedTuple, Self

from shmfeed.accounts import chosen_owner
from shmfeed.errors import BusyRingError, FeedNotFoundError, ShmfeedError
from shmfeed.feed import Feed, attach
from shmfeed.memory.histogram import Latencies, read_latencies
from shmfeed.segment.inventory import feeds_with_segment, is_replay
from shmfeed.segment.mapping import identity_at, place
from shmfeed.status import FeedStatus, feed_status, heartbeat, status_without_feed
from shmfeed.validation import check_feed_name

# A feed that vanished and that no call named is sampled for so long: as long as `clean`
# leaves the files of a feeder that died.
MISSED_SECONDS = 600.0
_TRIES = 5  # of a read that the writer outran for 10 ms each


class FeedSample(NamedTuple):
    """One feed at one moment. Callers share it and must not change it.

    Attributes:
        feed: The feed's name.
        status: The keys of `Feed.status()`; those of a feed without a feeder if it has
            no segment, or one that cannot be read.
        latencies: None if there is no segment that can be read.
        error: The reason why the segment cannot be read, "" if it can or if there is
            none.
        starts: The number of feeders that have taken the segment.
    """

    feed: str
    status: FeedStatus
    latencies: Latencies | None
    error: str = ""
    starts: int = 0


class Sampler:
    """Sample these feeds, or all of this user's; stay attached to them until `close`.

    A context manager that closes it on exit. A feed that appears, is recreated or
    vanishes is no error: the next sample shows it.

    Thread safety: any thread may call any method.
    """

    def __init__(
        self,
        feeds: Iterable[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        owner: str | int | None = None,
    ) -> None:
        """Sample the named feeds, each once; None: all that their user has at the time.

        The user is `owner`, else that of SHMFEED_OWNER, else this one. The feeds of
        replays are left out of all. Raises BadArgumentError for a name that is not
        accepted.
        """
        self._owner = chosen_owner(owner)
        self._named = None if feeds is None else _checked(feeds)
        self._clock = clock
        self._lock = threading.Lock()
        self._sampling: Future[list[FeedSample]] | None = None
        self._attached: dict[str, Feed] = {}
        self._seen_at: dict[str, float] = {}

    def sample(self) -> list[FeedSample]:
        """Return a sample of each feed, by name, or in the order given.

        Raises UnsupportedPlatformError if live feeds cannot work here.
        """
        with self._lock:
            sampling = self._sampling
            if sampling is not None:
                is_first = False
            else:
                is_first, sampling = True, Future()
                self._sampling = sampling
        if is_first:
            self._fulfil(sampling)
        return sampling.result()

    def close(self) -> None:
        """Detach from all feeds. A later `sample` attaches again."""
        with self._lock:
            attached, self._attached = self._attached, {}
        for feed in attached.values():
            feed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _fulfil(self, sampling: Future[list[FeedSample]]) -> None:
        try:
            samples = [self._sample_one(name) for name in self._names()]
        except BaseException as error:
            self._sampling = None
            sampling.set_exception(error)
            raise
        self._sampling = None
        sampling.set_result(samples)

    def _names(self) -> list[str]:
        if self._named is not None:
            return self._named
        now = self._clock()
        for name in feeds_with_segment(self._owner):
            if not is_replay(name):
                self._seen_at[name] = now
        for name, seen_at in list(self._seen_at.items()):
            if now - seen_at > MISSED_SECONDS:
                del self._seen_at[name]
        return sorted(self._seen_at)

    def _sample_one(self, name: str) -> FeedSample:
        for _ in range(_TRIES):
            try:
                return self._read(name)
            except BusyRingError as error:  # its feeder lives: read again
                reason = str(error)
            except FeedNotFoundError:
                reason = ""
                break
            except ShmfeedError as error:
                reason = str(error)
                break
        self._detach(name)
        return FeedSample(name, _status_of_absent(name, reason), None, reason)

    def _read(self, name: str) -> FeedSample:
        if identity_at(place(name, self._owner).segment) is None:
            raise FeedNotFoundError  # an attachment would hold its memory
        feed = self._attached.get(name)
        if feed is None:
            feed = self._attached[name] = attach(name, owner=self._owner)
        mapping = feed.current()
        return FeedSample(
            name,
            feed_status(mapping, name),
            read_latencies(mapping.words),
            starts=heartbeat(mapping).epoch,
        )

    def _detach(self, name: str) -> None:
        feed = self._attached.pop(name, None)
        if feed is not None:
            feed.close()


def sample(
    feeds: Iterable[str] | None = None, owner: str | int | None = None
) -> list[FeedSample]:
    """Return one sample of these feeds, as `Sampler.sample` does, and detach.

    An observer that asks more than once keeps a Sampler.
    """
    with Sampler(feeds, owner=owner) as sampler:
        return sampler.sample()


def _checked(feeds: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(map(check_feed_name, feeds)))


def _status_of_absent(name: str, reason: str) -> FeedStatus:
    status = status_without_feed(name)
    status["last_error"] = reason or None
    return status
