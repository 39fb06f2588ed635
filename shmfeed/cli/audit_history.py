"""The history that an audit compares with: the running feeder's source, or its own.

A feeder has the settings and the secrets of its source, so that an audit needs none.
Where no feeder runs, `--config` names the settings.
"""

import base64
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from shmfeed.bar import StreamKey
from shmfeed.codecs import get_codec
from shmfeed.codecs.identity import identity_of
from shmfeed.control.client import ask
from shmfeed.control.messages import ControlError
from shmfeed.errors import BadArgumentError, FeedNotFoundError, ShmfeedError
from shmfeed.feed import Feed
from shmfeed.history.blocks import joined
from shmfeed.history.interface import (
    Block,
    HistoryPage,
    HistoryRequest,
    HistorySource,
    RateLimitError,
)
from shmfeed.history.registry import make_source
from shmfeed.identity import parse_identity
from shmfeed.layout import COLUMNS
from shmfeed.segment.mapping import place
from shmfeed.settings.loading import CONFIG_FILE, load
from shmfeed.settings.model import Settings

_ANSWER_SECONDS = 30.0  # a request for history ends after 10 s
_MOST_WAIT = 30.0  # at once; the rate limit is asked again then


class HistoryFacts(NamedTuple):
    """Facts about a source of history, and the settings that an audit needs.

    Attributes:
        source: The source's name.
        is_own: True for the venue's own service.
        settle: Seconds after a bar's close from which on history counts.
        store: The path of the feeder's store, None without one.
    """

    source: str
    is_own: bool
    settle: float
    store: str | None


class AuditHistory(Protocol):
    """A source of history, asked page by page."""

    facts: HistoryFacts

    def fetch(self, request: HistoryRequest) -> HistoryPage:
        """Return a page. Raise RateLimitError if the request must wait."""
        ...

    def close(self) -> None: ...


class UnaskedError(ShmfeedError):
    """History cannot be asked."""


def open_history(feed: Feed, identity: str | None, config: str | None) -> AuditHistory:
    """Return the source of a feed's history.

    Args:
        feed: The feed.
        identity: The identity of its rows.
        config: The file of the settings to use instead of the feeder.

    Raises:
        UnaskedError: No feeder runs, or there is no source.
        BadArgumentError: The settings are not accepted, or are those of another feed.
    """
    if config is None:
        return _FeederHistory(feed)
    return _SettingsHistory(load({CONFIG_FILE: config}), identity)


class _FeederHistory:
    def __init__(self, feed: Feed) -> None:
        self._socket = place(feed.name, feed.owner).socket
        try:
            answer = ask(self._socket, "bars", _ANSWER_SECONDS)
        except (FeedNotFoundError, ControlError):
            raise UnaskedError(
                f"no feeder of feed {feed.name!r} answers, and it would ask history;"
                " start it, or give --config with its settings"
            ) from None
        except ShmfeedError as error:
            raise UnaskedError(str(error)) from None
        names = HistoryFacts._fields
        self.facts = HistoryFacts(*(cast("Any", answer[name]) for name in names))

    def fetch(self, request: HistoryRequest) -> HistoryPage:
        (symbol, timeframe), first, last, _ = request
        streams = {"symbols": [symbol], "resolutions": [timeframe]}
        found: dict[str, Any] = ask(
            self._socket, "bars", _ANSWER_SECONDS, **streams, first=first, last=last
        )
        if "wait" in found:
            raise RateLimitError("", found["wait"])
        block = np.frombuffer(base64.b64decode(found["rows"]), np.float64)
        follows = found["follows"]
        return HistoryPage(
            block.reshape(len(COLUMNS), -1),
            found["venue_now"],
            None if follows is None else HistoryRequest(request.key, *follows),
        )

    def close(self) -> None:
        pass


class _SettingsHistory:
    def __init__(self, settings: Settings, identity: str | None) -> None:
        named = identity_of(settings)
        other = parse_identity(identity or "")
        is_other = not named.is_of_follower and not named.matches(other or named)
        if is_other:
            raise BadArgumentError(
                f"the settings are those of {named}, and the feed's rows come from"
                f" {identity}; give the feed's own settings"
            )
        codec = get_codec(
            settings.protocol, settings.market_type, settings.read_token()
        )
        source = make_source(settings, codec)
        if source is None:
            raise UnaskedError("these settings name no source of history; set backfill")
        self._source: HistorySource = source
        self.facts = HistoryFacts(
            source.name, source.is_own, settings.rest_settle, settings.store
        )

    def fetch(self, request: HistoryRequest) -> HistoryPage:
        return self._source.fetch(request)

    def close(self) -> None:
        self._source.close()


def fetch_all(
    history: AuditHistory,
    key: StreamKey,
    first: int,
    last: int,
    told: Callable[[float], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Block:
    """Return all bars of a range, however long the rate limit makes it wait.

    `told` gets the seconds of each wait.

    Raises:
        ShmfeedError: The source could not answer.
    """
    pages: list[Block] = []
    request: HistoryRequest | None = HistoryRequest(key, first, last)
    while request is not None:
        try:
            page = history.fetch(request)
        except RateLimitError as limit:
            wait = min(limit.retry_after, _MOST_WAIT)
            told(wait)
            sleep(wait)
            continue
        pages.append(page.block)
        request = page.follows
    return joined(pages)  # a command's go back in time
