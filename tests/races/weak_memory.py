"""A small machine that reorders whatever it may, and every execution of it.

A thread is a list of stores or a list of loads. One step comes before another only
where an ordering says so: a fence, a release, an acquire, or two accesses to the same
word. All other orders happen. The machine visits each reachable state once: the stores
that are done, the loads that are done, and the values that the loads found.

Three things keep the states few, and none of them hides a wrong value:

- Memory follows from the set of stores that are done, so it is not part of the state.
- Words that the reader does not load, and the stores to them, are left out. They cannot
  change what it finds.
- A reader is written for the values of its first loads, say row 5 of slot A. An
  execution in which they find other values is dropped; the test runs one reader for
  each possible finding.
"""

from collections import Counter
from collections.abc import Collection, Container, Hashable, Iterable, Iterator, Mapping
from functools import cache
from itertools import count
from typing import NamedTuple

Value = Hashable
Memory = dict[str, Value]


class Store(NamedTuple):
    """One store, and the steps that come before it, as bits."""

    word: str
    value: Value
    before: int


class Load(NamedTuple):
    """One load. Its value is a result of the read, unless it `expects` a value.

    On another value than expected, a load that `refuses` makes the reader refuse the
    read. Without `refuses`, the reader was not written for this execution.
    """

    word: str
    before: int
    expects: Value = None
    refuses: bool = False


class Order:
    """The orderings of one thread."""

    def __init__(self, in_order: bool) -> None:
        self.before: list[int] = []
        self._in_order = in_order
        self._all = 0  # the steps before all that follow
        self._same: dict[str, int] = {}

    def add(self, word: str, *, after_all: bool = False) -> int:
        """Add a step on `word`; return the steps that come before it."""
        done = (1 << len(self.before)) - 1
        before = (
            done if after_all or self._in_order else self._all | self._same.get(word, 0)
        )
        self.before.append(before)
        self._same[word] = before | 1 << len(self.before) - 1
        return before

    def fence(self) -> None:
        """Put all steps so far before all that follow."""
        self._all = (1 << len(self.before)) - 1

    def acquire(self) -> None:
        """Put the newest step, and the steps before it, before all that follow."""
        self._all |= self.before[-1] | 1 << len(self.before) - 1


class Stores:
    """A writing thread under construction, and the memory before its first step.

    With `in_order` its stores keep their order, as on x86-64.
    """

    def __init__(self, memory: Mapping[str, Value], in_order: bool = False) -> None:
        self.memory = dict(memory)
        self.in_order = in_order
        self.steps: list[Store] = []
        self._order = Order(in_order)

    def __len__(self) -> int:
        return len(self.steps)

    def store(self, word: str, value: Value) -> None:
        self.steps.append(Store(word, value, self._order.add(word)))

    def release(self, word: str, value: Value) -> None:
        before = self._order.add(word, after_all=True)
        self.steps.append(Store(word, value, before))

    def fence(self) -> None:
        self._order.fence()

    def left(self) -> Memory:
        """Return the memory after all steps."""
        return self.memory | {step.word: step.value for step in self.steps}

    def killed(self, done: Collection[int]) -> "Stores":
        """Return the thread as a kill left it, with only these steps done.

        The steps of a successor come after all of them: it waited for the end of the
        process, and so for its stores.
        """
        killed = Stores(self.memory, self.in_order)
        bit: dict[int, int] = {}
        for number, step in enumerate(self.steps):
            if number in done:
                killed._order.add(step.word)
                killed.steps.append(step._replace(before=_renumbered(step, bit)))
                bit[number] = 1 << len(bit)
        killed.fence()
        return killed

    def prefixes(self, first: int = 0) -> Iterator[range]:
        """Yield the steps done at a kill before each step from `first` on, and last."""
        for length in range(first, len(self.steps) + 1):
            yield range(length)

    def parts(self) -> Iterator[frozenset[int]]:
        """Yield each set of steps that the orderings allow to be done at a kill.

        A CPU does not lose stores of a killed process, but a compiler may reorder
        them; it keeps to the orderings and to nothing else.
        """
        seen, waiting = {0}, [0]
        while waiting:
            done = waiting.pop()
            yield frozenset(n for n in range(len(self.steps)) if done >> n & 1)
            for bit, _ in _next(tuple(self.steps), done):
                if done | bit not in seen:
                    seen.add(done | bit)
                    waiting.append(done | bit)

    def values(self, word: str) -> list[Value]:
        """Return all values that the word ever holds."""
        stored = [step.value for step in self.steps if step.word == word]
        return list(dict.fromkeys([self.memory.get(word), *stored]))


class Loads:
    """A reading thread under construction; `in_order` is as in `Stores`."""

    def __init__(self, in_order: bool = False) -> None:
        self.steps: list[Load] = []
        self._order = Order(in_order)

    def load(self, word: str, *expected: Value, refuses: bool = False) -> None:
        before = self._order.add(word)
        expects = expected[0] if expected else None
        self.steps.append(Load(word, before, expects, refuses))

    def acquire(self) -> None:
        """Make the newest load an acquire: it comes before all that follow."""
        self._order.acquire()

    def fence(self) -> None:
        self._order.fence()


