"""The cell pair in the model: an accepted value is whole, whoever dies when.

And the forming bar beside the closed ones: forming first, then rows, and no bar is
missing between them, none is there twice.
"""

from itertools import product

import pytest
from model_reader import read_cells, read_together
from model_writer import NONE, ConnectPolicy, Writer, segment
from support import forks
from weak_memory import Found

UPDATES = 4 if forks.SCALE <= 1 else 6
RULES = [
    "the other cell",
    "fence before filling",
    "release of the counter",
    "acquire of the counter",
    "fence before the second look",
    "second look",
]
ORDERINGS = RULES[1:5]


def updated(writer: Writer, count: int) -> Writer:
    for _ in range(count):
        writer.update()
    return writer


def test_cells_are_whole():
    found = read_cells(updated(Writer(segment()), UPDATES))
    print(found)
    assert found.wrong == 0
    assert found.accepted > 0
    assert found.refused > 0


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_of_cells_is_needed(rule):
    found = read_cells(updated(Writer(segment(), [rule]), UPDATES))
    print(rule, found)
    assert found.wrong > 0


def test_where_stores_and_loads_keep_their_order_no_fence_is_needed():
    found = read_cells(updated(Writer(segment(), ORDERINGS, kept=True), UPDATES))
    print(found)
    assert found.wrong == 0
    assert found.accepted > 0
    blind = Writer(segment(), ["second look"], kept=True)
    assert read_cells(updated(blind, UPDATES)).wrong > 0


def test_a_dead_writer_leaves_the_last_whole_cell():
    writer = updated(Writer(segment()), 2)
    for done in writer.thread.prefixes():
        found = read_cells(writer.killed(done).at_rest())
        assert (found.accepted, found.refused, found.wrong) == (1, 0, 0)


@pytest.mark.parametrize("rules", [NONE, ["the cell counter stays"]], ids=str)
def test_a_successor_tears_no_cell(rules):
    """The control: a successor that counts anew, as a new feeder would."""
    writer = updated(Writer(segment(), rules), 2)
    total = Found()
    for done in writer.thread.parts():
        second = writer.succeeded(done, "second")
        first = len(second.thread)
        updated(second, 1)
        for length in second.thread.prefixes(first):
            third = updated(second.succeeded(length, "third"), 3)
            total += read_cells(third)
    print(rules, total)
    assert (total.wrong > 0) == bool(rules)


VERBS = {
    "update": Writer.update,
    "append": lambda writer: writer.append("X"),
    "swap": lambda writer: writer.swap("X"),
}
PROGRAMS = list(product(VERBS, repeat=3 if forks.SCALE <= 1 else 5))


def read_all_together(rules: ConnectPolicy, kept: bool = False) -> Found:
    """Over all programs, and with a successor after each death in the last verb."""
    total = Found()
    for program in PROGRAMS:
        writer = Writer(segment(), rules, kept)
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


def test_forming_and_closed_are_read_without_hole_and_without_double():
    found = read_all_together(NONE)
    assert found.wrong == 0
    assert found.accepted > 0


@pytest.mark.parametrize(
    "rule", ["forming first", "the newer counts", "the count does not fall"]
)
def test_each_rule_of_reading_both_is_needed(rule):
    assert read_all_together([rule]).wrong > 0


READS = ["acquire of the counter", "fence before the second look"]
STORES = ["release of the counter", "fence before filling"]


@pytest.mark.parametrize(
    ("rules", "wrong"),
    [(READS, True), (STORES, True), *(([rule], False) for rule in READS + STORES)],
    ids=str,
)
def test_either_ordering_of_a_cell_puts_it_before_the_rows(rules, wrong):
    """One of two will do here: but the cell itself needs both."""
    assert (read_all_together(rules).wrong > 0) == wrong


def test_reading_both_needs_no_fence_where_order_is_kept():
    assert read_all_together(READS + STORES, kept=True).wrong == 0
    assert read_all_together(["forming first"], kept=True).wrong > 0
