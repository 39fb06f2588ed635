"""The range that a source is asked for at a time, where it has no clock of its own.

Pages go back in time, so that an answer that breaks off has the newest bars. This
host's clock says which bars have closed.
"""

from typing import NamedTuple

from shmfeed.bar import FREE_PHASE, duration, floor, step
from shmfeed.history.blocks import closed_by, cut_to, times_of
from shmfeed.history.interface import Block, HistoryPage, HistoryRequest


class Window(NamedTuple):
    """Open times in ms UTC, both included."""

    first: int
    last: int


def window_of(request: HistoryRequest, now: int, most: int) -> Window | None:
    """Return the range of the first page, None if the request is empty.

    Args:
        request: The request.
        now: This host's time, ms UTC.
        most: The most bars of a page.
    """
    if request.first > request.last and not request.newest:
        return None
    timeframe = request.key[1]
    last = request.last or _newest(now, timeframe)
    bars = min(request.newest or most, most)
    bound = 0 if request.newest else request.first
    return Window(max(_earlier(last, bars - 1, timeframe), bound, 0), last)


def page_of(
    request: HistoryRequest, window: Window, block: Block, now: int
) -> HistoryPage:
    """Return the page of a window, whose bars a source gave as `block`.

    Bars beside the window are left out, and so are those that have not closed.
    """
    timeframe = request.key[1]
    block = closed_by(cut_to(block, *window), now)
    if request.newest:
        block = block[:, -request.newest :]
    return HistoryPage(block, 0, _rest(request, window, block, timeframe))


def _rest(
    request: HistoryRequest, window: Window, block: Block, timeframe: str
) -> HistoryRequest | None:
    """Return the request for the bars before a page, None if that was the last one."""
    if not request.newest:
        if window.first <= request.first:
            return None
        return request._replace(last=_before(window.first, timeframe))
    count = block.shape[1]
    # A page without bars is the end: the source has none that are older.
    if count == request.newest or not count or not window.first:
        return None
    oldest = int(times_of(block)[0])
    return request._replace(
        newest=request.newest - count, last=_before(oldest, timeframe)
    )


def _newest(now: int, timeframe: str) -> int:
    """Return the latest time at which a bar may have opened that has closed."""
    if timeframe == FREE_PHASE:  # its grid is not known
        return now - step(timeframe)
    return _before(floor(now, timeframe), timeframe)


def _before(opened: int, timeframe: str) -> int:
    return opened - step(timeframe) if step(timeframe) else floor(opened - 1, timeframe)


def _earlier(opened: int, bars: int, timeframe: str) -> int:
    """Return an open time about so many bars before; exactly, but for months."""
    length = step(timeframe)
    if length:
        return opened - bars * length
    return floor(opened - bars * duration(timeframe), timeframe)
