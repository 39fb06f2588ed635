"""The latch in the model: an accepted value is whole, on any CPU and after any death.

The forming bar and the closed ones, too: read in this order, no bar is missing between
them and none is found in both.
"""

from itertools import product

import pytest
from model_reader import read_latch, read_together
from model_writer import NONE, LeftOut, Writer, segment
from support import forks
from weak_memory import Found

UPDATES = 4 if forks.SCALE <= 1 else 6
RULES = [
    "U2 other cell",
    "U1 fence",
    "U3 release",
    "F1 acquire",
    "F3 fence",
    "F4 reload",
]
ORDERINGS = RULES[1:5]


def updated(writer: Writer, count: int) -> Writer:
    for _ in range(count):
        writer.update()
    return writer


def test_values_are_whole():
    found = read_latch(updated(Writer(segment()), UPDATES))
    print(found)
    assert found.wrong == 0
    assert found.accepted > 0
    assert found.refused > 0


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_of_the_latch_is_needed(rule):
    found = read_latch(updated(Writer(segment(), [rule]), UPDATES))
    print(rule, found)
    assert found.wrong > 0


def test_no_fence_is_needed_where_stores_and_loads_keep_their_order():
    found = read_latch(updated(Writer(segment(), ORDERINGS, in_order=True), UPDATES))
    print(found)
    assert found.wrong == 0
    assert found.accepted > 0
    blind = Writer(segment(), ["F4 reload"], in_order=True)
    assert read_latch(updated(blind, UPDATES)).wrong > 0


def test_a_dead_writer_leaves_the_last_whole_value():
    writer = updated(Writer(segment()), 2)
    for done in writer.thread.prefixes():
        found = read_latch(writer.killed(done).at_rest())
        assert (found.accepted, found.refused, found.wrong) == (1, 0, 0)


@pytest.mark.parametrize("rules", [NONE, ["counter is kept"]], ids=str)
def test_a_successor_tears_no_value(rules):
    """The control: a successor that resets the counter."""
    writer = updated(Writer(segment(), rules), 2)
    total = Found()
    for done in writer.thread.parts():
        second = writer.succeeded(done, "second")
        first = len(second.thread)
        updated(second, 1)
        for length in second.thread.prefixes(first):
            third = updated(second.succeeded(length, "third"), 3)
            total += read_latch(third)
    print(rules, total)
    assert (total.wrong > 0) == bool(rules)


VERBS = {
    "update": Writer.update,
    "append": lambda writer: writer.append("X"),
    "swap": lambda writer: writer.swap("X"),
}
PROGRAMS = list(product(VERBS, repeat=3 if forks.SCALE <= 1 else 5))


def read_all_together(rules: LeftOut, in_order: bool = False) -> Found:
    """Read beside all programs, and beside a successor after each death."""
    total = Found()
    for program in PROGRAMS:
        writer = Writer(segment(), rules, in_order)
        for verb in program[:-1]:
            VERBS[verb](writer)
        begun = len(writer.thread)
        VERBS[program[-1]](writer)
        total += read_together(writer)
        for done in writer.thread.prefixes(begun):
            heir = writer.succeeded(done, "second")
            for verb in ("append", "update"):
                VERBS[verb](heir)
            total += read_together(heir)
    print(rules, total)
    return total


def test_forming_and_closed_have_no_hole_and_no_double():
    found = read_all_together(NONE)
    assert found.wrong == 0
    assert found.accepted > 0


@pytest.mark.parametrize(
    "rule", ["forming first", "an old forming bar is dropped", "S3 count does not fall"]
)
def test_each_rule_of_reading_both_is_needed(rule):
    assert read_all_together([rule]).wrong > 0


READS = ["F1 acquire", "F3 fence"]
STORES = ["U3 release", "U1 fence"]


@pytest.mark.parametrize(
    ("rules", "wrong"),
    [(READS, True), (STORES, True), *(([rule], False) for rule in READS + STORES)],
    ids=str,
)
def test_either_ordering_of_the_latch_puts_it_before_the_rows(rules, wrong):
    """One of the two is enough here; the latch by itself needs both."""
    assert (read_all_together(rules).wrong > 0) == wrong


def test_reading_both_needs_no_fence_where_order_is_kept():
    assert read_all_together(READS + STORES, in_order=True).wrong == 0
    assert read_all_together(["forming first"], in_order=True).wrong > 0
