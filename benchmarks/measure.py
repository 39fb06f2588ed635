"""What the programs here share: rivals in processes of their own, rounds, ratios.

A *party* is a process that answers some *cases*, each a call that can be repeated. A
*question* names cases of several parties. In every round each of its cases is asked
once, in an order that rotates; ratios are taken within a round and then summed up, so
that what else the machine does falls on all rivals alike.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles
from typing import Any, NamedTuple

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


class Party:
    """A process that runs `program --party name arguments`, asked in JSON lines."""

    def __init__(self, program: str, name: str, *arguments: str) -> None:
        command = [sys.executable, program, "--party", name, *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **request: object) -> dict[str, Any]:
        """The answer to one request; RuntimeError if the party has died."""
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """The next thing that it says."""
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended: its words are above")
        return json.loads(line)

    def close(self) -> None:
        """Its input ends, and with it the process."""
        with self._process as process:
            process.stdin.close()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def parties(program: str, *names: str, argument: str) -> Iterator[dict[str, Party]]:
    """The parties of these names, each told `argument`; they end with the block."""
    with ExitStack() as stack:
        found = {}
        for name in names:
            found[name] = Party(program, name, argument)
            stack.callback(found[name].close)
        yield found


def serve(calls: Mapping[str, Callable[[], object]]) -> None:
    """A party's side: answer until the input ends.

    A request names a call and says for how many seconds to repeat it; the answer is
    the nanoseconds of one, by the wall clock and of this thread's CPU time. Without
    seconds the answer is what the call returns.
    """
    repeats: dict[str, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        name, seconds = request["call"], request.get("seconds")
        if seconds is None:
            answer: dict[str, object] = {"result": calls[name]()}
        else:
            if name not in repeats:
                repeats[name] = _calibrate(calls[name], seconds)
            wall, cpu = _repeat(calls[name], repeats[name])
            answer = {"wall": wall, "cpu": cpu}
        print(json.dumps(answer), flush=True)


def _calibrate(call: Callable[[], object], seconds: float) -> int:
    call()  # the first one loads what is loaded once
    repeats = 1
    while True:
        elapsed = _repeat(call, repeats)[0] * repeats / 1e9
        if elapsed > seconds / 2:
            return max(1, round(repeats * seconds / elapsed))
        repeats *= 2


def _repeat(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    cpu = time.thread_time_ns()
    start = time.perf_counter_ns()
    for _ in range(repeats):
        call()
    wall = time.perf_counter_ns() - start
    return wall / repeats, (time.thread_time_ns() - cpu) / repeats


class Row(NamedTuple):
    """One case's samples, a round each: ns of a call, and times the first case's."""

    question: str
    label: str
    wall: list[float]
    cpu: list[float]
    ratio: list[float]


def run(
    questions: Sequence[Question], found: Mapping[str, Party], quick: bool
) -> list[Row]:
    """Ask all questions in each round."""
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


def _rows(
    question: Question, heard: Mapping[tuple[str, str], list[dict[str, float]]]
) -> Iterator[Row]:
    title, cases = question
    first = [answer["wall"] for answer in heard[title, cases[0].label]]
    for case in cases:
        answers = heard[title, case.label]
        wall = [answer["wall"] for answer in answers]
        cpu = [answer["cpu"] for answer in answers]
        yield Row(title, case.label, wall, cpu, ratios(wall, first))
