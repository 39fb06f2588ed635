"""A small machine that reorders whatever it may, and every execution of it.

A thread is a list of stores or of loads. One comes after another only where an ordering
says so: a fence, a release, an acquire, or that both touch the same word; else any
order goes. All states that can be reached are visited once: which stores are done,
which loads are done, and what they found.

Three things keep the states few, and none of them loses a wrong value:

- Memory is what the stores that are done make of it: it need not be remembered.
- Only words that the reader loads matter. What it finds is the same if all others, and
  the stores to them, are left out: `every_end` leaves them out.
- A reader is written for what its first loads shall find, say row 5 of slot A. An
  execution in which they find something else is dropped there; the test asks for each
  possible finding.
"""

from collections import Counter
from collections.abc import Collection, Container, Hashable, Iterable, Iterator, Mapping
from functools import cache
from itertools import count
from typing import NamedTuple

Value = Hashable
Memory = dict[str, Value]


class Store(NamedTuple):
    """One store, and the set of those that come before it, as bits."""

    word: str
    value: Value
    before: int


class Load(NamedTuple):
    """One load. What it finds is kept, unless `expects` it: then it must be that.

    `refuses` says what happens if it is not: the reader finds it out and takes
    nothing, else this is not the execution that the reader was written for.
    """

    word: str
    before: int
    expects: Value = None
    refuses: bool = False


class Order:
    """What comes before the next step of a thread."""

    def __init__(self, kept: bool) -> None:
        self.before: list[int] = []
        self._kept = kept
        self._all = 0  # before whatever follows
        self._same: dict[str, int] = {}

    def add(self, word: str, *, after_all: bool = False) -> int:
        """One more step on `word`: the steps before it. Those on the same word are."""
        done = (1 << len(self.before)) - 1
        before = (
            done if after_all or self._kept else self._all | self._same.get(word, 0)
        )
        self.before.append(before)
        self._same[word] = before | 1 << len(self.before) - 1
        return before

    def fence(self) -> None:
        """All steps so far come before all that follow."""
        self._all = (1 << len(self.before)) - 1

    def acquire(self) -> None:
        """The newest step, and what is before it, comes before all that follow."""
        self._all |= self.before[-1] | 1 << len(self.before) - 1


class Stores:
    """A writing thread under construction, on memory as it was before.

    `kept`: its stores keep their order, as they do on x86-64.
    """

    def __init__(self, memory: Mapping[str, Value], kept: bool = False) -> None:
        self.memory = dict(memory)
        self.kept = kept
        self.steps: list[Store] = []
        self._order = Order(kept)

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
        """Memory when all of it is done."""
        return self.memory | {step.word: step.value for step in self.steps}

    def killed(self, done: Collection[int]) -> "Stores":
        """The same thread, if only these steps were done; all that follows comes later.

        Whoever follows has waited for the end of the process, and so for its stores.
        """
        killed = Stores(self.memory, self.kept)
        bit: dict[int, int] = {}
        for number, step in enumerate(self.steps):
            if number in done:
                killed._order.add(step.word)
                killed.steps.append(step._replace(before=_renumbered(step, bit)))
                bit[number] = 1 << len(bit)
        killed.fence()
        return killed

    def prefixes(self, first: int = 0) -> Iterator[range]:
        """Where it can be killed: before each step, from `first` on, and at its end."""
        for length in range(first, len(self.steps) + 1):
            yield range(length)

    def parts(self) -> Iterator[frozenset[int]]:
        """All that may be done when it is killed: more than can happen, were it not
        for compilers, which keep to the orderings and to nothing else."""
        seen, waiting = {0}, [0]
        while waiting:
            done = waiting.pop()
            yield frozenset(n for n in range(len(self.steps)) if done >> n & 1)
            for bit, _ in _next(tuple(self.steps), done):
                if done | bit not in seen:
                    seen.add(done | bit)
                    waiting.append(done | bit)

    def values(self, word: str) -> list[Value]:
        """All that the word ever holds."""
        stored = [step.value for step in self.steps if step.word == word]
        return list(dict.fromkeys([self.memory.get(word), *stored]))


class Loads:
    """A reading thread under construction; `kept` as for `Stores`."""

    def __init__(self, kept: bool = False) -> None:
        self.steps: list[Load] = []
        self._order = Order(kept)

    def load(self, word: str, *expected: Value, refuses: bool = False) -> None:
        before = self._order.add(word)
        expects = expected[0] if expected else None
        self.steps.append(Load(word, before, expects, refuses))

    def acquire(self) -> None:
        """Make the newest load an acquiring one: it comes before all that follow."""
        self._order.acquire()

    def fence(self) -> None:
        self._order.fence()


class AtMost(NamedTuple):
    """Expected of a load: a number that is not above this one."""

    limit: int


def _fits(value: Value, expects: Value) -> bool:
    if isinstance(expects, AtMost):
        return isinstance(value, int) and value <= expects.limit
    return value == expects


class Ends(NamedTuple):
    """How all complete reads went: the values of the accepted ones, how often each.

    And how many states were looked at, none where the question was asked before.
    """

    accepted: Counter[tuple[Value, ...]]
    refused: int
    states: int


class Found(NamedTuple):
    """Reads over many executions, and the states that were looked at."""

    accepted: int = 0
    refused: int = 0
    wrong: int = 0
    states: int = 0

    def plus(self, ends: Ends, right: Container[tuple[Value, ...]]) -> "Found":
        """With these ends too: what was accepted and is not `right` is wrong."""
        accepted = ends.accepted.total()
        wrong = sum(n for values, n in ends.accepted.items() if values not in right)
        more = (accepted, ends.refused, wrong, ends.states)
        return Found(*map(sum, zip(self, more, strict=True)))

    def __add__(self, other: "Found") -> "Found":
        return Found(*map(sum, zip(self, other, strict=True)))


def every_end(stores: Stores, loads: Loads) -> Ends:
    """Each way in which the loads can end, in every execution beside the stores.

    One that begins after the writer has died is among them: the others have all their
    loads after the last store that is done.
    """
    words = {load.word for load in loads.steps}
    memory = tuple((word, stores.memory.get(word)) for word in sorted(words))
    before = _every_end.cache_info().misses
    ends = _every_end(memory, _only(stores.steps, words), tuple(loads.steps))
    known = _every_end.cache_info().misses == before
    return ends._replace(states=0) if known else ends


def _only(steps: Iterable[Store], words: set[str]) -> tuple[Store, ...]:
    """The steps on these words, numbered anew."""
    kept: list[Store] = []
    bit: dict[int, int] = {}
    for number, step in enumerate(steps):
        if step.word in words:
            kept.append(step._replace(before=_renumbered(step, bit)))
            bit[number] = 1 << len(bit)
    return tuple(kept)


def _renumbered(step: Store, bit: dict[int, int]) -> int:
    """The kept steps before it; `bit` says what each kept step's is now."""
    return sum(new for old, new in bit.items() if step.before >> old & 1)


# What a reader has come to: its loads that are done, whether it must refuse, and what
# it has kept.
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
    # By the number of stores done: which, what memory holds then, who reads how far.
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
    """Add what the readers can come to in this state of memory."""
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
