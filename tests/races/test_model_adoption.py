"""Adoption in the model: a writer dies at any step of any verb, and another adopts.

Readers run across the death, and across a second one: they accept no wrong read, and at
rest each read ends. A successor that resets counts is seen to fail.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import pytest
from model_reader import read_counts, read_rows
from model_writer import NONE, STREAMS, LeftOut, Writer, segment
from support import forks
from weak_memory import Found

VERBS = {
    "append X": lambda writer: writer.append("X"),
    "append Y": lambda writer: writer.append("Y"),
    "swap X": lambda writer: writer.swap("X", inserted=1),
    "swap Y": lambda writer: writer.swap("Y", kept=1),
}
# The verbs of each writer in a row; the last writer is not killed.
LIVES = [(2, 2), (1, 1, 1)] if forks.SCALE <= 1 else [(2, 3), (2, 1, 2), (1, 1, 1, 1)]
RULES = [
    "intent is kept",
    "published is kept",
    "named slots are in use",
    "epochs grow",
]


def written(begin: Callable[[], Writer], lives: tuple[int, ...]) -> Iterator[Writer]:
    """Yield all that a row of writers can have stored.

    Each is killed before some step of its last verb, or after it, and the next one
    adopts what it left.
    """
    length, *others = lives
    for program in product(VERBS, repeat=length):
        writer = begin()
        for verb in program[:-1]:
            VERBS[verb](writer)
        begun = len(writer.thread)
        VERBS[program[-1]](writer)
        if not others:
            yield writer
            continue
        for done in writer.thread.prefixes(begun):
            adopt = partial(writer.succeeded, done, "another")
            yield from written(adopt, tuple(others))


def read_all(read, rules: LeftOut, lives: tuple[int, ...], stop: bool) -> Found:
    """Read beside all of them; with `stop` only until a wrong read is found."""
    total = Found()
    for writer in written(lambda: Writer(segment(), rules), lives):
        for stream in STREAMS:
            total += read(writer, stream)
        if total.wrong and stop:
            break
    print(sorted(rules), lives, total)
    return total


@pytest.mark.parametrize("lives", LIVES, ids=str)
def test_nothing_wrong_is_accepted_across_deaths(lives):
    found = read_all(read_rows, NONE, lives, stop=False)
    assert found.wrong == 0
    assert found.accepted > 0
    assert found.refused > 0


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_of_adoption_is_needed(rule):
    assert read_all(read_rows, [rule], (2, 2), stop=True).wrong > 0


def test_counts_are_right_across_deaths():
    assert read_all(read_counts, NONE, (1, 2), stop=False).wrong == 0


@pytest.mark.parametrize(
    ("rules", "ends"), [(NONE, True), ([RULES[2]], False)], ids=str
)
def test_each_reader_ends_after_the_death_of_a_successor(rules, ends):
    """The control: a slot that is taken from a stream leaves none of its rows."""
    starved = 0
    for writer in written(lambda: Writer(segment(), rules), (1, 1)):
        for done, stream in product(writer.thread.prefixes(), STREAMS):
            found = read_rows(writer.killed(done).at_rest(), stream)
            starved += found.refused > 0 or not found.accepted
    assert (starved == 0) == ends


def test_the_stores_of_a_killed_writer_may_have_any_order():
    """A compiler may move stores between two fences, which a kill then separates."""
    total = Found()
    for verb, following in product(VERBS, product(VERBS, repeat=2)):
        writer = Writer(segment())
        VERBS[verb](writer)
        for done in writer.thread.parts():
            heir = writer.succeeded(done, "another")
            for next_verb in following:
                VERBS[next_verb](heir)
            for stream in STREAMS:
                total += read_rows(heir, stream)
    print(total)
    assert total.wrong == 0