class AtMost(NamedTuple):
    """The expectation of a number up to `limit`."""

    limit: int


def _fits(value: Value, expects: Value) -> bool:
    if isinstance(expects, AtMost):
        return isinstance(value, int) and value <= expects.limit
    return value == expects


class Ends(NamedTuple):
    """The ends of all complete reads.

    `accepted` counts the accepted reads by their values. `states` is the number of
    states visited, 0 where the answer was cached.
    """

    accepted: Counter[tuple[Value, ...]]
    refused: int
    states: int


class Found(NamedTuple):
    """The counts of reads over many executions, and of the states visited."""

    accepted: int = 0
    refused: int = 0
    wrong: int = 0
    states: int = 0

    def plus(self, ends: Ends, right: Container[tuple[Value, ...]]) -> "Found":
        """Return the sum with these ends; accepted reads not in `right` are wrong."""
        accepted = ends.accepted.total()
        wrong = sum(n for values, n in ends.accepted.items() if values not in right)
        more = (accepted, ends.refused, wrong, ends.states)
        return Found(*map(sum, zip(self, more, strict=True)))

    def __add__(self, other: "Found") -> "Found":
        return Found(*map(sum, zip(self, other, strict=True)))


def every_end(stores: Stores, loads: Loads) -> Ends:
    """Return each way in which the loads can end, in every execution with the stores.

    The executions in which the writer died before the reader began are among them.
    """
    words = {load.word for load in loads.steps}
    memory = tuple((word, stores.memory.get(word)) for word in sorted(words))
    before = _every_end.cache_info().misses
    ends = _every_end(memory, _only(stores.steps, words), tuple(loads.steps))
    known = _every_end.cache_info().misses == before
    return ends._replace(states=0) if known else ends


def _only(steps: Iterable[Store], words: set[str]) -> tuple[Store, ...]:
    # The steps on these words, renumbered.
    kept: list[Store] = []
    bit: dict[int, int] = {}
    for number, step in enumerate(steps):
        if step.word in words:
            kept.append(step._replace(before=_renumbered(step, bit)))
            bit[number] = 1 << len(bit)
    return tuple(kept)


def _renumbered(step: Store, bit: dict[int, int]) -> int:
    # The kept steps before it; `bit` maps a kept step to its new bit.
    return sum(new for old, new in bit.items() if step.before >> old & 1)


# The state of a reader: its loads that are done, True if it must refuse, its results.
_Reader = tuple[int, bool, tuple[tuple[int, Value], ...]]


@cache
def _every_end(
    start: tuple[tuple[str, Value], ...],
    stores: tuple[Store, ...],
    loads: tuple[Load, ...],
) -> Ends:
    accepted: Counter[tuple[Value, ...]] = Counter()
    refused = states = 0
    everything = (1 << len(loads)) - 1
    # One layer per number of stores done: by the set of them, memory and the readers.
    layer: dict[int, tuple[Memory, set[_Reader]]] = {0: (dict(start), {(0, False, ())})}
    while layer:
        following: dict[int, tuple[Memory, set[_Reader]]] = {}
        for done, (memory, readers) in layer.items():
            _read_on(memory, loads, readers)
            states += len(readers)
            ends = {reader for reader in readers if reader[0] == everything}
            for _, refuses, kept in ends:
                refused += refuses
                if not refuses:
                    accepted[tuple(value for _, value in sorted(kept))] += 1
            readers -= ends
            for number, step in _next(stores, done):
                then = memory | {step.word: step.value}
                following.setdefault(done | number, (then, set()))[1].update(readers)
        layer = following
    return Ends(accepted, refused, states)


def _next(stores: tuple[Store, ...], done: int) -> Iterator[tuple[int, Store]]:
    for number, step in zip(_BITS, stores, strict=False):
        if not done & number and step.before & ~done == 0:
            yield number, step


_BITS = [1 << bit for bit in range(256)]


def _read_on(memory: Memory, loads: tuple[Load, ...], readers: set[_Reader]) -> None:
    # Add the states that the readers can reach with memory as it is.
    waiting = list(readers)
    while waiting:
        read, refuses, kept = waiting.pop()
        for number, load in zip(count(), loads):
            if read >> number & 1 or load.before & ~read:
                continue
            value = memory[load.word]
            reader = _after(load, number, value, (read, refuses, kept))
            if reader is not None and reader not in readers:
                readers.add(reader)
                waiting.append(reader)


def _after(load: Load, number: int, value: Value, reader: _Reader) -> _Reader | None:
    read, refuses, kept = reader
    read |= 1 << number
    if load.expects is None:
        return read, refuses, tuple(sorted((*kept, (number, value))))
    if _fits(value, load.expects):
        return read, refuses, kept
    return (read, True, kept) if load.refuses else None
