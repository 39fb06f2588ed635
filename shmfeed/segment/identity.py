"""The rule by which a feeder takes a segment: it never mixes rows of two identities."""

import logging
import time
from collections.abc import Mapping as Fields
from contextlib import suppress
from typing import Any, NamedTuple

from shmfeed.core import RingReader
from shmfeed.errors import (
    BadArgumentError,
    FeedBusyError,
    FeedNotFoundError,
    SegmentError,
    ShmfeedError,
)
from shmfeed.identity import FeedIdentity, parse_identity
from shmfeed.layout import H_ALIVE, H_WRITER_PID, Geometry
from shmfeed.memory.identity import read_identity
from shmfeed.memory.liveness import is_alive
from shmfeed.memory.words import Words, boot_ns
from shmfeed.segment.mapping import Mapping, Place, open_segment, place
from shmfeed.segment.recovery import inspect_segment

log = logging.getLogger(__name__)

_NAMING_SECONDS = 0.5
_POLL_SECONDS = 0.02


class IdentityRule(NamedTuple):
    """The identity of the rows to come, for the feed of this name.

    With `replace`, bars of another identity are dropped. Without it they are refused.
    """

    feed: str
    identity: FeedIdentity
    replace: bool = False

    def keeps_bars(self, words: Words, geometry: Geometry) -> bool:
        """Return True if the segment's rows are of this identity, or of none.

        False means that the segment must be replaced by an empty one.

        Raises:
            BadArgumentError: Bars of another identity are stored, and `replace` is
                False.
        """
        stored = read_identity(words, geometry)
        if stored is None or stored.matches(self.identity):
            return True
        if not _has_bars(words, geometry):
            return False
        if not self.replace:
            raise BadArgumentError(
                f"feed {self.feed!r} holds bars of {stored}, and these settings are of"
                f" {self.identity}: use another feed name, or replace=True (--replace),"
                " which drops those bars"
            )
        log.warning("the bars of %s are dropped, as replace says", stored)
        return False


def _has_bars(words: Words, geometry: Geometry) -> bool:
    return any(
        len(RingReader(words, geometry, entry.number).view(1))
        for entry in inspect_segment(words, geometry).usable
    )


def busy_with(
    feed: str, running: FeedIdentity | str, wanted: FeedIdentity, pid: int | None
) -> FeedBusyError:
    """Return the error that names both identities and the feeder that runs."""
    owner = "another process" if pid is None else f"process {pid}"
    return FeedBusyError(
        f"feed {feed!r} is written by {owner} with {running}, and these settings are of"
        f" {wanted}; use another feed name, or stop that feeder",
        pid,
    )


def check_stored(where: Place, identity: FeedIdentity, replace: bool) -> None:
    """Raise BadArgumentError if bars of another identity are stored, and stay.

    A follower's is not known before it runs, and no bars are refused here.
    """
    if identity.is_of_follower:
        return
    with suppress(FeedNotFoundError, SegmentError):
        words, geometry, _ = open_segment(where)
        IdentityRule(where.name, identity, replace).keeps_bars(words, geometry)


def check_running(where: Place, answer: Fields[str, Any], wanted: FeedIdentity) -> None:
    """Raise FeedBusyError if the feeder that runs is of another identity.

    A follower is known by the feed that it follows, as the identity of its rows is
    the leader's.

    Args:
        where: The place of its feed.
        answer: Its answer to the request `status`.
        wanted: The identity of the settings that want it.
    """
    running = parse_identity(str(answer.get("identity")))
    if running is None:  # a feeder of an earlier version
        running = stored_identity(where)
    if wanted.is_of_follower:
        if answer.get("source_feed") == wanted.market_type:
            return
    elif running is None or running.matches(wanted):
        return
    pid = answer.get("pid")
    known = running if running is not None else "rows of no known identity"
    raise busy_with(where.name, known, wanted, pid if isinstance(pid, int) else None)


def name_identities(
    error: FeedBusyError, feed: str, wanted: FeedIdentity
) -> FeedBusyError:
    """Return the error again, with both identities if the owner has another one.

    An owner that began just now has no segment yet: wait for it.
    """
    where = place(feed)
    deadline = time.monotonic() + _NAMING_SECONDS
    while True:
        owned = _owned_mapping(where, error.pid)
        if owned is not None or time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    running = read_identity(*owned[:2]) if owned is not None else None
    if running is None or running.matches(wanted):
        return error
    return busy_with(feed, running, wanted, error.pid)


def _owned_mapping(where: Place, pid: int | None) -> Mapping | None:
    """Return the segment that its present writer has taken, or None.

    A writer stores its identity before its pid. If `pid` is known, a writer that has
    just begun is not mistaken for its predecessor, and one that is stopped is found.
    """
    try:
        mapping = open_segment(where)
    except ShmfeedError:  # absent, not ready yet, or damaged
        return None
    ints = mapping.words.ints
    if pid is None:
        taken = is_alive(ints, boot_ns())
    else:  # a writer that has closed the segment has stored 0 as its sign of life
        taken = pid == ints[H_WRITER_PID] and ints[H_ALIVE] != 0
    return mapping if taken else None


def stored_identity(where: Place) -> FeedIdentity | None:
    """Return the identity of the rows under a feed's name, None if it is not known."""
    try:
        words, geometry, _ = open_segment(where)
        return read_identity(words, geometry)
    except ShmfeedError:  # absent, not ready yet, or damaged
        return None
