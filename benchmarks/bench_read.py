"""The cost of a read of a ring, compared with other ways to share the same bytes.

Another process wrote each rival's bytes. A read of LMDB, iceoryx2 or Redis is measured
twice: as the package returns it, and converted to the array that a strategy needs. The
path that a feed replaces is a locked deque of dicts in the strategy's own process. Two
floors give no guarantees: a numpy slice or copy within a process, and a copy of shared
memory, which may contain a half-written row.
"""

from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import harness
import numpy as np
import on_deque
import on_iceoryx
import on_lmdb
import on_manager
import on_redis
import on_shmfeed
import report
import sample_bars
from filled_feed import filled_feed
from harness import Call, Calls, Case, Comparison, spread
from report import Goal
from sample_bars import CAPACITY, HISTORY, closed_bars, forming_bar

SINGLE, QUICK_SINGLE = 2000, 100  # reads timed one by one, in each round
DEQUE, NUMPY, SHARED = "deque", "numpy", "shared numpy"
BOARD = "iceoryx2 blackboard: get() to bytes"
SLICE = "floor: numpy slice"
MAX_TIMES_SLICE = 1.1
RIVALS = {
    on_lmdb.LMDB: on_lmdb,
    on_iceoryx.ICEORYX: on_iceoryx,
    on_redis.REDIS: on_redis,
    on_manager.MANAGER: on_manager,
}


def in_place(n: int) -> str:
    return f"the last {n} bars, in place"


def private(n: int) -> str:
    return f"the last {n} bars, private"


def _rival_cases(kind: str, n: int) -> tuple[Case, ...]:
    """Return the rivals' reads of the same bytes."""
    name = f"{kind} {n}"
    found = []
    for rival, label in (
        (on_lmdb.LMDB, "LMDB, buffers=True: memoryview"),
        (
            on_iceoryx.ICEORYX,
            "iceoryx2 publish-subscribe: receive() to array, in place",
        ),
    ):
        call = "shared" if rival == on_lmdb.LMDB else "receive"
        found.append(Case(label, rival, f"{call} {name}"))
    found += [
        Case("LMDB, copied: bytes", on_lmdb.LMDB, f"copied {name}"),
        Case("LMDB, copied: array", on_lmdb.LMDB, f"array copy {name}"),
        Case("LMDB, buffers=True: array", on_lmdb.LMDB, f"array {name}"),
        Case(BOARD, on_iceoryx.ICEORYX, f"copied {name}"),
        Case(
            "iceoryx2 blackboard: get() to array", on_iceoryx.ICEORYX, f"array {name}"
        ),
        Case("Redis GET over a Unix socket", on_redis.REDIS, f"copied {name}"),
        Case("multiprocessing.Manager: dict.get", on_manager.MANAGER, f"copied {name}"),
    ]
    return tuple(found)


def _in_place(n: int) -> Comparison:
    return Comparison(
        in_place(n),
        (
            Case("ring.view(n).values", on_shmfeed.RING, f"values {n}"),
            Case("ring.view(n)", on_shmfeed.RING, f"view {n}"),
            Case("ring.view(n)['close'], then .valid", on_shmfeed.RING, f"close {n}"),
            Case("pure Python: ring.view(n).values", on_shmfeed.PURE, f"values {n}"),
            *_rival_cases("values", n),
            Case(SLICE, NUMPY, f"slice {n}"),
        ),
    )


def _private(n: int) -> Comparison:
    return Comparison(
        private(n),
        (
            Case("ring.snapshot(n)", on_shmfeed.RING, f"snapshot {n}"),
            Case("ring.snapshot(n).values", on_shmfeed.RING, f"own values {n}"),
            Case("pure Python: ring.snapshot(n)", on_shmfeed.PURE, f"snapshot {n}"),
            *_rival_cases("rows", n),
            Case("replaced: locked deque to list of dicts", DEQUE, f"dicts {n}"),
            Case("replaced: locked deque to float array", DEQUE, f"floats {n}"),
            Case("floor: numpy copy, one process", NUMPY, f"copy {n}"),
            Case("floor: numpy copy of shared memory", SHARED, f"copy {n}"),
        ),
    )


COMPARISONS = (
    *(_in_place(n) for n in (20, 1000)),
    *(_private(n) for n in (20, 1000)),
    Comparison(
        "one value",
        (
            Case("ring.latest('close')", on_shmfeed.RING, "latest"),
            Case("ring.count", on_shmfeed.RING, "count"),
            Case("pure Python: ring.latest('close')", on_shmfeed.PURE, "latest"),
            Case("pure Python: ring.count", on_shmfeed.PURE, "count"),
            Case("replaced: locked dict, float()", DEQUE, "latest"),
            Case("floor: float() of a numpy item", NUMPY, "latest"),
        ),
    ),
    Comparison(
        "the forming bar",
        (
            Case("ring.forming()", on_shmfeed.RING, "forming"),
            Case("pure Python: ring.forming()", on_shmfeed.PURE, "forming"),
            Case("replaced: copy of a locked dict", DEQUE, "forming"),
        ),
    ),
)
# Distributions that are plotted: (name in the plot, contender, call).
DRAWN = (
    ("view(20).values", on_shmfeed.RING, "values 20"),
    ("snapshot(20)", on_shmfeed.RING, "snapshot 20"),
    ("view(20).values, pure Python", on_shmfeed.PURE, "values 20"),
    ("LMDB copy", on_lmdb.LMDB, "copied rows 20"),
    ("iceoryx2 blackboard", on_iceoryx.ICEORYX, "copied values 20"),
    ("replaced deque to array", DEQUE, "floats 20"),
    ("Manager dict.get", on_manager.MANAGER, "copied values 20"),
    ("Redis GET", on_redis.REDIS, "copied values 20"),
    ("the clock alone", on_shmfeed.RING, harness.EMPTY),
)


