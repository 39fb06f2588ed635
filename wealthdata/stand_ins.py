"""The feeds of a replay: segments that stand in for feeds, under the feeds' names.

A replay plays recorded bars through segments of its own. While it runs, each read of
this process that names a feed reads the segment that stands in for it, and finds no
other feed: a strategy that names its feeds itself gets no live bar. The variable of
the environment hands the names on to the processes that a strategy starts.
"""

import os
from collections.abc import Mapping

from shmfeed.errors import ContextError, FeedNotFoundError
from shmfeed.validation import REPLAY_VARIABLE

VARIABLE = REPLAY_VARIABLE  # FEED=SEGMENT, comma-separated


def stand_ins() -> dict[str, str] | None:
    """Return the segment of each feed of a replay; None outside of one."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    pairs = (one.partition("=") for one in text.split(","))
    return {name: segment for name, _, segment in pairs}


def replace_stand_ins(segments: Mapping[str, str] | None) -> None:
    """Let these segments stand in from now on; None ends the replay.

    Call `attachment.detach` afterwards: a feed that is attached stays so.
    """
    if segments is None:
        os.environ.pop(VARIABLE, None)
        return
    os.environ[VARIABLE] = ",".join(f"{k}={v}" for k, v in segments.items())


def refuse_wait(call: str) -> None:
    """Raise ContextError in a replay, where no bar closes until a handler returns."""
    if stand_ins() is not None:
        raise ContextError(
            f"{call} would wait for ever: this is a replay, whose feed stands still"
            " until the handler returns; let handle_bar or handle_data handle the bars"
        )


def segment_of(feed: str) -> str:
    """Return the name of the segment to read for a feed.

    Raise FeedNotFoundError in a replay that does not play the feed.
    """
    segments = stand_ins()
    if segments is None:
        return feed
    try:
        return segments[feed]
    except KeyError:
        raise FeedNotFoundError(
            f"this is a replay, which does not play feed {feed!r}; it plays"
            f" {' '.join(segments)}"
        ) from None
