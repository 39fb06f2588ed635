"""The values that a row may have, by the venue's functions of seed and faults."""

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import UNCONFIRMED, Bar
from shmfeed.memory.rows import Slice
from shmfeed.simulator import STEPS, bar, expected
from shmfeed.simulator.archive import Archive
from shmfeed.simulator.faults import parse_faults
from shmfeed.simulator.faults.bars import BarFaults

TIMEFRAME = "1s"
SECOND = 1000


class Truth:
    """The truth about the closed bars of one venue.

    A row of a bar that REST corrects may have the values of the socket's closing
    message until the correction is taken.

    Args:
        seed: The market's.
        faults: The faults of the venue's bars.
    """

    def __init__(self, seed: int, faults: str) -> None:
        self._seed = seed
        self._archive = Archive(seed)
        self._archive.faults = BarFaults(parse_faults(faults), seed)

    def wrong(
        self,
        symbol: str,
        open_times: NDArray[np.int64],
        values: NDArray[np.float64],
        *,
        final: bool = False,
    ) -> NDArray[np.bool_]:
        """Return which closed rows have wrong values.

        Args:
            symbol: Their symbol.
            open_times: int64 (n,), ms UTC, oldest first.
            values: float64 (5, n): open, high, low, close, volume.
            final: Only what REST finally has is right.
        """
        made = expected(self._seed, symbol, TIMEFRAME, open_times)
        wrong: NDArray[np.bool_] = (values != made).any(axis=0)
        if final and len(open_times):
            held = self.bars(symbol, int(open_times[0]), int(open_times[-1]))
            kept = {bar.open_time: bar[2:7] for bar in held}
            for number, open_time in enumerate(open_times.tolist()):
                wrong[number] = kept.get(open_time) != tuple(values[:, number].tolist())
            return wrong
        for number in np.flatnonzero(wrong):
            bar = self.bar(symbol, int(open_times[number]))
            row = tuple(values[:, number].tolist())
            wrong[number] = bar is None or row != bar[2:7]
        return wrong

    def unpublished(
        self,
        symbol: str,
        open_times: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> NDArray[np.bool_]:
        """Return which rows have values that the venue never sent.

        An unconfirmed row has those of an update that did not close the bar.
        """
        found = self.wrong(symbol, open_times, values)
        for number in np.flatnonzero(found):
            row = tuple(values[:, number].tolist())
            open_time = int(open_times[number])
            states = (
                bar(self._seed, symbol, TIMEFRAME, open_time, step)
                for step in range(STEPS)
            )
            found[number] = all(row != state[2:7] for state in states)
        return found

    def bar(self, symbol: str, open_time: int) -> Bar | None:
        """Return the bar that REST finally has; None of a hole."""
        found = self.bars(symbol, open_time, open_time)
        return found[0] if found else None

    def bars(self, symbol: str, first: int, last: int) -> list[Bar]:
        """Return all bars that REST finally has of these open times."""
        key = symbol, TIMEFRAME
        return self._archive.closed(key, first, last, last + SECOND)


def is_final(flags: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows claim that their values are final."""
    return (flags & UNCONFIRMED) == 0


def differences(truth: Truth, symbol: str, rows: Slice, until: int) -> list[str]:
    """Compare a stream's rows that close up to `until` with the truth, bar for bar."""
    times = np.array(rows.open_time)
    chosen = times <= until - SECOND
    times, values = times[chosen], np.array(rows.values)[:, chosen]
    if not len(times):
        return [f"{symbol}: there are no rows"]
    held = truth.bars(symbol, int(times[0]), until - SECOND)
    found = _compared(symbol, times.tolist(), [bar.open_time for bar in held])
    wrong = truth.wrong(symbol, times, values, final=True)
    found += [f"{symbol}: the row of {t} is wrong" for t in times[wrong]]
    doubtful = ~is_final(np.array(rows["flags"])[chosen])
    found += [f"{symbol}: the row of {t} is doubtful" for t in times[doubtful]]
    return found


def _compared(symbol: str, times: list[int], wanted: list[int]) -> list[str]:
    missing, more = sorted({*wanted} - {*times}), sorted({*times} - {*wanted})
    found = [f"{symbol}: the row of {time} is missing" for time in missing]
    found += [f"{symbol}: the venue has no bar of {time}" for time in more]
    if times != sorted({*times}):
        found.append(f"{symbol}: rows are repeated or out of order")
    return found
