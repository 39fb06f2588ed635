"""The C protocol in every execution that the memory model of C11 permits.

Relacy runs a writer beside a reader in each order, with each value that a load may
find, and counts the executions out. The protocol is that of protocol.h, compiled as
C++ with Relacy's words; nothing is written twice. A mutant that lacks one of the
orderings must fail. Readers store nothing, so the one reordering that Relacy leaves
out, of a load with a later store, cannot concern them.
"""

import subprocess
from pathlib import Path

import pytest
from support import forks
from support.compiling import MUTANTS, NATIVE, Change, changed, counted, headers

RELACY = Path("/usr/include/relacy/relacy.hpp")
pytestmark = [
    pytest.mark.skipif(
        not RELACY.exists(), reason=f"no {RELACY} here: apt-get install relacy-dev g++"
    ),
    pytest.mark.timeout(600),
]

# By scenario of explored.cpp: columns, and the executions at least.
SCENARIOS = {
    "Appends": (2, 100_000),
    "Counts": (2, 900),
    "Latches": (2, 10_000),
    "Swap": (2, 100_000),
    "Reuse": (1, 500_000),
}
# The steps of protocol.h that each scenario needs, and orderings of explored.cpp.
NEEDED = {
    "Appends": ["A1 publishes", "A2", "A4", "R2", "R4", "R4 and R5"],
    "Counts": ["R2 of a count"],
    "Latches": ["U1", "U2 in place", "U3", "F1", "F3", "F3 and F4"],
    "Swap": ["S4", "R1"],
    "Reuse": ["R5", "S2"],
}
_FENCE = "        atomic_thread_fence(memory_order_seq_cst);\n"
OF_SWAPS: dict[str, Change] = {
    "S2": (f"{_FENCE}        fill(number", "        fill(number"),
    "S4": ("ring_store_release(&catalog", "ring_store(&catalog"),
    "R1": ("ring_load_acquire(&segment.catalog)", "ring_load(&segment.catalog)"),
}
PAIRS = [(scenario, step) for scenario, steps in NEEDED.items() for step in steps]
# A compilation takes seconds: a change tries one of each, `make races` all.
ALL = forks.SCALE > 1
OPTIMIZE = "-O1" if ALL else "-O0"


def explored(
    scenario: str, step: str | None, into: Path
) -> subprocess.CompletedProcess:
    """Compile the protocol, or a mutant of it, and run the scenario."""
    headers(into)
    protocol, source = changed(MUTANTS.get(step)), NATIVE / "explored.cpp"
    for text in ("typedef _Atomic int64_t ring_word;", "#include <stdatomic.h>"):
        assert protocol.count(text) == 1
    protocol = protocol.replace("_Atomic int64_t ring", "relacy_word ring")
    protocol = protocol.replace("#include <stdatomic.h>", "")
    (into / "protocol.h").write_text(protocol)
    program = source.read_text()
    if step in OF_SWAPS:
        assert program.count(OF_SWAPS[step][0]) == 1
        program = program.replace(*OF_SWAPS[step])
    (into / "explored.cpp").write_text(program)
    columns, _ = SCENARIOS[scenario]
    command = ["g++", OPTIMIZE, "-w", f"-I{into}"]
    command += [f"-DSCENARIO={scenario}", f"-DCOLUMNS={columns}"]
    command += ["-o", str(into / "explored"), str(into / "explored.cpp")]
    subprocess.run(command, check=True, timeout=300)
    return subprocess.run(
        [str(into / "explored")],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def executions(done: subprocess.CompletedProcess) -> int:
    line = done.stdout.splitlines()[-1]
    print(line)
    return counted(line)["executions"]


@pytest.mark.parametrize("scenario", SCENARIOS if ALL else ["Swap"])
def test_no_execution_reads_what_was_not_written(tmp_path, scenario) -> None:
    done = explored(scenario, None, tmp_path)
    assert done.returncode == 0, done.stdout[-5000:]
    assert executions(done) >= SCENARIOS[scenario][1]


@pytest.mark.parametrize(("scenario", "step"), PAIRS if ALL else [("Swap", "S4")])
def test_without_an_ordering_some_execution_does(tmp_path, scenario, step) -> None:
    done = explored(scenario, step, tmp_path)
    assert done.returncode == 1
    assert "USER ASSERT FAILED" in done.stdout
    executions(done)


def test_each_mutant_of_the_protocol_has_a_scenario() -> None:
    assert {step for _, step in PAIRS} == MUTANTS.keys() | OF_SWAPS.keys()
