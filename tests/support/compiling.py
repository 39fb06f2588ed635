"""Compile the programs of tests/native with the protocol as it is, or broken.

What is broken is a line of a copy: a *change* is a text of protocol.h and what stands
there instead. A change that does not find its text once is a failure.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

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
# It takes no notice of fences and says so: each access is atomic without them.
THREADS = ("-O1", "-fsanitize=thread", "-Wno-error", "-w")

Change = tuple[str, str]
Done = subprocess.CompletedProcess[str]

_WRITE_LAYOUT = """
import pathlib, runpy, sys
runpy.run_path("setup.py")["write_layout"](pathlib.Path(sys.argv[1]))
"""


def headers(into: Path, change: Change | None = None) -> None:
    """What a program includes: the layout, and protocol.h with or without a change."""
    (into / "layout.h").write_text(_layout())
    shutil.copy(CSRC / "liveness.h", into)
    (into / "protocol.h").write_text(changed(change))


@cache
def _layout() -> str:
    with tempfile.TemporaryDirectory() as folder:
        header = Path(folder, "layout.h")
        command = [sys.executable, "-c", _WRITE_LAYOUT, str(header)]
        subprocess.run(command, cwd=ROOT, check=True, timeout=60)
        return header.read_text()


def changed(change: Change | None) -> str:
    text = (CSRC / "protocol.h").read_text()
    if change is not None:
        assert text.count(change[0]) == 1, f"protocol.h has it not once: {change[0]}"
        text = text.replace(*change)
    return text


def checkout(into: Path, change: Change | None = None) -> Path:
    """The project as a clean checkout has it, but for the change."""
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
    """The program, or with `-c` its object."""
    headers(into, change)
    target = into / program
    source = NATIVE / f"{program}.c"
    command = [compiler, *STRICT, f"-I{into}", f"-I{NATIVE}", str(source), *flags]
    command += ["-pthread", "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


def built_core(source: Path, into: Path, flags: str) -> Path:
    """The extension of a source tree, compiled with these flags too."""
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


def ran(program: Path, *arguments: object) -> Done:
    """One run of it; whatever its end."""
    command = [str(program), *map(str, arguments)]
    environ = os.environ | {"TSAN_OPTIONS": "halt_on_error=1"}
    done = _run(command, environ)
    if "unexpected memory mapping" in done.stderr:
        # A kernel that spreads addresses wider than this sanitizer knows.
        done = _run(["setarch", "-R", *command], environ)
    return done


def _run(command: list[str], environ: dict[str, str]) -> Done:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=900, env=environ, check=False
    )


def numbers(done: Done) -> dict[str, int]:
    """What a program counted, of its line `name=number name=number`."""
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout.strip())
    return counted(done)


def counted(done: Done) -> dict[str, int]:
    pairs = (word.split("=") for word in done.stdout.split())
    return {name: int(number) for name, number in pairs}
