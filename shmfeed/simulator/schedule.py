"""The venue's calendar: which state of which bar is due when. No I/O, no clock.

All times are the venue's, ms UTC; callers pass the present one. Bars of the past come
as batches of frames: a subscription's history, and the whole run at full speed.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat

import numpy as np

from shmfeed.bar import StreamKey
from shmfeed.simulator import grid
from shmfeed.simulator.market import (
    STEPS,
    BarState,
    Int64s,
    bar_state,
    close_times,
    progress,
    rolled_up,
)
from shmfeed.simulator.options import VenueOptions

Encode = Callable[[StreamKey, Sequence[BarState]], list[bytes]]
FrameBatches = Iterator[tuple[bytes, int]]  # joined frames, and their number
TRADE_MS = 125  # between two trades of a symbol: one for each update of a bar of 1s
_BATCH = 1024  # frames, about
_ROUND = 2048  # bars of all streams together that are computed at once
_MIN_BARS = 16  # bars of one stream that are computed at once, at least


class Schedule:
    """The streams that have subscribers, each with its forming bar.

    Args:
        seed: The market's seed.
        phase: Phase of the bars of 3 days, in days; None: it follows from the symbol.
        base: Timeframe of which longer bars are made; None: the market makes them all.
    """

    def __init__(
        self, seed: int, phase: int | None = None, base: str | None = None
    ) -> None:
        self._seed, self._phase, self._base = seed, phase, base
        self._open_times: dict[StreamKey, int] = {}
        self._closings: list[tuple[int, StreamKey]] = []  # a heap

    def add(self, key: StreamKey, now: int) -> int:
        """Follow a stream from `now` on; return the open time of its forming bar."""
        if key not in self._open_times:
            open_time = self._open_times[key] = grid.begin(now, *key, self._phase)
            heapq.heappush(self._closings, (grid.end(open_time, key[1]), key))
        return self._open_times[key]

    def remove(self, key: StreamKey) -> None:
        """Stop following a stream."""
        self._open_times.pop(key, None)
        self._closings = [item for item in self._closings if item[1] != key]
        heapq.heapify(self._closings)

    def next_closing(self) -> int | None:
        """Return the time of the next close; None while no stream is followed."""
        return self._closings[0][0] if self._closings else None

    def closings(self, now: int) -> Iterator[tuple[StreamKey, BarState]]:
        """Yield each bar that closed up to `now`, once and in the order of time."""
        while self._closings and self._closings[0][0] <= now:
            end, key = self._closings[0]
            yield key, self._closed(key, end)
            self._open_times[key] = end
            heapq.heapreplace(self._closings, (grid.end(end, key[1]), key))

    def _closed(self, key: StreamKey, end: int) -> BarState:
        open_time = self._open_times[key]
        if self._base is None:
            return bar_state(self._seed, key, open_time, STEPS, end)
        open_times = np.array([open_time], np.int64)
        return closed_states(self._seed, key, open_times, self._base)[0]

    def updates(self, now: int) -> Iterator[tuple[StreamKey, BarState]]:
        """Yield each stream's forming bar as of `now`; call `closings` first."""
        for key, open_time in self._open_times.items():
            step = forming_step(open_time, grid.end(open_time, key[1]), now)
            yield key, bar_state(self._seed, key, open_time, step, now)


