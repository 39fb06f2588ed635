"""The bars of one stream for a chart: rows with their flags, and the holes in them."""

from typing import Any

from shmfeed.bar import Bar, check_timeframe
from shmfeed.feed import attach
from shmfeed.holes import Hole
from shmfeed.observe.chart_data import count_decimals, missing_opens

MAX_BARS = 2000

Cells = tuple[int, float, float, float, float, float, int, int]


def read_bars(
    feed: str, symbol: str, timeframe: str, number: int, owner: int | None = None
) -> dict[str, Any]:
    """Return the last `number` closed bars, the forming bar, and the holes.

    `owner` is the user whose feed it is, by default this process's.

    Bars are `[open_time, open, high, low, close, volume, flags, close_time]`, times ms
    UTC. `decimals` are those of the prices. `count` and `epoch` are those of the ring:
    while `epoch` stays the same, bars that have been read stay as they are.

    Raises:
        FeedNotFoundError, StreamNotFoundError: There is no such feed or stream.
        BadArgumentError: A name is not accepted.
        ShmfeedError: The feed cannot be read.
    """
    with attach(feed, owner=owner) as attached:
        ring = attached.ring(symbol, check_timeframe(timeframe))
        epoch = ring.epoch  # before the rows: a repair meanwhile shows at the next read
        rows = ring.snapshot(number)
        forming = ring.forming()
        holes = attached.gaps(ring.symbol, ring.timeframe) if number > 1 else []
    bars = [rows.bar(row) for row in range(len(rows))]
    first = int(rows.open_time[0]) if len(rows) else 0
    return {
        "feed": feed,
        "symbol": ring.symbol,
        "timeframe": ring.timeframe,
        "epoch": epoch,
        "count": rows.last,
        "decimals": count_decimals(bars),
        "bars": list(map(_cells, bars)),
        "forming": None if forming is None else _cells(forming),
        "holes": [_hole(hole) for hole in holes if hole.last >= first],
    }


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
    return {
        "first": hole.first,
        "last": hole.last,
        "missing": hole.missing,
        "state": hole.state,
        "reason": hole.reason,
        "opens": missing_opens(hole),
    }
