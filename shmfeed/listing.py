"""Every feed of this user, each in one row; one that cannot be read with the reason."""

from typing import Any

from shmfeed.errors import FeedNotFoundError, ShmfeedError
from shmfeed.segment.inventory import feeds_with_segment
from shmfeed.segment.mapping import Place, open_segment, place
from shmfeed.segment.removal import FOREIGN, leftovers
from shmfeed.status import feed_status

UNREADABLE = "unreadable"
_UNREADY = (
    "it is not ready: a feeder is making it just now, or was killed while it did;"
    " start the feeder again, or remove it with `shmfeed clean`"
)


def list_feeds() -> list[dict[str, Any]]:
    """A row for each feed that has a segment, by name; UnsupportedPlatformError."""
    rows = (row_of(place(name)) for name in feeds_with_segment())
    return [row for row in rows if row is not None]


def row_of(where: Place) -> dict[str, Any] | None:
    """One feed in plain values, None where it has no segment.

    `streams` and `bars` are counts, `bytes` is the size in shared memory,
    `last_message_age` is in seconds. Of a feed that cannot be read `health` is
    `unreadable`, `reason` says why, and what is not known is None.
    """
    try:
        size = where.segment.lstat().st_size
    except OSError:
        return None
    row: dict[str, Any] = {"feed": where.name, "health": UNREADABLE}
    row |= dict.fromkeys(("state", "pid", "streams", "bars"))
    row |= {"bytes": size, "last_message_age": None, "reason": None}
    try:
        status = feed_status(open_segment(where), where.name)
    except FeedNotFoundError:
        return row | {"reason": _unready(where)} if where.segment.exists() else None
    except ShmfeedError as error:
        reason = str(error).removeprefix(f"{where.segment} ")
        return row | {"reason": reason}
    streams = status["streams"]
    return row | {
        **{key: status[key] for key in ("health", "state", "pid", "last_message_age")},
        "streams": len(streams),
        "bars": sum(stream["count"] for stream in streams),
    }


def _unready(where: Place) -> str:
    """Why it is not ready: no feeder has ever made it, or one has not finished."""
    for one in leftovers(where):
        if one.path == where.segment and one.state == FOREIGN:
            return one.reason
    return _UNREADY
