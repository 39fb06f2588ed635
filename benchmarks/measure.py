"""Questions to processes: each party in its own, asked in rounds that rotate.

A party is asked over its standard input and answers with times. Every round asks all
of them, in an order that rotates; ratios are taken within a round and then summed up,
so that what else the machine does falls on all rivals alike. Each sample of a call is
followed by one of a call that does nothing, and is compared without it.
"""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from statistics import median, quantiles
from typing import Any, Generic, NamedTuple, TypeVar

from histogram import Histogram

ROUNDS, QUICK_ROUNDS = 21, 2
SECONDS, QUICK_SECONDS = 0.02, 0.002  # of one sample
PATIENCE = 30.0  # s, for a party to end


class Spread(NamedTuple):
    """A median with the quartiles around it."""

    median: float
    low: float
    high: float

    def text(self, form: str = ".2f") -> str:
        return f"{self.median:{form}} ({self.low:{form}}..{self.high:{form}})"


def spread(samples: Sequence[float]) -> Spread:
    """Of at least one sample."""
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0])
    low, _, high = quantiles(samples, n=4, method="inclusive")
    return Spread(median(samples), low, high)


def ratios(those: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Round by round, how many times ours those are."""
    return [that / our for that, our in zip(those, ours, strict=True)]


class Case(NamedTuple):
    """What is asked, of which party, and how the table calls it."""

    label: str
    party: str
    call: str


class Question(NamedTuple):
    """Cases that may be compared; ratios are to the first."""

    title: str
    cases: tuple[Case, ...]


class Stocked(NamedTuple):
    """A call that uses something up: `restock` makes `size` more of them possible."""

    call: Callable[[], object]
    restock: Callable[[], object]
    size: int


class Beside(NamedTuple):
    """A call, and the same without what is measured, to be taken off it."""

    call: Callable[[], object]
    empty: Callable[[], object]


Call = Callable[..., object]
Calls = Mapping[str, Call | Stocked | Beside]


Held = TypeVar("Held")


class Sleeper(NamedTuple, Generic[Held]):
    """One that sleeps until another process has written.

    `told` is what the writer needs to know. Once it is there, `opened` gives the call
    that sleeps, and returns what it then holds.
    """

    told: str
    opened: Callable[[], Callable[[], Held]]


class Party:
    """A process that is asked in JSON lines: this program as one of its parties."""

    def __init__(
        self, program: str, name: str, *arguments: str, pure: bool = False
    ) -> None:
        command = [sys.executable, program, "--party", name, *arguments]
        env = {**os.environ, "SHMFEED_PURE": "1"} if pure else None
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=env
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **request: object) -> dict[str, Any]:
        """The answer to one request; RuntimeError if the party has died."""
        self.tell(**request)
        return self.hear()

    def tell(self, **request: object) -> None:
        """Send a request; its answer is heard later."""
        with suppress(BrokenPipeError):  # it has died: `hear` says so
            print(json.dumps(request), file=self._process.stdin, flush=True)

    def hear(self) -> dict[str, Any]:
        """The next thing that it says."""
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended: its words are above")
        return json.loads(line)

    def close(self) -> None:
        """Its input ends, and with it the process."""
        with self._process as process:
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def parties(
    program: str, *names: str, argument: str, pure: Sequence[str] = ()
) -> Iterator[dict[str, Party]]:
    """The parties of these names, each told `argument`; they end with the block.

    Those in `pure` are made to do without the C core.
    """
    with ExitStack() as stack:
        found = {}
        for name in names:
            found[name] = Party(program, name, argument, pure=name in pure)
            stack.callback(found[name].close)
        yield found


def serve(calls: Calls) -> None:
    """A party's side: answer until the input ends.

    A request names a call. With `seconds` it is repeated that long, and the answer is
    the nanoseconds of one, by the wall clock and by this thread's CPU time, and those
    of an empty call just after. With `each` it is timed so many times one by one, and
    the answer is the histogram. Without either the answer is what the call returns for
    the arguments `given`.
    """
    repeats: dict[str, int] = {}
    gc.freeze()  # what was imported is not looked through again and again
    for line in sys.stdin:
        request = json.loads(line)
        name, seconds = request["call"], request.get("seconds")
        call = _empty if name == EMPTY else calls[name]
        empty = _empty
        if isinstance(call, Beside):
            call, empty = call
        if seconds is not None:
            if name not in repeats:
                repeats[name] = _calibrate(call, seconds)
            answer: dict[str, object] = _sample(call, empty, repeats[name])
        elif "each" in request:
            answer = {"histogram": _one_by_one(call, request["each"])}
        else:
            answer = {"result": call(*request.get("given", ()))}
        print(json.dumps(answer), flush=True)


EMPTY = "an empty call"


def _empty() -> None:
    pass


def _calibrate(call: Call | Stocked, seconds: float) -> int:
    _repeat(call, 1)  # the first one loads what is loaded once
    repeats = 1
    while True:
        elapsed = _repeat(call, repeats)[0] * repeats / 1e9
        if elapsed > seconds / 2:
            return max(1, round(repeats * seconds / elapsed))
        repeats *= 2


def _sample(call: Call | Stocked, empty: Call, repeats: int) -> dict[str, object]:
    wall, cpu = _repeat(call, repeats)
    nothing, _ = _repeat(empty, max(1000, repeats // 4))
    return {"wall": wall, "cpu": cpu, "empty": nothing}


def _repeat(call: Call | Stocked, repeats: int) -> tuple[float, float]:
    if not isinstance(call, Stocked):
        return _timed(call, repeats)
    parts = []
    for start in range(0, repeats, call.size):
        call.restock()
        count = min(call.size, repeats - start)
        parts.append((count, _timed(call.call, count)))
    wall = sum(count * times[0] for count, times in parts) / repeats
    return wall, sum(count * times[1] for count, times in parts) / repeats


def _timed(call: Call, repeats: int) -> tuple[float, float]:
    cpu = time.thread_time_ns()
    start = time.perf_counter_ns()
    for _ in range(repeats):
        call()
    wall = time.perf_counter_ns() - start
    return wall / repeats, (time.thread_time_ns() - cpu) / repeats


def _one_by_one(call: Call | Stocked, count: int) -> dict[str, int]:
    clock = time.perf_counter_ns
    times = [0] * count
    for at in range(count):
        if isinstance(call, Stocked):
            call.restock()
            one: Call = call.call
        else:
            one = call
        start = clock()
        one()
        times[at] = clock() - start
    return Histogram.of(times).told()


class Row(NamedTuple):
    """One case's samples, a round each, in ns; `net` without the empty call, and how
    many times the first case's `net` that is."""

    question: str
    label: str
    wall: list[float]
    cpu: list[float]
    empty: list[float]
    net: list[float]
    ratio: list[float]


def run(
    questions: Sequence[Question], found: Mapping[str, Party], quick: bool
) -> list[Row]:
    """Ask all questions in each round, of the parties that there are."""
    questions = [_answerable(question, found) for question in questions]
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    heard: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(-1, rounds):  # round -1 warms up
        for title, cases in questions:
            turn = number % len(cases)
            for case in cases[turn:] + cases[:turn]:
                answer = found[case.party].ask(call=case.call, seconds=seconds)
                if number >= 0:
                    heard.setdefault((title, case.label), []).append(answer)
    return [row for question in questions for row in _rows(question, heard)]


def _answerable(question: Question, found: Mapping[str, Party]) -> Question:
    cases = tuple(case for case in question.cases if case.party in found)
    return question._replace(cases=cases)


def _rows(
    question: Question, heard: Mapping[tuple[str, str], list[dict[str, float]]]
) -> Iterator[Row]:
    title, cases = question
    first: list[float] = []
    for case in cases:
        answers = heard[title, case.label]
        wall, cpu, empty = (
            [answer[name] for answer in answers] for name in ("wall", "cpu", "empty")
        )
        # What is quicker than an empty call is as quick as can be told: 1 ns.
        net = [max(w - e, 1.0) for w, e in zip(wall, empty, strict=True)]
        first = first or net
        yield Row(title, case.label, wall, cpu, empty, net, ratios(net, first))


def distributions(
    drawn: Sequence[tuple[str, str, str]],
    found: Mapping[str, Party],
    quick: bool,
    each: int,
) -> dict[str, dict[str, int]]:
    """For each (name, party, call) that is there: how long single calls took."""
    drawn = [one for one in drawn if one[1] in found]
    heard: dict[str, list[dict[str, int]]] = {name: [] for name, _, _ in drawn}
    for number in range(QUICK_ROUNDS if quick else ROUNDS):
        turn = number % len(drawn)
        for name, party, call in drawn[turn:] + drawn[:turn]:
            answer = found[party].ask(call=call, each=each)
            heard[name].append(answer["histogram"])
    return {name: Histogram.heard(*told).told() for name, told in heard.items()}
