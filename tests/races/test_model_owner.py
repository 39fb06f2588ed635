"""The right to write in the model: which writer may store a row without its locks.

A writer tests three things before each append: its private word, the segment's writer
epoch, and that the rows published are its own. Each covers a fault that the locks do
not: a forked child, a writer that does not know that it lost its locks, and a copy of
the writer or a program that stored rows. Each rule is left out in turn, and a published
row must then be written again, or a row stored by a writer that was replaced.

The tests and the stores are not one step. A writer that lost its locks, and is replaced
between its test of the epoch and its last store, stores that one row. The model sets
these executions apart, and finds no other row that is wrong.
"""

from collections.abc import Collection
from functools import partial
from itertools import product

import pytest
from interleavings import END, WAIT, Explored, Memory, Step, explore

NONE: Collection[str] = ()
# The rules, and the story that needs each.
RULES = {
    "the word": "fork",
    "the epoch": "descriptors closed",
    "the rows": "copied writer",
}


def beginning() -> Memory:
    """Return a feed of one row, held by the writer A."""
    feed = {"lock": "A", "epoch": 1, "published": 1, "intent": 1}
    feed |= {"wrong": "", "in flight": False, "late": 0}
    return feed | writer("A", epoch=1, row=1) | {"A.word": True}


def writer(name: str, epoch: int, row: int) -> Memory:
    """Return the private words of a writer that has not begun to append."""
    return {
        f"{name}.{key}": value
        for key, value in [("epoch", epoch), ("row", row), ("busy", False)]
    }


def is_word_ours(memory: Memory, own: str, process: str, rule: bool) -> int | None:
    return END if rule and not memory[f"{process}.word"] else None


def is_epoch_ours(memory: Memory, own: str, process: str, rule: bool) -> int | None:
    if rule and memory["epoch"] != memory[f"{own}.epoch"]:
        return END
    memory[f"{own}.busy"] = True
    return None


def is_rows_ours(memory: Memory, own: str, process: str, rule: bool) -> int | None:
    if rule and memory["published"] != memory[f"{own}.row"]:
        memory[f"{own}.busy"] = False
        return END
    return None


def store_intent(memory: Memory, own: str) -> None:
    memory["intent"] = memory[f"{own}.row"] + 1


def store_row(memory: Memory, own: str) -> None:
    row = memory[f"{own}.row"]
    memory["late"] += memory["epoch"] != memory[f"{own}.epoch"]
    if memory["in flight"] == own:
        return  # counted by that
    if row < memory["published"]:
        memory["wrong"] = "a published row was written again"
    elif memory["epoch"] != memory[f"{own}.epoch"]:
        memory["wrong"] = "a writer that was replaced stored a row"


def publish(memory: Memory, own: str) -> None:
    memory[f"{own}.row"] += 1
    memory["published"] = memory[f"{own}.row"]
    memory[f"{own}.busy"] = False
    if memory["in flight"] == own:
        memory["in flight"] = "over"


def append(own: str, process: str, without: Collection[str]) -> list[Step]:
    """Append a row by the object `own` of a process: the tests, then A1, A3 and A4."""
    tests = [("the word", is_word_ours), ("the epoch", is_epoch_ours)]
    tests.append(("the rows", is_rows_ours))
    testing: list[Step] = [
        partial(test, own=own, process=process, rule=name not in without)
        for name, test in tests
    ]
    storing = [store_intent, store_row, publish]
    return [*testing, *(partial(step, own=own) for step in storing)]


def lose_locks(memory: Memory) -> None:
    """Close the descriptors, as a daemoniser does: the kernel lets the locks go."""
    memory["lock"] = ""


def release(memory: Memory) -> None:
    memory["A.word"] = False
    memory["lock"] = ""


def take_lock(memory: Memory) -> int | None:
    if memory["lock"]:
        return WAIT
    memory["lock"] = "B"
    return None


