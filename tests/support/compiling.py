"""Compile the programs of tests/native with the protocol, or with a mutant of it.

A *change* is a text of protocol.h and its replacement, made in a copy. A change whose
text is not found exactly once is a failure.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import cores

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "tests/native"
CSRC = ROOT / "shmfeed/csrc"
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-g")
NEEDS_BUILD = pytest.mark.skipif(
    shutil.which("cc") is None
    or not Path(sysconfig.get_path("include"), "Python.h").exists()
    or int(np.__version__.split(".")[0]) < 2,
    reason="no C compiler here, or no headers of Python, or those of a numpy before 2:"
    " no extension",
)
NEEDS_COMPILER = pytest.mark.skipif(
    shutil.which("cc") is None, reason="no C compiler here: nothing can be compiled"
)
ADDRESSES = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
# ThreadSanitizer ignores fences, with a warning; each access is atomic by itself.
THREADS = ("-O1", "-fsanitize=thread", "-Wno-error", "-w")

Change = tuple[str, str]

_ACQUIRE = "    atomic_thread_fence(memory_order_acquire);\n"
_RELEASE = "    atomic_thread_fence(memory_order_release);\n"
_OUTRUN = "ring_load(latch) == counter ? LATCH_WHOLE : LATCH_OUTRUN"
_LOOK = "    /* R4, acquire: pairs with A2."
# By the steps of protocol.h: each mutant lacks or breaks one of them.
MUTANTS: dict[str, Change] = {
    "A1 publishes": (
        "ring_store(slot->header + SHM_S_INTENT, row + 1);",
        "ring_store(slot->header + SHM_S_PUBLISHED, row + 1);",
    ),
    "A2": (f"{_RELEASE}    for (int column", "    for (int column"),
    "A4": (
        "ring_store_release(slot->header + SHM_S_PUBLISHED",
        "ring_store(slot->header + SHM_S_PUBLISHED",
    ),
    "R2": ("*last = ring_load_acquire(", "*last = ring_load("),
    "R2 of a count": ("*count = ring_load_acquire(", "*count = ring_load("),
    "R4": (f"{_ACQUIRE}    /* R5", "    /* R5"),
    "R5": ("intent = ring_load_acquire(", "intent = ring_load("),
    "R4 and R5": (_LOOK, f"    return true;\n{_LOOK}"),
    "U1": (f"{_RELEASE}    for (int word", "    for (int word"),
    "U2 in place": (
        "latch_cell(latch, counter);\n\n",
        "latch_cell(latch, counter - 1);\n\n",
    ),
    "U3": ("ring_store_release(latch, counter)", "ring_store(latch, counter)"),
    "F1": ("counter = ring_load_acquire(latch)", "counter = ring_load(latch)"),
    "F3": (f"{_ACQUIRE}    return {_OUTRUN}", f"    return {_OUTRUN}"),
    "F3 and F4": (f"{_ACQUIRE}    return {_OUTRUN}", "    return LATCH_WHOLE"),
}
Done = subprocess.CompletedProcess[str]

_GENERATE = """
import pathlib, runpy, sys
runpy.run_path("setup.py")["write_headers"](pathlib.Path(sys.argv[1]))
"""


def headers(into: Path, change: Change | None = None) -> None:
    """Write the headers of a program, and protocol.h with the change."""
    for name, text in _generated().items():
        (into / name).write_text(text)
    shutil.copy(CSRC / "liveness.h", into)
    (into / "protocol.h").write_text(changed(change))


@cache
def _generated() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _GENERATE, folder]
        subprocess.run(command, cwd=ROOT, check=True, timeout=60)
        return {header.name: header.read_text() for header in Path(folder).iterdir()}


def changed(change: Change | None) -> str:
    text = (CSRC / "protocol.h").read_text()
    if change is not None:
        assert text.count(change[0]) == 1, (
            f"not exactly once in protocol.h: {change[0]}"
        )
        text = text.replace(*change)
    return text


def checkout(into: Path, change: Change | None = None) -> Path:
    """Copy the project as a clean checkout, with the change; return its path."""
    tree = into / "source"
    tree.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    clean = shutil.ignore_patterns("*.so", "__pycache__")
    for package in ("shmfeed", "wealthdata"):
        shutil.copytree(ROOT / package, tree / package, ignore=clean)
    (tree / "shmfeed/csrc/protocol.h").write_text(changed(change))
    return tree


def compiled(
    program: str,
    into: Path,
    *flags: str,
    change: Change | None = None,
    compiler: str = "cc",
) -> Path:
    """Compile a program, or its object with `-c`; return its path."""
    headers(into, change)
    target = into / program
    source = NATIVE / f"{program}.c"
    command = [compiler, *STRICT, f"-I{into}", f"-I{NATIVE}", str(source), *flags]
    command += ["-pthread", "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


def built_core(source: Path, into: Path, flags: str) -> Path:
    """Build the extension of a source tree with more flags; return its path."""
    places = ["--build-lib", str(into / "lib"), "--build-temp", str(into / "temp")]
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", *places],
        cwd=source,
        env=os.environ | {"CFLAGS": flags, "SHMFEED_BUILD_EXTENSION": "yes"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (found,) = (into / "lib").rglob("_ringbuf*.so")
    return found


def mutant_core(mutant: str, into: Path) -> cores.Core:
    """Build the extension of a mutant; return its classes."""
    return loaded_core(built_core(checkout(into, MUTANTS[mutant]), into, ""))


def loaded_core(path: Path) -> cores.Core:
    """Return the classes of an extension, loaded beside the others."""
    module = loaded_extension(path)
    return cores.Core("C", module.RingReader, module.RingWriter)


def loaded_extension(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("mutant._ringbuf", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ran(program: Path, *arguments: object) -> Done:
    """Run a program once; return its result, whatever that is."""
    command = [str(program), *map(str, arguments)]
    environ = os.environ | {"TSAN_OPTIONS": "halt_on_error=1"}
    done = _run(command, environ)
    if "unexpected memory mapping" in done.stderr:
        # The kernel randomises addresses more widely than this sanitizer knows.
        done = _run(["setarch", "-R", *command], environ)
    return done


def _run(command: list[str], environ: dict[str, str]) -> Done:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=900, env=environ, check=False
    )


def numbers(done: Done) -> dict[str, int]:
    """Return the counts of a program that succeeded: `name=number name=number`."""
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout.strip())
    return counted(done.stdout)


def counted(text: str) -> dict[str, int]:
    pairs = (word.split("=") for word in text.split())
    return {name: int(number) for name, number in pairs}
