"""The benchmarks run and say what they should; how fast anything is, is not asked."""

import json
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
GOAL = {"what", "goal", "value", "met"}
SPREADS = ("wall", "cpu", "empty", "net", "ratio")


def run(program: str) -> tuple[dict, str]:
    """What a smoke run says: the results, and the table."""
    command = [sys.executable, "-W", "error", BENCHMARKS / f"{program}.py"]
    command += ["--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def check(told: dict, table: str, program: str) -> None:
    """What each program says: the machine, its goals, and rivals that are not here."""
    assert told["program"] == program
    machine = {"CPU", "cores", "kernel", "Python", "core", "load", "at"}
    assert machine <= told["machine"].keys()
    assert told["machine"]["CPU"] in table
    assert told["goals"]
    for goal in told["goals"]:
        assert goal.keys() == GOAL
        assert f"{goal['what']}: {goal['value']}; goal {goal['goal']}" in table
    for rival, why in told["missing"].items():
        assert f"not measured: {rival}: {why}" in table


@pytest.mark.parametrize("program", ["bench_read", "bench_write", "bench_get_price"])
def test_each_case_is_measured_beside_the_first_of_its_question(program):
    told, table = run(program)
    check(told, table, program)
    assert told["results"]["rows"]
    for row in told["results"]["rows"]:
        assert row["label"] in table
        for name in SPREADS:
            median, low, high = row[name]
            assert 0 <= low <= median <= high
        assert row["wall"][0] > 0


def test_the_feeder_is_measured_beside_a_bare_loop_and_loses_nothing():
    program = "bench_ingest"
    told, table = run(program)
    check(told, table, program)
    assert told["results"].keys() == {"wealthai", "binance"}
    for protocol, runs in told["results"].items():
        assert runs.keys() == {"drain", "bare", "feeder", "app"}
        assert protocol in table
    assert table.count("each value right") == 2


def test_sleepers_are_measured_beside_the_floor():
    program = "bench_wakeup"
    told, table = run(program)
    check(told, table, program)
    for label, found in told["results"].items():
        assert label in table
        assert min(found["p50"]) > 0
        assert sum(found["histogram"].values()) > 0


def test_reads_are_measured_beside_others_and_among_many_streams():
    program = "bench_scaling"
    told, table = run(program)
    check(told, table, program)
    for found in (told["results"]["readers"], told["results"]["streams"]):
        assert len({row["size"] for row in found}) > 1
        assert all(row["us"][0] > 0 for row in found)


def test_wakes_are_counted_once_a_batch():
    program = "bench_waiters"
    told, table = run(program)
    check(told, table, program)
    rings = {row["act"]: row["rings"] for row in told["results"]}
    assert rings["one bar, a wake"] == rings["50 bars, one wake"] == 1
    assert rings["50 bars, a wake each"] == 50  # the control
    assert all(row["wakes"] > 0 for row in told["results"] if row["readers"])


def test_each_weight_is_taken():
    program = "bench_footprint"
    told, table = run(program)
    check(told, table, program)
    assert all(what in table for what in told["results"])


def test_a_rival_that_is_not_here_is_named_with_the_reason(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    rivals = {name: import_module(name) for name in ("on_lmdb", "on_iceoryx")}
    report = import_module("report")
    for module in rivals.values():
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert report.missing(rivals) == {
        "on_lmdb": "the package lmdb is not installed",
        "on_iceoryx": "the package iceoryx2 is not installed",
    }
    for module in rivals.values():
        monkeypatch.setattr(module, "find_spec", lambda name: object())
    assert report.missing(rivals) == {}
    goal = report.against("reads", None, None, 4)
    assert (goal.met, goal.value) == (None, "the rival is not here")


def run_all(into: Path, *programs: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "error", BENCHMARKS / "run.py", "--quick"]
    command += ["--into", into, *programs]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_all_goals_are_in_one_table(tmp_path):
    program = "bench_waiters"
    done = run_all(tmp_path, program)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / f"{program}.json").read_text())
    check(told, (tmp_path / f"{program}.txt").read_text(), program)
    table = (tmp_path / "README.md").read_text()
    for goal in told["goals"]:
        assert f"| {goal['what']} | {goal['goal']} | {goal['value']} |" in table
    assert told["machine"]["CPU"] in table
    if find_spec("matplotlib"):
        assert "![What waiting readers cost the writer](waiting_readers.png)" in table
        assert (tmp_path / "waiting_readers.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / "waiting_readers.svg").read_text()
    else:
        assert "no plots: the package matplotlib is not installed" in done.stdout


def test_a_program_that_there_is_not(tmp_path):
    done = run_all(tmp_path, "bench_it")
    assert done.returncode == 2
    assert "bench_it is none of: bench_read" in done.stderr


def test_a_goal_is_met_missed_or_not_measured(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    results = import_module("results")
    goals = [
        {"what": f"goal {met}", "goal": "1", "value": "2", "met": met}
        for met in (True, False, None)
    ]
    machine = {"CPU": "a CPU", "load": "0.1 0.2 0.3", "at": "today"}
    found = {"program": "p", "machine": machine, "missing": {}, "goals": goals}
    results.write_table(tmp_path, {"p": found}, {})
    table = (tmp_path / "README.md").read_text()
    for met, word in ((True, "met"), (False, "**missed**"), (None, "not measured")):
        assert f"| goal {met} | 1 | 2 | {word} |" in table
    page = tmp_path / "page.md"
    page.write_text(f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n")
    results.show(page, {"p": found})
    told = page.read_text()
    assert told.startswith("before\n")
    assert told.endswith("after\n")
    assert "| goal False | 1 | 2 | **missed** |" in told
    assert "old" not in told


def test_readme_shows_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    results = import_module("results")
    row = re.compile(r"^\|.*\| (?:met|not measured|\*\*missed\*\*) \|$", re.MULTILINE)
    root = BENCHMARKS.parent
    shown = row.findall((root / "README.md").read_text())
    measured = row.findall((root / "benchmarks/results/README.md").read_text())
    assert len(measured) > 20
    names = {line.split(" | ")[0].removeprefix("| ") for line in measured}
    assert names >= results.HEADLINES
    assert shown == [
        line
        for line in measured
        if line.split(" | ")[0].removeprefix("| ") in results.HEADLINES
        or not line.endswith(" met |")
    ]
    met = sum(line.endswith(" met |") for line in measured)
    readme = (root / "README.md").read_text()
    assert f"\n{met} of {len(measured)} goals were met.\n" in readme
    for name in re.findall(r"!\[.*?\]\((benchmarks/.*?)\)", readme):
        assert (root / name).is_file(), name
