"""The keywords that each call with bars takes, for the signatures of its overloads."""

from typing import TypedDict

from wealthdata.labels import Label
from wealthdata.reactions import Reaction


class ReadKeywords(TypedDict, total=False):
    """The keywords of `get_price` that choose a feed, and what a read does."""

    feed: str | None
    copy: bool
    label: Label | None
    max_age: float | None
    on_stale: Reaction | None
    on_gap: Reaction | None
    on_short: Reaction | None
    on_unconfirmed: Reaction | None
