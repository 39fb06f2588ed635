"""The closed bars that the venue keeps, and the forming one: what its REST reads.

A bar of the archive is the market's, so it equals what the socket sent or will send,
unless a fault or a test corrected the bar or took it out. No I/O, no clock; times are
ms UTC.
"""

from collections.abc import Iterable

import numpy as np

from shmfeed.bar import Bar, StreamKey
from shmfeed.simulator import grid
from shmfeed.simulator.faults.bars import FINALLY, BarFaults
from shmfeed.simulator.market import STEPS, BarState, Int64s, bar_state
from shmfeed.simulator.schedule import (
    closed_states,
    forming_step,
    open_times_before,
)

_LAST = 253_402_300_800_000  # the year 10000; dates of months end there
_UNCHANGED = Bar(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
_MOST_LOOKS = 20  # for newest bars, where the archive lacks nearly all of them


class Archive:
    """The bars of every stream of one venue.

    Args:
        seed: The market's seed.
        phase: Phase of the bars of 3 days, in days; None: it follows from the symbol.
        base: Timeframe of which longer bars are made; None: the market makes them all.

    Attributes:
        faults: The faults of the venue's bars.
    """

    def __init__(
        self, seed: int, phase: int | None = None, base: str | None = None
    ) -> None:
        self._seed, self._phase, self._base = seed, phase, base
        self.faults = BarFaults()
        self._edits: dict[StreamKey, dict[int, Bar | None]] = {}

    def correct(self, key: StreamKey, bars: Iterable[Bar]) -> None:
        """Keep these bars of a stream in place of the market's."""
        self._edits.setdefault(key, {}).update({bar.open_time: bar for bar in bars})

    def take_out(self, key: StreamKey, open_times: Iterable[int]) -> None:
        """Keep no bar of these open times."""
        self._edits.setdefault(key, {}).update(dict.fromkeys(open_times))

    def oldest(
        self,
        key: StreamKey,
        first: int,
        last: int,
        limit: int,
        now: int,
        corrected: float | None = None,
    ) -> list[BarState]:
        """Return the first `limit` bars that open from `first` to `last`.

        The bar that is forming at `now` is one of them. Corrections are those that were
        made by the time `corrected`, by default `now`.
        """
        made = now if corrected is None else corrected
        found: list[BarState] = []
        begin = self._at_or_after(first, key)
        while len(found) < limit and begin <= min(last, now):
            count = limit - len(found)
            times = _open_times(begin, key[1], count)
            times_due = times[times <= min(last, now)]
            found += self._states(key, times_due, now, made)
            begin = grid.end(int(times[-1]), key[1])
        return found

    def newest(self, key: StreamKey, last: int, limit: int, now: int) -> list[BarState]:
        """Return the last `limit` bars that open up to `last`, oldest first."""
        found: list[BarState] = []
        newest = grid.begin(max(-1, min(last, now)), *key, self._phase)
        end = grid.end(newest, key[1])
        for _ in range(_MOST_LOOKS):
            times = open_times_before(end, key[1], limit - len(found))
            if not len(times):
                break
            found = self._states(key, times, now, now) + found
            end = int(times[0])
        return found

    def closed(self, key: StreamKey, first: int, last: int, now: int) -> list[Bar]:
        """Return the bars that open from `first` to `last` and are closed at `now`.

        They have every correction, later ones included.
        """
        limit = 1 + (min(last, now) - first) // grid.length(key[1])
        if key[1] == "1M":  # a month may be shorter than 30 days
            limit += limit // 8 + 1
        states = self.oldest(key, first, last, max(0, limit), now, FINALLY)
        return [Bar(*state[:8]) for state in states if state[1] <= now]

    def _at_or_after(self, time: int, key: StreamKey) -> int:
        time = min(max(time, 0), _LAST)
        begin = grid.begin(time, *key, self._phase)
        return begin if begin >= time else grid.end(begin, key[1])

    def _states(
        self, key: StreamKey, times: Int64s, now: int, corrected: float
    ) -> list[BarState]:
        if not len(times):
            return []
        forming = grid.begin(now, *key, self._phase)
        states = closed_states(self._seed, key, times[times < forming], self._base)
        if times[-1] == forming:
            step = forming_step(forming, grid.end(forming, key[1]), now)
            states.append(bar_state(self._seed, key, forming, step, now))
        states = self.faults.kept(key, states, corrected)
        edits = self._edits.get(key)
        return states if edits is None else _edited(states, edits)


def _edited(states: list[BarState], edits: dict[int, Bar | None]) -> list[BarState]:
    found: list[BarState] = []
    for state in states:
        bar = edits.get(state[0], _UNCHANGED)
        if bar is _UNCHANGED or state[8] < STEPS:
            found.append(state)
        elif bar is not None:
            found.append((*bar[:8], STEPS, state[9]))
    return found


def _open_times(begin: int, timeframe: str, count: int) -> Int64s:
    """Return the open times of `count` bars from the one that opens at `begin`."""
    steps = np.arange(count, dtype=np.int64)
    if timeframe != "1M":
        return begin + steps * grid.length(timeframe)
    month = np.datetime64(begin, "ms").astype("M8[M]")
    times: Int64s = (month + steps).astype("M8[ms]").view(np.int64)
    return times
