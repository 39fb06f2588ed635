"""What a feed carries, said to who asked for something else."""

from collections.abc import Sequence

from shmfeed.errors import StreamNotFoundError
from shmfeed.memory.catalog import Names

_MOST_NAMED = 20


def not_carried(
    feed: str, names: Names, carried: Sequence[Names]
) -> StreamNotFoundError:
    """The error that names what there is, or the first of it."""
    there = [" ".join(stream) for stream in carried]
    more = f" and {len(there) - _MOST_NAMED} more" if len(there) > _MOST_NAMED else ""
    listed = ", ".join(there[:_MOST_NAMED]) or "nothing yet"
    return StreamNotFoundError(
        f"feed {feed!r} does not carry {' '.join(names)}; it carries: {listed}{more}"
    )
