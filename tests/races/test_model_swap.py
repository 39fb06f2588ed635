"""Swaps in the model: a stream's rows move to another slot, theirs becomes another's.

All programs of appends and swaps of two streams, beside a reader of either. With each
rule kept nothing wrong is accepted; each rule that is left out lets something through.
"""

from itertools import product

import pytest
from model_reader import read_counts, read_rows, read_verdicts
from model_writer import NONE, STREAMS, ConnectPolicy, Writer, segment
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
    "fence after the epoch",
    "base of the new rows",
    "release of the catalog word",
    "acquire of the catalog word",
    "epoch in the catalog word",
    "epoch is looked at",
    "epoch after intent",
    "intent is looked at",
    "fence before intent",
    "acquire of published",
    "release of published",
    "fence after intent",
]
LOOKS = ["base of the new rows", "epoch in the catalog word"]
LOOKS += ["epoch is looked at", "intent is looked at"]
ORDERINGS = [rule for rule in RULES if rule not in LOOKS]


def written(
    program: tuple[str, ...], rules: ConnectPolicy, kept: bool = False
) -> Writer:
    writer = Writer(segment(), rules, kept)
    for verb in program:
        VERBS[verb](writer)
    return writer


def read_all(read, rules=NONE, kept=False, programs=PROGRAMS, stop=False) -> Found:
    """Of all programs together; `stop`: of as many as it takes to find a wrong one."""
    total = Found()
    for program, stream in product(programs, STREAMS):
        found = read(written(program, rules, kept), stream)
        total += found
        if found.wrong and stop:
            print(program, "beside a reader of", stream)
            break
    print(sorted(rules), total)
    return total


def test_nothing_of_another_life_of_a_slot_is_accepted():
    found = read_all(read_rows)
    assert found.wrong == 0
    assert found.accepted > 0
    assert found.refused > 0


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_of_swaps_is_needed(rule):
    assert read_all(read_rows, [rule], stop=True).wrong > 0


def test_where_stores_and_loads_keep_their_order_no_fence_is_needed():
    assert read_all(read_rows, ORDERINGS, kept=True).wrong == 0
    for look in LOOKS:
        assert read_all(read_rows, [look], kept=True, stop=True).wrong > 0


def test_swaps_alone_and_appends_alone_do_without_the_order_of_the_last_loads():
    """Intent falls only in a slot's next life: whoever loads the epoch before it is
    misled when rows were overwritten, and then the slot was given away."""
    short = list(product(VERBS, repeat=3))
    assert read_all(read_rows, ["epoch after intent"], programs=short).wrong == 0
    mixed = [("append X", "append X", "swap X", "swap Y")]
    assert read_all(read_rows, ["epoch after intent"], programs=mixed).wrong > 0


def test_a_count_is_that_of_its_catalog_word():
    found = read_all(read_counts)
    assert found.wrong == 0
    assert found.accepted > 0


def test_a_count_without_a_look_at_the_epoch_may_be_anothers():
    assert read_all(read_counts, ["epoch is looked at"], stop=True).wrong > 0


def test_each_reader_ends_when_the_writer_has_died_in_a_swap():
    for program in product(VERBS, repeat=2):
        writer = written(program, NONE)
        for done, stream in product(writer.thread.prefixes(), STREAMS):
            found = read_rows(writer.killed(done).at_rest(), stream)
            assert found.wrong == found.refused == 0
            assert found.accepted > 0


def test_a_swap_that_leaves_a_slot_its_intent_would_starve_readers():
    """The control: rows that are fewer than the slot's last life had."""
    writer = written(("swap X", "swap Y"), ["intent of the new rows"])
    found = read_rows(writer.at_rest(), "Y")
    assert found.refused > 0
    assert found.accepted == 0


def test_a_look_for_damage_raises_no_false_alarm():
    """Intent may be seen two rows ahead of published: it is no release store. The
    epoch is one, so that a slot is seen to be given away before it changes."""
    sound = read_all(lambda writer, stream: read_verdicts(writer, stream, ahead=2))
    assert sound.wrong == 0
    assert sound.accepted > 0


@pytest.mark.parametrize(
    ("rules", "ahead", "kept", "wrong"),
    [
        (NONE, 1, False, True),
        (NONE, 1, True, False),
        (["release of the epoch"], 2, False, True),
    ],
    ids=str,
)
def test_what_a_look_for_damage_may_rely_on(rules, ahead, kept, wrong):
    found = read_all(
        lambda writer, stream: read_verdicts(writer, stream, ahead), rules, kept
    )
    assert (found.wrong > 0) == wrong


def test_readers_do_without_the_release_of_the_epoch():
    """They are refused once more, and find the new catalog word: nothing is wrong."""
    assert read_all(read_rows, ["release of the epoch"]).wrong == 0
