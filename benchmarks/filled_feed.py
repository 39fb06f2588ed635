"""A feed filled with the sample bars, held by a process of its own."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sample_bars import (
    HISTORY,
    SYMBOLS,
    TIMEFRAME,
    closed_bars,
    forming_bar,
    symbol_of,
)

from shmfeed.layout import BEAT_SECONDS
from shmfeed.writer import create


def main(name: str, streams: int, history: int) -> None:
    """Hold the feed until standard input ends; print a line once it can be read."""
    closed = {symbol: closed_bars(symbol)[-history * 5 // 4 :] for symbol in SYMBOLS}
    forming = {symbol: forming_bar(symbol) for symbol in SYMBOLS}
    with create(name, history=history, max_streams=streams) as writer:
        for number in range(streams):
            symbol = SYMBOLS[number % len(SYMBOLS)]  # its bars, under another name
            ring = writer.add_stream(symbol_of(number), TIMEFRAME)
            for bar in closed[symbol]:
                ring.append(bar[0], *bar[2:8], wake=False)
            bar = forming[symbol]
            ring.update_forming(bar[0], *bar[2:8])
        print("{}", flush=True)
        ended = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set())).start()
        while not ended.wait(BEAT_SECONDS):
            writer.beat()
        writer.close(unlink=True)


@contextmanager
def filled_feed(streams: int = len(SYMBOLS), history: int = HISTORY) -> Iterator[str]:
    """Let another process hold such a feed for the `with` block; give its name."""
    name = f"bench-{os.getpid()}-{streams}"
    command = [sys.executable, __file__, name, str(streams), str(history)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        if not process.stdout.readline():
            raise RuntimeError("the feed was not created; see the error above")
        try:
            yield name
        finally:
            process.stdin.close()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
