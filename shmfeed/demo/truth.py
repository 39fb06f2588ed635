"""What the bars of a frame must be: the venue's market is known to everyone."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import duration
from shmfeed.simulator.market import Floats, Int64s, expected, verify

Stream = tuple[str, str]


class _Window(NamedTuple):
    closes: Int64s
    values: Floats  # (5, depth)


class Truth:
    """Checks rows of one market against what it must have made.

    The newest `depth` bars of a stream are computed once for each that closes.
    Timeframes of a fixed length only.
    """

    def __init__(self, seed: int, depth: int) -> None:
        self._seed = seed
        self._back = np.arange(1 - depth, 1, dtype=np.int64)
        self._windows: dict[Stream, _Window] = {}

    def wrong(self, stream: Stream, closes: Int64s, values: Floats) -> int:
        """How many of these rows are not the market's, or not in their place.

        `closes`: int64 (n,), ms UTC; `values`: float64 (5, n). A missing bar is no
        wrong row.
        """
        count = len(closes)
        if not count:
            return 0
        window = self._window(stream, int(closes[-1]))
        if count <= len(window.closes):
            same = (closes == window.closes[-count:]).all()
            if same and (values == window.values[:, -count:]).all():
                return 0
        return self._wrong_slowly(stream, closes, values)

    def _window(self, stream: Stream, newest: int) -> _Window:
        window = self._windows.get(stream)
        if window is None or window.closes[-1] != newest:
            length = duration(stream[1])
            closes = newest + self._back * length
            values = expected(self._seed, *stream, closes - length)
            window = self._windows[stream] = _Window(closes, values)
        return window

    def _wrong_slowly(self, stream: Stream, closes: Int64s, values: Floats) -> int:
        length = duration(stream[1])
        opens: NDArray[np.int64] = closes - length
        misplaced = np.count_nonzero(np.diff(opens) <= 0)
        misplaced += np.count_nonzero(opens % length)
        return max(int(misplaced), verify(self._seed, *stream, (opens, values)))
