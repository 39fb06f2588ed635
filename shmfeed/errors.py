"""Every exception and warning of the project, each in one tree.

ShmfeedError
|
|   the caller's fault
+-- BadArgumentError  (ValueError)                an argument or a setting
+-- NoDataError  (RuntimeError)                   neither a feed nor a context
+-- ContextError  (RuntimeError)                  no context, or which one is not clear
|
|   the host's
+-- FeedNotFoundError  (FileNotFoundError)        no feed of this name
+-- StreamNotFoundError  (KeyError)               the feed does not carry the stream
+-- FeedBusyError                                 another process writes the feed
+-- FeedLostError                                 this writer lost its feed
+-- SegmentError                                  the shared memory is not usable
|   +-- SegmentFormatError                        foreign, damaged, other version
|   +-- SegmentFullError  (OSError)               /dev/shm is full
+-- BusyRingError                                 a writer outran a read
+-- FeedChangedError                              the feed is another one now
+-- StaleFeedError                                the data are older than allowed
+-- GapError                                      bars are missing between the rows
+-- ShortError                                    fewer rows than asked for
+-- UnconfirmedError                              the newest row may change yet
+-- RecordingError  (OSError)                     a decision could not be written
+-- UnsupportedPlatformError                      no POSIX shared memory
|
|   the venue's
+-- WebSocketConnectionError  (ConnectionError)   no connection
+-- WebSocketSubscriptionError                    refused, or not acknowledged

UserWarning
|
+-- StaleFeedWarning                              a read of data that are too old
+-- BehindWarning                                 a bound leaves out the newest bars
+-- GapWarning                                    bars are missing between the rows
+-- ShortWarning                                  fewer rows than asked for
+-- UnconfirmedWarning                            the newest row may change yet
+-- MissingBarsWarning                            a hole between context and ring
+-- LappedWarning                                 a frame's rows were overwritten
"""


class ShmfeedError(Exception):
    """The base class of all exceptions that this project raises on purpose."""


class BadArgumentError(ShmfeedError, ValueError):
    """An argument or a setting that is not accepted.

    The message has its name, its value and what is accepted.
    """


class NoDataError(ShmfeedError, RuntimeError):
    """No feed and no context to read from. The message says what to start."""


class ContextError(ShmfeedError, RuntimeError):
    """No context is set, or it is not clear which one a read is for.

    The message says how to hand a context over.
    """


class FeedNotFoundError(ShmfeedError, FileNotFoundError):
    """No feed of this name on this host."""


class StreamNotFoundError(ShmfeedError, KeyError):
    """A stream that the feed does not carry.

    The message lists the first 20 subscribed streams.
    """

    def __str__(self) -> str:
        # KeyError would show the message quoted and escaped.
        return str(self.args[0]) if self.args else ""


class FeedBusyError(ShmfeedError):
    """A feed that another process writes; `pid` is its pid, None if unknown."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class FeedLostError(ShmfeedError):
    """A writer that is closed, or that lost its feed.

    Its segment or its lock file was removed or replaced, or the segment was truncated.
    """


class SegmentError(ShmfeedError):
    """A segment that cannot be created, opened or used."""


class SegmentFormatError(SegmentError):
    """A file that is not a segment of this layout: foreign, damaged, other version."""


class SegmentFullError(SegmentError, OSError):
    """A segment that does not fit into /dev/shm. Nothing of it is left there."""


class BusyRingError(ShmfeedError):
    """A read that a writer outran for 10 ms."""


class StaleFeedError(ShmfeedError):
    """Data that are older than the caller allows."""


class FeedChangedError(ShmfeedError):
    """A feed whose rows come from another venue or market than those read before.

    The message names both identities.
    """


class GapError(ShmfeedError):
    """A window in which bars are missing, read with `on_gap="raise"`."""


class ShortError(ShmfeedError):
    """Fewer rows than the caller asked for, read with `on_short="raise"`."""


class UnconfirmedError(ShmfeedError):
    """A newest row that is not known to be final, and `on_unconfirmed="raise"`."""


class RecordingError(ShmfeedError, OSError):
    """A decision could not be written to the recording of the run."""


class UnsupportedPlatformError(ShmfeedError):
    """A host on which live feeds cannot work.

    It lacks POSIX shared memory, or the core lacks the fences that its CPU needs.
    """


class WebSocketConnectionError(ShmfeedError, ConnectionError):
    """No connection to the venue. The message has the endpoint and the attempts."""


class WebSocketSubscriptionError(ShmfeedError):
    """A subscription that the venue refused, or did not acknowledge in time."""


class StaleFeedWarning(UserWarning):
    """The returned bars are older than allowed. Given once per outage and stream."""


class BehindWarning(UserWarning):
    """The newest bars lie after the bound of a live read. Given once per stream.

    A local time that was given as UTC leaves them out.
    """


class GapWarning(UserWarning):
    """Bars are missing between the returned rows."""


class ShortWarning(UserWarning):
    """A read returned fewer rows than were asked for."""


class UnconfirmedWarning(UserWarning):
    """The newest returned row is not known to be final."""


class MissingBarsWarning(UserWarning):
    """A frame lacks bars. Given once for each context and stream.

    A context's bars end before the ring's begin and were left out, or a list has a
    security that the feed does not carry.
    """


class LappedWarning(UserWarning):
    """Rows of a frame that this process holds were overwritten.

    Given once, at the next read of the stream.
    """
