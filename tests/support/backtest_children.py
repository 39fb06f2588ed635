"""A worker of a strategy that reads bars, in a thread or in a process of any kind."""

import sys

import wealthdata
from shmfeed.errors import ShmfeedError


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


if __name__ == "__main__":
    print(source_read(sys.argv[1]))
