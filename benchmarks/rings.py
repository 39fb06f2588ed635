"""Us: a feed's rings read by one process and written by another.

Where there is a C core, pure Python is one more party beside it.
"""

import itertools
import os
from contextlib import ExitStack

import filled_feed
import numpy as np
import report
from filled_feed import SYMBOLS, TIMEFRAME
from measure import Call, Calls, Party, serve

import shmfeed
from shmfeed.memory import core
from shmfeed.writer import create

RING, PURE = "ring", "pure ring"
WRITER, PURE_WRITER = "writer", "pure writer"
SYMBOL = SYMBOLS[0]
STEP = 3_600_000  # ms: TIMEFRAME


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
    values = filled_feed.forming_bar(SYMBOL)[2:8]
    opened = itertools.count(STEP, STEP).__next__
    latest = 0

    def append() -> None:
        nonlocal latest
        latest = opened()
        ring.append(latest, *values)

    def append_asleep() -> None:
        nonlocal latest
        latest = opened()
        ring.append(latest, *values, wake=False)

    append()
    observer = Party(__file__, "observer", name)
    end.callback(observer.close)
    observer.ask(call="count")
    return {
        "append": append,
        "append asleep": append_asleep,
        "update": lambda: ring.update_forming(latest + STEP, *values),
    }


def main() -> None:
    """The other process of `writing`."""
    options = report.arguments(__doc__).parse_args()
    with ExitStack() as end:
        serve(reading(options.argument, end))


if __name__ == "__main__":
    main()
