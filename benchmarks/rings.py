"""Us: a feed's rings read by one process and written by another.

Where there is a C core, pure Python is one more party beside it.
"""

import itertools
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any

import filled_feed
import numpy as np
import report
from filled_feed import SYMBOLS, TIMEFRAME
from measure import Beside, Call, Calls, Party, Sleeper, serve
from numpy.typing import NDArray

import shmfeed
from shmfeed import core
from shmfeed.feed import Ring
from shmfeed.writer import create

RING, PURE = "ring", "pure ring"
WRITER, PURE_WRITER = "writer", "pure writer"
SYMBOL = SYMBOLS[0]
STEP = 3_600_000  # ms: TIMEFRAME
PATIENCE = 1.0  # s, of a sleeper
_FAR = 1 << 47  # ms: a forming bar that stays newer than all that close
VOLUME = 4  # its row in `values`


Floats = NDArray[np.float64]
Waiting = tuple[Sleeper[Floats], Callable[[Floats], float]]


def missing() -> dict[str, str]:
    """Pure Python is no other party where it serves anyhow."""
    if core.build == "C":
        return {}
    why = f"`{RING}` is that already: {core.WHY}"
    return {PURE: why, PURE_WRITER: why}


def reading(name: str, end: ExitStack) -> Calls:
    """Reads of a feed that another process holds."""
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


def _close_and_valid(rows: "shmfeed.feed.Slice") -> bool:
    rows["close"]
    return rows.valid


def _words(rows: "shmfeed.feed.Rows") -> bytes:
    columns = (rows.open_time, rows.close_time, *rows.floats, rows["flags"])
    return b"".join(np.ascontiguousarray(column).tobytes() for column in columns)


def writing(end: ExitStack) -> Calls:
    """Writes of a feed of its own, which another process has attached to."""
    name = f"bench-{os.getpid()}"
    writer = create(name, history=filled_feed.HISTORY)
    end.callback(writer.close, unlink=True)
    ring = writer.add_stream(SYMBOL, TIMEFRAME)
    open_, high, low, close, volume, money = filled_feed.forming_bar(SYMBOL)[2:8]
    opened = itertools.count(STEP, STEP).__next__
    latest = opened()

    def append() -> None:
        nonlocal latest
        latest = opened()
        ring.append(latest, open_, high, low, close, volume, money)

    def append_asleep() -> None:
        nonlocal latest
        latest = opened()
        ring.append(latest, open_, high, low, close, volume, money, wake=False)

    def count() -> None:
        nonlocal latest
        latest = opened()

    def update() -> None:
        ring.update_forming(_FAR, open_, high, low, close, volume, money)

    eventcount = writer._eventcount

    def wake_nobody() -> None:
        eventcount.notify(1)

    append()
    observer = Party(__file__, "observer", name)
    end.callback(observer.close)
    observer.ask(call="count")
    return {
        "append": Beside(append, count),
        "append asleep": Beside(append_asleep, count),
        "update": update,
        "wake": wake_nobody,
    }


def _sleeper(wait: Callable[[Sequence[Ring]], object], end: ExitStack) -> Waiting:
    """Of a feed that another process will make; it sleeps on the rings' next bar."""
    name = f"bench-{os.getpid()}"

    def opened() -> Callable[[], Floats]:
        feed = end.enter_context(shmfeed.attach(name, timeout=10))
        rings = [feed.ring(symbol, TIMEFRAME) for symbol in SYMBOLS]

        def receive() -> Floats:
            wait(rings)
            return rings[0].view(1).values

        return receive

    return Sleeper(name, opened), lambda values: float(values[VOLUME, -1])


def sleeping(end: ExitStack) -> Waiting:
    """With ring.wait."""
    seen = 0

    def wait(rings: Sequence[Ring]) -> None:
        nonlocal seen
        seen = rings[0].wait(seen, timeout=PATIENCE) or seen

    return _sleeper(wait, end)


def sleeping_on_many(end: ExitStack) -> Waiting:
    """With shmfeed.wait, on ten rings of which one is written."""
    seen = 0

    def wait(rings: Sequence[Ring]) -> None:
        nonlocal seen
        if rings[0].count == seen:  # what has closed already is not waited for
            shmfeed.wait(rings, timeout=PATIENCE)
        seen = rings[0].count

    return _sleeper(wait, end)


def sleeping_in_a_loop(end: ExitStack) -> tuple[Sleeper[Any], Any]:
    """With shmfeed.aio, as a task of an event loop."""
    from shmfeed import aio

    name, seen = f"bench-{os.getpid()}", 0

    def opened() -> Callable[[], Awaitable[Floats]]:
        feed = end.enter_context(shmfeed.attach(name, timeout=10))
        ring = feed.ring(SYMBOL, TIMEFRAME)

        async def receive() -> Floats:
            nonlocal seen
            seen = await aio.wait_ring(ring, seen, timeout=PATIENCE) or seen
            return ring.view(1).values

        return receive

    return Sleeper(name, opened), lambda values: float(values[VOLUME, -1])


def waking(name: str, end: ExitStack) -> Callable[[float], None]:
    """A writer of that feed, which puts a number into each bar's volume."""
    streams = [(symbol, TIMEFRAME) for symbol in SYMBOLS]
    writer = create(name, history=filled_feed.HISTORY, streams=streams)
    end.callback(writer.close, unlink=True)
    ring = writer.add_stream(*streams[0])
    opened = itertools.count(STEP, STEP).__next__
    prices = filled_feed.forming_bar(SYMBOL)[2:6]

    def send(stamp: float) -> None:
        ring.append(opened(), *prices, stamp)

    return send


def main() -> None:
    """The other process of `writing`."""
    options = report.arguments(__doc__).parse_args()
    with ExitStack() as end:
        serve(reading(options.argument, end))


if __name__ == "__main__":
    main()
