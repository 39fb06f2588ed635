"""Flushes for tests of the relay: rows by ordinal, and what an engine holds of them."""

from collections.abc import Iterable

import numpy as np

from shmfeed.bar import StreamKey, close_time
from shmfeed.identity import FeedIdentity
from shmfeed.layout import COLUMNS
from shmfeed.relay.engine import Engine, Joined
from shmfeed.relay.flush import (
    NO_ROWS,
    Catalog,
    Flush,
    Head,
    RowsOfStreams,
    StreamMarks,
)

MINUTE = 60_000
HEAD = Head(FeedIdentity("binance", "spot", ("one",)), "host:1", 5, "connected")
MINUTES: tuple[StreamKey, ...] = (("A", "1m"), ("B", "1m"), ("C", "1m"))
Held = dict[int, dict[int, float]]  # by stream and open time, a row's close


def rows(
    *bars: tuple[int, int, float], streams: tuple[StreamKey, ...] = MINUTES
) -> RowsOfStreams:
    """Return rows of (stream, minute since 1970, close), sorted."""
    bars = tuple(sorted(bars))
    numbers = np.array([number for number, _, _ in bars], np.int64)
    block = np.zeros((len(COLUMNS), len(bars)))
    ints = block.view(np.int64)
    ints[0] = opens = [minute * MINUTE for _, minute, _ in bars]
    ints[1] = [
        close_time(opened, streams[number][1])
        for opened, number in zip(opens, numbers.tolist(), strict=True)
    ]
    block[2:8] = [close for _, _, close in bars]
    ints[8] = 1
    return RowsOfStreams(numbers, block)


def whole(
    closed: RowsOfStreams = NO_ROWS,
    streams: tuple[StreamKey, ...] = MINUTES,
    history: int = 10,
    **parts: object,
) -> Flush:
    """Return a flush that does not build on another one."""
    numbers = range(len(streams))
    flush = Flush(
        1,
        closed,
        whole=tuple(numbers),
        marks={number: StreamMarks() for number in numbers},
        catalog=Catalog(streams, history),
        head=HEAD,
        is_whole=True,
    )
    return flush._replace(**parts)


def held_in(pieces: Iterable[RowsOfStreams]) -> Held:
    """Return the closes of rows by stream and minute; rows must be in order."""
    found: Held = {}
    for piece in pieces:
        opens = piece.block[0].view(np.int64).tolist()
        for number, opened, close in zip(
            piece.numbers.tolist(), opens, piece.block[5].tolist(), strict=True
        ):
            of_stream = found.setdefault(number, {})
            assert opened // MINUTE > max(of_stream, default=-1)
            of_stream[opened // MINUTE] = close
    return found


def join(engine: Engine) -> tuple[Joined, Held]:
    """Return what a follower has after a join."""
    joined = engine.join()
    return joined, held_in(engine.rings(joined.catalog))


def take(held: Held, flush: Flush, history: int) -> None:
    """Put a flush that is not whole into what a follower has."""
    assert not flush.is_whole
    for number in flush.whole:
        held.pop(number, None)
    for number, of_stream in held_in([flush.closed]).items():
        held.setdefault(number, {}).update(of_stream)
    keep_newest(held, history)


def keep_newest(held: Held, history: int) -> None:
    """Leave what lies in the newest `history` minutes of each stream."""
    for of_stream in held.values():
        newest = max(of_stream, default=0)
        for minute in [one for one in of_stream if one <= newest - history]:
            del of_stream[minute]


def same_rows(ours: RowsOfStreams, theirs: RowsOfStreams) -> bool:
    """Return True if both have the same bytes."""
    return bool(
        np.array_equal(ours.numbers, theirs.numbers)
        and ours.block.tobytes() == theirs.block.tobytes()
    )
