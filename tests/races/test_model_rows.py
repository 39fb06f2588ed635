"""Append in the model: an accepted row is whole, on any machine, whoever dies when.

Each ordering that the code asks for is then taken away: the model must find a row that
is not what was published.
"""

from collections.abc import Iterator

import model_reader
import model_writer
import pytest
from model_reader import read_rows
from model_writer import NONE, ConnectPolicy, Writer, segment
from support import forks
from weak_memory import Loads, Stores, every_end

APPENDS = 4 if forks.SCALE <= 1 else 6
RULES = [
    "intent",
    "fence after intent",
    "release of published",
    "acquire of published",
    "fence before intent",
    "intent is looked at",
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


ORDERINGS = [rule for rule in RULES if rule not in ("intent", "intent is looked at")]


def test_where_stores_and_loads_keep_their_order_no_fence_is_needed():
    """Why pure Python will do on x86-64; and what is looked at is needed there too."""
    program = appended(Writer(segment(), ORDERINGS, kept=True), APPENDS)
    found = read_rows(program, "X")
    print(found)
    assert found.wrong == 0
    assert found.accepted > 0
    blind = Writer(segment(), ["intent is looked at"], kept=True)
    assert read_rows(appended(blind, APPENDS), "X").wrong > 0


def test_a_dead_writer_leaves_readers_their_last_rows():
    writer = appended(Writer(segment()), 2)
    for done in writer.thread.prefixes():
        found = read_rows(writer.killed(done).at_rest(), "X")
        assert found.wrong == found.refused == 0
        assert found.accepted == model_writer.HISTORY  # each of a view's rows, once


def test_without_a_guard_row_a_dead_writer_would_leave_none(monkeypatch):
    """The control: a ring no longer than a view."""
    for module in (model_writer, model_reader):
        monkeypatch.setattr(module, "CAPACITY", model_writer.HISTORY)
    writer = appended(Writer(segment()), 2)
    left = [writer.killed(done).at_rest() for done in writer.thread.prefixes()]
    assert any(read_rows(writer, "X").refused for writer in left)


def test_an_odd_even_word_would_starve_readers():
    """The control: with one sequence word a dead writer leaves nothing to read."""
    writer = Stores({"sequence": 0, "a": 0})
    for value in (1, 2):
        writer.release("sequence", value)
        writer.fence()
        writer.store("a", 1)
    reader = Loads()
    reader.load("sequence", 0)
    left = [writer.killed(done).left() for done in writer.prefixes()]
    assert any(not every_end(Stores(memory), reader).accepted for memory in left)


def succeeded_twice(rules: ConnectPolicy) -> Iterator[Writer]:
    """All successors of successors, whatever was in memory of what each had stored."""
    writer = appended(Writer(segment(), rules), 2)
    for done in writer.thread.parts():
        second = writer.succeeded(done, "second")
        first = len(second.thread)
        appended(second, 1)
        for length in second.thread.prefixes(first):
            yield appended(second.succeeded(length, "third"), 2)


@pytest.mark.parametrize(
    "rules", [NONE, ["intent stays"], ["published stays"]], ids=str
)
def test_a_successor_loses_and_tears_no_row(rules):
    """The control: to 'repair' intent, or to publish what was intended."""
    total = [read_rows(heir, "X") for heir in succeeded_twice(rules)]
    wrong = sum(found.wrong for found in total)
    print(rules, sum(found.states for found in total), "states", wrong, "wrong")
    assert all(found.accepted for found in total)
    assert (wrong > 0) == bool(rules)
