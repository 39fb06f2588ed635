"""Bars for the programs here, and a feed of them that lives while it is needed."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from shmfeed.layout import BEAT_SECONDS
from shmfeed.simulator.market import STEPS, BarState
from shmfeed.simulator.schedule import all_states, closed_states, open_times_before
from shmfeed.writer import create

SEED = 7
END = 1_704_067_200_000  # ms UTC: 2024-01-01, when the forming bars open
TIMEFRAME = "1h"
SYMBOLS = tuple(f"SYM{number}USDT" for number in range(10))
HISTORY = 1000
CLOSED = 1250  # bars in each ring: its whole capacity


def closed_bars(symbol: str) -> list[BarState]:
    opened = open_times_before(END, TIMEFRAME, CLOSED)
    return closed_states(SEED, (symbol, TIMEFRAME), opened)


def forming_bar(symbol: str) -> BarState:
    return all_states(SEED, (symbol, TIMEFRAME), np.array([END]))[STEPS // 2]


def main(name: str, streams: int, history: int) -> None:
    """Hold the feed until standard input ends; it is said when it can be read."""
    rows = {symbol: closed_bars(symbol)[-history * 5 // 4 :] for symbol in SYMBOLS}
    forming = {symbol: forming_bar(symbol) for symbol in SYMBOLS}
    with create(name, history=history, max_streams=streams) as writer:
        for number in range(streams):
            symbol = SYMBOLS[number % len(SYMBOLS)]  # its bars, under any name
            ring = writer.add_stream(symbol_of(number), TIMEFRAME)
            for row in rows[symbol]:
                ring.append(row[0], *row[2:8], wake=False)
            row = forming[symbol]
            ring.update_forming(row[0], *row[2:8])
        print("{}", flush=True)
        ended = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set())).start()
        while not ended.wait(BEAT_SECONDS):
            writer.beat()
        writer.close(unlink=True)


def symbol_of(number: int) -> str:
    return f"SYM{number}USDT"


@contextmanager
def held(streams: int = len(SYMBOLS), history: int = HISTORY) -> Iterator[str]:
    """The name of such a feed, held by a process of its own; gone after the block."""
    name = f"bench-{os.getpid()}-{streams}"
    command = [sys.executable, __file__, name, str(streams), str(history)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        if not process.stdout.readline():
            raise RuntimeError("the feed could not be made: why is said above")
        try:
            yield name
        finally:
            process.stdin.close()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
