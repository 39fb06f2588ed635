"""The two protocols in a small model of memory, every execution of it.

A thread is a list of steps; a step waits for those that an ordering puts before it,
else any order goes (stores to one word stay in order, on every machine). A state is
what is in memory, which steps are done and what was loaded; all states that can be
reached are visited, and the writer may die in each of them. A reader that has done all
its steps accepts or not; what it accepts must be whole.

Each ordering the code asks for is then taken away: the model must find a torn value.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

HISTORY, CAPACITY = 1, 2  # one row may be read while the writer is at the next


class Step(NamedTuple):
    """A store of `value`, or a load into `into`, and the steps that come before it."""

    word: str
    value: int
    into: str
    after: frozenset[int]


class Thread:
    """Steps under construction: each new one comes after what `after` names."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def store(self, word: str, value: int, after: Iterator[int] | range) -> int:
        same = [n for n, step in enumerate(self.steps) if step.word == word]
        self.steps.append(Step(word, value, "", frozenset([*after, *same])))
        return len(self.steps) - 1

    def load(self, word: str, into: str, after: Iterator[int] | range) -> int:
        self.steps.append(Step(word, 0, into, frozenset(after)))
        return len(self.steps) - 1

    @property
    def all(self) -> range:
        return range(len(self.steps))


Memory = dict[str, int]
Loaded = dict[str, int]
State = tuple[
    frozenset[tuple[str, int]], frozenset[int], frozenset[int], frozenset[tuple]
]


def executions(memory: Memory, writer: Thread, reader: Thread) -> Iterator[State]:
    """Every state that some order of the steps reaches, once."""
    start: State = frozenset(memory.items()), frozenset(), frozenset(), frozenset()
    seen, waiting = {start}, [start]
    while waiting:
        state = waiting.pop()
        yield state
        for following in _following(state, writer, reader):
            if following not in seen:
                seen.add(following)
                waiting.append(following)


def _following(state: State, writer: Thread, reader: Thread) -> Iterator[State]:
    memory, written, read, loaded = state
    for number, step in _possible(writer, written):
        others = {pair for pair in memory if pair[0] != step.word}
        stored = frozenset(others | {(step.word, step.value)})
        yield stored, written | {number}, read, loaded
    for number, step in _possible(reader, read):
        value = dict(memory)[step.word]
        yield memory, written, read | {number}, loaded | {(step.into, value)}


def _possible(thread: Thread, done: frozenset[int]) -> Iterator[tuple[int, Step]]:
    for number, step in enumerate(thread.steps):
        if number not in done and step.after <= done:
            yield number, step


class Outcome(NamedTuple):
    """How many of the complete reads were accepted, and how many of those torn."""

    complete: int
    accepted: int
    torn: int


def outcome(
    memory: Memory,
    writer: Thread,
    reader: Thread,
    accepts: Callable[[Loaded], bool],
    whole: Callable[[Loaded], bool],
) -> Outcome:
    ends = [
        dict(loaded)
        for _, _, read, loaded in executions(memory, writer, reader)
        if len(read) == len(reader.steps)
    ]
    accepted = [loaded for loaded in ends if accepts(loaded)]
    torn = [loaded for loaded in accepted if not whole(loaded)]
    return Outcome(len(ends), len(accepted), len(torn))


# Rows. Two words stand for a row's fields; row n holds n in both.


def full_ring(published: int) -> Memory:
    memory = {"intent": published, "published": published}
    for row in range(published - CAPACITY, published):
        memory |= dict.fromkeys(_fields(row), row)
    return memory


def _fields(row: int) -> tuple[str, str]:
    return f"a{row % CAPACITY}", f"b{row % CAPACITY}"


def append(writer: Thread, row: int, without: str) -> None:
    """One append; `without` names the ordering that is left out."""
    writer.store("intent", row + 1, ())
    # A fence: all stores before it come before all after it.
    fence = () if without == "fence after intent" else writer.all
    for word in _fields(row):
        writer.store(word, row, fence)
    release = () if without == "release of published" else writer.all
    writer.store("published", row + 1, release)


def appends(first: int, count: int, without: str = "") -> Thread:
    writer = Thread()
    for row in range(first, first + count):
        append(writer, row, without)
    return writer


def read_row(row: int, without: str) -> Thread:
    """Read `row` as the newest: `published` must turn out to be row + 1."""
    reader = Thread()
    first = reader.load("published", "published", ())
    acquire = () if without == "acquire of published" else (first,)
    fields = [
        reader.load(word, into, acquire)
        for word, into in zip(_fields(row), "ab", strict=True)
    ]
    fence = () if without == "fence before intent" else (first, *fields)
    reader.load("intent", "intent", fence)
    return reader


def read_rows(memory: Memory, writer: Thread, without: str = "") -> Outcome:
    """All reads of the newest row, whichever that is when `published` is loaded."""
    values = {step.value for step in writer.steps if step.word == "published"}
    total = Outcome(0, 0, 0)
    for published in sorted(values | {memory["published"]}):
        row = published - 1

        def accepts(loaded: Loaded, published: int = published, row: int = row) -> bool:
            held = loaded["intent"] - row <= CAPACITY
            return loaded["published"] == published and held

        def whole(loaded: Loaded, row: int = row) -> bool:
            return loaded["a"] == loaded["b"] == row

        found = outcome(memory, writer, read_row(row, without), accepts, whole)
        total = Outcome(*map(sum, zip(total, found, strict=True)))
    return total


