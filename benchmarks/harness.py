"""The benchmark harness: contenders in processes of their own, timed in rounds.

A contender reads requests from standard input and answers with times. Every round asks
all contenders, in an order that rotates, and ratios are taken within a round, so that
other load on the machine affects all contenders alike. Each sample of a call is
followed by one of an empty call, whose time is subtracted.
"""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from histogram import Histogram

ROUNDS, QUICK_ROUNDS = 21, 2
SECONDS, QUICK_SECONDS = 0.02, 0.002  # of one sample
ASLEEP_SECONDS, OTHER_WORK_BYTES = 0.002, 64 << 20  # before each cold call
EMPTY = "an empty call"
_STOP_SECONDS = 30.0
_RESAMPLES = 2000


class Spread(NamedTuple):
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    def text(self, form: str = ".2f") -> str:
        return f"{self.median:{form}} ({self.low:{form}}..{self.high:{form}})"


def spread(samples: Sequence[float]) -> Spread:
    """Return the spread of one sample or more."""
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0])
    low, _, high = quantiles(samples, n=4, method="inclusive")
    return Spread(median(samples), low, high)


def interval(samples: Sequence[float]) -> Spread:
    """Return the median of samples with its 95 % interval, by resampling."""
    rng = np.random.default_rng(len(samples))
    medians = np.median(rng.choice(samples, (_RESAMPLES, len(samples))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return Spread(median(samples), float(low), float(high))


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Return theirs / ours of each round."""
    return [their / our for their, our in zip(theirs, ours, strict=True)]


class Case(NamedTuple):
    """A call of a contender, and its label in the table."""

    label: str
    contender: str
    call: str


class Comparison(NamedTuple):
    """Comparable cases; ratios are relative to the first."""

    title: str
    cases: tuple[Case, ...]


Call = Callable[..., object]


class Restocked(NamedTuple):
    """A call that consumes something; `restock` makes `size` more calls possible."""

    call: Call
    restock: Call
    size: int


class WithBaseline(NamedTuple):
    """A call, and the baseline whose time is subtracted instead of an empty call's."""

    call: Call
    baseline: Call


Calls = Mapping[str, Call | Restocked | WithBaseline]
Received = TypeVar("Received")


class Sleeper(NamedTuple, Generic[Received]):
    """A reader that sleeps until another process has written.

    Attributes:
        address: The address that the writer needs.
        open: To be called once the writer exists; it returns the call that sleeps and
            then returns the bar.
    """

    address: str
    open: Callable[[], Callable[[], Received]]


class Contender:
    """A process that answers requests in JSON lines: `program` run as a contender.

    With `tree`, it imports the packages of that clone.
    """

    def __init__(
        self,
        program: str,
        name: str,
        *arguments: str,
        pure: bool = False,
        tree: Path | None = None,
    ) -> None:
        command = [sys.executable, program, "--contender", name, *arguments]
        env = dict(os.environ)
        if pure:
            env["SHMFEED_PURE"] = "1"
        if tree is not None:
            env["PYTHONPATH"] = str(tree)
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=env
        )

    def ask(self, **request: object) -> dict[str, Any]:
        """Return the answer to a request; raise RuntimeError if the process died."""
        self.send(**request)
        return self.receive()

    def send(self, **request: object) -> None:
        """Send a request, to be followed by `receive`."""
        with suppress(BrokenPipeError):  # it has died; `receive` raises
            print(json.dumps(request), file=self._process.stdin, flush=True)

    def receive(self) -> dict[str, Any]:
        """Return the next answer."""
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended; see its output above")
        return json.loads(line)

    def close(self) -> None:
        """Close the process's input, upon which it ends."""
        with self._process as process:
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def contenders(
    program: str, *names: str, argument: str, pure: Sequence[str] = ()
) -> Iterator[dict[str, Contender]]:
    """Run the contenders of these names, each with `argument`, for a `with` block.

    Those in `pure` run without the C core.
    """
    with ExitStack() as stack:
        found = {}
        for name in names:
            found[name] = Contender(program, name, argument, pure=name in pure)
            stack.callback(found[name].close)
        yield found


def serve(calls: Calls) -> None:
    """Answer requests until standard input ends; the contender's side.

    A request names a `call`. With `seconds` the call is repeated for that long, and the
    answer has the nanoseconds of one call, by the wall clock and by this thread's CPU
    time, and those of an empty call right after. With `each` that many calls are timed
    one by one, and the answer is their histogram. With `cold` that many calls are timed
    one by one, each after sleep and other work, and the answer is as with `seconds`.
    Otherwise the answer is the result of one call with `arguments`.
    """
    repeats: dict[str, int] = {}
    gc.freeze()  # the collector skips what was imported
    for line in sys.stdin:
        request = json.loads(line)
        name, seconds = request["call"], request.get("seconds")
        call = _empty if name == EMPTY else calls[name]
        baseline: Call = _empty
        if isinstance(call, WithBaseline):
            call, baseline = call
        if seconds is not None:
            if name not in repeats:
                repeats[name] = _calibrate(call, seconds)
            answer: dict[str, object] = _sample(call, baseline, repeats[name])
        elif "each" in request:
            answer = {"histogram": _time_each(call, request["each"])}
        elif "cold" in request:
            answer = _sample_cold(call, request["cold"])
        else:
            answer = {"result": call(*request.get("arguments", ()))}
        print(json.dumps(answer), flush=True)


def _empty() -> None:
    pass


def _calibrate(call: Call | Restocked, seconds: float) -> int:
    _repeat(call, 1)  # the first call loads what is loaded once
    repeats = 1
    while True:
        elapsed = _repeat(call, repeats)[0] * repeats / 1e9
        if elapsed > seconds / 2:
            return max(1, round(repeats * seconds / elapsed))
        repeats *= 2


def _sample(call: Call | Restocked, baseline: Call, repeats: int) -> dict[str, object]:
    wall, cpu = _repeat(call, repeats)
    empty, _ = _repeat(baseline, max(1000, repeats // 4))
    return {"wall": wall, "cpu": cpu, "empty": empty}


def _repeat(call: Call | Restocked, repeats: int) -> tuple[float, float]:
    if not isinstance(call, Restocked):
        return _time(call, repeats)
    parts = []
    for start in range(0, repeats, call.size):
        call.restock()
        count = min(call.size, repeats - start)
        parts.append((count, _time(call.call, count)))
    wall = sum(count * times[0] for count, times in parts) / repeats
    return wall, sum(count * times[1] for count, times in parts) / repeats


def _time(call: Call, repeats: int) -> tuple[float, float]:
    cpu = time.thread_time_ns()
    start = time.perf_counter_ns()
    for _ in range(repeats):
        call()
    wall = time.perf_counter_ns() - start
    return wall / repeats, (time.thread_time_ns() - cpu) / repeats


def _time_each(call: Call | Restocked, count: int) -> dict[str, int]:
    clock = time.perf_counter_ns
    times = [0] * count
    for at in range(count):
        if isinstance(call, Restocked):
            call.restock()
            one: Call = call.call
        else:
            one = call
        start = clock()
        one()
        times[at] = clock() - start
    return Histogram.of(times).to_json()


def _sample_cold(call: Call, count: int) -> dict[str, object]:
    """Return the medians of calls that found the CPU's caches full of other data."""
    call()  # the first call loads what is loaded once
    work = np.ones(OTHER_WORK_BYTES // 8)
    samples = [(_time_cold(call, work), _time_cold(_empty, work)) for _ in range(count)]
    wall, empty = (median(part) for part in zip(*samples, strict=True))
    return {"wall": wall, "cpu": wall, "empty": empty}


def _time_cold(call: Call, work: "np.ndarray[Any, Any]") -> int:
    time.sleep(ASLEEP_SECONDS)
    work += 1.0  # a strategy's other work evicts what a read needs
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start


class CaseTimes(NamedTuple):
    """The samples of one case, one of each round, in ns.

    Attributes:
        net: `wall` less `empty`.
        ratio: `net` in relation to that of the comparison's first case.
    """

    comparison: str
    label: str
    wall: list[float]
    cpu: list[float]
    empty: list[float]
    net: list[float]
    ratio: list[float]


T = TypeVar("T")


def in_turn(items: Sequence[T], number: int) -> list[T]:
    """Return the items in the order of round `number`, which rotates."""
    turn = number % len(items)
    return [*items[turn:], *items[:turn]]


def run_bars(
    found: Mapping[str, "Contender"], bars: int, rounds: int
) -> dict[str, list[Any]]:
    """Return what each contender says of `bars` bars, by round."""
    took: dict[str, list[Any]] = {name: [] for name in found}
    for number in range(rounds):
        for name in in_turn([*found], number):
            took[name].append(found[name].ask(call="go", arguments=[bars])["result"])
    return took


def compare(
    comparisons: Sequence[Comparison],
    found: Mapping[str, Contender],
    quick: bool,
    cold: int = 0,
) -> list[CaseTimes]:
    """Time all cases in each round, of the contenders found here.

    A sample is a run of calls of some length, or the median of `cold` cold calls.
    """
    comparisons = [_available(comparison, found) for comparison in comparisons]
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    how: dict[str, float] = {"cold": cold} if cold else {"seconds": seconds}
    answers: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(-1, rounds):  # round -1 warms up
        for title, cases in comparisons:
            for case in in_turn(cases, number):
                answer = found[case.contender].ask(call=case.call, **how)
                if number >= 0:
                    answers.setdefault((title, case.label), []).append(answer)
    return [times for one in comparisons for times in _case_times(one, answers)]


def _available(comparison: Comparison, found: Mapping[str, Contender]) -> Comparison:
    cases = tuple(case for case in comparison.cases if case.contender in found)
    return comparison._replace(cases=cases)


def _case_times(
    comparison: Comparison, answers: Mapping[tuple[str, str], list[dict[str, float]]]
) -> Iterator[CaseTimes]:
    title, cases = comparison
    first: list[float] = []
    for case in cases:
        samples = answers[title, case.label]
        wall, cpu, empty = (
            [sample[name] for sample in samples] for name in ("wall", "cpu", "empty")
        )
        # A call faster than an empty one is too fast to measure, and counts as 1 ns.
        net = [max(w - e, 1.0) for w, e in zip(wall, empty, strict=True)]
        first = first or net
        yield CaseTimes(title, case.label, wall, cpu, empty, net, ratios(net, first))


def distributions(
    drawn: Sequence[tuple[str, str, str]],
    found: Mapping[str, Contender],
    quick: bool,
    each: int,
) -> dict[str, dict[str, int]]:
    """Time single calls of each (name, contender, call) found here."""
    drawn = [one for one in drawn if one[1] in found]
    histograms: dict[str, list[dict[str, int]]] = {name: [] for name, _, _ in drawn}
    for number in range(QUICK_ROUNDS if quick else ROUNDS):
        for name, contender, call in in_turn(drawn, number):
            answer = found[contender].ask(call=call, each=each)
            histograms[name].append(answer["histogram"])
    return {
        name: Histogram.from_json(*parts).to_json()
        for name, parts in histograms.items()
    }