def forming_step(open_time: int, end: int, now: int) -> int:
    """Return how many updates the bar that is forming at `now` has had."""
    return max(0, min((now - open_time) * STEPS // (end - open_time), STEPS - 1))


def open_times_before(end: int, timeframe: str, count: int) -> Int64s:
    """Return the open times of the `count` bars before the one that opens at `end`."""
    back = np.arange(-count, 0, dtype=np.int64)
    if timeframe != "1M":
        times = end + back * grid.length(timeframe)
    else:
        month = np.datetime64(end, "ms").astype("M8[M]")
        times = (month + back).astype("M8[ms]").view(np.int64)
    return times[times >= 0]


def closed_states(
    seed: int, key: StreamKey, open_times: Int64s, base: str | None = None
) -> list[BarState]:
    """Return the closed state of each of these bars.

    Bars that are longer than those of `base`, where it is given, are made of these.
    """
    if base is None or grid.length(key[1]) <= grid.length(base):
        return _states(seed, key, open_times, (STEPS,))
    ends = close_times(open_times, key[1]).tolist()
    values = rolled_up(seed, *key, base, open_times).tolist()
    columns = (open_times.tolist(), ends, *values, repeat(STEPS), ends)
    return list(zip(*columns, strict=False))


def all_states(seed: int, key: StreamKey, open_times: Int64s) -> list[BarState]:
    """Return every state of these bars from step 1 on, bar by bar."""
    return _states(seed, key, open_times, range(1, STEPS + 1))


def _states(
    seed: int, key: StreamKey, open_times: Int64s, steps: Sequence[int]
) -> list[BarState]:
    fields = progress(seed, *key, open_times)
    ends = close_times(open_times, key[1])
    times = open_times.tolist(), ends.tolist()
    columns: list[Iterator[BarState]] = []
    for step in steps:
        values = (field[step - 1].tolist() for field in fields)
        events = (open_times + (ends - open_times) * step // STEPS).tolist()
        columns.append(zip(*times, *values, repeat(step), events, strict=False))
    return [state for states in zip(*columns, strict=True) for state in states]


def history(
    options: VenueOptions, encode: Encode, before: Sequence[tuple[StreamKey, int]]
) -> FrameBatches:
    """Yield the closed bars of each stream before the one that opens at its time."""
    for key, end in before:
        times = open_times_before(end, key[1], options.history)
        for start in range(0, len(times), _BATCH):
            part = times[start : start + _BATCH]
            frames = encode(
                key, closed_states(options.seed, key, part, options.roll_up)
            )
            yield b"".join(frames), len(frames)


def full_speed(
    options: VenueOptions, encode: Encode, keys: Sequence[StreamKey], now: int
) -> FrameBatches:
    """Yield every state of the last `bars` bars that closed before `now`.

    The streams' history comes first, closed bars only. Then the streams take turns,
    bar by bar.
    """
    times = {
        key: open_times_before(
            grid.begin(now, *key, options.grid_phase), key[1], options.bars
        )
        for key in keys
    }
    firsts = [(key, int(open_times[0])) for key, open_times in times.items()]
    yield from history(options, encode, firsts)
    bars = max(_MIN_BARS, _ROUND // len(keys)) if keys else options.bars
    for start in range(0, options.bars, bars):
        parts = [
            (key, part)
            for key, open_times in times.items()
            if len(part := open_times[start : start + bars])
        ]
        made = ((key, all_states(options.seed, key, part)) for key, part in parts)
        if options.sequence == "connection":  # encoded in the order of sending
            yield from _encoded_in_turn(encode, list(made))
        else:
            yield from _in_turn([encode(key, states) for key, states in made])


def _encoded_in_turn(
    encode: Encode, states_of_streams: Sequence[tuple[StreamKey, list[BarState]]]
) -> FrameBatches:
    longest = max((len(states) for _, states in states_of_streams), default=0)
    for start in range(0, longest, STEPS):
        batch: list[bytes] = []
        for key, states in states_of_streams:
            batch += encode(key, states[start : start + STEPS])
        yield b"".join(batch), len(batch)


def _in_turn(frames_of_streams: Sequence[list[bytes]]) -> FrameBatches:
    batch: list[bytes] = []
    for start in range(0, max(map(len, frames_of_streams), default=0), STEPS):
        for frames in frames_of_streams:
            batch += frames[start : start + STEPS]
        if len(batch) >= _BATCH:
            yield b"".join(batch), len(batch)
            batch = []
    if batch:
        yield b"".join(batch), len(batch)
