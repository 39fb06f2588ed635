"""Live bars in shared memory: one feeder process a host, any number of readers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shmfeed._version import __version__
from shmfeed.bar import Bar
from shmfeed.errors import (
    BadArgumentError,
    BusyRingError,
    FeedBusyError,
    FeedLostError,
    FeedNotFoundError,
    NoDataError,
    SegmentError,
    SegmentFormatError,
    SegmentFullError,
    ShmfeedError,
    StaleFeedError,
    StreamNotFoundError,
    UnsupportedPlatformError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)

if TYPE_CHECKING:
    from shmfeed.feed import attach, wait
    from shmfeed.manager import get_websocket_manager
    from shmfeed.writer import create

__all__ = [
    "BadArgumentError",
    "Bar",
    "BusyRingError",
    "FeedBusyError",
    "FeedLostError",
    "FeedNotFoundError",
    "NoDataError",
    "SegmentError",
    "SegmentFormatError",
    "SegmentFullError",
    "ShmfeedError",
    "StaleFeedError",
    "StreamNotFoundError",
    "UnsupportedPlatformError",
    "WebSocketConnectionError",
    "WebSocketSubscriptionError",
    "__version__",
    "attach",
    "create",
    "get_websocket_manager",
    "wait",
]

# Imported when first asked for: a strategy loads no writer, no socket library.
_HOMES = {
    "attach": "shmfeed.feed",
    "wait": "shmfeed.feed",
    "create": "shmfeed.writer",
    "get_websocket_manager": "shmfeed.manager",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
