"""Programs that run a backtest with other libraries' workers, and print their reads.

Each works in a process of its own, as its library keeps threads or processes alive.
Run: python -m support.backtest_programs NAME FEED
"""

import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver

from support.backtest_children import read_into, source_read
from support.numbered_bars import listed

import wealthdata

Reads = dict[str, list[str]]


@contextmanager
def backtest() -> Iterator[None]:
    context = wealthdata.Context([listed(*range(8))], run_params={"type": "backtest"})
    wealthdata.set_context(context)
    try:
        yield
    finally:
        wealthdata.clear_context()


def greenlets(feed: str) -> Reads:
    import gevent
    from gevent import monkey

    def reads() -> list[str]:
        bare = monkey.get_original("_thread", "start_new_thread")
        done: list[str] = []
        bare(lambda: done.append(source_read(feed)), ())
        while not done:
            gevent.sleep(0.001)
        pool = gevent.get_hub().threadpool
        return [
            *done,
            gevent.spawn(source_read, feed).get(),
            pool.apply(source_read, (feed,)),
        ]

    with backtest():
        found = reads()
    return {"backtest": found, "control": reads()}


def loky(feed: str) -> Reads:
    from joblib.externals.loky import get_reusable_executor

    def read() -> list[str]:
        pool = get_reusable_executor(1)
        try:
            found: str = pool.submit(source_read, feed).result()
            return [found]
        finally:
            pool.shutdown(wait=True)

    with backtest():
        found = read()
    return {"backtest": found, "control": read()}


def fork_server(feed: str) -> Reads:
    serving = multiprocessing.get_context("forkserver")

    def read() -> list[str]:
        ours, theirs = serving.Pipe()
        child = serving.Process(target=read_into, args=(theirs, feed))
        child.start()
        theirs.close()
        found: str = ours.recv()
        child.join()
        return [found]

    with backtest():
        found = read()
    forkserver._forkserver._stop()  # its children would keep the mark
    return {"backtest": found, "control": read()}


PROGRAMS: dict[str, Callable[[str], Reads]] = {
    "greenlets": greenlets,
    "loky": loky,
    "fork_server": fork_server,
}

if __name__ == "__main__":
    name, feed = sys.argv[1:]
    print(json.dumps(PROGRAMS[name](feed)))
