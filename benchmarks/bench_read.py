"""What does it cost to read a ring, beside other ways to share the same bytes?

Each rival's bytes were put there by another process. A read of LMDB, iceoryx2 or Redis
is given twice: what the package hands out, and that made into the array that a strategy
wants. The path that a feed replaces is a locked deque of dicts in the strategy's own
process. Two floors promise nothing: a numpy slice or copy within a process, and a copy
of shared memory, where a row that is being written would be read half.
"""

from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import filled_feed
import measure
import numpy as np
import on_iceoryx
import on_lmdb
import on_manager
import on_redis
import replaced
import report
import rings
import same_bytes
from measure import Call, Calls, Case, Question, spread
from report import Goal

EACH, QUICK_EACH = 2000, 100  # reads timed one by one, in each round
DEQUE, NUMPY, SHARED = "deque", "numpy", "shared numpy"
BOARD = "iceoryx2 blackboard: get() to bytes"
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


def _others(kind: str, n: int) -> tuple[Case, ...]:
    """Rivals' reads of the same bytes."""
    name = f"{kind} {n}"
    found = []
    for party, label in (
        (on_lmdb.LMDB, "LMDB, buffers=True: memoryview"),
        (
            on_iceoryx.ICEORYX,
            "iceoryx2 publish-subscribe: receive() to array, in place",
        ),
    ):
        call = "shared" if party == on_lmdb.LMDB else "receive"
        found.append(Case(label, party, f"{call} {name}"))
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


def _in_place(n: int) -> Question:
    return Question(
        in_place(n),
        (
            Case("ring.view(n).values", rings.RING, f"values {n}"),
            Case("ring.view(n)", rings.RING, f"view {n}"),
            Case("ring.view(n)['close'], then .valid", rings.RING, f"close {n}"),
            Case("pure Python: ring.view(n).values", rings.PURE, f"values {n}"),
            *_others("values", n),
            Case("floor: numpy slice", NUMPY, f"slice {n}"),
        ),
    )


def _private(n: int) -> Question:
    return Question(
        private(n),
        (
            Case("ring.snapshot(n)", rings.RING, f"snapshot {n}"),
            Case("ring.snapshot(n).values", rings.RING, f"own values {n}"),
            Case("pure Python: ring.snapshot(n)", rings.PURE, f"snapshot {n}"),
            *_others("rows", n),
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
        "one value",
        (
            Case("ring.latest('close')", rings.RING, "latest"),
            Case("ring.count", rings.RING, "count"),
            Case("pure Python: ring.latest('close')", rings.PURE, "latest"),
            Case("pure Python: ring.count", rings.PURE, "count"),
            Case("replaced: locked dict, float()", DEQUE, "latest"),
            Case("floor: float() of a numpy item", NUMPY, "latest"),
        ),
    ),
    Question(
        "the forming bar",
        (
            Case("ring.forming()", rings.RING, "forming"),
            Case("pure Python: ring.forming()", rings.PURE, "forming"),
            Case("replaced: copy of a locked dict", DEQUE, "forming"),
        ),
    ),
)
# Whose distributions are drawn, as (name in the picture, party, call).
DRAWN = (
    ("view(20).values", rings.RING, "values 20"),
    ("snapshot(20)", rings.RING, "snapshot 20"),
    ("view(20).values, pure Python", rings.PURE, "values 20"),
    ("LMDB copy", on_lmdb.LMDB, "copied rows 20"),
    ("iceoryx2 blackboard", on_iceoryx.ICEORYX, "copied values 20"),
    ("replaced deque to array", DEQUE, "floats 20"),
    ("Manager dict.get", on_manager.MANAGER, "copied values 20"),
    ("Redis GET", on_redis.REDIS, "copied values 20"),
    ("the clock alone", rings.RING, measure.EMPTY),
)


