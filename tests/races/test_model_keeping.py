"""Setting aside in the model: a process keeps rows that the writer overwrites.

A ring of two rows has a slice of row 1, and perhaps one of row 0. One thread sets the
slices aside, by the steps of `memory.keeping`. Others use the rows by their addresses,
ask `valid`, copy a row as a snapshot does, or take a slice. All interleavings with a
writer that overwrites the rows or reuses the slot are tried. Each rule is left out in
turn, and something wrong must then be found.
"""

from collections.abc import Collection
from functools import partial
from itertools import product

import pytest
from interleavings import END, WAIT, Explored, Memory, Step, explore
from model_reader import Reader, views
from model_writer import NONE, STREAMS, Writer, row_word, segment
from weak_memory import Found, every_end

CAPACITY = 2
LIVE, KEPT, LAPPED = "live", "kept", "lapped"
HEADER = "intent", "published", "epoch"
CELLS = "cell0", "cell1"
SLICES = {"a": 1, "b": 0}  # the number of a slice's row

RULES = {
    "K1 closed before the list": "slices",
    "the set before closed": "slices",
    "K2 header stays zero": "snapshot",
    "K4 one step": "looks",
    "K5 after K4": "looks",
    "K5 intent": "looks",
    "K5 epoch": "looks",
    "valid waits": "looks",
}


def beginning() -> Memory:
    """Return rows 0 and 1 in the slot, and a living slice of row 1."""
    slot = {"intent": 2, "published": 2, "epoch": 1, "cell0": "row 0", "cell1": "row 1"}
    empty = {f"copy.{word}": 0 for word in (*HEADER, *CELLS)}
    ours = {"at": "slot", "closed": False, "living": ("a",), "lock": "", "judge": False}
    return slot | empty | ours | {"a": LIVE, "b": LIVE, "copied": ()}


def load(memory: Memory, word: str):
    """Load a word by the slices' addresses."""
    return memory[word if memory["at"] == "slot" else f"copy.{word}"]


def is_intact(memory: Memory, which: str, by_address: bool) -> bool:
    intent = load(memory, "intent") if by_address else memory["intent"]
    epoch = load(memory, "epoch") if by_address else memory["epoch"]
    return epoch == 1 and intent - SLICES[which] <= CAPACITY


def store(word: str, value) -> Step:
    return lambda memory: memory.__setitem__(word, value)


def appending(number: int) -> list[Step]:
    cell = f"cell{number % CAPACITY}"
    steps = [("intent", number + 1), (cell, f"row {number}"), ("published", number + 1)]
    return [store(*step) for step in steps]


def reusing() -> list[Step]:
    steps = [("epoch", 2), ("cell1", "other"), ("cell0", "other")]
    steps += [("intent", 1), ("published", 1)]
    return [store(*step) for step in steps]


WRITERS = {
    "appends": [*appending(2), *appending(3)],
    "reuses": reusing(),
    "appends and reuses": [*appending(2), *appending(3), *reusing()],
}


def lock(name: str) -> Step:
    def take(memory: Memory) -> int | None:
        if memory["lock"]:
            return WAIT
        memory["lock"] = name
        return None

    return take


def unlock(memory: Memory) -> None:
    memory["lock"] = ""


def close(memory: Memory) -> None:
    memory["closed"] = memory["judge"] = True


def list_living(memory: Memory) -> None:
    memory["copied"] = memory["living"]


def copy(cell: str, memory: Memory) -> None:
    covered = {f"cell{SLICES[which]}" for which in memory["copied"]}
    if cell in covered:
        memory[f"copy.{cell}"] = memory[cell]


def copy_header(memory: Memory) -> None:
    memory.update({f"copy.{word}": memory[word] for word in HEADER})


def judging(without: Collection[str]) -> list[Step]:
    """Check each slice by the segment's header, step K5: intent, then the epoch."""

    def intent(memory: Memory) -> None:
        memory["K.intent"] = memory["intent"]

    def epoch(memory: Memory) -> None:
        for which in memory["living"]:
            held = memory["epoch"] == 1 or "K5 epoch" in without
            fits = memory["K.intent"] - SLICES[which] <= CAPACITY
            held = held and (fits or "K5 intent" in without)
            memory[which] = KEPT if held else LAPPED

    return [intent, epoch]


def keeping(without: Collection[str]) -> list[Step]:
    """Return the thread that sets the slices aside, steps K1 to K5."""
    listing = [close, list_living]
    if "K1 closed before the list" in without:
        listing.reverse()
    copying: list[Step] = [partial(copy, cell) for cell in CELLS]
    if "K2 header stays zero" in without:
        copying.append(copy_header)
    move = [store("at", "copy")]
    moving = [*move, *copying] if "K4 one step" in without else [*copying, *move]
    if "K5 after K4" in without:
        moving = [*copying, *judging(without), *move]
    else:
        moving += judging(without)
    return [lock("K"), *listing, *moving, store("judge", False), unlock]


def asking(which: str, answer: str, without: Collection[str], at: int) -> list[Step]:
    """Ask `valid`; the steps begin at number `at` of their thread."""
    after = at + 4

    def ask_state(memory: Memory) -> int | None:
        if memory[which] == LIVE:
            return None
        memory[answer] = memory[which] == KEPT
        return after

    def ask_header(memory: Memory) -> int | None:
        if is_intact(memory, which, by_address=True):
            memory[answer] = True
            return after
        if "valid waits" in without:
            memory[answer] = memory[which] == KEPT
            return after
        return None

    def ask_again(memory: Memory) -> None:
        if memory[which] == LIVE and memory["judge"]:
            memory[answer] = is_intact(memory, which, by_address=False)
        else:
            memory[answer] = memory[which] == KEPT
        unlock(memory)

    return [ask_state, ask_header, lock(answer), ask_again]


