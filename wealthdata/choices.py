"""The choices of this process: by `use`, else by the environment, else a default.

Every read asks for the choices in force. They are worked out again only after a call of
`use` or a change of the environment.
"""

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from shmfeed.accounts import OWNER_VARIABLE, check_owner
from shmfeed.chosen_feed import use_chooser
from shmfeed.errors import BadArgumentError
from shmfeed.forks import after_fork_in_child
from shmfeed.validation import (
    DEFAULT_FEED,
    FEED_VARIABLE,
    check_choice,
    check_feed_name,
    check_flag,
    check_switch,
    names_no_feed,
)
from wealthdata import price_table
from wealthdata.backtest_mark import mark
from wealthdata.environment import (
    COPY_VARIABLE,
    EXPECT_VARIABLE,
    LABEL_VARIABLE,
    MAX_AGE_VARIABLE,
    ON_GAP_VARIABLE,
    ON_SHORT_VARIABLE,
    ON_STALE_VARIABLE,
    ON_UNCONFIRMED_VARIABLE,
    read_variables,
)
from wealthdata.expectation import check_expect
from wealthdata.labels import LABELS, Label
from wealthdata.query_cache import forget_queries
from wealthdata.reactions import (
    REACTIONS,
    Reaction,
    Reactions,
    check_reactions,
    parse_max_age,
)
from wealthdata.stand_ins import stand_ins

_REACTION_VARIABLES = {
    "on_stale": ON_STALE_VARIABLE,
    "on_gap": ON_GAP_VARIABLE,
    "on_short": ON_SHORT_VARIABLE,
    "on_unconfirmed": ON_UNCONFIRMED_VARIABLE,
}


_NO_BINDINGS: Mapping[str, int] = {}


class Choices(NamedTuple):
    """The choices in force.

    Attributes:
        feed: The feed that is read where a call names none; None if this process reads
            no feed at all, as in a backtest.
        copy: True if each frame is private memory.
        label: The times that the index of a frame holds.
        expect: The identity that a feed must have, or None.
        owner: The number of the user whose feeds are read, None for this process's.
        reactions: The reactions where a call gives none.
        bindings: The number of times that `use` has chosen each feed, by name.
    """

    feed: str | None
    copy: bool = False
    label: Label = "close"
    expect: str | None = None
    owner: int | None = None
    reactions: Reactions = Reactions()
    bindings: Mapping[str, int] = _NO_BINDINGS


class _Known:
    """The arguments given to `use`, and the choices that were worked out last."""

    given: dict[str, Any] = {}  # noqa: RUF012 # replaced, never changed
    choices: tuple[object, object, Choices | None] = (None, None, None)


_known = _Known()


