"""One row for every feed of a user, for `shmfeed ls` and `shmfeed doctor`.

And their names, for the error that a misspelt feed gives.
"""

import difflib
import os
from typing import Literal, TypedDict

from shmfeed.accounts import user_name
from shmfeed.errors import FeedNotFoundError, ShmfeedError
from shmfeed.health import Health
from shmfeed.layout import State
from shmfeed.segment.inventory import feeds_of_others, feeds_with_segment
from shmfeed.segment.mapping import Place, open_segment, place
from shmfeed.status import feed_status
from shmfeed.text import printable

UNREADABLE: Literal["unreadable"] = "unreadable"
_NOT_READY = (
    "it is not ready: a feeder is creating it now, or was killed while creating it;"
    " start the feeder again, or remove it with `shmfeed clean`"
)


_MAX_NAMED = 20


def describe_feeds(missing: str, owner: int | None = None) -> str:
    """Return which feeds this user, or `owner`, has, the nearest name first.

    Raises UnsupportedPlatformError.
    """
    feeds = feeds_with_segment(owner)
    is_own = owner in {None, os.geteuid()}
    user = "this user" if is_own else f"user {owner}"
    if not feeds:
        others = describe_other_feeds(missing) if is_own else ""
        return f"{user} has no feed{others}"
    if missing in feeds:
        return "its segment is not ready"
    lower = {name.lower(): name for name in reversed(feeds)}
    near = difflib.get_close_matches(missing.lower(), list(lower), 1)
    meant = f"did you mean {lower[near[0]]!r}? " if near else ""
    more = ", .." if len(feeds) > _MAX_NAMED else ""
    return f"{meant}{user}'s feeds are: {', '.join(feeds[:_MAX_NAMED])}{more}"


def describe_other_feeds(missing: str | None = None) -> str:
    """Return the clause that names other users' feeds, or an empty string.

    If one of them has the feed `missing`, it tells only of users that have it.

    Raises UnsupportedPlatformError.
    """
    others = feeds_of_others()
    having = {user: [missing] for user, feeds in others.items() if missing in feeds}
    told = [
        f"{printable(user_name(user))} ({', '.join(feeds[:_MAX_NAMED])})"
        for user, feeds in (having or others).items()
    ]
    if not told:
        return ""
    return (
        f"; other users have feeds: {', '.join(told[:_MAX_NAMED])}; choose the user by"
        " SHMFEED_OWNER"
    )


class FeedRow(TypedDict):
    """One feed in a listing. What an unreadable feed does not reveal is None."""

    feed: str
    health: Health | Literal["unreadable"]
    state: State | None
    pid: int | None
    identity: str | None  # protocol/market_type/venue of its rows
    streams: int | None  # how many
    bars: int | None  # closed bars of all streams
    bytes: int  # of shared memory
    last_message_age: float | None  # seconds
    reason: str | None  # why the feed cannot be read


def list_feeds(owner: int | None = None) -> list[FeedRow]:
    """Return a row for each feed of this user, or of `owner`, with a segment, by name.

    Raises UnsupportedPlatformError.
    """
    rows = (feed_row(place(name, owner)) for name in feeds_with_segment(owner))
    return [row for row in rows if row is not None]


def feed_row(where: Place) -> FeedRow | None:
    """Return the row of one feed, None if it has no segment."""
    try:
        size = where.segment.lstat().st_size
    except OSError:
        return None
    try:
        status = feed_status(open_segment(where), where.name)
    except FeedNotFoundError:
        if not where.segment.exists():
            return None
        return _unreadable_row(where, size) | {"reason": _why_not_ready(where)}
    except ShmfeedError as error:
        reason = str(error).removeprefix(f"{where.segment} ")
        return _unreadable_row(where, size) | {"reason": reason}
    return {
        "feed": where.name,
        "health": status["health"],
        "state": status["state"],
        "pid": status["pid"],
        "identity": status["identity"],
        "streams": len(status["streams"]),
        "bars": sum(stream["count"] for stream in status["streams"]),
        "bytes": size,
        "last_message_age": status["last_message_age"],
        "reason": None,
    }


def _unreadable_row(where: Place, size: int) -> FeedRow:
    return {
        "feed": where.name,
        "health": UNREADABLE,
        "state": None,
        "pid": None,
        "identity": None,
        "streams": None,
        "bars": None,
        "bytes": size,
        "last_message_age": None,
        "reason": None,
    }


def _why_not_ready(where: Place) -> str:
    if where.owner != os.geteuid():
        return _NOT_READY
    # Imported late: it loads locking, which a command that only reads does not need.
    from shmfeed.segment.removal import FOREIGN, leftovers  # noqa: PLC0415

    for leftover in leftovers(where):
        if leftover.path == where.segment and leftover.state == FOREIGN:
            return leftover.reason
    return _NOT_READY
