"""`compare`: the first decision that differs, and a bar that was revised in between."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.recorded_decisions import (
    bars,
    decision,
    describe_run,
    receipt,
    record,
)

from wealthdata import Decision, Receipt
from wealthdata.runner.compare import main
from wealthdata.runner.differences import same_value
from wealthdata.runner.recording import RunDescription

Decisions = list[Decision]


def usual(count: int = 6, **changed: float) -> Decisions:
    """Return a decision a bar, on its last three bars; `b4=2.5` revises bar 4."""
    return [
        decision(n + 3, {"n": n, "close": window[-1][1][3]}, receipt(window))
        for n in range(count)
        for window in [bars(n, **changed)]
    ]


class Compared:
    """Two recordings, and what comparing them prints."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys
        self.run = describe_run(folder)

    def write(
        self, name: str, decisions: Decisions, run: RunDescription | None = None
    ) -> str:
        path = self._folder / f"{name}.jsonl"
        handled = {(each.time - decision(0, 0).time) // 60_000 for each in decisions}
        record(path, run or self.run, decisions, sorted({*range(3, 9), *handled}))
        return str(path)

    def __call__(self, a: Decisions, b: Decisions, *options: str) -> tuple[int, str]:
        """Return the exit code, and all that is printed."""
        return self.files(self.write("a", a), self.write("b", b), *options)

    def files(self, *arguments: str) -> tuple[int, str]:
        code = main(arguments)
        output = self._capsys.readouterr()
        return code, output.out + output.err


@pytest.fixture
def compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compared:
    return Compared(tmp_path, capsys)


MOMENT = "2026-01-01 00:05:00 UTC"
REVISED = (
    "A 1m, the bar that opens at 2026-01-01 00:04:00 UTC, was revised: close 1.5 in A,"
    " 2.5 in B"
)


def test_the_same_decisions(compared: Compared) -> None:
    code, text = compared(usual(), usual())
    assert code == 0
    assert "compared: 6 decisions from 2026-01-01 00:03:00 UTC to" in text
    assert text.endswith("the decisions are the same\n")


def test_a_bar_that_was_revised_is_named(compared: Compared) -> None:
    code, text = compared(usual(), usual(b4=2.5))
    assert code == 1
    assert text.splitlines()[3:] == [
        "first difference: 2026-01-01 00:05:00 UTC, ma.py",
        '  A decided {"n": 2, "close": 1.5} (line 4)',
        '  B decided {"n": 2, "close": 2.5} (line 4)',
        "  what['close']: 1.5 in A, 2.5 in B",
        f"  {REVISED}",
    ]


def replaced(decisions: Decisions, at: int, **changed: Any) -> Decisions:
    return [
        each._replace(**changed) if n == at else each
        for n, each in enumerate(decisions)
    ]


def without(decisions: Decisions, at: int) -> Decisions:
    return decisions[:at] + decisions[at + 1 :]


def of_feed(feed: str, **changed: float) -> Receipt:
    return receipt(bars(1, **changed), feed=feed)


OPENED = decision(3, 0).time
THIRD = "that opens at 2026-01-01 00:03:00 UTC"
DIFFERENT: dict[str, tuple[Decisions, Decisions, list[str]]] = {
    "another decision on the same bars": (
        usual(),
        replaced(usual(), 2, what="sell"),
        [
            '  A decided {"n": 2, "close": 1.5} (line 4)',
            '  B decided "sell" (line 4)',
            "no bar was revised in between: both runs have read the same bars",
        ],
    ),
    "on a bar of an earlier decision": (
        replaced(usual(), 2, what={"n": 2, "close": 1.5}),
        replaced(replaced(usual(b4=2.5), 2, what={"n": 2, "close": 1.5}), 5, what=0),
        [
            "first difference: 2026-01-01 00:08:00 UTC, ma.py",
            f"an earlier decision, at {MOMENT}, was made on different bars:",
            f"  {REVISED}",
        ],
    ),
    "one that B has not made": (
        usual(),
        without(usual(b4=2.5), 2),
        ["first difference: 2026-01-01 00:05:00 UTC, ma.py", "  B decided nothing",
         f"  {REVISED}"],
    ),
    "one that A has not made": (
        without(usual(), 2),
        usual(b4=2.5),
        ["  A decided nothing", f"  {REVISED}"],
    ),
    "a second one of the same time": (
        usual(),
        [*usual(3), decision(5, "more"), *usual()[3:]],
        [
            "first difference: 2026-01-01 00:05:00 UTC, ma.py, decision 2 of this time",
            "  A decided nothing",
            '  B decided "more" (line 5)',
        ],
    ),
    "true is not 1": (
        [decision(5, {"a": [True]})],
        [decision(5, {"a": [1]})],
        ["  what['a'][0]: true in A, 1 in B"],
    ),
    "a key more": (
        [decision(5, {"a": 1})],
        [decision(5, {"a": 1, "b": None})],
        ["  what['b']: absent in A, null in B"],
    ),
    "a longer list": (
        [decision(5, [1, 2])],
        [decision(5, [1, 3, 4])],
        ["  what[1]: 2 in A, 3 in B", "  what[2]: absent in A, 4 in B"],
    ),
    "the forming bar": (
        [decision(5, 1, receipt(bars(0), forming=(OPENED, 1.0, 2.0, 1.0, 1.5, 3.0)))],
        [decision(5, 2, receipt(bars(0), forming=(OPENED, 1.0, 2.0, 1.0, 1.75, 3.0)))],
        [f"  A 1m, the forming bar {THIRD}, differs: close 1.5 in A, 1.75 in B"],
    ),
    "a window that begins later": (
        [decision(5, 1, receipt(bars(0)))],
        [decision(5, 2, receipt(bars(1, 2)))],
        ["  A 1m, the bar that opens at 2026-01-01 00:00:00 UTC, was read in A alone"],
    ),
    "bars that are not known": (
        [decision(5, 1, receipt([], digest=None, unknown="it was overwritten"))],
        [decision(5, 2, receipt(bars(1, 2)))],
        ["the bars of A are not known: it was overwritten"],
    ),
    "two feeds of one symbol": (
        [decision(5, 1, of_feed("spot"), of_feed("perp", b3=9.5))],
        [decision(5, 2, of_feed("r1"), of_feed("r2", b3=9.75))],
        [f"  A 1m, the bar {THIRD}, was revised: close 9.5 in A, 9.75 in B"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_is_told(compared: Compared, name: str) -> None:
    a, b, lines = DIFFERENT[name]
    code, text = compared(a, b)
    assert code == 1
    assert [line for line in lines if line not in text.splitlines()] == [], text


def test_many_differences_are_shortened(compared: Compared) -> None:
    a = decision(
        5, {"x": "y" * 5000, **{f"k{n}": 1 for n in range(30)}}, receipt(bars(0, 30))
    )
    changed = {f"b{n}": 2.0 for n in range(30)}
    b = decision(
        5,
        {"x": "y" * 5000, **{f"k{n}": 2 for n in range(30)}},
        receipt(bars(0, 30, **changed)),
    )
    code, text = compared([a], [b])
    lines = text.splitlines()
    assert code == 1
    assert sum(" 1 in A, 2 in B" in line for line in lines) == 10
    assert sum("was revised" in line for line in lines) == 10
    assert lines.count("  and 20 more") == 1
    assert lines.count("  and 20 bars more") == 1
    assert max(map(len, lines)) < 500


def test_the_same_decision_on_different_bars_is_the_same_and_told(
    compared: Compared,
) -> None:
    a, b = (
        [each._replace(what="hold") for each in usual(**c)] for c in ({}, {"b4": 2.5})
    )
    code, text = compared(a, b)
    assert code == 0
    assert text.splitlines()[3:] == [
        "the decisions are the same",
        "3 decisions were made on different bars, first at 2026-01-01 00:05:00 UTC:",
        f"  {REVISED}",
    ]


def test_a_window_that_one_run_has_read_twice_is_no_difference(
    compared: Compared,
) -> None:
    twice = [decision(5, "x", receipt(bars(0)), receipt(bars(1)), receipt(bars(0)))]
    once = [decision(5, "x", receipt(bars(1)), receipt(bars(0)))]
    code, text = compared(twice, once)
    assert code == 0
    assert text.endswith("the decisions are the same\n")


def test_a_bar_that_was_revised_in_the_window_counts_as_it_was_read(
    compared: Compared,
) -> None:
    """Both read bar 4 with its first value, and A later with another one."""
    a = [*usual(3), *usual(b4=2.5)[3:]]
    code, text = compared(a, usual())
    assert code == 0
    assert "2 decisions were made on different bars, first at 2026-01-01 00:06" in text


def test_ranges_that_overlap_in_part(compared: Compared) -> None:
    a = compared.write("a", usual())
    b = record_range(compared, "b", usual(b4=1.5)[2:], 5, 20)
    code, text = compared.files(a, b)
    assert code == 0
    assert "compared: 4 decisions from 2026-01-01 00:05:00 UTC to" in text
    assert "not compared: 2 decisions of A at close times that only A has" in text
    assert compared.files(b, a)[0] == 0


def record_range(
    compared: Compared, name: str, decisions: Decisions, first: int, last: int
) -> str:
    path = compared._folder / f"{name}.jsonl"
    record(path, compared.run, decisions, range(first, last + 1))
    return str(path)


def test_a_run_that_was_killed_is_compared_up_to_its_last_decision(
    compared: Compared,
) -> None:
    a, b = compared.write("a", usual()), Path(compared.write("b", usual()))
    lines = b.read_bytes().splitlines(keepends=True)
    b.write_bytes(b"".join(lines[:4]) + lines[4][:-9])
    code, text = compared.files(a, str(b))
    assert code == 0
    assert "3 decisions, cut off before its end" in text
    assert "compared: 3 decisions" in text
    assert "not compared: 3 decisions of A" in text


def test_several_strategies_are_compared_each_with_its_own(compared: Compared) -> None:
    other = compared._folder / "other.py"
    other.write_text("x = 1\n")
    run = compared.run._replace(strategies=(*compared.run.strategies, str(other)))
    both = [decision(5, "m"), decision(5, "o", strategy="other.py"), decision(6, 1)]
    a = compared.write("a", both, run)
    b = compared.write("b", [both[1], both[0], both[2]], run)
    assert compared.files(a, b)[0] == 0
    b = compared.write("b", replaced(both, 1, what="p"), run)
    code, text = compared.files(a, b)
    assert code == 1
    assert "first difference: 2026-01-01 00:05:00 UTC, other.py" in text


def renamed(compared: Compared) -> RunDescription:
    """Return the run of a copy of the strategy, under another name."""
    copy = compared._folder / "copy.py"
    copy.write_bytes(Path(compared.run.strategies[0]).read_bytes())
    return compared.run._replace(strategies=(str(copy),))


def test_a_copy_of_the_strategy_is_the_same_strategy(compared: Compared) -> None:
    a = compared.write("a", usual())
    b = compared.write(
        "b", [d._replace(strategy="copy.py") for d in usual()], renamed(compared)
    )
    assert compared.files(a, b)[0] == 0


def edited(compared: Compared) -> RunDescription:
    file = compared._folder / "edited.py"
    file.write_text("x = 1\n")
    return compared.run._replace(strategies=(str(file),))


OTHER_RUNS: list[tuple[Callable[[Compared], RunDescription], str]] = [
    (
        edited,
        r"of different strategies: .*a.jsonl of ma.py \(SHA-256 \w+\), .*edited.py",
    ),
    (
        lambda c: c.run._replace(symbols=("A",)),
        r"of different symbols: .*a.jsonl of A,B, .*b.jsonl of A$",
    ),
    (
        lambda c: c.run._replace(frequency="5m"),
        r"of different frequencies: .*a.jsonl of 1m, .*b.jsonl of 5m$",
    ),
]


@pytest.mark.parametrize(("other", "message"), OTHER_RUNS)
def test_runs_of_another_kind_are_refused(
    compared: Compared, other: Callable[[Compared], RunDescription], message: str
) -> None:
    a = compared.write("a", usual())
    b = compared.write("b", usual(), other(compared))
    code, text = compared.files(a, b)
    assert code == 2
    assert text.startswith("error: the recordings are of different ")
    assert re.search(message, text.strip()), text


def test_runs_without_a_common_time_are_refused(compared: Compared) -> None:
    a = record_range(compared, "a", [], 1, 5)
    b = record_range(compared, "b", [], 6, 9)
    code, text = compared.files(a, b)
    assert code == 2
    assert (
        "have no close time in common: one handled 2026-01-01 00:01:00 UTC to" in text
    )
    none = record_range(compared, "c", [], 1, 0)
    assert "the other none" in compared.files(a, none)[1]


def test_files_that_cannot_be_read_exit_with_2(compared: Compared) -> None:
    a = compared.write("a", usual())
    damaged = compared._folder / "damaged.jsonl"
    damaged.write_text(Path(a).read_text().replace('"receipts"', '"bars"', 1))
    for wrong, message in (
        (str(compared._folder / "gone"), "No such file"),
        (compared.run.strategies[0], "is not a recording of decisions"),
        (str(damaged), "damaged.jsonl, line 2 is damaged"),
    ):
        for pair in ((a, wrong), (wrong, a)):
            code, text = compared.files(*pair)
            assert code == 2
            assert message in text
            assert text.startswith("error: ")


LINES = [0, 1, -2, -1]  # the header, decisions, the end
WRONG: list[Any] = [None, [], {}, "\ud800", -1, 1e300, 10**30, True, [1], [[1, 2]]]
GONE = object()


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each value within a value."""
    if not isinstance(value, dict | list):
        return
    for key in value if isinstance(value, dict) else range(len(value)):
        yield (*place, key)
        yield from places(value[key], (*place, key))


def spoil(lines: list[str], number: int, place: tuple[Any, ...], value: Any) -> str:
    """Return the lines, with another value at a place, or without it."""
    changed = json.loads(lines[number])
    within = changed
    for key in place[:-1]:
        within = within[key]
    if value is GONE:
        del within[place[-1]]
    else:
        within[place[-1]] = value
    text = [*lines]
    text[number] = json.dumps(changed)
    return "\n".join(text) + "\n"


def test_a_line_with_any_other_value_is_compared_or_named(compared: Compared) -> None:
    a = compared.write("a", usual())
    lines = Path(a).read_text().splitlines()
    spoilt = compared._folder / "spoilt.jsonl"
    codes = set()
    for number in LINES:
        for place in places(json.loads(lines[number])):
            for value in (GONE, *WRONG):
                spoilt.write_text(spoil(lines, number, place, value))
                code, text = compared.files(a, str(spoilt))
                assert text.encode()
                codes.add(code)
                line = f"line {number % len(lines) + 1} is damaged: "
                if code == 2 and number:
                    named = line in text and "another kind" not in text
                    assert named or "no close time in common" in text, (place, text)
    assert codes == {0, 1, 2}


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("what",), GONE, "it lacks 'what'"),
        (("receipts", 0, "rows"), GONE, "it lacks 'receipts[0].rows'"),
        (("time",), "x", "time is 'x'; it must be an int of ms UTC"),
        (("receipts", 0, "first"), 1.5, "receipts[0].first is 1.5; it must be an int"),
        (("receipts",), 3, "receipts is 3; it must be a list of receipts"),
    ],
)
def test_a_damaged_line_is_named_with_what_it_must_be(
    compared: Compared, place: tuple[Any, ...], value: Any, words: str
) -> None:
    a = compared.write("a", usual())
    lines = Path(a).read_text().splitlines()
    spoilt = compared._folder / "spoilt.jsonl"
    spoilt.write_text(spoil(lines, 1, place, value))
    code, text = compared.files(a, str(spoilt))
    assert code == 2
    assert f"{spoilt}, line 2 is damaged: {words}" in text


def test_json(compared: Compared) -> None:
    code, text = compared(usual(), usual(b4=2.5), "--json")
    found = json.loads(text)
    assert code == 1
    assert found["difference"]["time"] == decision(5, 0).time
    assert found["difference"]["what"] == [
        {"path": "what['close']", "a": 1.5, "b": 2.5}
    ]
    assert found["bars"] == [
        {
            "symbol": "A",
            "timeframe": "1m",
            "open_time": decision(4, 0).time,
            "a": [1.0, 3.0, 0.5, 1.5, 4.0],
            "b": [1.0, 3.0, 0.5, 2.5, 4.0],
            "forming": False,
        }
    ]
    code, text = compared(usual(), usual(), "--json")
    assert (code, json.loads(text)["same"]) == (0, True)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (None, False, False),
        ("1", 1, False),
        ([1, {"a": None}], [1.0, {"a": None}], True),
        ({"a": None}, {}, False),
        ([], {}, False),
        ([1], [1, 1], False),
    ],
)
def test_values_are_the_same_as_json_has_them(one: Any, other: Any, same: bool) -> None:
    assert same_value(one, other) is same
    assert same_value(other, one) is same


def test_the_command_exits_with_these_codes(compared: Compared) -> None:
    a, b = compared.write("a", usual()), compared.write("b", usual(b4=2.5))
    for files, code in (((a, b), 1), ((a, "gone"), 2)):
        command = [sys.executable, "-m", "wealthdata", "compare", *files]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == code, run.stderr
