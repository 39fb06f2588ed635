"""A live strategy is led through all situations, and each of its actions is judged.

The judge knows the truth of each moment: the newest bars that the venue has closed,
with their final values. An action on any other rows is a wrong one. Beside the strategy
that looks at what it is told, others leave something out, and do act wrongly.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.live_strategy import CAREFUL, COUNT, LEAVES_OUT
from support.situations import COINM, KEY, World, append, context, opens, prices, world

from shmfeed.bar import POLLED, UNCONFIRMED
from shmfeed.identity import FeedIdentity

TESTS = Path(__file__).parents[2]
OTHERS = [name for name in LEAVES_OUT if name != CAREFUL]


class Process:
    """A process of `support.live_strategy`."""

    def __init__(self, names: list[str]) -> None:
        command = [sys.executable, "-m", "support.live_strategy", *names]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, cwd=TESTS, stdin=pipe, stdout=pipe, text=True
        )

    def tell(self, verb: str, *arguments: object) -> Any:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps([verb, *arguments]), file=process.stdin, flush=True)
        line = process.stdout.readline()
        assert line, "the strategy has ended; see its output"
        return json.loads(line)

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


class Run:
    """The strategies, the world that they live in, and the judge.

    Attributes:
        acted: The moments at which each strategy acted on the truth.
        wrong: Those at which it acted on anything else.
    """

    def __init__(self, made: World, processes: list[Process]) -> None:
        self.world, self._processes = made, processes
        self._newest = -1  # the newest bar that the venue has closed
        self.acted: dict[str, list[str]] = {name: [] for name in LEAVES_OUT}
        self.wrong: dict[str, list[str]] = {name: [] for name in LEAVES_OUT}

    def tell(self, verb: str, *arguments: object) -> None:
        for process in self._processes:
            process.tell(verb, *arguments)

    def bars(self, *numbers: int, **more: Any) -> None:
        """Close bars at the venue, and write them."""
        assert self.world.ring is not None
        append(self.world.ring, *numbers, **more)
        self.venue_closes(numbers[-1])

    def venue_closes(self, number: int) -> None:
        """Close bars at the venue up to this one, which the feed may lack."""
        self._newest = number
        if self.world.feeder is not None:
            self.world.set_venue_time(self.world.feeder, number + 0.5)

    def open(self, identity: FeedIdentity | None = None) -> None:
        """Start a feeder, of another market if one is given."""
        more = {} if identity is None else {"identity": identity}
        self.world.open(**more)
        self.venue_closes(self._newest)

    def moment(self, name: str, meanwhile: Callable[[], None] | None = None) -> None:
        """Let the strategies read; then, after `meanwhile`, act. Judge the actions."""
        closes = [
            prices(number)[-1]
            for number in range(self._newest - COUNT + 1, self._newest + 1)
        ]
        truth = [closes, opens(self._newest + 1)]
        self.world.beat()  # the thread that beats may be late on a busy machine
        self.tell("read")
        if meanwhile is not None:
            meanwhile()
        for process in self._processes:
            for strategy, action in process.tell("decide").items():
                if action is not None:
                    judged = self.acted if action == truth else self.wrong
                    judged[strategy].append(name)


@contextmanager
def run_of(name: str) -> Iterator[Run]:
    processes = [Process([CAREFUL]), Process(OTHERS)]
    try:
        with world(name) as made:
            yield Run(made, processes)
    finally:
        for process in processes:
            process.close()


def the_connection(run: Run) -> None:
    feeder = run.world.feeder
    feeder.mark_connection([KEY], is_connected=False)
    run.venue_closes(6)
    run.moment("away")
    feeder.explain(KEY, "polled", "bars come by REST")
    run.bars(6, flags=POLLED)
    run.moment("polled")
    feeder.explain(KEY, "", "")
    feeder.mark_connection([KEY], is_connected=True)
    feeder.set_silence(KEY, 1e-9)
    run.venue_closes(7)
    run.moment("silent")
    feeder.set_silence(KEY, None)
    run.bars(7)
    run.moment("back")


def the_rows(run: Run) -> None:
    run.bars(8, flags=UNCONFIRMED, final=False)
    run.moment("newest unconfirmed")
    run.bars(9)
    run.moment("one of them unconfirmed")
    run.bars(10, 11)
    run.venue_closes(12)
    run.moment("late")
    run.bars(12)
    run.moment("there")
    run.bars(14)
    run.moment("hole")
    run.bars(15, 16)
    run.moment("whole again")


def the_feeder(run: Run) -> None:
    run.world.feeder.explain(KEY, "closed", "halted")
    run.moment("closed")
    run.world.feeder.explain(KEY, "", "")
    run.world.end()
    run.venue_closes(17)
    run.moment("dead")
    run.open()
    run.bars(17, 18, 19)
    run.moment("a new feeder")
    run.world.end()
    run.open(COINM)
    append(run.world.ring, 17, 18, 19, market=COINM)
    run.moment("another market")
    run.world.end()
    run.open()
    run.tell("use", run.world.name)
    run.moment("no bar yet")
    run.bars(20)
    run.moment("one bar")


def the_contexts(run: Run) -> None:
    entries = context(*range(15, 20)).market_data_context
    run.tell("set_context", entries)
    run.moment("context before the ring")
    run.tell("use", run.world.name + "x")
    run.bars(21, 22, 23)
    run.moment("misspelt feed")
    run.tell("use", run.world.name)
    run.tell("set_context", [], opens(23))
    run.moment("clock late")
    run.tell("set_context", entries, opens(20), "backtest")
    run.moment("backtest")
    run.tell("clear_context")
    run.moment("overwritten", lambda: run.bars(*range(24, 40)))
    run.moment("the end")


# The moments at which a strategy that looks at everything acts.
GOOD = [
    "the beginning",
    "polled",
    "back",
    "there",
    "whole again",
    "a new feeder",
    "context before the ring",
    "the end",
]
# The moments at which the others act on rows that are not the truth.
WRONG = {
    "ignores attrs": [
        "one of them unconfirmed",
        "late",
        "clock late",
        "backtest",
        "overwritten",
    ],
    "ignores age": ["away", "silent", "late", "dead", "misspelt feed", "backtest"],
    "ignores gaps": ["hole"],
    "ignores short windows": ["one bar"],
    "ignores unconfirmed rows": ["newest unconfirmed", "one of them unconfirmed"],
    "ignores what is due": ["late"],
    "ignores what was left out": ["clock late"],
    "ignores what was overwritten": ["overwritten"],
    "ignores the market": ["another market"],
    "ignores everything": [
        "away",
        "silent",
        "newest unconfirmed",
        "one of them unconfirmed",
        "late",
        "hole",
        "dead",
        "another market",
        "one bar",
        "misspelt feed",
        "clock late",
        "backtest",
        "overwritten",
    ],
}


def test_a_live_strategy_never_acts_on_a_bar_of_which_it_was_not_told_the_truth(
    feed_name: str,
) -> None:
    with run_of(feed_name) as run:
        run.open()
        run.tell("use", run.world.name)
        run.bars(*range(6))
        run.moment("the beginning")
        the_connection(run)
        the_rows(run)
        the_feeder(run)
        the_contexts(run)
    assert run.wrong[CAREFUL] == []
    assert run.acted[CAREFUL] == GOOD
    assert {name: run.wrong[name] for name in OTHERS} == WRONG
