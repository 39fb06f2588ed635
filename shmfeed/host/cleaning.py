"""Removing what no feeder holds, of one feed or of all of this user."""

from shmfeed.host.names import has_anything, names_here
from shmfeed.memory.removal import FOREIGN, Leftover, leftovers
from shmfeed.memory.segment import not_found, place

_NO_NAME = "bears no feed's name: no feeder has made it; it stays as it is"


def clean_feed(name: str, remove: bool) -> list[Leftover]:
    """What there is of a feed; with `remove` what nobody holds is gone.

    FeedNotFoundError where there is nothing, BadArgumentError for a name that is not
    accepted, UnsupportedPlatformError.
    """
    where = place(name)
    if not has_anything(where):
        raise not_found(where)
    return leftovers(where, remove)


def clean_all(remove: bool) -> list[Leftover]:
    """The same of every feed of this user, and of what only bears our prefix."""
    names = names_here()
    found = [one for name in names.feeds for one in leftovers(place(name), remove)]
    return found + [Leftover(path, 0, FOREIGN, _NO_NAME) for path in names.strangers]