def look(memory: Memory, which: str, name: str) -> None:
    memory[name] = load(memory, f"cell{SLICES[which]}")


def looking(without: Collection[str]) -> list[Step]:
    """Return a thread that uses the slice of row 1 and asks, twice."""
    looks = [partial(look, which="a", name=f"T.look{n}") for n in range(2)]
    first = asking("a", "T.valid0", without, at=1)
    return [looks[0], *first, looks[1], *asking("a", "T.valid1", without, at=6)]


def judge_looks(memory: Memory) -> str | None:
    looks = [memory.get(f"T.look{n}", "row 1") for n in range(2)]
    answers = [memory.get(f"T.valid{n}") for n in range(2)]
    if answers[0] and looks[0] != "row 1":
        return "a valid slice had changed"
    if answers[1] and set(looks) != {"row 1"}:
        return "a valid slice had changed"
    if answers == [False, True]:
        return "valid again"
    return None


def copying_a_row(without: Collection[str]) -> list[Step]:
    """Return a thread that makes a snapshot by the old addresses, R2 to R5."""

    def last(memory: Memory) -> int | None:
        memory["S.row"] = load(memory, "published") - 1
        return END if memory["S.row"] < 0 else None

    def row(memory: Memory) -> None:
        memory["S.value"] = load(memory, f"cell{memory['S.row'] % CAPACITY}")

    def intent(memory: Memory) -> int | None:
        ahead = load(memory, "intent") - memory["S.row"]
        return END if ahead > CAPACITY else None

    def epoch(memory: Memory) -> int | None:
        memory["S.accepted"] = load(memory, "epoch") == 1
        return None

    return [last, row, intent, epoch]


def judge_snapshot(memory: Memory) -> str | None:
    right = memory.get("S.value") == f"row {memory.get('S.row')}"
    return "a wrong snapshot" if memory.get("S.accepted") and not right else None


def joining(without: Collection[str]) -> list[Step]:
    """Return a thread that takes a slice of row 0, and uses it."""

    def check(memory: Memory) -> int | None:
        return None if is_intact(memory, "b", by_address=True) else END

    def join(memory: Memory) -> None:
        memory["living"] = (*memory["living"], "b")

    def is_refused(memory: Memory) -> int | None:
        if not memory["closed"]:
            return None
        memory["living"] = tuple(which for which in memory["living"] if which != "b")
        return END

    entering: list[Step] = [join, is_refused]
    if "the set before closed" in without:
        entering.reverse()
    use = partial(look, which="b", name="J.look")
    return [check, *entering, use, *asking("b", "J.valid", without, at=4)]


def judge_slice(memory: Memory) -> str | None:
    if memory.get("J.look") == 0:
        return "a slice without its rows"
    wrong = memory.get("J.valid") and memory["J.look"] != "row 0"
    return "a valid slice had changed" if wrong else None


OTHERS = {
    "looks": (looking, judge_looks),
    "snapshot": (copying_a_row, judge_snapshot),
    "slices": (joining, judge_slice),
}


def explored(other: str, writer: str, without: Collection[str] = NONE) -> Explored:
    thread, judge = OTHERS[other]
    threads = [WRITERS[writer], keeping(without), thread(without)]
    return explore(beginning(), threads, judge)


@pytest.mark.parametrize(("other", "writer"), list(product(OTHERS, WRITERS)))
def test_what_is_valid_never_changed(other, writer):
    found = explored(other, writer)
    print(found)
    assert not found.wrong
    assert found.ends > 0


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_of_setting_aside_is_needed(rule):
    wrong = [explored(RULES[rule], writer, [rule]).wrong for writer in WRITERS]
    print(wrong)
    assert any(wrong)


def test_slices_are_kept_and_lapped():
    """Not all slices are lapped: one may be kept while its row is overwritten."""
    outcomes = set()

    def judge(memory: Memory) -> None:
        if memory["at"] == "copy" and memory["cell1"] != "row 1":
            outcomes.add(memory["a"])

    threads = [WRITERS["appends"], keeping(NONE), looking(NONE)]
    explore(beginning(), threads, judge)
    assert outcomes == {LIVE, KEPT, LAPPED}


def read_aside(rules: Collection[str]) -> Found:
    """Copy a row, and use it elsewhere, before the move and the check, in any order.

    The move is a barrier: mremap ends all loads by the old pages, on each CPU.
    """
    found = Found()
    for program in product(["append", "swap"], repeat=3):
        writer = Writer(segment(), rules)
        for verb in program:
            if verb == "append":
                writer.append("X")
            else:
                writer.swap("X", inserted=1)
                writer.swap("Y")
        for stream in STREAMS:
            found += _read_aside(writer, stream)
    print(rules, found)
    return found


def _read_aside(writer: Writer, stream: str) -> Found:
    found = Found()
    for view in views(writer, stream):
        for number in view.rows:
            reader = Reader(writer)
            reader.begin_view(view)
            for _ in range(2):  # the copy, and a thread that uses the row
                reader.load(row_word(view.slot, number))
            reader.end_view(view)
            right = {(row, row) for row in writer.whole((view.word, number))}
            found = found.plus(every_end(writer.thread, reader), right)
    return found


def test_the_check_after_the_move_covers_both_loads():
    found = read_aside(NONE)
    assert found.wrong == 0
    assert found.accepted > 0
    assert found.refused > 0


@pytest.mark.parametrize("rule", ["R4 fence", "R5 epoch", "R5 intent"])
def test_without_the_barrier_or_a_word_of_the_check_it_does_not(rule):
    assert read_aside([rule]).wrong > 0
