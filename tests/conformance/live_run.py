"""A live run of a strategy's file: a process of its own, on a feed of given bars.

The venue is driven by the run: the bars of a close time are written once the strategy
is initialized and has handled those of the one before. A stream that lacks a bar there
is one that does not trade, so that the run waits for nothing by the clock.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from conformance.given_feed import GivenFeed, Key, key_of
from conformance.market import FormingBar, GivenBar

PACE = Path(__file__).parent / "paced_strategy.py"
BEFORE = 600_000  # ms from the run's begin to the first bar's, by the venue's clock
LIMIT = 60.0  # seconds for a step, on a machine that does much else
BEAT = 0.25  # seconds

Child = subprocess.Popen[bytes]


def run(
    strategy: Path,
    bars: Sequence[GivenBar],
    symbols: Sequence[str],
    frequency: str,
    record: Path,
) -> None:
    """Run a strategy live until it has handled the last of the bars.

    Raise RuntimeError if the run ends earlier, or with an error.
    """
    keys = [(symbol, frequency) for symbol in symbols]
    with GivenFeed(bars) as feed:
        _begin(feed, bars)
        streams = ["--symbols", ",".join(symbols), "--frequency", frequency]
        files = [str(strategy), str(PACE)]
        options = ["--feed", feed.name, "--record", str(record)]
        with _start([*files, *streams, *options]) as child:
            told = _lines(child, feed)
            _await(told, "initialized", child)
            for close_time, listed in groupby(bars, lambda bar: bar.close_time):
                if _close(feed, list(listed), keys):
                    feed.set_time(close_time)
                    _await(told, f"handled {close_time}", child)
            child.send_signal(signal.SIGTERM)
            _, errors = child.communicate(timeout=LIMIT)
            if child.returncode:
                raise _ended(child.returncode, errors)


def _begin(feed: GivenFeed, bars: Sequence[GivenBar]) -> None:
    """Let the first bar of each stream be under way."""
    first: dict[Key, GivenBar] = {}
    for bar in bars:
        first.setdefault(key_of(bar), bar)
    for bar in first.values():
        feed.set_forming([FormingBar(bar.open_time, bar)], bar.open_time)
    feed.set_time(min(bar.open_time for bar in first.values()) - BEFORE)


def _close(feed: GivenFeed, bars: Sequence[GivenBar], keys: Sequence[Key]) -> bool:
    """Write the bars of one close time. Return True if one is of these streams."""
    closed = set(map(key_of, bars))
    if closed.isdisjoint(keys):
        feed.append(bars)
        return False
    for key in keys:
        feed.set_trading(key, key in closed)
    feed.append(bars)
    return True


@contextmanager
def _start(words: Sequence[str]) -> Iterator[Child]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SHMFEED_") or name == "SHMFEED_PURE"
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "wealthdata", "run", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        yield child
    finally:
        child.kill()
        with child:  # to close its pipes and reap it
            pass


def _lines(child: Child, feed: GivenFeed) -> Iterator[str]:
    """Yield what the run prints. The feed beats meanwhile."""
    assert child.stdout is not None
    pipe, buffer = child.stdout.fileno(), b""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        feed.beat()
        if not select.select([pipe], [], [], BEAT)[0]:
            continue
        read = os.read(pipe, 1 << 16)
        if not read:
            return
        *lines, buffer = (buffer + read).split(b"\n")
        for line in lines:
            yield line.decode()
            deadline = time.monotonic() + LIMIT


def _await(told: Iterator[str], wanted: str, child: Child) -> None:
    for line in told:
        if line == wanted:
            return
        if line.startswith("handled "):
            raise RuntimeError(f"the run has {line}, and the venue waits: {wanted}")
    child.kill()
    _, errors = child.communicate()
    raise _ended(child.returncode, errors)


def _ended(code: int, errors: bytes) -> RuntimeError:
    said = errors.decode(errors="replace")
    return RuntimeError(f"the runner has ended with {code}: {said}")
