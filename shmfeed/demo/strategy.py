"""A strategy process of the demo: `python -P -m shmfeed.demo.strategy`.

The first line of standard input is a JSON object with the parameters, a second line
begins the run, and the process ends when standard input does. Standard output has lines
of JSON: {"ready": true}, then a report twice a second and at the end. The process knows
the venue's market, so it checks each value that it reads.
"""

import json
import random
import select
import sys
import time
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import wealthdata
from shmfeed.bar import StreamKey, duration
from shmfeed.demo.metrics import Histogram
from shmfeed.demo.options import BURST, MAX_ROWS, MIN_PAUSE, MIN_ROWS, RESOLUTIONS
from shmfeed.errors import NoDataError, ShmfeedError, StreamNotFoundError
from shmfeed.simulator.market import Floats, Int64s, expected, verify

_REPORT_SECONDS = 0.5
_WARM_UP_SECONDS = 30.0  # for the feed to appear
_RETRY_SECONDS = 0.05


class _Window(NamedTuple):
    closes: Int64s
    values: Floats  # (5, depth)


class MarketCheck:
    """Counts the rows that differ from what a market of this seed made.

    Each stream's newest `depth` bars are computed once for each bar that closes.
    Timeframes of a fixed length only.
    """

    def __init__(self, seed: int, depth: int) -> None:
        self._seed = seed
        self._back = np.arange(1 - depth, 1, dtype=np.int64)
        self._windows: dict[StreamKey, _Window] = {}

    def count_wrong(self, key: StreamKey, closes: Int64s, values: Floats) -> int:
        """Count the rows with a wrong value or out of their place.

        A missing bar is not a wrong row.

        Args:
            key: The stream.
            closes: int64 (n,), ms UTC.
            values: float64 (5, n).
        """
        count = len(closes)
        if not count:
            return 0
        window = self._window(key, int(closes[-1]))
        if count <= len(window.closes):
            same = (closes == window.closes[-count:]).all()
            if same and (values == window.values[:, -count:]).all():
                return 0
        return self._count_each(key, closes, values)

    def _window(self, key: StreamKey, newest: int) -> _Window:
        window = self._windows.get(key)
        if window is None or window.closes[-1] != newest:
            length = duration(key[1])
            closes = newest + self._back * length
            values = expected(self._seed, *key, closes - length)
            window = self._windows[key] = _Window(closes, values)
        return window

    def _count_each(self, key: StreamKey, closes: Int64s, values: Floats) -> int:
        length = duration(key[1])
        opens: NDArray[np.int64] = closes - length
        misplaced = np.count_nonzero(np.diff(opens) <= 0)
        misplaced += np.count_nonzero(opens % length)
        return max(int(misplaced), verify(self._seed, *key, (opens, values)))


def main() -> int:
    """Read, check and report until standard input ends."""
    order = json.loads(sys.stdin.readline())
    strategy = Strategy(order)
    strategy.warm_up()
    _print({"ready": True})
    if not sys.stdin.readline():
        return 0
    strategy.run()
    return 0


class Strategy:
    """Reads its streams in turn, and checks each value of each frame."""

    def __init__(self, order: dict[str, Any]) -> None:
        wealthdata.use(feed=order["feed"])
        number: int = order["number"]
        keys = [(symbol, name) for symbol in order["symbols"] for name in RESOLUTIONS]
        self._keys = cycle(keys[number:] + keys[:number])
        self._key_count = len(keys)
        self._pause_ratio: float = order["pause_ratio"]
        self._check = MarketCheck(order["seed"], MAX_ROWS)
        self._random = random.Random(order["seed"] + number)  # noqa: S311 # not secret
        self._newest: dict[StreamKey, int] = {}
        self._took, self._delays = Histogram(), Histogram()
        self.counts = dict.fromkeys(("reads", "rows", "torn", "lapped", "errors"), 0)
        self._error = ""
        self._began = 0.0

    def warm_up(self) -> None:
        """Read each stream once, unmeasured, so that the feed is there and attached."""
        deadline = time.monotonic() + _WARM_UP_SECONDS
        for _ in range(self._key_count):
            key = next(self._keys)
            while not self._try_first_read(key) and time.monotonic() < deadline:
                time.sleep(_RETRY_SECONDS)

    def _try_first_read(self, key: StreamKey) -> bool:
        try:
            frame = _get_price(key, MIN_ROWS)
        except (NoDataError, StreamNotFoundError):
            return False
        if len(frame):
            self._newest[key] = int(_close_times(frame)[-1])
        return len(frame) == MIN_ROWS

    def run(self) -> None:
        """Read until standard input ends."""
        self._began = time.monotonic()
        due = self._began + _REPORT_SECONDS
        pause = 0.0
        while not select.select([sys.stdin], [], [], max(MIN_PAUSE, pause))[0]:
            began = time.monotonic()
            for _ in range(BURST):
                self._try_read(next(self._keys))
            now = time.monotonic()
            pause = (now - began) * self._pause_ratio
            if now >= due:
                due = now + _REPORT_SECONDS
                _print(self.report())
        _print(self.report())

    def _try_read(self, key: StreamKey) -> None:
        try:
            self._read(key, self._random.randint(MIN_ROWS, MAX_ROWS))
        except ShmfeedError as error:
            self.counts["errors"] += 1
            self._error = f"{type(error).__name__}: {error}"

    def _read(self, key: StreamKey, count: int) -> None:
        began = time.perf_counter_ns()
        frame = _get_price(key, count)
        self._took.add(time.perf_counter_ns() - began)
        closes = _close_times(frame)
        wrong = self._check.count_wrong(key, closes, frame.to_numpy().T)
        counts = self.counts
        counts["reads"] += 1
        if wrong and not frame.attrs["shmfeed"].valid:
            counts["lapped"] += 1  # the frame itself says that it was overwritten
            return
        counts["rows"] += len(closes)
        counts["torn"] += wrong
        if len(closes):
            self._note_newest(key, int(closes[-1]))

    def _note_newest(self, key: StreamKey, newest: int) -> None:
        before = self._newest.get(key, newest)
        self._newest[key] = newest
        if newest == before + duration(key[1]):  # closed since the last read
            self._delays.add(max(0, time.time_ns() // 1000 - newest * 1000))

    def report(self) -> dict[str, Any]:
        """Return the counts since the beginning; times in ns, delays in us."""
        return {
            "began": self._began,
            "at": time.monotonic(),
            **self.counts,
            "took": self._took.sparse(),
            "delays": self._delays.sparse(),
            "error": self._error,
        }


def _get_price(key: StreamKey, count: int) -> pd.DataFrame:
    return wealthdata.get_price(
        key[0], count=count, frequency=key[1], on_stale="ignore"
    )


def _close_times(frame: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return frame.index.to_numpy().astype("M8[ms]").view(np.int64)


def _print(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    sys.exit(main())
