"""The bars of one stream for a chart: rows with their flags, and the holes in them."""

from typing import Any

from shmfeed.bar import Bar, check_timeframe, close_time
from shmfeed.core import Rows
from shmfeed.feed import attach
from shmfeed.holes import Hole

MAX_BARS = 2000
_DRAWN_PER_HOLE = 500  # missing bars whose times are listed, of each hole

Cells = tuple[int, float, float, float, float, float, int, int]


def read_bars(feed: str, symbol: str, timeframe: str, number: int) -> dict[str, Any]:
    """Return the last `number` closed bars, the forming bar, and the holes.

    Bars are `[open_time, open, high, low, close, volume, flags, close_time]`, times ms
    UTC.
    `count` and `epoch` are those of the ring: while `epoch` stays the same, bars that
    have been read stay as they are.

    Raises:
        FeedNotFoundError, StreamNotFoundError: There is no such feed or stream.
        BadArgumentError: A name is not accepted.
        ShmfeedError: The feed cannot be read.
    """
    with attach(feed) as attached:
        ring = attached.ring(symbol, check_timeframe(timeframe))
        epoch = ring.epoch  # before the rows: a repair meanwhile shows at the next read
        rows = ring.snapshot(number)
        forming = ring.forming()
        holes = attached.gaps(ring.symbol, ring.timeframe) if number > 1 else []
    first = int(rows.open_time[0]) if len(rows) else 0
    return {
        "feed": feed,
        "symbol": ring.symbol,
        "timeframe": ring.timeframe,
        "epoch": epoch,
        "count": rows.last,
        "bars": _cells_of(rows),
        "forming": None if forming is None else _cells(forming),
        "holes": [_hole(hole) for hole in holes if hole.last >= first],
    }


def _cells_of(rows: Rows) -> list[Cells]:
    return [_cells(rows.bar(number)) for number in range(len(rows))]


def _cells(bar: Bar) -> Cells:
    return (
        bar.open_time,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume,
        bar.flags,
        bar.close_time,
    )


def _hole(hole: Hole) -> dict[str, Any]:
    opens: list[int] = []
    opened = hole.first
    while opened <= hole.last and len(opens) < _DRAWN_PER_HOLE:
        opens.append(opened)
        opened = close_time(opened, hole.timeframe)
    return {
        "first": hole.first,
        "last": hole.last,
        "missing": hole.missing,
        "state": hole.state,
        "reason": hole.reason,
        "opens": opens,
    }