ROW_ORDERINGS = [
    "fence after intent",
    "release of published",
    "acquire of published",
    "fence before intent",
]
START = 4  # rows 2 and 3 fill the ring


def test_rows_are_whole():
    found = read_rows(full_ring(START), appends(START, 3))
    print(found)
    assert found.torn == 0
    assert 0 < found.accepted < found.complete


@pytest.mark.parametrize("ordering", ROW_ORDERINGS)
def test_each_ordering_of_rows_is_needed(ordering):
    found = read_rows(full_ring(START), appends(START, 3, ordering), ordering)
    print(ordering, found)
    assert found.torn > 0


def crashes(memory: Memory, writer: Thread) -> list[Memory]:
    """What memory can hold when the writer dies, its last stores in any order."""
    states = executions(memory, writer, Thread())
    return [dict(left) for left in {state[0] for state in states}]


def deaths(memory: Memory, writer: Thread) -> list[Memory]:
    """What memory holds in the end when the writer dies before each of its steps.

    A machine completes the stores of a process that is killed: those it came to.
    """
    left = [dict(memory)]
    for step in writer.steps:
        left.append(left[-1] | {step.word: step.value})
    return left


def test_a_dead_writer_leaves_readers_their_last_row():
    for memory in deaths(full_ring(START), appends(START, 2)):
        found = read_rows(memory, Thread())
        assert found.torn == 0
        assert found.accepted == found.complete == 1


@pytest.mark.parametrize("crashed_twice", [False, True])
def test_a_successor_loses_and_tears_no_row(crashed_twice):
    # More than can happen: also what a machine shows while it completes stores.
    dead = crashes(full_ring(START), appends(START, 2))
    if crashed_twice:
        dead = [
            twice
            for memory in dead
            for twice in crashes(memory, appends(memory["published"], 1))
        ]
    for memory in dead:
        successor = appends(memory["published"], 2)
        assert read_rows(memory, successor).torn == 0
        assert read_rows(memory, successor).accepted > 0


def test_a_successor_that_lowers_intent_would_tear():
    """The control: to 'repair' a dead writer's intent makes half a row look whole."""
    torn = 0
    for memory in crashes(full_ring(START), appends(START, CAPACITY)):
        repaired = memory | {"intent": memory["published"]}
        for row in range(memory["published"] - CAPACITY, memory["published"]):
            held = repaired["intent"] - row <= CAPACITY
            a, b = _fields(row)
            torn += held and not repaired[a] == repaired[b] == row
    assert torn > 0


def test_an_odd_even_word_would_starve_readers():
    """The control: with one sequence word a dead writer leaves nothing to read."""
    writer = Thread()
    writer.store("sequence", 1, ())
    writer.store("a", 1, writer.all)
    writer.store("sequence", 2, writer.all)
    left = crashes({"sequence": 0, "a": 0}, writer)
    assert any(memory["sequence"] % 2 for memory in left)


# The cell pair. Two words stand for a value; value n holds n in both.


def cells(counter: int) -> Memory:
    memory = {"counter": counter}
    for value in (counter - 1, counter):
        memory |= dict.fromkeys(_cell(value), value)
    return memory


def _cell(value: int) -> tuple[str, str]:
    return f"x{value % 2}", f"y{value % 2}"


def updates(counter: int, count: int, without: str = "") -> Thread:
    writer = Thread()
    for value in range(counter + 1, counter + 1 + count):
        fence = () if without == "fence before filling" else writer.all
        for word in _cell(value):
            writer.store(word, value, fence)
        release = () if without == "release of counter" else writer.all
        writer.store("counter", value, release)
    return writer


def read_cells(memory: Memory, writer: Thread, without: str = "") -> Outcome:
    values = {step.value for step in writer.steps if step.word == "counter"}
    total = Outcome(0, 0, 0)
    for counter in sorted(values | {memory["counter"]}):
        reader = Thread()
        first = reader.load("counter", "first", ())
        acquire = () if without == "acquire of counter" else (first,)
        cell = [
            reader.load(word, into, acquire)
            for word, into in zip(_cell(counter), "xy", strict=True)
        ]
        fence = () if without == "fence before second look" else (first, *cell)
        reader.load("counter", "second", fence)

        def accepts(loaded: Loaded, counter: int = counter) -> bool:
            second = without == "second look" or loaded["second"] == counter
            return loaded["first"] == counter and second

        def whole(loaded: Loaded, counter: int = counter) -> bool:
            return loaded["x"] == loaded["y"] == counter

        found = outcome(memory, writer, reader, accepts, whole)
        total = Outcome(*map(sum, zip(total, found, strict=True)))
    return total


CELL_ORDERINGS = [
    "fence before filling",
    "release of counter",
    "acquire of counter",
    "fence before second look",
    "second look",
]


def test_cells_are_whole():
    found = read_cells(cells(2), updates(2, 3))
    print(found)
    assert found.torn == 0
    assert 0 < found.accepted < found.complete


@pytest.mark.parametrize("ordering", CELL_ORDERINGS)
def test_each_ordering_of_cells_is_needed(ordering):
    found = read_cells(cells(2), updates(2, 3, ordering), ordering)
    print(ordering, found)
    assert found.torn > 0


def test_a_dead_writer_leaves_the_last_whole_cell():
    for memory in deaths(cells(2), updates(2, 2)):
        found = read_cells(memory, Thread())
        assert found.torn == 0
        assert found.accepted == found.complete == 1
        successor = updates(memory["counter"], 2)
        assert read_cells(memory, successor).torn == 0
