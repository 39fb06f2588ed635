"""Helpers of tests that follow a feed of this process: bars, repairs, events."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from shmfeed.bar import Bar, duration
from shmfeed.feed import attach
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter
from wealthdata import Closed, Gap, Health, Revised, follow
from wealthdata.following import Follow

Event = Closed | Revised | Gap | Health
NOON = 1_704_110_400_000  # 2024-01-01 12:00, a Monday
MINUTE = 60_000


def opened(number: int, timeframe: str = "1m") -> int:
    """Return the open time of the bar that ends this many timeframes after noon."""
    return NOON + (number - 1) * duration(timeframe)


def close(ring: RingWriter, *numbers: int, price: float = 1.0, flags: int = 0) -> None:
    """Close the bars that end these numbers of timeframes after noon."""
    for number in numbers:
        at = opened(number, ring.timeframe)
        ring.append(at, price, price, price, price, float(number), flags=flags)


class Bars:
    """A follow whose changes of health are left out.

    A writer that does not beat may look dead on a busy machine.
    """

    def __init__(self, loop: Follow) -> None:
        self.loop = loop

    def __iter__(self) -> "Bars":
        return self

    def __next__(self) -> Event:
        while isinstance(event := next(self.loop), Health):
            pass
        return event


def bars(
    securities: object = "A",
    frequency: object = "1m",
    timeout: float = 20.0,
    *,
    feed: str | None = None,
) -> Bars:
    """Follow streams, for the events of their bars alone."""
    return Bars(follow(securities, frequency, timeout, feed=feed))


def events(
    securities: object = "A", frequency: object = "1m", *, feed: str | None = None
) -> list[Event]:
    """Return the events of bars that there are now."""
    return list(bars(securities, frequency, 0, feed=feed))


def short(found: Iterable[Event]) -> list[object]:
    """Return a short form of events, of bars the numbers of `close`.

    A bar that has closed is its number, a correction ("revised", number), a gap ("gap",
    first, last) or ("filled", first, last).
    """
    return [_short(event) for event in found]


def _short(event: Event) -> object:
    def number(at: int) -> int:
        return (at - NOON) // duration(event.timeframe) + 1

    match event:
        case Closed(bar=bar):
            return number(bar.open_time)
        case Revised(old=old):
            return "revised", number(old.open_time)
        case Gap(start=start, end=end, filled=filled):
            return "filled" if filled else "gap", number(start), number(end)
        case Health(old=old, new=new):
            return old, new


def rows_of(writer: FeedWriter, symbol: str, timeframe: str = "1m") -> list[Bar]:
    """Return the closed bars of a stream."""
    with attach(writer.name) as feed:
        ring = feed.ring(symbol, timeframe)  # type: ignore[arg-type] # any timeframe
        if not ring.count:
            return []
        block = ring.snapshot(ring.history).block.T
        return [
            Bar(*map(int, row.view(np.int64)[:2]), *row[2:8].tolist(), int(flags))
            for row in block
            for flags in [row.view(np.int64)[8]]
        ]


def replace(
    writer: FeedWriter, symbol: str, bars: Iterable[Bar], timeframe: str = "1m"
) -> None:
    """Replace a stream's closed bars, as a repair does."""
    rows = np.array([bar[2:8] for bar in bars]).T
    block = np.empty((9, rows.shape[1]))
    block[2:8] = rows
    times = np.array([(bar[0], bar[1], bar[8]) for bar in bars], np.int64).T
    for row, column in zip((0, 1, 8), times, strict=True):
        block.view(np.int64)[row] = column
    writer.replace_rows(symbol, timeframe, block)  # type: ignore[arg-type]


def revise(
    writer: FeedWriter, number: int, timeframe: str = "1m", **values: object
) -> None:
    """Change values of one closed bar of A."""
    at = opened(number, timeframe)
    bars = rows_of(writer, "A", timeframe)
    changed = [b._replace(**values) if b.open_time == at else b for b in bars]
    assert changed != bars
    replace(writer, "A", changed, timeframe)


def fill(writer: FeedWriter, *numbers: int, flags: int = 0) -> None:
    """Add bars of A 1m that are missing."""
    new = [
        Bar(opened(n), opened(n) + MINUTE, 1.0, 1.0, 1.0, 1.0, float(n), flags=flags)
        for n in numbers
    ]
    replace(writer, "A", sorted([*rows_of(writer, "A"), *new]))


@contextmanager
def beating(*writers: FeedWriter) -> Iterator[None]:
    """Keep feeders alive for a `with` block."""
    end = threading.Event()

    def beat() -> None:
        while not end.wait(0.2):
            for writer in writers:
                writer.tick()
                writer.beat_alive()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
