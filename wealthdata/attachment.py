"""The feeds that this process reads, and its attachment to them.

A process attaches to a feed at its first read of it, is bound to the identity that the
feed has then, and stays attached. Every segment and every feeder is checked against
that identity, and against the expected one, before any row of it is used.
"""

from functools import partial
from typing import Any

from shmfeed.accepted_feeder import AcceptedFeeder, Source
from shmfeed.bar import StreamKey
from shmfeed.errors import (
    FeedChangedError,
    FeedNotFoundError,
    NoDataError,
    SegmentError,
    StreamNotFoundError,
    UnsupportedPlatformError,
)
from shmfeed.feed import Ring, attach_accepted
from wealthdata import price_table
from wealthdata.backtest_mark import VARIABLE, mark
from wealthdata.choices import Choices, current_choices
from wealthdata.expectation import Binding
from wealthdata.query_cache import forget_queries
from wealthdata.stand_ins import segment_of, stand_ins

# The errors of a feed that has lost the stream, its market or its shared memory.
FEED_ERRORS = StreamNotFoundError, FeedChangedError, SegmentError

_Chosen = tuple[int, str | None, int | None]  # number of the binding, expect, owner


class AttachedFeed:
    """An attached feed, with its rings.

    `number` counts the times that the process has bound the feed again. `chosen` are
    the choices that it was attached for; with others it is attached again.
    """

    def __init__(self, binding: Binding, chosen: _Chosen) -> None:
        """Attach. Raise FeedNotFoundError, or FeedChangedError as `check` does."""
        self.name = binding.name
        self.chosen = chosen
        self.number, expect, owner = chosen
        is_replay = stand_ins() is not None  # of this user
        # No reference to this object: a cycle would keep a segment that is let go.
        self._feed = attach_accepted(
            segment_of(binding.name),
            partial(binding.check, expect=expect),
            None if is_replay else owner,
        )
        self._feeder = self._feed.feeder()
        self._rings: dict[StreamKey, Ring] = {}
        self.rolled: dict[StreamKey, Any] = {}  # the RolledRings that were read

    def check(self) -> AcceptedFeeder:
        """Return the present feeder. Raise FeedChangedError if it is not accepted.

        A read calls it after it took rows of a ring, and before it uses them: they may
        be those of a feeder that began meanwhile. Prepared reads are those of one
        feeder: its identity, and its mark, by which the C core knows it.
        """
        feeder = self._feed.feeder()
        if feeder is not self._feeder:
            self._feeder = feeder
            forget_queries()
        return feeder

    @property
    def mark(self) -> int:
        """The mark of the feeder that `check` has returned last."""
        return self._feeder.mark

    @property
    def identity(self) -> str | None:
        """The identity of the feed's rows, None without one."""
        return self._feeder.identity

    @property
    def source(self) -> Source:
        """The source of the feed's rows, as in a frame's attrs."""
        return self._feeder.source

    def ring(self, key: StreamKey) -> Ring:
        """Return the stream's ring. Raise StreamNotFoundError or FeedChangedError."""
        self.check()
        ring = self._rings.get(key)
        if ring is None:
            ring = self._rings[key] = self._feed.ring(*key)
        return ring

    def streams(self) -> list[StreamKey]:
        """Return the subscribed streams, in the order of subscription.

        Raise FeedChangedError.
        """
        self.check()
        return self._feed.streams()

    def known_streams(self) -> tuple[object, dict[StreamKey, int], list[StreamKey]]:
        """Return the catalog: its state, all streams, and the subscribed ones.

        It is the same object as long as no stream comes or goes.
        """
        return self._feed._current().streams()


_attached: dict[str, AttachedFeed] = {}
_bindings: dict[tuple[str, int], Binding] = {}  # by the feed's name and `number`


def selected_feed(named: str | None = None) -> str | None:
    """Return the name of the feed to read; None if only contexts may be read.

    `named` is the feed that a call names. Raise BadArgumentError if a variable of the
    environment is not accepted.
    """
    return _select(current_choices(), named)


def _select(choices: Choices, named: str | None) -> str | None:
    return choices.feed if named is None or choices.feed is None else named


def attached_feed(named: str | None = None) -> AttachedFeed | None:
    """Return the feed to read; None in a backtest, or if the host has no such feed.

    While the feed is missing each call looks for it, so the next call sees a feed that
    appears. Raise FeedChangedError if its identity is not the one that this process
    has read or expects, SegmentFormatError if its shared memory is not a feed's.
    """
    choices = current_choices()
    name = _select(choices, named)
    if name is None:
        return None
    number, attached = choices.bindings.get(name, 0), _attached.get(name)
    wanted = number, choices.expect, choices.owner
    if attached is None or attached.chosen != wanted:
        _forget_bindings(name, number)
        binding = _bindings.setdefault((name, number), Binding(name))
        try:
            # The segment stays in use meanwhile, and with it the rows set aside.
            made = AttachedFeed(binding, wanted)
        except (FeedNotFoundError, UnsupportedPlatformError):
            return None
        attached = _attached.setdefault(name, made)
        if attached.chosen != wanted:  # else another thread was first: one is enough
            attached = _attached[name] = made
    return attached


def _forget_bindings(name: str, number: int) -> None:
    """Forget the bindings of a feed that later ones have replaced."""
    for key in list(_bindings):
        if key[0] == name and key[1] < number:
            _bindings.pop(key, None)


def add_usual_read(
    feed: AttachedFeed,
    arguments: tuple[Any, ...],
    prepared: price_table.PreparedRead | None,
    choices: Choices,
) -> None:
    """Let the C core serve calls with these arguments, if they still read this feed.

    `choices` are those of the read that was prepared. Another thread may choose another
    feed, or find another feeder, at any moment: it changes that before it forgets the
    reads, so one of the two removes a read that came too late.
    """
    if prepared is None:
        return
    price_table.add(arguments, prepared)
    if (
        current_choices() is not choices
        or _attached.get(feed.name) is not feed
        or feed.mark != prepared.started
    ):
        forget_queries()


def detach() -> None:
    """Release the feeds; frames stay readable, and the next read attaches again."""
    _attached.clear()
    _bindings.clear()
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
    segments = stand_ins()
    if segments is not None:
        return NoDataError(
            f"{reason}; this is a replay, which plays {' '.join(segments)} and not feed"
            f" {name!r}: name its securities in --symbols as SYMBOL@{name}, and its"
            f" file as --replay {name}=FILE"
        )
    from shmfeed.listing import describe_feeds  # noqa: PLC0415 # only an error needs it

    try:
        feeds = describe_feeds(name, current_choices().owner)
    except UnsupportedPlatformError as error:
        return NoDataError(
            f"{reason}; supply the bars with wealthdata.set_context(context): {error}"
        )
    return NoDataError(
        f"no feed {name!r} on this host ({feeds}), and {reason}; start one with"
        f" `shmfeed run --feed {name} --symbols .. --resolutions ..` or a manager's"
        " start(), or supply the bars with wealthdata.set_context(context)"
    )
