"""Which feed this process reads, and whether it may read one at all."""

import os
from collections.abc import Callable

from shmfeed.arguments import check_flag, switched_on
from shmfeed.errors import BadArgumentError
from shmfeed.names import check_feed_name

DEFAULT_FEED = "default"
OFF = "off"  # instead of a feed's name: contexts only, as in a backtest


class _Choice:
    """What `use` chose; None: the environment says."""

    feed: str | None = None
    context_only: bool | None = None


_choice = _Choice()
_checked: set[str] = set()  # names that have passed


def use(feed: str | None = None, context_only: bool | None = None) -> None:
    """Choose, for this process, the feed to read, or contexts only (a backtest).

    What is None stays as it was chosen before; `use()` gives both choices back to
    the environment: `SHMFEED_FEED` names a feed, or is `off`; else the feed is
    `default`. Raises BadArgumentError for a name that is not accepted.
    """
    if feed is not None:
        check_feed_name(feed)
    if context_only is not None:
        context_only = check_flag("context_only", context_only)
    if feed is None and context_only is None:
        _choice.feed = _choice.context_only = None
    if feed is not None:
        _choice.feed = feed
    if context_only is not None:
        _choice.context_only = context_only


def chosen_feed() -> str | None:
    """The feed's name; None where no live bar may be seen. BadArgumentError."""
    named = _environment("SHMFEED_FEED") or DEFAULT_FEED
    name = _choice.feed or named
    if _choice.context_only or OFF in (named.lower(), name.lower()):
        return None
    if name not in _checked:
        _check(name)
    return name


def _check(name: str) -> None:
    try:
        _checked.add(check_feed_name(name))
    except BadArgumentError as error:  # what `use` takes has been checked
        raise BadArgumentError(f"{error} (from environment SHMFEED_FEED)") from None


def always_copy() -> bool:
    """Whether SHMFEED_COPY asks for private frames in the whole process.

    Raises BadArgumentError for a word that is neither yes nor no.
    """
    text = _environment("SHMFEED_COPY")
    return text is not None and switched_on("SHMFEED_COPY", text)


def _plain(name: str) -> str | None:
    return os.environ.get(name)


def _quick_lookup() -> Callable[[str], str | None] | None:
    """A dict lookup instead of os.environ's, which costs a microsecond for a name that
    is not set; it sees the same variables. None where os.environ is built otherwise."""
    table = getattr(os.environ, "_data", None)
    encode = getattr(os.environ, "encodekey", None)
    decode = getattr(os.environ, "decodevalue", None)
    if not (isinstance(table, dict) and encode and decode):
        return None
    keys = {name: encode(name) for name in ("SHMFEED_FEED", "SHMFEED_COPY")}

    def look_up(name: str) -> str | None:
        value = table.get(keys[name])
        if value is None:
            return None
        text: str = decode(value)
        return text

    return look_up


_environment = _quick_lookup() or _plain
