"""Which feed this process reads, and whether it may read one at all."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

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
# The feed's name, by what was said: by the environment, as it keeps it, and by `use`.
_names: dict[tuple[Any, str | None, bool | None], str | None] = {}


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
    said = _feed_variable(), _choice.feed, _choice.context_only
    try:
        return _names[said]
    except KeyError:
        name = _names[said] = _name(*said)
    return name


def _name(variable: Any, feed: str | None, context_only: bool | None) -> str | None:
    named = (variable and _text(variable)) or DEFAULT_FEED
    name = feed or named
    if context_only or OFF in (named.lower(), name.lower()):
        return None
    try:
        return check_feed_name(name)
    except BadArgumentError as error:  # what `use` takes has been checked
        raise BadArgumentError(f"{error} (from environment SHMFEED_FEED)") from None


def always_copy() -> bool:
    """Whether SHMFEED_COPY asks for private frames in the whole process.

    Raises BadArgumentError for a word that is neither yes nor no.
    """
    variable = _copy_variable()
    return variable is not None and switched_on("SHMFEED_COPY", _text(variable))


class _Variables(NamedTuple):
    """How a variable of the environment is looked up; how what is found is text."""

    look_up: Callable[[str], Callable[[], Any]]
    text: Callable[[Any], str]


def _variables() -> _Variables:
    """A dict lookup instead of os.environ's, which costs a microsecond for a name that
    is not set; it sees the same variables. The plain one where os.environ is built
    otherwise."""
    table = getattr(os.environ, "_data", None)
    encode = getattr(os.environ, "encodekey", None)
    decode = getattr(os.environ, "decodevalue", None)
    if not (isinstance(table, dict) and encode and decode):
        return _Variables(lambda name: partial(os.environ.get, name), str)
    return _Variables(lambda name: partial(table.get, encode(name)), decode)


_look_up, _text = _variables()
_feed_variable, _copy_variable = _look_up("SHMFEED_FEED"), _look_up("SHMFEED_COPY")
