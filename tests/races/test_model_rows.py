"""Append in the model: an accepted row is whole, on any CPU and after any death.

Each ordering of the code is then left out: the model must find a row that differs from
the published one.
"""

from collections.abc import Iterator

import model_reader
import model_writer
import pytest
from model_reader import read_rows
from model_writer import NONE, LeftOut, Writer, segment
from support import forks
from weak_memory import Loads, Stores, every_end

APPENDS = 4 if forks.SCALE <= 1 else 6
RULES = [
    "A1 intent",
    "A2 fence",
    "A4 release",
    "R2 acquire",
    "R4 fence",
    "R5 intent",
]


def appended(writer: Writer, count: int) -> Writer:
    for _ in range(count):
        writer.append("X")
    return writer


def test_rows_are_whole():
    found = read_rows(appended(Writer(segment()), APPENDS), "X")
    print(found)
    assert found.wrong == 0
    assert found.accepted > 0
    assert found.refused > 0


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_of_rows_is_needed(rule):
    found = read_rows(appended(Writer(segment(), [rule]), APPENDS), "X")
    print(rule, found)
    assert found.wrong > 0


ORDERINGS = [rule for rule in RULES if rule not in ("A1 intent", "R5 intent")]


def test_no_fence_is_needed_where_stores_and_loads_keep_their_order():
    """The pure core is right on x86-64; the checks are needed there too."""
    program = appended(Writer(segment(), ORDERINGS, in_order=True), APPENDS)
    found = read_rows(program, "X")
    print(found)
    assert found.wrong == 0
    assert found.accepted > 0
    blind = Writer(segment(), ["R5 intent"], in_order=True)
    assert read_rows(appended(blind, APPENDS), "X").wrong > 0


def test_a_dead_writer_leaves_readers_their_last_rows():
    writer = appended(Writer(segment()), 2)
    for done in writer.thread.prefixes():
        found = read_rows(writer.killed(done).at_rest(), "X")
        assert found.wrong == found.refused == 0
        assert found.accepted == model_writer.HISTORY  # each of a view's rows, once


def test_without_a_guard_row_a_dead_writer_leaves_no_rows(monkeypatch):
    """The control: a ring no longer than a view."""
    for module in (model_writer, model_reader):
        monkeypatch.setattr(module, "CAPACITY", model_writer.HISTORY)
    writer = appended(Writer(segment()), 2)
    left = [writer.killed(done).at_rest() for done in writer.thread.prefixes()]
    assert any(read_rows(writer, "X").refused for writer in left)


def test_an_odd_even_word_starves_readers():
    """The control: with one odd/even word a dead writer leaves nothing to read."""
    writer = Stores({"sequence": 0, "a": 0})
    for value in (1, 2):
        writer.release("sequence", value)
        writer.fence()
        writer.store("a", 1)
    reader = Loads()
    reader.load("sequence", 0)
    left = [writer.killed(done).left() for done in writer.prefixes()]
    assert any(not every_end(Stores(memory), reader).accepted for memory in left)


def succeeded_twice(rules: LeftOut) -> Iterator[Writer]:
    """Yield all successors of successors, for each part of the stores that is left."""
    writer = appended(Writer(segment(), rules), 2)
    for done in writer.thread.parts():
        second = writer.succeeded(done, "second")
        first = len(second.thread)
        appended(second, 1)
        for length in second.thread.prefixes(first):
            yield appended(second.succeeded(length, "third"), 2)


@pytest.mark.parametrize(
    "rules", [NONE, ["intent is kept"], ["published is kept"]], ids=str
)
def test_a_successor_loses_and_tears_no_row(rules):
    """The control: a successor that resets intent, or publishes up to it."""
    total = [read_rows(heir, "X") for heir in succeeded_twice(rules)]
    wrong = sum(found.wrong for found in total)
    print(rules, sum(found.states for found in total), "states", wrong, "wrong")
    assert all(found.accepted for found in total)
    assert (wrong > 0) == bool(rules)
