"""A strategy that reads without a pause, keeps frames, and checks each one.

    python reader.py '{"feed": .., "symbols": [..], "seed": .., "faults": "..", ..}'

It runs until its standard input ends, then prints its tally as one line of JSON.
"""

import gc
import json
import os
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a program

from soak.truth import SECOND, TIMEFRAME, Truth, is_final

import shmfeed
import wealthdata
from shmfeed.errors import ShmfeedError
from wealthdata import attachment, choices

COLUMNS = ["open", "high", "low", "close", "volume"]
COUNTS = (1, 20, 200)
OVER_CPU, OVER_CLOCK = 0.010, 0.100  # seconds of a call
SHORT_KEPT, LONG_KEPT = 100, 100  # frames
_MOST_LINES = 20
_MOST_CALLS = 100_000


class Kept(NamedTuple):
    """A frame that is held, and a copy of its values at the time of the read."""

    frame: pd.DataFrame
    values: np.ndarray
    until: float


class Calls:
    """The durations of calls: by the CPU time of this thread, and by the clock.

    A call may be put off the CPU by other programs. The kernel tells for how long the
    thread was ready and did not run; that time is not the call's.

    Args:
        most: Calls to keep; the room is taken at once, so that memory does not grow.
    """

    def __init__(self, most: int = 1000) -> None:
        self._times = np.full((2, most), np.nan)
        self._count = self.late = 0
        self._waits = os.open("/proc/thread-self/schedstat", os.O_RDONLY)

    def time(self, call: Callable[[], Any]) -> Any:
        waited = self._waited()
        began, cpu = time.perf_counter(), time.thread_time()
        try:
            return call()
        finally:
            cpu = time.thread_time() - cpu
            clock = time.perf_counter() - began
            waited = self._waited() - waited
            self._times[:, self._count % self._times.shape[1]] = cpu, clock
            self._count += 1
            self.late += clock - waited > OVER_CLOCK

    @property
    def cpu(self) -> list[float]:
        """CPU time of each call in seconds, oldest first."""
        return self._kept(0)

    @property
    def clock(self) -> list[float]:
        """Time of each call by the clock in seconds, oldest first."""
        return self._kept(1)

    def _kept(self, row: int) -> list[float]:
        ordered = np.roll(self._times[row], -(self._count % self._times.shape[1]))
        kept: list[float] = ordered[~np.isnan(ordered)].tolist()
        return kept

    def close(self) -> None:
        """Close the kernel's file."""
        os.close(self._waits)

    def _waited(self) -> float:
        return int(os.pread(self._waits, 100, 0).split()[1]) / 1e9


