"""The feed that this process reads: which one it is, and the attachment to it.

A process attaches at its first read and stays attached.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from shmfeed.bar import StreamKey
from shmfeed.errors import (
    BadArgumentError,
    FeedNotFoundError,
    NoDataError,
    UnsupportedPlatformError,
)
from shmfeed.feed import Feed, Ring, attach
from shmfeed.validation import (
    DEFAULT_FEED,
    FEED_VARIABLE,
    check_feed_name,
    check_flag,
    check_switch,
    names_no_feed,
)
from wealthdata import price_table

_COPY_VARIABLE = "SHMFEED_COPY"


class _Choice:
    """The choices of `use`; None leaves a choice to the environment."""

    feed: str | None = None
    context_only: bool | None = None


_choice = _Choice()
# Feed names already checked, by SHMFEED_FEED (as os.environ stores it) and the choices.
_names: dict[tuple[Any, str | None, bool | None], str | None] = {}


def use(feed: str | None = None, context_only: bool | None = None) -> None:
    """Choose the feed that this process reads, or contexts only (a backtest).

    Without a choice the environment decides: `SHMFEED_FEED` names a feed or is `off`
    (contexts only); if it is not set, the feed is `default`.

    Args:
        feed: The feed's name, or "off". None keeps the earlier choice.
        context_only: True to never read a feed. None keeps the earlier choice.
            `use()`, without arguments, drops both choices.

    Raises:
        BadArgumentError: The name or the flag is not accepted.

    Thread safety:
        The choice holds for all threads, from their next call on.
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
    if _attachment.feed is not None:
        _attachment.feed.forget_queries()


def selected_feed() -> str | None:
    """Return the name of the feed to read; None if only contexts may be read.

    Raise BadArgumentError if SHMFEED_FEED is not a feed's name.
    """
    choices = _feed_variable(), _choice.feed, _choice.context_only
    try:
        return _names[choices]
    except KeyError:
        name = _names[choices] = _select(*choices)
    return name


def _select(variable: Any, feed: str | None, context_only: bool | None) -> str | None:
    default = (variable and _decode(variable)) or DEFAULT_FEED
    name = feed or default
    if context_only or names_no_feed(default) or names_no_feed(name):
        return None
    try:
        return check_feed_name(name)
    except BadArgumentError as error:  # `use` has checked its own
        raise BadArgumentError(f"{error} (from environment SHMFEED_FEED)") from None


def always_copy() -> bool:
    """Return True if SHMFEED_COPY asks for private frames in the whole process.

    Raise BadArgumentError if the variable is neither yes nor no.
    """
    variable = _copy_variable()
    return variable is not None and check_switch(_COPY_VARIABLE, _decode(variable))


class _Environment(NamedTuple):
    """Access to environment variables: a getter for a name, a decoder for its value.

    `inner` is the dict inside os.environ with the keys of the two variables.
    """

    getter: Callable[[str], Callable[[], Any]]
    decode: Callable[[Any], str]
    inner: price_table.Environment | None


def _fast_environment() -> _Environment:
    """Return access to the dict inside os.environ or, if it has none, to os.environ.

    os.environ takes a microsecond for a variable that is not set, its dict a fraction
    of it; both show the same variables.
    """
    table = getattr(os.environ, "_data", None)
    encode = getattr(os.environ, "encodekey", None)
    decode = getattr(os.environ, "decodevalue", None)
    if not (isinstance(table, dict) and encode and decode):
        return _Environment(lambda name: partial(os.environ.get, name), str, None)
    return _Environment(
        lambda name: partial(table.get, encode(name)),
        decode,
        price_table.Environment(table, encode(FEED_VARIABLE), encode(_COPY_VARIABLE)),
    )


_getter, _decode, ENVIRONMENT = _fast_environment()
_feed_variable, _copy_variable = _getter(FEED_VARIABLE), _getter(_COPY_VARIABLE)


_MAX_QUERIES = 4096
_MAX_LISTS = 64  # a query of a long list is large


class AttachedFeed:
    """An attached feed, with its rings and its cached queries."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.name = feed.name
        self.queries: dict[Any, Any] = {}  # by the arguments of get_price
        self.list_queries: dict[Any, Any] = {}  # the same of lists
        self._rings: dict[StreamKey, Ring] = {}

    def ring(self, key: StreamKey) -> Ring:
        """Return the stream's ring. Raise StreamNotFoundError."""
        ring = self._rings.get(key)
        if ring is None:
            ring = self._rings[key] = self._feed.ring(*key)
        return ring

    def streams(self) -> list[StreamKey]:
        """Return the subscribed streams, in the order of subscription."""
        return self._feed.streams()

    def cache_query(self, arguments: object, query: object) -> None:
        """Keep a query for the next call with these arguments."""
        if len(self.queries) >= _MAX_QUERIES:
            self.forget_queries()
        self.queries[arguments] = query

    def cache_list_query(self, arguments: object, query: object) -> None:
        """Keep a query of a list. A caller may ask for another list each time."""
        if len(self.list_queries) >= _MAX_LISTS:
            self.list_queries.clear()
        self.list_queries[arguments] = query

    def forget_queries(self) -> None:
        """Forget the queries: the next call of each chooses its feed and its ring."""
        self.queries.clear()
        self.list_queries.clear()
        price_table.clear()


class _Attachment:
    """The feed read last; reading another one replaces it."""

    feed: AttachedFeed | None = None


_attachment = _Attachment()


def attached_feed() -> AttachedFeed | None:
    """Return the feed to read; None in a backtest, or if the host has no such feed.

    While the feed is missing each call looks for it, so the next call sees a feed that
    appears. Raise SegmentFormatError if its shared memory is not a feed's.
    """
    name = selected_feed()
    attached = _attachment.feed
    if attached is not None and attached.name == name:
        return attached
    if name is None:
        return None
    try:
        attached = AttachedFeed(attach(name))
    except (FeedNotFoundError, UnsupportedPlatformError):
        return None
    _attachment.feed = attached
    price_table.clear()  # its reads are of the former feed
    return attached


def add_usual_read(
    feed: AttachedFeed, arguments: object, prepared: price_table.PreparedRead | None
) -> None:
    """Let the C core serve calls with these arguments, if they still read this feed.

    Another thread may choose another feed at any moment: it changes the choice before
    it clears the table, so one of the two removes a read that came too late.
    """
    price_table.add(arguments, prepared)
    if _attachment.feed is not feed or selected_feed() != feed.name:
        price_table.clear()


def detach() -> None:
    """Release the feed; frames stay readable, and the next read attaches again."""
    _attachment.feed = None
    price_table.clear()


def no_data_error(reason: str) -> NoDataError:
    """Return the error for a read that neither a feed nor a context can serve."""
    name = selected_feed()
    if name is None:
        return NoDataError(
            f"{reason}; this process reads no feed (context_only, or SHMFEED_FEED=off),"
            " so supply the bars with wealthdata.set_context(context)"
        )
    try:
        attach(name)
    except UnsupportedPlatformError as error:
        return NoDataError(
            f"{reason}; supply the bars with wealthdata.set_context(context): {error}"
        )
    except FeedNotFoundError:
        pass
    return NoDataError(
        f"no feed {name!r} on this host, and {reason}; start one with `shmfeed run"
        f" --feed {name} --symbols .. --resolutions ..` or a manager's start(), or"
        " supply the bars with wealthdata.set_context(context)"
    )
