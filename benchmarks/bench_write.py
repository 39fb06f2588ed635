"""What does it cost to write a bar, beside other ways to share the same bytes?

A rival's writer has the bar's 72 bytes ready and somebody who has them open in another
process; what making them of eight values costs is told beside it. Nobody sleeps on any
of them: how soon sleepers wake, and what they cost, are questions of their own.
"""

import itertools
from collections.abc import Callable
from contextlib import ExitStack

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
from measure import Beside, Calls, Case, Question
from on_iceoryx import ICEORYX
from report import Goal

DEQUE, NUMPY = "deque", "numpy"
BOARD = "iceoryx2 blackboard: update_with_copy"
CLOSES, CHANGES = "a bar closes", "the forming bar changes"
WITHOUT_WAKE = "append(..., wake=False)"
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
QUESTIONS = (
    Question(
        CLOSES,
        (
            Case("append(...)", rings.WRITER, "append"),
            Case(WITHOUT_WAKE, rings.WRITER, "append asleep"),
            Case("pure Python: append(...)", rings.PURE_WRITER, "append"),
            Case("pure Python: wake=False", rings.PURE_WRITER, "append asleep"),
            *OTHERS,
            Case("replaced: locked deque.append", DEQUE, "append"),
            Case("floor: a row of numpy columns", NUMPY, "append"),
            Case("floor: the bell alone, one system call", rings.WRITER, "wake"),
        ),
    ),
    Question(
        CHANGES,
        (
            Case("update_forming(...)", rings.WRITER, "update"),
            Case("pure Python: update_forming(...)", rings.PURE_WRITER, "update"),
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
    forming = replaced.as_bar(*filled_feed.forming_bar(rings.SYMBOL)[:7])
    store = replaced.Store([], forming, filled_feed.HISTORY)
    return {
        "append": lambda: store.append(forming),
        "update": lambda: store.update_forming(forming),
    }


def numpy_calls(end: ExitStack) -> Calls:
    array = np.empty((9, filled_feed.CLOSED))
    values = list(filled_feed.forming_bar(rings.SYMBOL)[:9])
    row = itertools.cycle(range(filled_feed.CLOSED)).__next__

    def append() -> None:
        array[:, row()] = values

    return {"append": Beside(append, row)}


PARTIES: dict[str, Callable[[ExitStack], Calls]] = {
    DEQUE: deque_calls,
    NUMPY: numpy_calls,
    **{name: module.writing for name, module in RIVALS.items()},
}


def goals(rows: list[measure.Row]) -> list[Goal]:
    return [
        report.against(
            f"{what} beside the blackboard write",
            report.find(rows, question, BOARD),
            report.find(rows, question, label),
            goal,
        )
        for what, question, label, goal in GOALS
    ]


def main() -> None:
    """Ask, or answer as one of the parties."""
    options = report.arguments(__doc__).parse_args()
    if options.party is not None:
        with ExitStack() as end:
            if options.party in PARTIES:
                measure.serve(PARTIES[options.party](end))
            else:
                measure.serve(rings.writing(end))
        return
    missing = report.missing(RIVALS) | rings.missing()
    ours = rings.WRITER, rings.PURE_WRITER
    names = [name for name in (*ours, *PARTIES) if name not in missing]
    with measure.parties(
        __file__, *names, argument="", pure=[rings.PURE_WRITER]
    ) as found:
        rows = measure.run(QUESTIONS, found, options.quick)
    results = {"rows": report.told(rows)}
    lines = report.timings(rows, missing)
    report.report(__file__, lines, results, options.json, goals(rows), missing)


if __name__ == "__main__":
    main()
