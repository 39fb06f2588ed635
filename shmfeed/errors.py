"""Every exception of the project, in one tree.

ShmfeedError
├── BadArgumentError  (ValueError)              the caller's: an argument or a setting
├── NoDataError  (RuntimeError)                 the caller's: neither feed nor context
├── the host's
│   ├── FeedNotFoundError  (FileNotFoundError)  no such feed
│   ├── StreamNotFoundError  (KeyError)         the feed does not carry it
│   ├── FeedBusyError                           another process writes this feed
│   ├── FeedLostError                           the feed was taken from its writer
│   ├── SegmentError                            the shared memory is not usable:
│   │   ├── SegmentFormatError                  foreign, truncated, another version
│   │   └── SegmentFullError  (OSError)         /dev/shm has no room
│   ├── BusyRingError                           a writer outran the read for too long
│   ├── StaleFeedError                          the data are older than allowed
│   └── UnsupportedPlatformError                no POSIX shared memory here
└── the venue's
    ├── WebSocketConnectionError  (ConnectionError)  no connection
    └── WebSocketSubscriptionError              the server refused, or never answered
"""


class ShmfeedError(Exception):
    """The root of all errors that this project raises on purpose."""


class BadArgumentError(ShmfeedError, ValueError):
    """An argument or setting that is not accepted: its name, value, what is."""


class NoDataError(ShmfeedError, RuntimeError):
    """Neither a feed nor a context can serve; the message says what to start."""


class FeedNotFoundError(ShmfeedError, FileNotFoundError):
    """There is no feed of this name on this host."""


class StreamNotFoundError(ShmfeedError, KeyError):
    """The feed does not carry this stream; the message says what it does."""

    def __str__(self) -> str:
        # KeyError would show the message quoted and escaped.
        return str(self.args[0]) if self.args else ""


class FeedBusyError(ShmfeedError):
    """Another process holds this feed; `pid` is its number, None if unknown."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class FeedLostError(ShmfeedError):
    """The segment or lock of this writer no longer bears its name: it must stop."""


class SegmentError(ShmfeedError):
    """A shared-memory segment that cannot be used as it is."""


class SegmentFormatError(SegmentError):
    """Not a segment of this layout: foreign, truncated, or of another version."""


class SegmentFullError(SegmentError, OSError):
    """/dev/shm has no room for the segment; nothing was left behind."""


class BusyRingError(ShmfeedError):
    """A writer outran this read for longer than the limit of 10 ms."""


class StaleFeedError(ShmfeedError):
    """The data are older than the caller allows."""


class UnsupportedPlatformError(ShmfeedError):
    """Live feeds need POSIX shared memory, which this platform does not have."""


class WebSocketConnectionError(ShmfeedError, ConnectionError):
    """No connection to the venue; the message names endpoint and attempts."""


class WebSocketSubscriptionError(ShmfeedError):
    """The venue refused the subscription, or did not acknowledge it in time."""