def deque_calls(end: ExitStack) -> Calls:
    bars = [on_deque.bar_dict(*bar[:7]) for bar in closed_bars(on_shmfeed.SYMBOL)]
    forming = on_deque.bar_dict(*forming_bar(on_shmfeed.SYMBOL)[:7])
    store = on_deque.DequeStore(bars, forming, HISTORY)
    calls: dict[str, Call] = {
        "latest": store.latest_close,
        "forming": store.forming,
    }
    for n in (20, 1000):
        calls[f"dicts {n}"] = lambda n=n: store.last(n)
        calls[f"floats {n}"] = lambda n=n: on_deque.to_array(store.last(n))
    return calls


def numpy_calls(end: ExitStack) -> Calls:
    return _array_calls(np.empty((9, CAPACITY)))


def shared_calls(end: ExitStack) -> Calls:
    memory = SharedMemory(create=True, size=9 * 8 * CAPACITY)
    memory.unlink()  # the mapping stays; nothing is left even after a crash
    _kept.append(memory)
    return _array_calls(np.frombuffer(memory.buf).reshape(9, -1))


_kept: list[SharedMemory] = []


def _array_calls(array: Any) -> Calls:
    array[:] = np.array([bar[:9] for bar in closed_bars(on_shmfeed.SYMBOL)]).T
    calls: dict[str, Call] = {"latest": lambda: float(array[5, -1])}
    for n in (20, 1000):
        calls[f"slice {n}"] = lambda n=n: array[2:7, -n:]
        calls[f"copy {n}"] = lambda n=n: array[:, -n:].copy()
    return calls


OTHERS: dict[str, Callable[[ExitStack], Calls]] = {
    DEQUE: deque_calls,
    NUMPY: numpy_calls,
    SHARED: shared_calls,
    **{name: module.reading_calls for name, module in RIVALS.items()},
}


def check_same_bytes(found: dict[str, harness.Contender]) -> None:
    """Exit if a contender returns other bytes."""
    for name in sample_bars.WINDOWS:
        for contender in (on_shmfeed.RING, on_shmfeed.PURE, *RIVALS):
            if contender in found:
                data = found[contender].ask(call=f"check {name}")["result"]
                if data != sample_bars.window(name).hex():
                    raise SystemExit(f"{contender} returns other bytes for {name}")


def goals(rows: list[harness.CaseTimes]) -> list[Goal]:
    view = report.find(rows, in_place(20), "ring.view(n).values")
    snapshot = report.find(rows, private(20), "ring.snapshot(n)")
    own = spread([ns / 1000 for ns in view.net])
    floor = report.find(rows, in_place(20), SLICE)
    beside = "view(20).values beside numpy slicing its own array"
    found = [
        report.under("view(20).values", own, 0.25, "us"),
        report.times_as_long(beside, view, floor, MAX_TIMES_SLICE),
    ]
    for what, question, label, goal in (
        ("view(20).values beside the blackboard read", in_place(20), BOARD, 4),
        ("snapshot(20) beside the blackboard read", private(20), BOARD, 2.5),
        ("snapshot(20) beside LMDB's copy", private(20), "LMDB, copied: bytes", 4),
    ):
        rival = report.find(rows, question, label)
        ours = view if question == in_place(20) else snapshot
        found.append(report.times_faster(what, rival, ours, goal))
    return found


def main() -> None:
    """Measure all contenders, or serve as one of them."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        with ExitStack() as end:
            if options.contender in OTHERS:
                harness.serve(OTHERS[options.contender](end))
            else:
                harness.serve(on_shmfeed.reading_calls(options.argument, end))
        return
    missing = report.missing(RIVALS) | on_shmfeed.missing()
    names = [
        name
        for name in (on_shmfeed.RING, on_shmfeed.PURE, *OTHERS)
        if name not in missing
    ]
    with (
        filled_feed() as name,
        harness.contenders(
            __file__, *names, argument=name, pure=[on_shmfeed.PURE]
        ) as found,
    ):
        check_same_bytes(found)
        rows = harness.compare(COMPARISONS, found, options.quick)
        each = QUICK_SINGLE if options.quick else SINGLE
        curves = harness.distributions(DRAWN, found, options.quick, each)
    results = {"rows": report.to_json(rows), "distributions": curves}
    lines = report.timing_lines(rows, missing)
    report.print_report(__file__, lines, results, options.json, goals(rows), missing)


if __name__ == "__main__":
    main()
