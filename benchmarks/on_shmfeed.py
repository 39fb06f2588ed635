"""The contender shmfeed: a feed's rings, read by one process and written by another.

Where there is a C core, pure Python is a contender of its own.
"""

import itertools
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import report
from harness import Call, Calls, Contender, Sleeper, WithBaseline, serve
from numpy.typing import NDArray
from sample_bars import HISTORY, SYMBOLS, TIMEFRAME, forming_bar

import shmfeed
from shmfeed import core
from shmfeed.feed import Ring
from shmfeed.writer import create

RING, PURE = "ring", "pure ring"
WRITER, PURE_WRITER = "writer", "pure writer"
SYMBOL = SYMBOLS[0]
STEP = 3_600_000  # ms, the length of TIMEFRAME
WAIT_SECONDS = 1.0  # the longest sleep
_FAR = 1 << 47  # ms: a forming bar that stays newer than all closed ones
VOLUME = 4  # its row in `values`

Floats = NDArray[np.float64]
SleeperAndStamp = tuple[Sleeper[Floats], Callable[[Floats], float]]


def missing() -> dict[str, str]:
    """Return the contenders of pure Python where there is no C core beside it."""
    if core.build == "C":
        return {}
    why = f"`{RING}` is pure Python already: {core.WHY}"
    return {PURE: why, PURE_WRITER: why}


def reading_calls(name: str, end: ExitStack) -> Calls:
    """Return reads of a feed that another process holds."""
    ring = shmfeed.attach(name).ring(SYMBOL, TIMEFRAME)
    calls: dict[str, Call] = {
        "latest": lambda: ring.latest("close"),
        "forming": ring.forming,
        "count": lambda: ring.count,
    }
    for n in (20, 1000):
        calls[f"view {n}"] = lambda n=n: ring.view(n)
        calls[f"values {n}"] = lambda n=n: ring.view(n).values
        calls[f"close {n}"] = lambda n=n: _close_and_valid(ring.view(n))
        calls[f"snapshot {n}"] = lambda n=n: ring.snapshot(n)
        calls[f"own values {n}"] = lambda n=n: ring.snapshot(n).values
        calls[f"check values {n}"] = lambda n=n: ring.view(n).values.tobytes().hex()
        calls[f"check rows {n}"] = lambda n=n: _words(ring.snapshot(n)).hex()
    return calls


def _close_and_valid(bars: "shmfeed.feed.Slice") -> bool:
    bars["close"]
    return bars.valid


def _words(rows: "shmfeed.feed.Rows") -> bytes:
    columns = (rows.open_time, rows.close_time, *rows.floats, rows["flags"])
    return b"".join(np.ascontiguousarray(column).tobytes() for column in columns)


def writing_calls(end: ExitStack) -> Calls:
    """Return writes of a feed that another process has attached to."""
    name = f"bench-{os.getpid()}"
    writer = create(name, history=HISTORY)
    end.callback(writer.close, unlink=True)
    ring = writer.add_stream(SYMBOL, TIMEFRAME)
    open_, high, low, close, volume, money = forming_bar(SYMBOL)[2:8]
    next_open_time = itertools.count(STEP, STEP).__next__
    latest = next_open_time()

    def append() -> None:
        nonlocal latest
        latest = next_open_time()
        ring.append(latest, open_, high, low, close, volume, money)

    def append_without_wake() -> None:
        nonlocal latest
        latest = next_open_time()
        ring.append(latest, open_, high, low, close, volume, money, wake=False)

    def count() -> None:
        nonlocal latest
        latest = next_open_time()

    def update() -> None:
        ring.update_forming(_FAR, open_, high, low, close, volume, money)

    eventcount = writer._eventcount

    def wake_no_reader() -> None:
        eventcount.notify(1)

    append()
    observer = Contender(__file__, "observer", name)
    end.callback(observer.close)
    observer.ask(call="count")
    return {
        "append": WithBaseline(append, count),
        "append without wake": WithBaseline(append_without_wake, count),
        "update": update,
        "wake": wake_no_reader,
    }


def _sleeper(
    wait: Callable[[Sequence[Ring]], object], end: ExitStack
) -> SleeperAndStamp:
    """Return a sleeper on rings of a feed that another process will create."""
    name = f"bench-{os.getpid()}"

    def open_feed() -> Callable[[], Floats]:
        feed = end.enter_context(shmfeed.attach(name, timeout=10))
        rings = [feed.ring(symbol, TIMEFRAME) for symbol in SYMBOLS]

        def receive() -> Floats:
            wait(rings)
            return rings[0].view(1).values

        return receive

    return Sleeper(name, open_feed), lambda values: float(values[VOLUME, -1])


def ring_sleeper(end: ExitStack) -> SleeperAndStamp:
    """Return a sleeper in ring.wait."""
    seen = 0

    def wait(rings: Sequence[Ring]) -> None:
        nonlocal seen
        seen = rings[0].wait(seen, timeout=WAIT_SECONDS) or seen

    return _sleeper(wait, end)


def many_rings_sleeper(end: ExitStack) -> SleeperAndStamp:
    """Return a sleeper in shmfeed.wait on ten rings, one of which is written."""
    seen = 0

    def wait(rings: Sequence[Ring]) -> None:
        nonlocal seen
        if rings[0].count == seen:  # no bar has closed since
            shmfeed.wait(rings, timeout=WAIT_SECONDS)
        seen = rings[0].count

    return _sleeper(wait, end)


def aio_sleeper(end: ExitStack) -> tuple[Sleeper[Any], Any]:
    """Return a sleeper in shmfeed.aio, a task of an event loop."""
    from shmfeed import aio

    name, seen = f"bench-{os.getpid()}", 0

    def open_feed() -> Callable[[], Awaitable[Floats]]:
        feed = end.enter_context(shmfeed.attach(name, timeout=10))
        ring = feed.ring(SYMBOL, TIMEFRAME)

        async def receive() -> Floats:
            nonlocal seen
            seen = await aio.wait_ring(ring, seen, timeout=WAIT_SECONDS) or seen
            return ring.view(1).values

        return receive

    return Sleeper(name, open_feed), lambda values: float(values[VOLUME, -1])


def waker(name: str, end: ExitStack) -> Callable[[float], None]:
    """Create that feed; return a call that writes a bar with a stamp as its volume."""
    keys = [(symbol, TIMEFRAME) for symbol in SYMBOLS]
    writer = create(name, history=HISTORY, streams=keys)
    end.callback(writer.close, unlink=True)
    ring = writer.add_stream(*keys[0])
    next_open_time = itertools.count(STEP, STEP).__next__
    prices = forming_bar(SYMBOL)[2:6]

    def send(stamp: float) -> None:
        ring.append(next_open_time(), *prices, stamp)

    return send


def main() -> None:
    """Serve as the process that has attached to the feed of `writing_calls`."""
    options = report.argument_parser(__doc__).parse_args()
    with ExitStack() as end:
        serve(reading_calls(options.argument, end))


if __name__ == "__main__":
    main()
