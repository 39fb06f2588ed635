"""A relay on one host: a leader's feed, its publisher, Redis, and a follower's feed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
from sample_bars import forming_bar

import shmfeed
from shmfeed.bar import StreamKey
from shmfeed.identity import FeedIdentity
from shmfeed.writer import create

TIMEFRAME, MINUTE = "1m", 60_000
BEGIN = 1_700_000_040_000  # ms UTC, the open time of the first bar
BEAT_SECONDS = 0.2
TIMEOUT_SECONDS = 60.0
PRICES = forming_bar("BTCUSDT")[2:8]


def symbols_of(streams: int) -> list[str]:
    return [f"SYM{number}USDT" for number in range(streams)]


def start_command(end: ExitStack, *arguments: object) -> subprocess.Popen[bytes]:
    """Run `shmfeed *arguments` until the end."""
    command = [sys.executable, "-m", "shmfeed", *map(str, arguments)]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = end.enter_context(subprocess.Popen(command, **quiet))
    end.callback(process.terminate)
    return process


class RelayedFeed:
    """A leader's feed of this process, and the feed that follows it.

    Args:
        end: Ends all.
        port: The port of Redis.
        streams: Streams of the feed.
        history: Closed bars of each.

    Attributes:
        name, followed: The names of the leader's feed, and of the follower's.
        publisher, follower: Their processes.
        join_seconds: From the follower's start until its rings held all bars.
    """

    def __init__(self, end: ExitStack, port: int, streams: int, history: int) -> None:
        self.name, self.followed = f"bench-{os.getpid()}", f"bench-{os.getpid()}-2"
        self.symbols, self._history = symbols_of(streams), history
        keys: list[StreamKey] = [(symbol, TIMEFRAME) for symbol in self.symbols]
        self._writer = create(
            self.name,
            history=history,
            max_streams=streams,
            streams=keys,
            identity=FeedIdentity("wealthai", "spot", ("bench",)),
        )
        end.callback(self._writer.close, unlink=True)
        self._rings = [self._writer.add_stream(*key) for key in keys]
        self._opened = BEGIN
        for _ in range(history):
            self.close_minute(wake=False)
        url = f"redis://127.0.0.1:{port}/0"
        self.publisher = start_command(end, "publish", "--feed", self.name, "--to", url)
        begun = time.monotonic()
        options = ("--protocol", "redis", "--endpoint", url, "--history", history)
        options += ("--source-feed", self.name)
        self.follower = start_command(
            end, "run", "--unlink", "--feed", self.followed, *options
        )
        self._wait(self._has_joined, "the follower has not joined")
        self.join_seconds = time.monotonic() - begun

    def close_minute(self, *, wake: bool = True) -> None:
        """Close a bar of each stream, as a feeder does with a batch of messages."""
        opened = self._opened
        for ring in self._rings:
            ring.append(opened, *PRICES, wake=False)
        if wake:
            self._writer.wake()
        self._opened += MINUTE

    def update(self, rings: Sequence[int]) -> None:
        """Update the forming bars of these streams."""
        for number in rings:
            self._rings[number].update_forming(self._opened, *PRICES)

    def pause(self, seconds: float) -> None:
        """Sleep, and keep the feed alive."""
        end = time.monotonic() + seconds
        self._writer.beat()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, BEAT_SECONDS))
            self._writer.beat()

    def beat_during(self, call: Callable[[], object]) -> None:
        """Make a call in another thread, and keep the feed alive meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(call)
            while not done.done():
                self.pause(BEAT_SECONDS)
            done.result()

    def run_updates(self, seconds: float, rate: float) -> None:
        """Update each stream so many times a second, the streams in turn."""
        turns, count = 50, len(self._rings)
        begun = time.monotonic()
        number, step = 0, 1 / turns
        parts = np.array_split(np.arange(count), max(1, round(turns / rate)))
        while (now := time.monotonic()) < begun + seconds:
            self.update(parts[number % len(parts)].tolist())
            self._writer.beat()
            number += 1
            time.sleep(max(0.0, begun + number * step - now))

    def _has_joined(self) -> bool:
        with suppress(shmfeed.ShmfeedError), shmfeed.attach(self.followed) as feed:
            rings = [feed.ring(symbol, TIMEFRAME) for symbol in self.symbols]
            return all(len(ring.view(self._history)) == self._history for ring in rings)
        return False

    def _wait(self, true: Callable[[], Any], told: str) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not true():
            if time.monotonic() > deadline:
                raise SystemExit(told)
            self.pause(0.01)