class Reader:
    """One reader and its tally."""

    def __init__(
        self,
        feed: str,
        symbols: list[str],
        seed: int,
        faults: str,
        chance: int,
        longest: float = 200.0,
    ) -> None:
        self.tally = Counter[str]()
        self.lines: list[str] = []
        self.calls = Calls()
        self._symbols, self._longest = symbols, longest
        self._feed = shmfeed.attach(feed)
        self._rings = {name: self._feed.ring(name, TIMEFRAME) for name in symbols}
        wealthdata.use(feed=feed)
        self._truth = Truth(seed, faults)
        self._random = random.Random(chance)
        self._newest: dict[str, int] = {}
        self._short: deque[Kept] = deque()
        self._long: list[Kept] = []
        self._verbs = (self.frame, self.frame, self.flags, self.forming, self.cut)

    def read(self) -> None:
        """Make one read and check it."""
        try:
            self._random.choice(self._verbs)()
        except ShmfeedError as error:
            self.fail(f"{type(error).__name__}: {error}")
        self.tally["reads"] += 1
        self._let_go(time.monotonic())

    def frame(self) -> None:
        """Read a frame that shares the ring's memory, and keep it."""
        symbol = self._random.choice(self._symbols)
        count = self._random.choice(COUNTS)
        frame = self.calls.time(lambda: self._price(symbol, count=count))
        values = frame.to_numpy(copy=True)
        self._check(symbol, frame, values)
        if len(frame):
            self._keep(frame, values)

    def flags(self) -> None:
        """Read rows with their flags: one that claims to be final is right."""
        symbol = self._random.choice(self._symbols)
        ring = self._rings[symbol]
        rows = self.calls.time(lambda: ring.snapshot(self._random.choice(COUNTS)))
        self.tally["rows"] += len(rows)
        wrong = self._truth.wrong(symbol, rows.open_time, np.array(rows.values))
        bad = rows.open_time[wrong & is_final(rows["flags"])]
        if len(bad):
            self.fail(f"{symbol}: {len(bad)} final rows are wrong: {bad[0]}")

    def forming(self) -> None:
        """Read the unfinished bar behind the closed ones."""
        symbol = self._random.choice(self._symbols)
        frame = self.calls.time(lambda: self._price(symbol, count=20, include_now=True))
        closed = frame[:-1] if frame.attrs["shmfeed"].forming else frame
        self._check(symbol, closed, closed.to_numpy(copy=True), whole=frame)
        last = frame[-1:].to_numpy()
        if len(last) and not (last[0, 2] <= last[0, 0] <= last[0, 1]):
            self.fail(f"{symbol}: a forming bar is torn: {last[0].tolist()}")

    def cut(self) -> None:
        """Read several symbols as of one instant."""
        chosen = self._random.sample(self._symbols, min(5, len(self._symbols)))
        frame = self.calls.time(lambda: self._price(chosen, count=20, align=True))
        self.tally["rows"] += len(frame)
        ends = {code: tuple(part["time"]) for code, part in frame.groupby("code")}
        if len(set(ends.values())) > 1:
            self.fail(f"a cut is not aligned: {chosen}")
        for code, part in frame.groupby("code"):
            times = _milliseconds(part["time"]) - SECOND
            values = part[COLUMNS].to_numpy().T
            if self._truth.unpublished(str(code), times, values).any():
                self.fail(f"{code}: a cut has rows that the venue never sent")

    def fail(self, line: str) -> None:
        """Count a violation."""
        self.tally["violations"] += 1
        if len(self.lines) < _MOST_LINES:
            self.lines.append(line)

    def close(self) -> None:
        """Let go of the feed."""
        self._short.clear()
        self._long.clear()
        self._rings.clear()
        self._feed.close()
        self.calls.close()
        choices.forget_choices()
        attachment.detach()

    def result(self) -> dict[str, Any]:
        """Return the tally, once every kept frame was looked at again."""
        self._let_go(float("inf"))
        return {
            "tally": dict(self.tally),
            "lines": self.lines,
            "cpu": self.calls.cpu,
            "clock": self.calls.clock,
            "late": self.calls.late,
        }

    def _price(self, security: str | list[str], **options: Any) -> pd.DataFrame:
        return wealthdata.get_price(
            security, frequency=TIMEFRAME, on_stale="ignore", **options
        )

    def _check(
        self,
        symbol: str,
        frame: pd.DataFrame,
        values: np.ndarray,
        whole: pd.DataFrame | None = None,
    ) -> None:
        """Check the closed rows of one symbol; `whole` is the frame as it was read."""
        said = (frame if whole is None else whole).attrs["shmfeed"]
        self.tally["rows"] += len(frame)
        if not len(frame):
            return
        times = _open_times(frame)
        steps = np.diff(times)
        if (steps <= 0).any() or (steps % SECOND).any():
            self.fail(f"{symbol}: the times do not grow by whole bars")
        missing = int((steps // SECOND - 1).sum())
        if whole is None and missing != said.gaps:
            self.fail(f"{symbol}: {missing} bars are missing, gaps says {said.gaps}")
        newest = int(times[-1])
        if newest < self._newest.get(symbol, 0):
            self.fail(f"{symbol}: went back to {newest}")
        self._newest[symbol] = newest
        wrong = times[self._truth.unpublished(symbol, times, values.T)]
        if len(wrong):
            self.fail(f"{symbol}: the venue never sent the row of {wrong[0]}")

    def _keep(self, frame: pd.DataFrame, values: np.ndarray) -> None:
        self._short.append(Kept(frame, values, 0.0))
        if len(self._short) > SHORT_KEPT:
            self._look_again(self._short.popleft())
        if len(self._long) < LONG_KEPT and self._random.random() < 0.1:
            until = time.monotonic() + self._random.uniform(0.05, 1) * self._longest
            self._long.append(Kept(frame, values, until))

    def _let_go(self, now: float) -> None:
        if now == float("inf"):
            self._long += self._short
            self._short.clear()
        for kept in self._long:
            if kept.until <= now:
                self._look_again(kept)
        self._long = [one for one in self._long if one.until > now]

    def _look_again(self, kept: Kept) -> None:
        """Compare a frame with what it was; one that was lapped has to say so.

        Kills and faults may cause more repairs within `guard` bars than there are
        slots. Rows that a repair replaced are then overwritten early, which the
        feeder logs.
        """
        self.tally["kept"] += 1
        if not _is_valid(kept.frame):
            self.tally["lapped"] += 1
        elif not np.array_equal(kept.frame.to_numpy(), kept.values):
            if _is_valid(kept.frame):  # it was not lapped in between
                self.fail("a kept frame changed and says that it is valid")
            else:
                self.tally["lapped"] += 1


def _is_valid(frame: pd.DataFrame) -> bool:
    return bool(frame.attrs["shmfeed"].valid)


def _open_times(frame: pd.DataFrame) -> np.ndarray:
    return _milliseconds(frame.index) - SECOND


def _milliseconds(times: Any) -> np.ndarray:
    return pd.DatetimeIndex(times).as_unit("ms").asi8


def main() -> None:
    given = json.loads(sys.argv[1])
    pace = 1.0 / given.pop("reads")
    ended = threading.Event()
    threading.Thread(
        target=lambda: (sys.stdin.read(), ended.set()), daemon=True
    ).start()
    reader = Reader(**given)
    for verb in reader._verbs:  # loads pandas, attaches
        verb()
    reader.calls.close()
    reader.calls = Calls(_MOST_CALLS)
    gc.collect()
    gc.freeze()
    print(json.dumps("ready"), flush=True)
    while not ended.wait(pace):
        reader.read()
    print(json.dumps(reader.result()), flush=True)


if __name__ == "__main__":
    main()
