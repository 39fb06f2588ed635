"""The feed that this process reads where none is named, and whose feeds it reads.

The environment chooses it, unless a strategy's process has chosen by `wealthdata.use`:
`wealthdata` then puts its own functions in place, which leases and managers ask.
"""

import os
from collections.abc import Callable

from shmfeed.accounts import chosen_owner
from shmfeed.validation import (
    DEFAULT_FEED,
    FEED_VARIABLE,
    check_feed_name,
    names_no_feed,
)


def _by_environment() -> str | None:
    name = os.environ.get(FEED_VARIABLE) or DEFAULT_FEED
    return None if names_no_feed(name) else check_feed_name(name)


class _Chooser:
    feed: Callable[[], str | None] = staticmethod(_by_environment)
    owner: Callable[[], int | None] = staticmethod(chosen_owner)


def use_chooser(
    feed: Callable[[], str | None], owner: Callable[[], int | None]
) -> None:
    """Let these functions choose from now on.

    `feed` returns None to read no feed, `owner` to read this user's feeds.
    """
    _Chooser.feed, _Chooser.owner = staticmethod(feed), staticmethod(owner)


def chosen_feed() -> str | None:
    """Return the name of the feed, or None if this process reads no feed at all."""
    return _Chooser.feed()


def other_owner() -> int | None:
    """Return the other user whose feeds this process reads, None if it reads its own.

    Raises BadArgumentError for a user that this host does not know.
    """
    owner = _Chooser.owner()
    return None if owner == os.geteuid() else owner
