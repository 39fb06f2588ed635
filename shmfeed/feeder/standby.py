"""A feeder that stands by until its feed is free, and takes it then: `run --wait`."""

import logging
from collections.abc import Callable

from shmfeed.codecs.identity import identity_of
from shmfeed.errors import FeedBusyError
from shmfeed.feeder.feeder import Feeder
from shmfeed.feeder.signals import FeederSignals
from shmfeed.segment.identity import stored_identity
from shmfeed.segment.locking import is_free
from shmfeed.segment.mapping import place
from shmfeed.settings.model import Settings

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2  # a feed is taken that soon after its feeder has ended


def take_when_free(
    make: Callable[[], Feeder], settings: Settings, signals: FeederSignals
) -> Feeder | None:
    """Return the feeder that `make` returns, once no other process has the feed.

    Return None if a signal that stops came first.

    Raises:
        FeedBusyError: A feeder of another identity has the feed.
        ShmfeedError: As `make` does.
    """
    where, identity = place(settings.feed), identity_of(settings)
    named: int | None = -1
    while not signals.is_stopped:
        try:
            feeder = make()
        except FeedBusyError as error:
            stored = stored_identity(where)
            if settings.follows_relay:
                stored = None  # that of a leader, which is not known here
            if stored is not None and not stored.matches(identity):
                raise
            if error.pid != named:
                named = error.pid
                log.info(
                    "feed %s: %s writes it; this feeder stands by until it is free",
                    settings.feed,
                    _describe_owner(error.pid),
                )
        else:
            if named != -1:
                log.info("feed %s is free: this feeder takes it", settings.feed)
            return feeder
        while not signals.wait(POLL_SECONDS) and not is_free(where):
            pass
    log.info("feed %s: this feeder no longer stands by", settings.feed)
    return None


def _describe_owner(pid: int | None) -> str:
    return "another process" if pid is None else f"process {pid}"
