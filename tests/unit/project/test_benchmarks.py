"""The benchmarks run and print their results; no speed is checked."""

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


def run(benchmark: str) -> tuple[dict, str]:
    """Run a benchmark quickly; return its JSON and its table."""
    command = [sys.executable, "-W", "error", BENCHMARKS / f"{benchmark}.py"]
    command += ["--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def check(found: dict, table: str, benchmark: str) -> None:
    """Check that the machine, the goals and the missing rivals are printed."""
    assert found["benchmark"] == benchmark
    machine = {"CPU", "cores", "kernel", "Python", "core", "load", "at"}
    assert machine <= found["machine"].keys()
    assert found["machine"]["CPU"] in table
    assert found["goals"]
    for goal in found["goals"]:
        assert goal.keys() == GOAL
        assert f"{goal['what']}: {goal['value']}; goal {goal['goal']}" in table
    for rival, why in found["missing"].items():
        assert f"not measured: {rival}: {why}" in table


@pytest.mark.parametrize(
    "benchmark",
    [
        "bench_read",
        "bench_write",
        "bench_get_price",
        "bench_cold",
        "bench_many",
        "bench_strategy_reads",
    ],
)
def test_each_case_is_compared_with_the_first_of_its_comparison(benchmark):
    found, table = run(benchmark)
    check(found, table, benchmark)
    assert found["results"]["rows"]
    for row in found["results"]["rows"]:
        assert row["label"] in table
        for name in SPREADS:
            median, low, high = row[name]
            assert 0 <= low <= median <= high
        assert row["wall"][0] > 0


def test_the_feeder_is_compared_with_a_bare_loop_and_loses_nothing():
    benchmark = "bench_ingest"
    found, table = run(benchmark)
    check(found, table, benchmark)
    assert found["results"].keys() == {"wealthai", "binance"}
    for protocol, runs in found["results"].items():
        assert runs.keys() == {"drain", "bare", "feeder", "app"}
        assert protocol in table
    assert table.count("each value right") == 2


def test_a_feeder_that_counts_latencies_is_compared_with_one_that_does_not():
    benchmark = "bench_metrics"
    found, table = run(benchmark)
    check(found, table, benchmark)
    scrape = found["results"]["scrape"]
    assert scrape["lines"] > 5 * 50
    for pair in found["results"]["each message a batch"]:
        assert pair.keys() == {"counted", "not counted"}
        assert all(one["cpu"] > 0 for one in pair.values())


def test_a_read_a_bar_is_compared_with_that_read_alone():
    benchmark = "bench_runner"
    found, table = run(benchmark)
    check(found, table, benchmark)
    assert found["results"].keys() == {"backtest", "replay"}
    for mode, runs in found["results"].items():
        assert mode in table
        assert all(value > 0 for one in runs for value in one.values())


def test_sleepers_are_compared_with_the_floor():
    benchmark = "bench_wakeup"
    found, table = run(benchmark)
    check(found, table, benchmark)
    for label, samples in found["results"].items():
        assert label in table
        assert min(samples["p50"]) > 0
        assert sum(samples["histogram"].values()) > 0


def test_loops_over_events_are_compared_with_a_wait():
    benchmark = "bench_follow"
    found, table = run(benchmark)
    check(found, table, benchmark)
    for label, samples in found["results"].items():
        assert label in table
        assert min(samples["p50 us"]) > 0


def test_a_reader_that_spins_is_compared_with_one_that_sleeps():
    benchmark = "bench_spin"
    found, table = run(benchmark)
    check(found, table, benchmark)
    assert {"spin", "sleep"} <= found["results"].keys()
    for rounds in found["results"].values():
        assert all(ns > 0 for one in rounds for ns in one["ns"])


def test_reads_are_measured_among_readers_and_among_streams():
    benchmark = "bench_scaling"
    found, table = run(benchmark)
    check(found, table, benchmark)
    for rows in (found["results"]["readers"], found["results"]["streams"]):
        assert len({row["size"] for row in rows}) > 1
        assert all(row["us"][0] > 0 for row in rows)


def test_wakes_are_counted_once_a_batch():
    benchmark = "bench_waiters"
    found, table = run(benchmark)
    check(found, table, benchmark)
    wakes = {row["action"]: row["wakes"] for row in found["results"]}
    assert wakes["one bar, a wake"] == wakes["50 bars, one wake"] == 1
    assert wakes["50 bars, a wake each"] == 50  # the control
    assert all(row["awake"] > 0 for row in found["results"] if row["readers"])


def test_the_footprint_is_measured():
    benchmark = "bench_footprint"
    found, table = run(benchmark)
    check(found, table, benchmark)
    assert all(what in table for what in found["results"])


def test_a_missing_rival_is_named_with_the_reason(monkeypatch):
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
    goal = report.times_faster("reads", None, None, 4)
    assert (goal.met, goal.value) == (None, "it cannot be measured here")


def run_all(into: Path, *benchmarks: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "error", BENCHMARKS / "run.py", "--quick"]
    command += ["--into", into, *benchmarks]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_all_goals_are_in_one_table(tmp_path):
    benchmark = "bench_waiters"
    done = run_all(tmp_path, benchmark)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / f"{benchmark}.json").read_text())
    check(found, (tmp_path / f"{benchmark}.txt").read_text(), benchmark)
    table = (tmp_path / "README.md").read_text()
    for goal in found["goals"]:
        assert f"| {goal['what']} | {goal['goal']} | {goal['value']} |" in table
    assert found["machine"]["CPU"] in table
    if find_spec("matplotlib"):
        assert "![Cost of waiting readers for the writer](waiting_readers.png)" in table
        assert (tmp_path / "waiting_readers.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / "waiting_readers.svg").read_text()
    else:
        assert "no plots: the package matplotlib is not installed" in done.stdout


def test_an_unknown_benchmark_is_an_error(tmp_path):
    done = run_all(tmp_path, "bench_it")
    assert done.returncode == 2
    assert "unknown benchmark 'bench_it'; one of: bench_read" in done.stderr


def test_a_goal_is_met_missed_or_not_measured(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    results = import_module("results")
    goals = [
        {"what": f"goal {met}", "goal": "1", "value": "2", "met": met}
        for met in (True, False, None)
    ]
    machine = {"CPU": "a CPU", "load": "0.1 0.2 0.3", "at": "today"}
    found = {"benchmark": "p", "machine": machine, "missing": {}, "goals": goals}
    results.write_table(tmp_path, {"p": found}, {})
    table = (tmp_path / "README.md").read_text()
    for met, word in ((True, "met"), (False, "**missed**"), (None, "not measured")):
        assert f"| goal {met} | 1 | 2 | {word} |" in table
    page = tmp_path / "page.md"
    page.write_text(f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n")
    results.update_page(page, {"p": found})
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| goal False | 1 | 2 | **missed** |" in text
    assert "old" not in text


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
    assert f" Of all {len(measured)}, {met} were met.\n" in readme
    for name in re.findall(r"!\[.*?\]\((benchmarks/.*?)\)", readme):
        assert (root / name).is_file(), name
