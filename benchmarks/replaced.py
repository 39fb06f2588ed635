"""The path that a feed replaces: each strategy process with a socket of its own.

A thread hands over parsed JSON, bars as dicts with prices as strings, and keeps the
newest in a deque under a lock; a read takes the last of them, makes floats and then a
DataFrame. Here no such thread runs beside the reads, and no lock is ever contended:
what is measured is this path at its best.
"""

import threading
from collections import deque
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

FIELDS = ("open", "high", "low", "close", "volume")
PriceDict = dict[str, Any]


class Store:
    """One stream's newest closed bars, and the forming one."""

    def __init__(
        self, bars: Sequence[PriceDict], forming: PriceDict, most: int
    ) -> None:
        self._lock = threading.Lock()
        self._bars = deque(bars, maxlen=most)
        self._forming = forming

    def append(self, bar: PriceDict) -> None:
        with self._lock:
            self._bars.append(bar)

    def update_forming(self, bar: PriceDict) -> None:
        with self._lock:
            self._forming = bar

    def forming(self) -> PriceDict:
        with self._lock:
            return self._forming.copy()

    def latest_close(self) -> float:
        with self._lock:
            return float(self._forming["close"])

    def last(self, count: int, include_now: bool = False) -> list[PriceDict]:
        """The last bars, oldest first."""
        with self._lock:
            if include_now:
                return [*list(self._bars)[1 - count :], self._forming]
            return list(self._bars)[-count:]


def as_bar(open_time: int, close_time: int, *values: float) -> PriceDict:
    """A bar as JSON gives it: times as integers, prices as strings."""
    texts = (f"{value:.8f}" for value in values)
    names = ("open_time", "close_time", *FIELDS)
    return dict(zip(names, (open_time, close_time, *texts), strict=True))


def to_array(bars: Sequence[PriceDict]) -> "np.ndarray[Any, Any]":
    """Floats (5, n)."""
    return float_rows(bars, FIELDS).T


def float_rows(bars: Sequence[PriceDict], fields: Sequence[str]) -> Any:
    """Floats (n, fields): the quickest way found in plain Python and numpy."""
    if len(fields) == 1:
        texts = map(itemgetter(fields[0]), bars)
    else:
        texts = chain.from_iterable(map(itemgetter(*fields), bars))
    count = len(bars) * len(fields)
    return np.fromiter(map(float, texts), float, count).reshape(-1, len(fields))
