"""A worker of a strategy that reads bars, in a thread or in a process of any kind."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from support.numbered_bars import listed, when

import wealthdata
from shmfeed.errors import ShmfeedError

Read = Callable[[], str]
T = TypeVar("T")


def backtest(*numbers: int, kind: str = "backtest") -> wealthdata.Context:
    bars = numbers or range(8)
    return wealthdata.Context(
        [listed(*bars)], current_dt=when(9), run_params={"type": kind}
    )


def source_read(feed: str, symbol: str = "BTCUSDT") -> str:
    """Return the source of the bars that this thread or process reads, or an error."""
    try:
        wealthdata.use(feed=feed)
        found = wealthdata.get_price(symbol, on_stale="ignore")
    except ShmfeedError as error:
        return type(error).__name__
    source: str = found.attrs["shmfeed"].source
    return source


def read_into(pipe, feed: str) -> None:
    """Send the source through a pipe, from a process of multiprocessing."""
    with pipe:
        pipe.send(source_read(feed))


def by_executor(read: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(read).result()


def by_fork(feed: str) -> str:
    inner, outer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(outer, source_read(feed).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(outer)
    with os.fdopen(inner) as pipe:
        return pipe.read()


if __name__ == "__main__":
    print(source_read(sys.argv[1]))
