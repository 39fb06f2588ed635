"""The bars of all benchmarks: as rows, and as the bytes that rivals hold and return."""

import numpy as np

from shmfeed.simulator.market import STEPS, BarState
from shmfeed.simulator.schedule import all_states, closed_states, open_times_before

SEED = 7
END = 1_704_067_200_000  # ms UTC, 2024-01-01: the forming bars' open time
TIMEFRAME = "1h"
HISTORY = 1000
CAPACITY = 1250  # bars in each ring of that history
WORDS = 9  # of a bar: two times, six floats, flags
WINDOWS = tuple(f"{kind} {n}" for n in (20, 1000) for kind in ("values", "rows"))


def symbol_of(number: int) -> str:
    return f"SYM{number}USDT"


SYMBOLS = tuple(map(symbol_of, range(10)))


def closed_bars(symbol: str) -> list[BarState]:
    open_times = open_times_before(END, TIMEFRAME, CAPACITY)
    return closed_states(SEED, (symbol, TIMEFRAME), open_times)


def forming_bar(symbol: str) -> BarState:
    return all_states(SEED, (symbol, TIMEFRAME), np.array([END]))[STEPS // 2]


def window(name: str) -> bytes:
    """Return the bytes of the newest bars of the first symbol.

    Args:
        name: `values n`: float64 (5, n), as view(n).values. `rows n`: all nine words of
            each bar, as snapshot(n) copies them. `bar`: the nine words of one bar.
    """
    kind, _, n = name.partition(" ")
    bars = closed_bars(SYMBOLS[0])[-int(n or 1) :]
    times = np.array([(*bar[:2], 0) for bar in bars], np.int64).view(np.float64)
    floats = np.array([bar[2:8] for bar in bars])
    if kind == "values":
        return np.ascontiguousarray(floats[:, :5].T).tobytes()
    return np.hstack([times[:, :2], floats, times[:, 2:]]).T.tobytes()


def as_array(
    data: bytes, name: str
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Return those bytes as an array in the shape of the window, not copied."""
    columns = 5 if name.startswith("values") else WORDS
    return np.frombuffer(data).reshape(columns, -1)