def raise_epoch(memory: Memory) -> None:
    memory["epoch"] += 1
    memory.update(writer("B", memory["epoch"], memory["published"]))
    memory["B.word"] = True
    if memory["A.busy"]:
        memory["in flight"] = "A"


def begin_from_rows(memory: Memory) -> None:
    memory["B.row"] = memory["published"]


def taking_over(without: Collection[str]) -> list[Step]:
    later = append("B", "B", without)
    return [take_lock, raise_epoch, begin_from_rows, *later, *later]


def fork(memory: Memory) -> None:
    """Copy the writer to a child; memory that a fork wipes makes its word 0."""
    memory.update(writer("C", memory["A.epoch"], memory["A.row"]))
    memory["C.word"] = False
    memory["forked"] = True


def is_forked(memory: Memory) -> int | None:
    return None if memory.get("forked") else WAIT


def story(name: str, without: Collection[str]) -> list[list[Step]]:
    """Return the threads of a story; those of one process run one after the other."""
    ours = append("A", "A", without)
    if name == "fork":
        child = append("C", "C", without)
        return [[*ours, fork, *ours, *ours], [is_forked, *child, *child]]
    if name == "descriptors closed":
        return [[*ours, lose_locks, *ours, *ours], taking_over(without)]
    if name == "closed":
        return [[*ours, release, *ours], taking_over(without)]
    # Two objects of one process, each with its own count of rows.
    copied = append("D", "A", without)

    def copy(memory: Memory) -> None:
        memory.update(writer("D", memory["A.epoch"], memory["A.row"]))

    return [[*ours, copy, *ours, *copied]]


STORIES = ["fork", "descriptors closed", "closed", "copied writer"]


def judge(memory: Memory) -> str | None:
    # A row that was in flight may be written again by the successor: it ends there.
    return memory["wrong"] or None if not memory["in flight"] else None


def explored(name: str, without: Collection[str] = NONE) -> Explored:
    return explore(beginning(), story(name, without), judge)


@pytest.mark.parametrize("name", STORIES)
def test_no_published_row_is_written_again(name):
    found = explored(name)
    print(found)
    assert not found.wrong


@pytest.mark.parametrize(("rule", "name"), RULES.items())
def test_each_rule_of_the_right_is_needed(rule, name):
    found = explored(name, [rule])
    print(found)
    assert found.wrong


def test_the_word_ends_a_closed_writer_before_its_successor_comes():
    """A writer that was closed has given its locks back, and the epoch is still its."""
    stored = set()

    def judge_closed(memory: Memory) -> None:
        if not memory["A.word"] and memory["A.busy"]:
            stored.add(memory["lock"])

    for without in (NONE, ["the word"]):
        stored.clear()
        explore(beginning(), story("closed", without), judge_closed)
        assert bool(stored) == bool(without)


def test_one_row_at_most_is_stored_by_a_writer_that_was_replaced():
    """The limit of the test: the row that was in flight, and none after it."""
    late = set()
    for without in (NONE, ["the epoch"]):
        late.clear()
        explore(
            beginning(),
            story("descriptors closed", without),
            lambda memory: late.add(memory["late"]),
        )
        assert max(late) == (1 if without is NONE else 2)


def test_a_successor_is_refused_nothing_by_its_predecessor():
    """The successor appends in each execution in which no row was in flight."""
    ends = set()

    def judge_ends(memory: Memory) -> None:
        if memory["lock"] == "B" and not memory["in flight"]:
            ends.add(memory.get("B.row", 0))

    for name in ("descriptors closed", "closed"):
        explore(beginning(), story(name, NONE), judge_ends)
    assert max(ends) >= 3


ALL = list(product(STORIES, RULES))


@pytest.mark.parametrize(("name", "rule"), ALL)
def test_a_rule_that_another_story_needs_may_be_left_out(name, rule):
    """Each rule stands for its own fault: the model tells the stories apart."""
    if RULES[rule] != name:
        assert not explored(name, [rule]).wrong