class _Changing:
    """The lock of a change, held by no thread in a forked child."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        after_fork_in_child(self._renew)

    def _renew(self) -> None:
        self.lock = threading.RLock()


_changing = _Changing()


def use(
    feed: str | None = None,
    context_only: bool | None = None,
    copy: bool | None = None,
    label: Label | None = None,
    expect: str | None = None,
    owner: str | int | None = None,
    max_age: float | None = None,
    on_stale: Reaction | None = None,
    on_gap: Reaction | None = None,
    on_short: Reaction | None = None,
    on_unconfirmed: Reaction | None = None,
) -> None:
    """Choose for this process which feed it reads, and how.

    An argument that is left out or None leaves its choice as it is. Where nothing was
    chosen the environment decides: SHMFEED_FEED, SHMFEED_COPY, SHMFEED_LABEL,
    SHMFEED_EXPECT, SHMFEED_OWNER, SHMFEED_MAX_AGE, SHMFEED_ON_STALE, SHMFEED_ON_GAP,
    SHMFEED_ON_SHORT and SHMFEED_ON_UNCONFIRMED. An argument of a single read wins over
    both.

    Args:
        feed: The feed that is read where a call names none; "off" to read none.
            Default: "default". It drops the `expect` of an earlier call, and binds the
            feed to the identity that it has at its next read: after a FeedChangedError
            the same name reads the new feed.
        context_only: True to read contexts only, as in a backtest; False to end that.
            SHMFEED_FEED=off wins over it. Processes that are started meanwhile read no
            feed either.
        copy: True for private, writable frames.
        label: The times that an index holds: "close", "open", or "date", JoinQuant's.
        expect: The identity that every feed must have which this process reads:
            "binance/usdm", protocol and market type, or with the venue as a third part.
            A feed of another one, or of none, is a FeedChangedError at each read.
        owner: The user whose feeds are read, by name or number, where a feeder lets a
            group of this process read its feed. Default: this process's own.
        max_age: Seconds; as in `get_price`.
        on_stale: "warn", "raise" or "ignore"; as in `get_price`.
        on_gap: The same of a window with missing bars.
        on_short: The same of fewer rows than asked for.
        on_unconfirmed: The same of a newest row that is not known to be final.

    Raises:
        BadArgumentError: An argument is not accepted; no choice has changed then.

    Thread safety:
        The choices hold for all threads, from their next call on.
    """
    given: dict[str, Any] = {}
    if feed is not None:
        given |= {"feed": check_feed_name(feed), "expect": None}
    if context_only is not None:
        given["context_only"] = check_flag("context_only", context_only)
    if copy is not None:
        given["copy"] = check_flag("copy", copy)
    if label is not None:
        given["label"] = check_choice("label", label, LABELS)
    if expect is not None:
        given["expect"] = check_expect("expect", expect)
    if owner is not None:
        given["owner"] = check_owner("owner", owner)
    given |= check_reactions(
        {
            "max_age": max_age,
            "on_stale": on_stale,
            "on_gap": on_gap,
            "on_short": on_short,
            "on_unconfirmed": on_unconfirmed,
        }
    )
    with _changing.lock:  # of two calls at once neither loses its choice
        if feed is not None:
            bindings = _known.given.get("bindings", _NO_BINDINGS)
            given["bindings"] = {**bindings, feed: bindings.get(feed, 0) + 1}
        _known.given = _known.given | given
    forget_queries()
    mark.refresh()


def replace_choices(given: dict[str, Any]) -> dict[str, Any]:
    """Let these choices of `use` hold instead of all earlier ones; return those."""
    with _changing.lock:
        earlier, _known.given = _known.given, given
    forget_queries()
    mark.refresh()
    return earlier


def forget_choices() -> None:
    """Leave every choice to the environment again."""
    replace_choices({})


def reads_no_feed_by_use() -> bool:
    """Return True if `use` makes this process a backtest."""
    given = _known.given
    return bool(given.get("context_only")) or names_no_feed(given.get("feed") or "")


def current_choices() -> Choices:
    """Return the choices in force.

    Raise BadArgumentError naming an environment variable that is not accepted.
    """
    given, version = _known.given, price_table.version()
    known_version, known_given, known = _known.choices
    if known is not None and known_version == version and known_given is given:
        return known
    choices = _work_out(given, read_variables())
    if known is not None and choices == known:
        choices = known  # a prepared read knows its choices by their identity
    else:
        forget_queries()
    _known.choices = version, given, choices
    price_table.trust(version)
    return choices


def _feed_of_leases() -> str | None:
    """Return the feed of a lease that names none; None where it holds nothing."""
    return None if stand_ins() is not None else current_choices().feed


def _owner_of_feeds() -> int | None:
    return current_choices().owner


use_chooser(_feed_of_leases, _owner_of_feeds)


def _work_out(given: dict[str, Any], variables: dict[str, str]) -> Choices:
    expect = given.get("expect")
    if expect is None and variables.get(EXPECT_VARIABLE):
        expect = check_expect(EXPECT_VARIABLE, variables[EXPECT_VARIABLE])
    owner = given.get("owner")
    if owner is None and variables.get(OWNER_VARIABLE):
        owner = check_owner(OWNER_VARIABLE, variables[OWNER_VARIABLE])
    copy, label = given.get("copy"), cast("Label | None", given.get("label"))
    if copy is None:
        copy = check_switch(COPY_VARIABLE, variables.get(COPY_VARIABLE, ""))
    if label is None:
        text = variables.get(LABEL_VARIABLE) or "close"
        label = cast("Label", check_choice(LABEL_VARIABLE, text, LABELS))
    return Choices(
        _choose_feed(given, variables.get(FEED_VARIABLE)),
        copy,
        label,
        expect,
        owner,
        _choose_reactions(given, variables),
        given.get("bindings", _NO_BINDINGS),
    )


def _choose_feed(given: dict[str, Any], variable: str | None) -> str | None:
    if mark.is_set:
        return None
    default = variable or DEFAULT_FEED
    name = cast("str", given.get("feed") or default)
    if given.get("context_only") or names_no_feed(default) or names_no_feed(name):
        return None
    try:
        return check_feed_name(name)
    except BadArgumentError as error:  # `use` has checked its own
        raise BadArgumentError(f"{error} (from environment SHMFEED_FEED)") from None


def _choose_reactions(given: dict[str, Any], variables: dict[str, str]) -> Reactions:
    chosen = {}
    if "max_age" in given:
        chosen["max_age"] = given["max_age"]
    elif variables.get(MAX_AGE_VARIABLE):
        chosen["max_age"] = parse_max_age(MAX_AGE_VARIABLE, variables[MAX_AGE_VARIABLE])
    for name, variable in _REACTION_VARIABLES.items():
        if name in given:
            chosen[name] = given[name]
        elif variables.get(variable):
            chosen[name] = check_choice(variable, variables[variable], REACTIONS)
    return Reactions(**chosen)
