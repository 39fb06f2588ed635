"""The feed that this process reads where none is named.

The environment chooses it, unless a strategy's process has chosen by `wealthdata.use`:
`wealthdata` then puts its own function in place, which a lease asks.
"""

import os
from collections.abc import Callable

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
    function: Callable[[], str | None] = staticmethod(_by_environment)


def use_chooser(function: Callable[[], str | None]) -> None:
    """Let this function choose from now on; it returns None to read no feed."""
    _Chooser.function = staticmethod(function)


def chosen_feed() -> str | None:
    """Return the name of the feed, or None if this process reads no feed at all."""
    return _Chooser.function()
