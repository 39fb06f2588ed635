"""The benchmarks run and say what they should; how fast anything is, is not asked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
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


@pytest.mark.parametrize(
    "program", ["how_fast_is_a_read", "how_fast_is_a_write", "how_fast_is_get_price"]
)
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
    program = "how_many_messages_are_taken_in"
    told, table = run(program)
    check(told, table, program)
    assert told["results"].keys() == {"wealthai", "binance"}
    for protocol, runs in told["results"].items():
        assert runs.keys() == {"drain", "bare", "feeder", "app"}
        assert protocol in table
    assert table.count("each value right") == 2
