"""The feeds that this process reads, and its attachment to them.

A process attaches to a feed at its first read of it and stays attached.
"""

from typing import Any

from shmfeed.bar import StreamKey
from shmfeed.errors import FeedNotFoundError, NoDataError, UnsupportedPlatformError
from shmfeed.feed import Feed, Ring, attach
from wealthdata import price_table
from wealthdata.backtest_mark import VARIABLE, mark
from wealthdata.choices import current_choices
from wealthdata.query_cache import forget_queries


class AttachedFeed:
    """An attached feed, with its rings."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.name = feed.name
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


_attached: dict[str, AttachedFeed] = {}


def selected_feed(named: str | None = None) -> str | None:
    """Return the name of the feed to read; None if only contexts may be read.

    `named` is the feed that a call names. Raise BadArgumentError if a variable of the
    environment is not accepted.
    """
    chosen = current_choices().feed
    return chosen if named is None or chosen is None else named


def attached_feed(named: str | None = None) -> AttachedFeed | None:
    """Return the feed to read; None in a backtest, or if the host has no such feed.

    While the feed is missing each call looks for it, so the next call sees a feed that
    appears. Raise SegmentFormatError if its shared memory is not a feed's.
    """
    name = selected_feed(named)
    if name is None:
        return None
    attached = _attached.get(name)
    if attached is None:
        try:
            attached = AttachedFeed(attach(name))
        except (FeedNotFoundError, UnsupportedPlatformError):
            return None
        attached = _attached.setdefault(name, attached)
    return attached


def add_usual_read(
    feed: AttachedFeed,
    arguments: tuple[Any, ...],
    prepared: price_table.PreparedRead | None,
) -> None:
    """Let the C core serve calls with these arguments, if they still read this feed.

    `arguments` end in the feed that the call names, or None. Another thread may choose
    another feed at any moment: it changes the choice before it clears the table, so one
    of the two removes a read that came too late.
    """
    if prepared is None or not current_choices().is_usual:
        return
    price_table.add(arguments, prepared)
    named = arguments[-1]
    changed = selected_feed(named) != feed.name or not current_choices().is_usual
    if changed or _attached.get(feed.name) is not feed:
        price_table.clear()


def detach() -> None:
    """Release the feeds; frames stay readable, and the next read attaches again."""
    _attached.clear()
    forget_queries()


def no_data_error(reason: str, named: str | None = None) -> NoDataError:
    """Return the error for a read that neither a feed nor a context can serve."""
    if mark.is_set:
        return NoDataError(
            f"{reason}; this process reads no feed, as it was started while a"
            f" backtest's context was in force ({VARIABLE} in its environment says so),"
            " so supply the bars with wealthdata.set_context(context)"
        )
    name = selected_feed(named)
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
