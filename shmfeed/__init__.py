"""Live bars in shared memory: one feeder process a host, any number of readers."""

from importlib import import_module
from typing import TYPE_CHECKING

from shmfeed.bar import (
    Bar,
    Field,
    StreamKey,
    Timeframe,
    TimeframeAlias,
    flag_names,
)
from shmfeed.errors import (
    BadArgumentError,
    BehindWarning,
    BusyRingError,
    ContextError,
    FeedBusyError,
    FeedChangedError,
    FeedLostError,
    FeedNotFoundError,
    GapError,
    GapWarning,
    LappedWarning,
    MissingBarsWarning,
    NoDataError,
    RecordingError,
    SegmentError,
    SegmentFormatError,
    SegmentFullError,
    ShmfeedError,
    ShortError,
    ShortWarning,
    StaleFeedError,
    StaleFeedWarning,
    StreamNotFoundError,
    UnconfirmedError,
    UnconfirmedWarning,
    UnsupportedPlatformError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)

if TYPE_CHECKING:
    from shmfeed._version import __version__
    from shmfeed.c_headers import get_include
    from shmfeed.core import RingWriter, Rows, Slice, kept_bytes
    from shmfeed.cuts import Cut, cut
    from shmfeed.feed import Feed, Ring, attach, wait
    from shmfeed.health import Health, RingStatus
    from shmfeed.holes import Hole
    from shmfeed.layout import State
    from shmfeed.leases import Lease, lease
    from shmfeed.manager import WebSocketManager, get_websocket_manager
    from shmfeed.relay_status import RelayStatus
    from shmfeed.settings.arguments import SettingsArguments
    from shmfeed.status import ConnectionStatus, FeedStatus, StreamStatus
    from shmfeed.writer import FeedWriter, create

__all__ = [
    "BadArgumentError",
    "Bar",
    "BehindWarning",
    "BusyRingError",
    "ConnectionStatus",
    "ContextError",
    "Cut",
    "Feed",
    "FeedBusyError",
    "FeedChangedError",
    "FeedLostError",
    "FeedNotFoundError",
    "FeedStatus",
    "FeedWriter",
    "Field",
    "GapError",
    "GapWarning",
    "Health",
    "Hole",
    "LappedWarning",
    "Lease",
    "MissingBarsWarning",
    "NoDataError",
    "RecordingError",
    "RelayStatus",
    "Ring",
    "RingStatus",
    "RingWriter",
    "Rows",
    "SegmentError",
    "SegmentFormatError",
    "SegmentFullError",
    "SettingsArguments",
    "ShmfeedError",
    "ShortError",
    "ShortWarning",
    "Slice",
    "StaleFeedError",
    "StaleFeedWarning",
    "State",
    "StreamKey",
    "StreamNotFoundError",
    "StreamStatus",
    "Timeframe",
    "TimeframeAlias",
    "UnconfirmedError",
    "UnconfirmedWarning",
    "UnsupportedPlatformError",
    "WebSocketConnectionError",
    "WebSocketManager",
    "WebSocketSubscriptionError",
    "__version__",
    "attach",
    "create",
    "cut",
    "flag_names",
    "get_include",
    "get_websocket_manager",
    "kept_bytes",
    "lease",
    "wait",
]

# Type checkers see the imports above, and report a misspelt name. At run time a name
# is imported at its first use: a strategy loads no writer and no socket library.
if not TYPE_CHECKING:
    _HOMES = {
        "shmfeed._version": ("__version__",),
        "shmfeed.c_headers": ("get_include",),
        "shmfeed.core": ("RingWriter", "Rows", "Slice", "kept_bytes"),
        "shmfeed.cuts": ("Cut", "cut"),
        "shmfeed.feed": ("Feed", "Ring", "attach", "wait"),
        "shmfeed.health": ("Health", "RingStatus"),
        "shmfeed.holes": ("Hole",),
        "shmfeed.layout": ("State",),
        "shmfeed.leases": ("Lease", "lease"),
        "shmfeed.manager": ("WebSocketManager", "get_websocket_manager"),
        "shmfeed.relay_status": ("RelayStatus",),
        "shmfeed.settings.arguments": ("SettingsArguments",),
        "shmfeed.status": ("ConnectionStatus", "FeedStatus", "StreamStatus"),
        "shmfeed.writer": ("FeedWriter", "create"),
    }
    _HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

    def __getattr__(name):
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(home), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted(__all__)
