"""A strategy process of the demo: `python -P -m shmfeed.demo.strategy`.

Standard input: a line of JSON, its order; later a second line, to begin; then nothing
until its end. Standard output, lines of JSON: {"ready": true}, and a report twice a
second and at the end. It ends when standard input does.

What the bars of a frame must be: the venue's market is known to everyone.
"""

import json
import random
import select
import sys
import time
from itertools import cycle
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import wealthdata
from shmfeed.bar import StreamKey, Timeframe, duration
from shmfeed.demo.metrics import Histogram
from shmfeed.demo.options import BURST, LONGEST, MIN_PAUSE, RESOLUTIONS, SHORTEST
from shmfeed.errors import NoDataError, ShmfeedError, StreamNotFoundError
from shmfeed.simulator.market import Floats, Int64s, expected, verify


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
        self._windows: dict[StreamKey, _Window] = {}

    def wrong(self, stream: StreamKey, closes: Int64s, values: Floats) -> int:
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

    def _window(self, stream: StreamKey, newest: int) -> _Window:
        window = self._windows.get(stream)
        if window is None or window.closes[-1] != newest:
            length = duration(stream[1])
            closes = newest + self._back * length
            values = expected(self._seed, *stream, closes - length)
            window = self._windows[stream] = _Window(closes, values)
        return window

    def _wrong_slowly(self, stream: StreamKey, closes: Int64s, values: Floats) -> int:
        length = duration(stream[1])
        opens: NDArray[np.int64] = closes - length
        misplaced = np.count_nonzero(np.diff(opens) <= 0)
        misplaced += np.count_nonzero(opens % length)
        return max(int(misplaced), verify(self._seed, *stream, (opens, values)))


_REPORT_SECONDS = 0.5
_PATIENCE_SECONDS = 30.0  # for the feed to appear
_RETRY_SECONDS = 0.05


def main() -> int:
    """Read, check and report until standard input ends."""
    order = json.loads(sys.stdin.readline())
    strategy = Strategy(order)
    strategy.warm_up()
    _say({"ready": True})
    if not sys.stdin.readline():
        return 0
    strategy.run()
    return 0


class Strategy:
    """Reads its streams in turn, and checks each value of each frame."""

    def __init__(self, order: dict[str, Any]) -> None:
        wealthdata.use(feed=order["feed"])
        self._number: int = order["number"]
        self._rest: float = order["rest"]
        streams = [(s, r) for s in order["symbols"] for r in RESOLUTIONS]
        self._streams = cycle(streams[self._number :] + streams[: self._number])
        self._count = len(streams)
        self._truth = Truth(order["seed"], LONGEST)
        self._random = random.Random(order["seed"] + self._number)  # noqa: S311 # no secret
        self._newest: dict[StreamKey, int] = {}
        self._took, self._delays = Histogram(), Histogram()
        self.counts = dict.fromkeys(("reads", "rows", "torn", "lapped", "errors"), 0)
        self._error = ""
        self._began = 0.0

    def warm_up(self) -> None:
        """Read each stream once, unmeasured: the feed is found, modules are loaded."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        for _ in range(self._count):
            stream = next(self._streams)
            while not self._try_read(stream) and time.monotonic() < deadline:
                time.sleep(_RETRY_SECONDS)

    def _try_read(self, stream: StreamKey) -> bool:
        try:
            frame = _read(stream, SHORTEST)
        except (NoDataError, StreamNotFoundError):
            return False
        if len(frame):
            self._newest[stream] = int(_closes(frame)[-1])
        return len(frame) == SHORTEST

    def run(self) -> None:
        """Until standard input ends."""
        self._began = time.monotonic()
        due = self._began + _REPORT_SECONDS
        pause = 0.0
        while not select.select([sys.stdin], [], [], max(MIN_PAUSE, pause))[0]:
            began = time.monotonic()
            for _ in range(BURST):
                self._try_one(next(self._streams))
            now = time.monotonic()
            pause = (now - began) * self._rest
            if now >= due:
                due = now + _REPORT_SECONDS
                _say(self.report())
        _say(self.report())

    def _try_one(self, stream: StreamKey) -> None:
        try:
            self._one(stream, self._random.randint(SHORTEST, LONGEST))
        except ShmfeedError as error:
            self.counts["errors"] += 1
            self._error = f"{type(error).__name__}: {error}"

    def _one(self, stream: StreamKey, count: int) -> None:
        began = time.perf_counter_ns()
        frame = _read(stream, count)
        self._took.add(time.perf_counter_ns() - began)
        closes = _closes(frame)
        wrong = self._truth.wrong(stream, closes, frame.to_numpy().T)
        counts = self.counts
        counts["reads"] += 1
        if wrong and not frame.attrs["shmfeed"].valid:
            counts["lapped"] += 1  # it says so itself
            return
        counts["rows"] += len(closes)
        counts["torn"] += wrong
        if len(closes):
            self._note_newest(stream, int(closes[-1]))

    def _note_newest(self, stream: StreamKey, newest: int) -> None:
        before = self._newest.get(stream, newest)
        self._newest[stream] = newest
        if newest == before + duration(stream[1]):  # it closed since we last looked
            self._delays.add(max(0, time.time_ns() // 1000 - newest * 1000))

    def report(self) -> dict[str, Any]:
        """Everything since the beginning; times in ns, delays in us."""
        return {
            "began": self._began,
            "at": time.monotonic(),
            **self.counts,
            "took": self._took.sparse(),
            "delays": self._delays.sparse(),
            "error": self._error,
        }


def _read(stream: StreamKey, count: int) -> pd.DataFrame:
    timeframe = cast("Timeframe", stream[1])
    return wealthdata.get_price(
        stream[0], count=count, frequency=timeframe, on_stale="ignore"
    )


def _closes(frame: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return frame.index.to_numpy().astype("M8[ms]").view(np.int64)


def _say(report: dict[str, Any]) -> None:
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    sys.exit(main())
