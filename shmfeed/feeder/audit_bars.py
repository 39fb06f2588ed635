"""The request `bars`: an audit asks the feeder's source of history for a page.

The feeder has the settings, the secrets and the rate limit of the source. A control
thread asks, so the main loop never waits for it. What the feeder itself needs comes
first: while requests of its own wait, an audit is asked to wait too.
"""

from collections.abc import Callable
from typing import Any

from shmfeed.bar import check_timeframe
from shmfeed.control.messages import ControlRequest
from shmfeed.errors import BadArgumentError
from shmfeed.history.interface import (
    HistoryPage,
    HistoryRequest,
    HistorySource,
    RateLimitError,
)
from shmfeed.settings.model import Settings
from shmfeed.validation import check_symbol

_BUSY_SECONDS = 0.5
NO_SOURCE = (
    "this feeder has no source of history to ask; its setting backfill names one"
)


def serve_bars(
    source: HistorySource | None,
    settings: Settings,
    request: ControlRequest,
    is_busy: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Return facts about the source, or a page of bars for a request that names some.

    If the rate limit permits no request now, the answer has `wait` in seconds.

    Raises:
        BadArgumentError: The feeder has no source, or the request is malformed.
        HistoryError: The source could not answer.
    """
    if source is None:
        raise BadArgumentError(NO_SOURCE)
    if not request.symbols or not request.resolutions:
        return {
            "source": source.name,
            "is_own": source.is_own,
            "settle": settings.rest_settle,
            "store": settings.store,
        }
    key = check_symbol(request.symbols[0]), check_timeframe(request.resolutions[0])
    if is_busy():
        return {"wait": _BUSY_SECONDS}
    try:
        page = source.fetch(HistoryRequest(key, request.first, request.last))
    except RateLimitError as limit:
        return {"wait": limit.retry_after}
    return encode_page(page)


def encode_page(page: HistoryPage) -> dict[str, Any]:
    """Return a page as the fields of an answer."""
    follows = page.follows
    return {
        "rows": page.block.tobytes(),
        "venue_now": page.venue_now,
        "follows": None if follows is None else [follows.first, follows.last],
    }
