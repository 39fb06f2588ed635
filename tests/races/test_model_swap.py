"""Swaps in the model: a stream moves to another slot, and its old slot is reused.

All programs of appends and swaps of two streams run beside a reader of either. Under
all rules no wrong read is accepted; without any one of them some are.
"""

from itertools import product

import pytest
from model_reader import read_counts, read_rows, read_verdicts
from model_writer import NONE, STREAMS, LeftOut, Writer, segment
from support import forks
from weak_memory import Found

LENGTH = 4 if forks.SCALE <= 1 else 5 if forks.SCALE < 20 else 6
VERBS = {
    "append X": lambda writer: writer.append("X"),
    "append Y": lambda writer: writer.append("Y"),
    "swap X": lambda writer: writer.swap("X", inserted=1),
    "swap Y": lambda writer: writer.swap("Y", kept=1),
}
PROGRAMS = list(product(VERBS, repeat=LENGTH))
RULES = [
    "S2 fence",
    "S3 base",
    "S4 release",
    "R1 acquire",
    "S4 epoch in the word",
    "R5 epoch",
    "R5 epoch after intent",
    "R5 intent",
    "R4 fence",
    "R2 acquire",
    "A4 release",
    "A2 fence",
]
CHECKS = ["S3 base", "S4 epoch in the word"]
CHECKS += ["R5 epoch", "R5 intent"]
ORDERINGS = [rule for rule in RULES if rule not in CHECKS]


def written(program: tuple[str, ...], rules: LeftOut, in_order: bool = False) -> Writer:
    writer = Writer(segment(), rules, in_order)
    for verb in program:
        VERBS[verb](writer)
    return writer


def read_all(read, rules=NONE, in_order=False, programs=PROGRAMS, stop=False) -> Found:
    """Read beside all programs; with `stop` only until a wrong read is found."""
    total = Found()
    for program, stream in product(programs, STREAMS):
        found = read(written(program, rules, in_order), stream)
        total += found
        if found.wrong and stop:
            print(program, "beside a reader of", stream)
            break
    print(sorted(rules), total)
    return total


def test_no_row_of_another_epoch_of_a_slot_is_accepted():
    found = read_all(read_rows)
    assert found.wrong == 0
    assert found.accepted > 0
    assert found.refused > 0


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_of_swaps_is_needed(rule):
    assert read_all(read_rows, [rule], stop=True).wrong > 0


def test_no_fence_is_needed_where_stores_and_loads_keep_their_order():
    assert read_all(read_rows, ORDERINGS, in_order=True).wrong == 0
    for check in CHECKS:
        assert read_all(read_rows, [check], in_order=True, stop=True).wrong > 0


def test_the_order_of_the_last_loads_matters_where_swaps_follow_appends():
    """Intent falls only in a slot's next epoch.

    A reader that loads the epoch first is misled where rows were overwritten before
    the slot was reused.
    """
    short = list(product(VERBS, repeat=3))
    assert read_all(read_rows, ["R5 epoch after intent"], programs=short).wrong == 0
    mixed = [("append X", "append X", "swap X", "swap Y")]
    assert read_all(read_rows, ["R5 epoch after intent"], programs=mixed).wrong > 0


def test_a_count_is_that_of_its_catalog_word():
    found = read_all(read_counts)
    assert found.wrong == 0
    assert found.accepted > 0


def test_a_count_without_a_check_of_the_epoch_may_be_another_streams():
    assert read_all(read_counts, ["R5 epoch"], stop=True).wrong > 0


def test_each_reader_ends_after_a_death_in_a_swap():
    for program in product(VERBS, repeat=2):
        writer = written(program, NONE)
        for done, stream in product(writer.thread.prefixes(), STREAMS):
            found = read_rows(writer.killed(done).at_rest(), stream)
            assert found.wrong == found.refused == 0
            assert found.accepted > 0


def test_a_swap_that_keeps_the_old_intent_starves_readers():
    """The control: fewer rows than the slot had in its last epoch."""
    writer = written(("swap X", "swap Y"), ["S3 intent"])
    found = read_rows(writer.at_rest(), "Y")
    assert found.refused > 0
    assert found.accepted == 0


def test_a_check_for_damage_raises_no_false_alarm():
    """Intent may be seen two rows ahead of published, since A1 is a plain store.

    S1 is a release store, so the check sees that a slot is reused before it changes.
    """
    sound = read_all(lambda writer, stream: read_verdicts(writer, stream, ahead=2))
    assert sound.wrong == 0
    assert sound.accepted > 0


@pytest.mark.parametrize(
    ("rules", "ahead", "in_order", "wrong"),
    [
        (NONE, 1, False, True),
        (NONE, 1, True, False),
        (["S1 release"], 2, False, True),
    ],
    ids=str,
)
def test_the_orderings_that_a_check_for_damage_relies_on(rules, ahead, in_order, wrong):
    found = read_all(
        lambda writer, stream: read_verdicts(writer, stream, ahead), rules, in_order
    )
    assert (found.wrong > 0) == wrong


def test_readers_do_not_need_the_release_of_the_epoch():
    """Without it a reader retries once more and finds the new catalog word."""
    assert read_all(read_rows, ["S1 release"]).wrong == 0
