"""The benchmarks run and say what they should; how fast anything is, is not asked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(program: str) -> tuple[dict, str]:
    """What a smoke run says: the samples, and the table."""
    command = [sys.executable, "-W", "error", BENCHMARKS / program, "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("program", ["bench_read.py", "bench_get_price.py"])
def test_each_case_is_measured_beside_the_first_of_its_question(program):
    told, table = run(program)
    assert {"CPU", "cores", "kernel", "Python", "load", "at"} <= told["machine"].keys()
    assert told["machine"]["CPU"] in table
    assert told["results"]
    for row in told["results"]:
        assert row["label"] in table
        assert len(row["wall"]) == len(row["cpu"]) == len(row["ratio"]) > 0
        assert min(row["wall"]) > 0


def test_the_feeder_is_measured_beside_a_bare_loop_and_loses_nothing():
    told, table = run("bench_ingest.py")
    assert told["results"].keys() == {"wealthai", "binance"}
    for protocol, runs in told["results"].items():
        assert runs.keys() == {"drain", "bare", "feeder", "app"}
        assert protocol in table
    assert table.count("each value right") == 2
