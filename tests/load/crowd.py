"""Strategies that sleep until their bars close, and then read them.

    python crowd.py '{"feed": .., "timeframe": .., "symbols": [[..], ..]}'

One process imports what all need and forks a strategy for each list of symbols. It
prints their pids once each waits. When its standard input ends it ends them, and prints
the closes of each as one line of JSON: for each the close time, the moments at which
the strategy was awake and had read its symbols, and the last close of each symbol.
"""

import contextlib
import gc
import json
import os
import signal
import sys
import time
import warnings
from typing import Any, NoReturn

import numpy as np

import wealthdata
from shmfeed.errors import ShmfeedError

COUNT = 20  # rows of a read
_MS = 1_000_000  # ns
_ATTACH_SECONDS = 30.0

Close = tuple[int, float, float, list[float]]


class Ended(BaseException):
    """The strategy is to end."""


def end(_number: int, _frame: Any) -> NoReturn:
    """Raise Ended, as the handler of a signal."""
    raise Ended


class Strategy:
    """A strategy that reads its symbols at each close."""

    def __init__(self, feed: str, symbols: list[str], timeframe: str) -> None:
        self.closes: list[Close] = []
        self.failures: list[str] = []
        self._symbols = symbols
        self._given: dict[str, Any] = {"frequency": timeframe, "feed": feed}

    def attach(self) -> None:
        """Read once: each later wait is for bars that close after this."""
        wealthdata.get_price(self._symbols, count=COUNT, **self._given)

    def run(self) -> None:
        """Wait and read until a signal raises Ended."""
        with contextlib.suppress(Ended):
            while True:
                wealthdata.wait_bar(self._symbols, **self._given)
                awake = time.time_ns() / _MS
                frame = wealthdata.get_price(self._symbols, count=COUNT, **self._given)
                self._take(frame, awake, time.time_ns() / _MS)

    def _take(self, frame: Any, awake: float, read: float) -> None:
        if len(frame) != COUNT * len(self._symbols):
            self.failures.append(f"{len(frame)} rows of {len(self._symbols)} symbols")
            return
        newest = slice(COUNT - 1, None, COUNT)
        times = frame["time"].to_numpy("datetime64[ms]")[newest].astype(np.int64)
        if times.min() != times.max():
            return  # the read was so late that the next bars are closing
        prices = frame["close"].to_numpy()[newest].tolist()
        self.closes.append((int(times[0]), awake, read, prices))


class Child:
    """A forked strategy, and the pipe for its result."""

    def __init__(self, feed: str, symbols: list[str], timeframe: str) -> None:
        self._read_fd, write_fd = os.pipe()
        with warnings.catch_warnings():
            # numpy's threads sleep and hold no lock that a child needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid:
            os.close(write_fd)
            os.read(self._read_fd, 1)  # it has attached
            return
        try:
            _live(Strategy(feed, symbols, timeframe), write_fd)
        finally:
            os._exit(0)

    def result(self) -> dict[str, Any]:
        """End the strategy; return its closes and failures."""
        os.kill(self.pid, signal.SIGTERM)
        os.kill(self.pid, signal.SIGCONT)
        with os.fdopen(self._read_fd, "rb") as pipe:
            told = pipe.read()
        os.waitpid(self.pid, 0)
        if not told:
            return {"closes": [], "failures": ["the strategy ended too early"]}
        found: dict[str, Any] = json.loads(told)
        return found


def _live(strategy: Strategy, write_fd: int) -> None:
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        strategy.attach()
        os.write(write_fd, b" ")
        strategy.run()
    except ShmfeedError as error:
        strategy.failures.append(str(error))
    found = {"closes": strategy.closes, "failures": strategy.failures}
    with os.fdopen(write_fd, "w") as pipe:
        json.dump(found, pipe)


def main() -> None:
    given = json.loads(sys.argv[1])
    feed, timeframe = given["feed"], given["timeframe"]
    wealthdata.get_price("S0000USDT", feed=feed, frequency=timeframe, count=1)
    gc.freeze()  # what all share stays shared
    children = [Child(feed, symbols, timeframe) for symbols in given["symbols"]]
    print(json.dumps([child.pid for child in children]), flush=True)
    sys.stdin.read()
    print(json.dumps([child.result() for child in children]))


if __name__ == "__main__":
    main()
