"""Which bar is told when: the venue's clock and calendar, without any I/O.

All times are the venue's own, ms UTC; whoever calls says what time it is.

Frames by the thousand: a subscription's history, and the run at full speed.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat

import numpy as np

from shmfeed.bar import StreamKey, close_time, duration, floor
from shmfeed.simulator.frames import Row, market_row
from shmfeed.simulator.market import STEPS, Int64s, close_times, progress
from shmfeed.simulator.options import VenueOptions


class Schedule:
    """The streams that somebody wants, each with the bar that is forming now."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._open: dict[StreamKey, int] = {}
        self._closings: list[tuple[int, StreamKey]] = []

    def add(self, stream: StreamKey, now: int) -> int:
        """Follow a stream from now on: the open time of its forming bar."""
        if stream not in self._open:
            opened = self._open[stream] = floor(now, stream[1])
            closing = (close_time(opened, stream[1]), stream)
            heapq.heappush(self._closings, closing)
        return self._open[stream]

    def remove(self, stream: StreamKey) -> None:
        """Follow it no longer."""
        self._open.pop(stream, None)
        self._closings = [item for item in self._closings if item[1] != stream]
        heapq.heapify(self._closings)

    def next_closing(self) -> int | None:
        """When the next bar closes; None: no stream is followed."""
        return self._closings[0][0] if self._closings else None

    def closings(self, now: int) -> Iterator[tuple[StreamKey, Row]]:
        """The bars that have closed until now and were not told yet, in order."""
        while self._closings and self._closings[0][0] <= now:
            end, stream = self._closings[0]
            yield stream, market_row(self._seed, stream, self._open[stream], STEPS, end)
            self._open[stream] = end
            later = close_time(end, stream[1]), stream
            heapq.heapreplace(self._closings, later)

    def updates(self, now: int) -> Iterator[tuple[StreamKey, Row]]:
        """The forming bar of each stream as it is now; call `closings` first."""
        for stream, opened in self._open.items():
            length = close_time(opened, stream[1]) - opened
            step = max(0, min((now - opened) * STEPS // length, STEPS - 1))
            yield stream, market_row(self._seed, stream, opened, step, now)


def open_times_before(end: int, timeframe: str, count: int) -> Int64s:
    """The open times of the `count` bars before the one that opens at `end`."""
    back = np.arange(-count, 0, dtype=np.int64)
    if timeframe != "1M":
        times = end + back * duration(timeframe)
    else:
        month = np.datetime64(end, "ms").astype("M8[M]")
        times = (month + back).astype("M8[ms]").view(np.int64)
    return times[times >= 0]


def closed_rows(seed: int, stream: StreamKey, open_times: Int64s) -> list[Row]:
    """These bars, closed."""
    return _rows(seed, stream, open_times, (STEPS,))


def all_rows(seed: int, stream: StreamKey, open_times: Int64s) -> list[Row]:
    """Every update of these bars, bar by bar."""
    return _rows(seed, stream, open_times, range(1, STEPS + 1))


def _rows(
    seed: int, stream: StreamKey, open_times: Int64s, steps: Sequence[int]
) -> list[Row]:
    states = progress(seed, *stream, open_times)
    ends = close_times(open_times, stream[1])
    times = open_times.tolist(), ends.tolist()
    columns: list[Iterator[Row]] = []
    for step in steps:
        values = (field[step - 1].tolist() for field in states)
        events = (open_times + (ends - open_times) * step // STEPS).tolist()
        columns.append(zip(*times, *values, repeat(step), events, strict=False))
    return [row for rows in zip(*columns, strict=True) for row in rows]


Encode = Callable[[StreamKey, Sequence[Row]], list[bytes]]
_PIECE = 1024  # frames a write, about
_ROUND = 2048  # bars of all streams together that are computed at once
_LEAST = 16  # bars of one stream that are computed at once, at least


def history(
    options: VenueOptions, encode: Encode, before: Sequence[tuple[StreamKey, int]]
) -> Iterator[tuple[bytes, int]]:
    """The closed bars of each stream before the one that opens at the given time."""
    for stream, opened in before:
        times = open_times_before(opened, stream[1], options.history)
        for start in range(0, len(times), _PIECE):
            piece = times[start : start + _PIECE]
            frames = encode(stream, closed_rows(options.seed, stream, piece))
            yield b"".join(frames), len(frames)


def full_speed(
    options: VenueOptions, encode: Encode, streams: Sequence[StreamKey], now: int
) -> Iterator[tuple[bytes, int]]:
    """Every update of the last `bars` bars that closed before `now`.

    All streams in turn, bar by bar; before them their history, closed bars only.
    """
    times = {
        stream: open_times_before(floor(now, stream[1]), stream[1], options.bars)
        for stream in streams
    }
    firsts = [(stream, int(opened[0])) for stream, opened in times.items()]
    yield from history(options, encode, firsts)
    bars = max(_LEAST, _ROUND // len(streams)) if streams else options.bars
    for start in range(0, options.bars, bars):
        rows = [
            encode(stream, all_rows(options.seed, stream, piece))
            for stream, opened in times.items()
            if len(piece := opened[start : start + bars])
        ]
        yield from _in_turn(rows)


def _in_turn(frames_of: Sequence[list[bytes]]) -> Iterator[tuple[bytes, int]]:
    piece: list[bytes] = []
    for start in range(0, max(map(len, frames_of), default=0), STEPS):
        for frames in frames_of:
            piece += frames[start : start + STEPS]
        if len(piece) >= _PIECE:
            yield b"".join(piece), len(piece)
            piece = []
    if piece:
        yield b"".join(piece), len(piece)
