"""The wants that a feeder finds in the segment of an earlier one.

The claimants of a feeder that was killed come back by themselves, if they live; until
then their wants linger, as after any end of their connection.
"""

import logging
import os
from contextlib import suppress
from typing import Any, cast

from shmfeed.codecs import Codec
from shmfeed.control.peer import Peer
from shmfeed.errors import BadArgumentError, ShmfeedError
from shmfeed.feeder.wants import RETURN_SECONDS, Claimant, Kind, Wants
from shmfeed.identity import FeedIdentity
from shmfeed.layout import MAX_STREAMS
from shmfeed.memory.identity import read_identity
from shmfeed.process_name import process_name
from shmfeed.segment.mapping import open_segment, place
from shmfeed.settings.model import Settings
from shmfeed.status import is_wanted, wants_in
from shmfeed.validation import check_case
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.events import Streams

log = logging.getLogger(__name__)


def own_claimant(is_run: bool, name: str, pid: int, settings: Settings) -> Claimant:
    """Return the claimant of a feeder's own streams: a run, or a launching manager.

    Without a name it has this process's, with pid 0 it is this process.
    """
    kind: Kind = "run" if is_run else "manager"
    process = Peer.of(pid or os.getpid())
    return Claimant.new(kind, name or process_name(), process, settings)


def first_wants(
    settings: Settings,
    manager: str,
    first: Claimant,
    streams: Streams,
    codec: Codec,
    identity: FeedIdentity,
) -> Wants:
    """Return the wants of a feeder that begins: its own streams, and inherited ones.

    `first` is the claimant of the own streams, and `manager` its id. `identity` is that
    of the feed's rows.
    """
    wants = Wants()
    _inherit(wants, settings, streams, codec, identity)
    wants.admit(manager, first)
    wants.put(manager, streams)
    return wants


def _inherit(
    wants: Wants,
    settings: Settings,
    own: Streams,
    codec: Codec,
    identity: FeedIdentity,
) -> None:
    """Admit the claimants that an earlier feeder of this feed has had.

    Those are left out whose streams this feeder cannot carry beside its `own` ones, and
    those of the others.
    """
    with suppress(ShmfeedError):  # absent, not ready yet, or damaged
        mapping = open_segment(place(settings.feed))
        stored = read_identity(mapping.words, mapping.geometry)
        if stored is None or not stored.matches(identity):
            return
        for one in wants_in(mapping):
            _admit(wants, one, settings, own, codec)


def inherit_told(
    wants: Wants, told: list[dict[str, Any]], settings: Settings, codec: Codec
) -> None:
    """Take the claimants of a feeder that has handed the feed over.

    They are what it had at the end; those of the segment may be older.
    """
    now_known = {one.get("id") for one in told}
    for claimant_id in wants.inherited():
        if claimant_id not in now_known:
            wants.drop(claimant_id)
    for one in filter(is_wanted, told):
        _admit(wants, one, settings, (), codec)


def _admit(
    wants: Wants, one: dict[str, Any], settings: Settings, own: Streams, codec: Codec
) -> None:
    now, claimant_id = boot_seconds(), one.get("id")
    ends_at, linger = one.get("ends_at"), one.get("linger")
    if one["kind"] not in {"manager", "lease"} or not isinstance(claimant_id, str):
        return
    if not isinstance(linger, float | int) or (ends_at is not None and ends_at <= now):
        return
    streams = _streams_of(one, codec)
    union = dict.fromkeys((*own, *wants.union(), *streams))
    most = settings.max_streams or MAX_STREAMS
    try:
        check_case(symbol for symbol, _ in union)
    except BadArgumentError:
        return
    if not streams or len(union) > most:
        return
    was_there = ends_at is None
    claimant = Claimant(
        cast("Kind", one["kind"]),
        one["name"],
        Peer.of(one["pid"]),
        one["since"],
        linger,
        streams,
        ends_at=now + linger if was_there else ends_at,
        # One that lingers has this too: it is known to be inherited.
        returns_by=now + RETURN_SECONDS if was_there else now,
    )
    wants.inherit(claimant_id, claimant)


def _streams_of(one: dict[str, Any], codec: Codec) -> Streams:
    symbols, resolutions = one.get("symbols"), one.get("resolutions")
    if not isinstance(symbols, list) or not isinstance(resolutions, list):
        return ()
    try:
        return tuple(codec.stream_key(s, r) for s in symbols for r in resolutions)
    except ShmfeedError as error:
        log.warning("the streams of %s are left out: %s", one["name"], error)
        return ()
