"""Take a feed for writing: its segment, with room for the feeder's streams."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

from shmfeed.codecs import Codec
from shmfeed.errors import (
    BadArgumentError,
    FeedBusyError,
    FeedNotFoundError,
    SegmentFormatError,
    SegmentFullError,
)
from shmfeed.feeder.feed_store import FeedStore
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.reasons import Reasons
from shmfeed.feeder.sequence import Mode
from shmfeed.identity import FeedIdentity
from shmfeed.layout import MAX_STREAMS, Geometry, State, default_guard
from shmfeed.memory.catalog import check_keys
from shmfeed.segment.identity import IdentityRule, name_identities
from shmfeed.segment.locking import FeedLocks
from shmfeed.segment.mapping import open_segment, place
from shmfeed.settings.model import Settings
from shmfeed.text import counted
from shmfeed.wire.events import Streams
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)


def first_streams(settings: Settings, codec: Codec) -> Streams:
    """Return the streams of the settings as the codec spells them.

    A follower without any follows all that its leader carries.

    Raises:
        BadArgumentError: The settings name no stream, or one that the venue lacks.
    """
    streams = in_venue_spelling(codec, settings.streams)
    if not streams and not settings.follows_relay:
        raise BadArgumentError(
            f"no streams to subscribe: symbols are {list(settings.symbols)},"
            f" resolutions {list(settings.resolutions)}; give both"
        )
    return streams


def in_venue_spelling(codec: Codec, streams: Iterable[tuple[str, str]]) -> Streams:
    """Return streams as the codec spells them, each once."""
    return tuple(dict.fromkeys(codec.stream_key(*key) for key in streams))


def take_feed(
    settings: Settings,
    identity: FeedIdentity,
    streams: Streams,
    replace: bool = False,
    *,
    state: str = "disconnected",
    locks: FeedLocks | None = None,
    is_relayed: bool = False,
) -> FeedWriter:
    """Return the writer of the settings' feed, with capacity for these streams.

    `identity` is that of the rows, and with `is_relayed` a leader on another host makes
    them. `state` is that of the connections. `locks` are those of a feeder that hands
    the feed over.

    The streams of an earlier feeder keep their entries if all fit. Bars of another
    identity are refused, or dropped with `replace`.

    Raises:
        ShmfeedError: As `create` does.
    """
    sizes = settings.history, settings.guard
    most = settings.capacity_beside(_existing_max_streams(settings.feed), len(streams))
    first: dict[str, Any] = {"state": state, "streams": streams, "locks": locks}
    first |= {"identity": identity, "replace": replace, "group": settings.group}
    try:
        writer = _write_feed(
            settings.feed, *sizes, most, **first, is_relayed=is_relayed
        )
    except FeedBusyError as error:
        raise name_identities(error, settings.feed, identity) from None
    if not writer.has_capacity_for(streams):
        # Streams that are no longer wanted give their entries to wanted ones.
        for key in set(writer.streams()) - set(streams):
            writer.unsubscribe(*key)
    return writer


def _write_feed(
    name: str,
    history: int,
    guard: int | None,
    max_streams: int,
    *,
    state: State,
    streams: Streams,
    identity: FeedIdentity,
    replace: bool = False,
    group: str | None = None,
    locks: FeedLocks | None = None,
    is_relayed: bool = False,
) -> FeedWriter:
    """Return the writer of a feed, as `create` does; its arguments are checked already.

    The locks of a writer that hands the feed over belong to the new one from now on,
    also after an error.
    """
    guard = default_guard(history) if guard is None else guard
    geometry = Geometry(max_streams, history, guard)
    rule = IdentityRule(name, identity, replace)
    wanted = check_keys(streams)
    return FeedWriter(
        name, geometry, state, wanted, rule, group, locks, is_relayed=is_relayed
    )


def make_intake(
    settings: Settings,
    codec: Codec,
    writer: FeedWriter,
    store: FeedStore,
    reasons: Reasons,
    history: bool,
) -> Intake:
    """Return the intake of a feed; `history` says that a source of it exists."""
    return Intake(
        writer,
        settings.close_grace,
        codec.flags_closed,
        numbers_trades=codec.numbers_trades,
        sequence=cast("Mode", settings.sequence),
        lines=settings.lines,
        history=history,
        repair_grace=settings.repair_grace,
        rest_settle=settings.rest_settle,
        reasons=reasons,
        recorder=store.recorder,
        fill=store.fill,
    )


def reserve_capacity(
    writer: FeedWriter, streams: Streams, max_streams: int | None
) -> bool:
    """Reserve the memory of a feed's streams, of which some may be new.

    Streams that are not among them are unsubscribed before others are added. If that is
    not enough, the segment is made larger, unless the setting `max_streams` forbids it.
    Return True if it was.

    Raises:
        SegmentFullError: The feed, or /dev/shm, has no room for them.
    """
    most = writer.geometry.max_streams
    is_larger = len(streams) > most
    if is_larger and (max_streams is not None or len(streams) > MAX_STREAMS):
        raise SegmentFullError(
            f"feed {writer.name!r} has capacity for {counted(most, 'stream')};"
            f" {len(streams)} are wanted now: raise max_streams and restart it"
        )
    if is_larger:
        writer.enlarge(min(MAX_STREAMS, 2 * len(streams)))
        log.info(
            "feed %s: its segment is larger now, with capacity for %s",
            writer.name,
            counted(writer.geometry.max_streams, "stream"),
        )
    writer.reserve_for(streams)
    return is_larger


def _existing_max_streams(feed: str) -> int:
    """Return the number of streams that the feed's segment can carry, 0 without one."""
    with suppress(FeedNotFoundError, SegmentFormatError):
        return open_segment(place(feed)).geometry.max_streams
    return 0