def deque_calls(end: ExitStack) -> Calls:
    bars = [replaced.as_bar(*row[:7]) for row in filled_feed.closed_bars(rings.SYMBOL)]
    forming = replaced.as_bar(*filled_feed.forming_bar(rings.SYMBOL)[:7])
    store = replaced.Store(bars, forming, filled_feed.HISTORY)
    calls: dict[str, Call] = {
        "latest": store.latest_close,
        "forming": store.forming,
    }
    for n in (20, 1000):
        calls[f"dicts {n}"] = lambda n=n: store.last(n)
        calls[f"floats {n}"] = lambda n=n: replaced.to_array(store.last(n))
    return calls


def numpy_calls(end: ExitStack) -> Calls:
    return _array_calls(np.empty((9, filled_feed.CLOSED)))


def shared_calls(end: ExitStack) -> Calls:
    memory = SharedMemory(create=True, size=9 * 8 * filled_feed.CLOSED)
    memory.unlink()  # the mapping stays, and nothing is left whatever happens
    _kept.append(memory)
    return _array_calls(np.frombuffer(memory.buf).reshape(9, -1))


_kept: list[SharedMemory] = []


def _array_calls(array: Any) -> Calls:
    array[:] = np.array([row[:9] for row in filled_feed.closed_bars(rings.SYMBOL)]).T
    calls: dict[str, Call] = {"latest": lambda: float(array[5, -1])}
    for n in (20, 1000):
        calls[f"slice {n}"] = lambda n=n: array[2:7, -n:]
        calls[f"copy {n}"] = lambda n=n: array[:, -n:].copy()
    return calls


OTHERS: dict[str, Callable[[ExitStack], Calls]] = {
    DEQUE: deque_calls,
    NUMPY: numpy_calls,
    SHARED: shared_calls,
    **{name: module.reading for name, module in RIVALS.items()},
}


def check_alike(found: dict[str, measure.Party]) -> None:
    """All hand out the same bytes, or there is nothing to compare."""
    for name in same_bytes.ROWS:
        for party in (rings.RING, rings.PURE, *RIVALS):
            if party in found:
                told = found[party].ask(call=f"check {name}")["result"]
                if told != same_bytes.window(name).hex():
                    raise SystemExit(f"{party} gives other bytes for {name}")


def goals(rows: list[measure.Row]) -> list[Goal]:
    view = report.find(rows, in_place(20), "ring.view(n).values")
    snapshot = report.find(rows, private(20), "ring.snapshot(n)")
    own = spread([ns / 1000 for ns in view.net])
    found = [report.under("view(20).values", own, 0.25, "us")]
    for what, question, label, goal in (
        ("view(20).values beside the blackboard read", in_place(20), BOARD, 4),
        ("snapshot(20) beside the blackboard read", private(20), BOARD, 2.5),
        ("snapshot(20) beside LMDB's copy", private(20), "LMDB, copied: bytes", 4),
    ):
        rival = report.find(rows, question, label)
        ours = view if question == in_place(20) else snapshot
        found.append(report.against(what, rival, ours, goal))
    return found


def main() -> None:
    """Ask, or answer as one of the parties."""
    options = report.arguments(__doc__).parse_args()
    if options.party is not None:
        with ExitStack() as end:
            if options.party in OTHERS:
                measure.serve(OTHERS[options.party](end))
            else:
                measure.serve(rings.reading(options.argument, end))
        return
    missing = report.missing(RIVALS) | rings.missing()
    names = [name for name in (rings.RING, rings.PURE, *OTHERS) if name not in missing]
    with (
        filled_feed.held() as name,
        measure.parties(__file__, *names, argument=name, pure=[rings.PURE]) as found,
    ):
        check_alike(found)
        rows = measure.run(QUESTIONS, found, options.quick)
        each = QUICK_EACH if options.quick else EACH
        curves = measure.distributions(DRAWN, found, options.quick, each)
    results = {"rows": report.told(rows), "distributions": curves}
    lines = report.timings(rows, missing)
    report.report(__file__, lines, results, options.json, goals(rows), missing)


if __name__ == "__main__":
    main()
