"""What does it cost to read a ring, and to write one?

Beside the ring: the path that it replaces (a locked deque of dicts in the strategy's
own process), and two floors that promise nothing, a numpy copy in one process and one
out of shared memory: a row that is being written would be read half.
"""

from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import filled_feed
import measure
import numpy as np
import replaced
import report
from measure import Case, Question

import shmfeed
from shmfeed.writer import create

SYMBOL, TIMEFRAME = filled_feed.SYMBOLS[0], filled_feed.TIMEFRAME
_HOUR = 3_600_000
Calls = dict[str, Callable[[], object]]

RING, WRITER, DEQUE = "ring", "ring writer", "deque"
NUMPY, SHARED = "numpy", "shared numpy"


def _in_place(n: int) -> Question:
    return Question(
        f"the last {n} bars, in place",
        (
            Case("ring.view(n)", RING, f"view {n}"),
            Case("ring.view(n).values", RING, f"values {n}"),
            Case("ring.view(n)['close'], then .valid", RING, f"close {n}"),
            Case("floor: numpy slice", NUMPY, f"slice {n}"),
        ),
    )


def _private(n: int) -> Question:
    return Question(
        f"the last {n} bars, private",
        (
            Case("ring.snapshot(n)", RING, f"snapshot {n}"),
            Case("replaced: locked deque to list of dicts", DEQUE, f"dicts {n}"),
            Case("replaced: locked deque to float array", DEQUE, f"floats {n}"),
            Case("floor: numpy copy, one process", NUMPY, f"copy {n}"),
            Case("floor: numpy copy of shared memory", SHARED, f"copy {n}"),
        ),
    )


QUESTIONS = (
    *(_in_place(n) for n in (20, 1000)),
    *(_private(n) for n in (20, 1000)),
    Question(
        "the newest close",
        (
            Case("ring.latest('close')", RING, "latest"),
            Case("replaced: locked dict, float()", DEQUE, "latest"),
            Case("floor: float() of a numpy item", NUMPY, "latest"),
        ),
    ),
    Question(
        "the forming bar",
        (
            Case("ring.forming()", RING, "forming"),
            Case("replaced: copy of a locked dict", DEQUE, "forming"),
        ),
    ),
    Question(
        "writing: a bar closes",
        (
            Case("append(...)", WRITER, "append"),
            Case("append(..., wake=False)", WRITER, "append asleep"),
            Case("replaced: locked deque.append", DEQUE, "append"),
            Case("floor: a row of numpy columns", NUMPY, "append"),
        ),
    ),
    Question(
        "writing: the forming bar changes",
        (
            Case("update_forming(...)", WRITER, "update"),
            Case("replaced: locked assignment", DEQUE, "update"),
            Case("floor: a row of numpy columns", NUMPY, "append"),
        ),
    ),
)


def ring_calls(name: str, end: ExitStack) -> Calls:
    ring = shmfeed.attach(name).ring(SYMBOL, TIMEFRAME)
    calls: Calls = {"latest": lambda: ring.latest("close"), "forming": ring.forming}
    for n in (20, 1000):
        calls[f"view {n}"] = lambda n=n: ring.view(n)
        calls[f"values {n}"] = lambda n=n: ring.view(n).values
        calls[f"close {n}"] = lambda n=n: _close_and_valid(ring.view(n))
        calls[f"snapshot {n}"] = lambda n=n: ring.snapshot(n)
    return calls


def _close_and_valid(rows: Any) -> bool:
    rows["close"]
    return rows.valid


def writer_calls(name: str, end: ExitStack) -> Calls:
    writer = create(f"{name}-w", history=filled_feed.HISTORY)
    end.callback(writer.close, unlink=True)
    ring = writer.add_stream(SYMBOL, "1m")
    row = filled_feed.forming_bar(SYMBOL)
    values = row[2:8]
    opened = 0

    def append(wake: bool = True) -> None:
        nonlocal opened
        opened += 60_000
        ring.append(opened, *values, wake=wake)

    return {
        "append": append,
        "append asleep": lambda: append(False),
        "update": lambda: ring.update_forming(opened + 60_000, *values),
    }


def deque_calls(name: str, end: ExitStack) -> Calls:
    bars = [replaced.as_bar(*row[:7]) for row in filled_feed.closed_bars(SYMBOL)]
    forming = replaced.as_bar(*filled_feed.forming_bar(SYMBOL)[:7])
    store = replaced.Store(bars, forming, filled_feed.HISTORY)
    calls: Calls = {
        "latest": store.latest_close,
        "forming": store.forming,
        "append": lambda: store.append(bars[0]),
        "update": lambda: store.update_forming(forming),
    }
    for n in (20, 1000):
        calls[f"dicts {n}"] = lambda n=n: store.last(n)
        calls[f"floats {n}"] = lambda n=n: replaced.to_array(store.last(n))
    return calls


def numpy_calls(name: str, end: ExitStack) -> Calls:
    return _array_calls(np.empty((9, filled_feed.CLOSED)))


def shared_calls(name: str, end: ExitStack) -> Calls:
    memory = SharedMemory(create=True, size=9 * 8 * filled_feed.CLOSED)
    memory.unlink()  # the mapping stays, and nothing is left whatever happens
    _kept.append(memory)
    return _array_calls(np.frombuffer(memory.buf).reshape(9, -1))


_kept: list[SharedMemory] = []


def _array_calls(array: Any) -> Calls:
    array[:] = np.array([row[:9] for row in filled_feed.closed_bars(SYMBOL)]).T
    values = array[:, -1].tolist()
    calls: Calls = {"latest": lambda: float(array[5, -1])}

    def append() -> None:
        array[:, 7] = values

    calls["append"] = append
    for n in (20, 1000):
        calls[f"slice {n}"] = lambda n=n: array[:, -n:]
        calls[f"copy {n}"] = lambda n=n: array[:, -n:].copy()
    return calls


PARTIES: dict[str, Callable[[str, ExitStack], Calls]] = {
    RING: ring_calls,
    WRITER: writer_calls,
    DEQUE: deque_calls,
    NUMPY: numpy_calls,
    SHARED: shared_calls,
}


def main() -> None:
    """Ask, or answer as one of the parties."""
    options = report.arguments(__doc__).parse_args()
    if options.party is not None:
        with ExitStack() as end:
            measure.serve(PARTIES[options.party](options.argument, end))
        return
    with (
        filled_feed.held() as name,
        measure.parties(__file__, *PARTIES, argument=name) as found,
    ):
        rows = measure.run(QUESTIONS, found, options.quick)
    results = [row._asdict() for row in rows]
    report.report(__file__, report.timings(rows), results, options.json)


if __name__ == "__main__":
    main()
