"""The C protocol compiled for ARM64, whose CPUs reorder: each ordering is in the code.

The test reads the compiled code of each verb as a sequence of accesses and barriers; an
emulator on x86-64 would reorder nothing.
"""

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from support.compiling import (
    CSRC,
    MUTANTS,
    NEEDS_BUILD,
    STRICT,
    Change,
    compiled,
    headers,
)

COMPILER = "aarch64-linux-gnu-gcc"
pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER) is None,
    reason=f"no {COMPILER} here: apt-get install gcc-aarch64-linux-gnu",
)

# By instruction: a Load, a Store, an Acquire load, a Release store, and the barriers:
# Full, and of loads.
KINDS = (
    ("lda", "A"),
    ("stl", "R"),
    ("dmb ish", "F"),
    ("dmb ishld", "f"),
    ("ld", "L"),
    ("st", "S"),
)
WRITES = "[LS]*S[LS]*"  # one at least
READS = "[LS]*L[LS]*"
ORDERS = {
    # intent; fence; the row; published, released
    "append": rf"L*SF{WRITES}R",
    # published, acquired; base
    "window": rf"L*A{READS}",
    # published, acquired; epoch
    "count": rf"L*A{READS}",
    # fence; intent, acquired; epoch
    "held": r"L*fL*ALL+",
    # the window; the rows; held
    "snapshot": rf"L*A{READS}fL*ALL+",
    # counter; fence; the cell; counter, released
    "latch_write": rf"L+F{WRITES}R",
    # counter, acquired; the cell; fence; counter
    "latch_read": rf"A{READS}fL+",
}


def kind(instruction: str) -> str:
    """Return the letter of an instruction, nothing for one that orders nothing."""
    words = " ".join(instruction.split()[:2] if "dmb" in instruction else [instruction])
    if "[sp" in words:
        return ""  # the function's own stack
    for name, letter in KINDS:
        if words == name or (name[:3] != "dmb" and words.startswith(name)):
            return letter
    return ""


def accesses(code: str) -> dict[str, str]:
    """Return the accesses and barriers of each function of a disassembly, in order."""
    found: dict[str, str] = {}
    name = ""
    for line in code.splitlines():
        head = re.fullmatch(r"[0-9a-f]+ <(\w+)>:", line)
        if head:
            name = head[1]
            found[name] = ""
        elif name and ":\t" in line:
            found[name] += kind(line.split(":\t")[1])
    return found


def disassembled(code: Path) -> dict[str, str]:
    command = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", str(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return accesses(done.stdout)


def disordered(into: Path, *flags: str, change: Change | None = None) -> list[str]:
    """Return the verbs whose compiled code lacks an ordering."""
    code = compiled(
        "verbs", into, "-O2", "-c", *flags, change=change, compiler=COMPILER
    )
    found = disassembled(code)
    return [
        verb
        for verb, order in ORDERS.items()
        if not re.fullmatch(order, found[f"verb_{verb}"])
    ]


@pytest.mark.parametrize("cpu", ["armv8-a", "armv8.4-a"])
def test_each_ordering_is_in_the_compiled_code(tmp_path, cpu) -> None:
    assert disordered(tmp_path, f"-march={cpu}") == []


@pytest.mark.parametrize(
    ("mutant", "missed"),
    [
        ("A2", ["append"]),
        ("A4", ["append"]),
        ("R2", ["window", "snapshot"]),
        ("R2 of a count", ["count"]),
        ("R4", ["held", "snapshot"]),
        ("R5", ["held", "snapshot"]),
        ("R4 and R5", ["held", "snapshot"]),
        ("U1", ["latch_write"]),
        ("U3", ["latch_write"]),
        ("F1", ["latch_read"]),
        ("F3", ["latch_read"]),
        ("F3 and F4", ["latch_read"]),
    ],
)
def test_an_ordering_that_is_left_out_is_missed(tmp_path, mutant, missed) -> None:
    assert disordered(tmp_path, change=MUTANTS[mutant]) == missed


@NEEDS_BUILD
def test_the_whole_extension_compiles_for_arm64(tmp_path) -> None:
    headers(tmp_path)
    code = tmp_path / "_ringbuf.o"
    places = (
        tmp_path,
        CSRC,
        CSRC.parent,
        sysconfig.get_path("include"),
        np.get_include(),
    )
    command = [COMPILER, *STRICT, "-O2", "-c", "-o", str(code)]
    command += [f"-I{place}" for place in places]
    command += ["-Wno-unused-parameter", str(CSRC.parent / "_ringbuf.c")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "pyconfig.h: No such file" in done.stderr:
        pytest.skip("this Python's headers are for its own CPU alone")
    assert done.returncode == 0, done.stderr
    whole = "".join(disassembled(code).values())
    assert set(whole) >= set("LSARFf")


@pytest.mark.parametrize(
    ("instruction", "letter"),
    [
        ("ldar\tx4, [x4]", "A"),
        ("ldapur\tx4, [x4, #16]", "A"),
        ("ldp\tx8, x12, [x0]", "L"),
        ("str\tx9, [x4]", "S"),
        ("stlr\tx9, [x0]", "R"),
        ("stlur\tx9, [x0, #16]", "R"),
        ("stp\tx29, x30, [sp, #-16]!", ""),
        ("dmb\tish", "F"),
        ("dmb\tishld", "f"),
        ("dmb\tishst", ""),
        ("add\tx3, x4, x2", ""),
        ("ret", ""),
    ],
)
def test_instructions_are_told_apart(instruction, letter) -> None:
    assert kind(instruction) == letter
