"""The cost of writing a bar, compared with other ways to share the same bytes.

A rival's writer has the bar's 72 bytes ready, and another process has them open;
packing them from eight values is measured separately. No process sleeps on the bar:
bench_wakeup and bench_waiters measure wakes.
"""

import itertools
from collections.abc import Callable
from contextlib import ExitStack

import harness
import numpy as np
import on_deque
import on_iceoryx
import on_lmdb
import on_manager
import on_redis
import on_shmfeed
import report
from harness import Calls, Case, Comparison, WithBaseline
from on_iceoryx import ICEORYX
from report import Goal
from sample_bars import CAPACITY, HISTORY, forming_bar

DEQUE, NUMPY = "deque", "numpy"
BOARD = "iceoryx2 blackboard: update_with_copy"
CLOSES, CHANGES = "a bar closes", "the forming bar changes"
WITHOUT_WAKE, UNWOKEN = "append(..., wake=False)", "append without wake"
RIVALS = {
    on_lmdb.LMDB: on_lmdb,
    ICEORYX: on_iceoryx,
    on_redis.REDIS: on_redis,
    on_manager.MANAGER: on_manager,
}
OTHERS = (
    Case(BOARD, ICEORYX, "write"),
    Case("iceoryx2 blackboard: made of eight values", ICEORYX, "pack and write"),
    Case("iceoryx2 publish-subscribe: send_copy", ICEORYX, "publish"),
    Case("iceoryx2 publish-subscribe, notify", ICEORYX, "publish and notify"),
    Case("LMDB, no sync: a transaction", on_lmdb.LMDB, "write"),
    Case("Redis SET over a Unix socket", on_redis.REDIS, "write"),
    Case("Redis PUBLISH over a Unix socket", on_redis.REDIS, "publish"),
    Case("multiprocessing.Manager: dict.update", on_manager.MANAGER, "write"),
)
COMPARISONS = (
    Comparison(
        CLOSES,
        (
            Case("append(...)", on_shmfeed.WRITER, "append"),
            Case(WITHOUT_WAKE, on_shmfeed.WRITER, UNWOKEN),
            Case("pure Python: append(...)", on_shmfeed.PURE_WRITER, "append"),
            Case(
                "pure Python: wake=False", on_shmfeed.PURE_WRITER, "append without wake"
            ),
            *OTHERS,
            Case("replaced: locked deque.append", DEQUE, "append"),
            Case("floor: a row of numpy columns", NUMPY, "append"),
            Case("floor: the wake alone, one system call", on_shmfeed.WRITER, "wake"),
        ),
    ),
    Comparison(
        CHANGES,
        (
            Case("update_forming(...)", on_shmfeed.WRITER, "update"),
            Case("pure Python: update_forming(...)", on_shmfeed.PURE_WRITER, "update"),
            Case(BOARD, ICEORYX, "write"),
            Case("replaced: locked assignment", DEQUE, "update"),
            Case("floor: a row of numpy columns", NUMPY, "append"),
        ),
    ),
)
GOALS = (
    ("update_forming", CHANGES, "update_forming(...)", 6),
    ("append(wake=False)", CLOSES, WITHOUT_WAKE, 6),
    ("append with its wake", CLOSES, "append(...)", 2.5),
)


def deque_calls(end: ExitStack) -> Calls:
    forming = on_deque.bar_dict(*forming_bar(on_shmfeed.SYMBOL)[:7])
    store = on_deque.DequeStore([], forming, HISTORY)
    return {
        "append": lambda: store.append(forming),
        "update": lambda: store.update_forming(forming),
    }


def numpy_calls(end: ExitStack) -> Calls:
    array = np.empty((9, CAPACITY))
    values = list(forming_bar(on_shmfeed.SYMBOL)[:9])
    row = itertools.cycle(range(CAPACITY)).__next__

    def append() -> None:
        array[:, row()] = values

    return {"append": WithBaseline(append, row)}


CONTENDERS: dict[str, Callable[[ExitStack], Calls]] = {
    DEQUE: deque_calls,
    NUMPY: numpy_calls,
    **{name: module.writing_calls for name, module in RIVALS.items()},
}


def goals(rows: list[harness.CaseTimes]) -> list[Goal]:
    return [
        report.times_faster(
            f"{what} beside the blackboard write",
            report.find(rows, question, BOARD),
            report.find(rows, question, label),
            goal,
        )
        for what, question, label, goal in GOALS
    ]


def main() -> None:
    """Measure all contenders, or serve as one of them."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        with ExitStack() as end:
            if options.contender in CONTENDERS:
                harness.serve(CONTENDERS[options.contender](end))
            else:
                harness.serve(on_shmfeed.writing_calls(end))
        return
    missing = report.missing(RIVALS) | on_shmfeed.missing()
    ours = on_shmfeed.WRITER, on_shmfeed.PURE_WRITER
    names = [name for name in (*ours, *CONTENDERS) if name not in missing]
    with harness.contenders(
        __file__, *names, argument="", pure=[on_shmfeed.PURE_WRITER]
    ) as found:
        rows = harness.compare(COMPARISONS, found, options.quick)
    results = {"rows": report.to_json(rows)}
    lines = report.timing_lines(rows, missing)
    report.print_report(__file__, lines, results, options.json, goals(rows), missing)


if __name__ == "__main__":
    main()
