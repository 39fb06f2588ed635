"""Run the project's tests on other Pythons: `make versions`, `make oldest-pandas`.

Each Python that is found, or given, gets an environment of its own with the project
in it. `--suite` runs all tests there, `--oldest-pandas` those of wealthdata with the
oldest supported pandas; without either a smoke run takes a minute. The program exits
with 1 if a test failed, with 2 if no Python was found.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = ("python3.11", "python3.12", "python3.13")
ASK = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
OLDEST = (3, 11)
SMOKE = (
    "tests/unit/shmfeed/test_package.py",
    "tests/unit/shmfeed/test_feed.py",
    "tests/unit/wealthdata/test_wealthdata_price.py",
    "tests/unit/shmfeed/test_import_anywhere.py",
    "tests/faults/test_children.py",
    "tests/unit/manager/test_manager.py",
    "tests/unit/cli/test_cli_status.py",
    "tests/unit/cli/test_cli_tail.py",
)
OLDEST_PANDAS = ("pandas==2.2.3", "numpy==2.2.6")  # with a numpy of its time
FRAMES = tuple(
    str(path.relative_to(ROOT))
    for path in (
        *ROOT.glob("tests/unit/wealthdata/*.py"),
        *ROOT.glob("tests/conformance/test_*.py"),
    )
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--venvs", type=Path, required=True, help="directory of the environments"
    )
    parser.add_argument("--suite", action="store_true", help="run all tests")
    parser.add_argument(
        "--oldest-pandas", action="store_true", help="run wealthdata's tests on it"
    )
    parser.add_argument("--tests", nargs="*", default=(), help="run these alone")
    parser.add_argument(
        "pythons", nargs="*", help="default: those on PATH and in pyenv's folder"
    )
    args = parser.parse_args()
    tests, pins = tuple(args.tests) or (() if args.suite else SMOKE), ()
    if args.oldest_pandas:
        tests, pins = FRAMES, OLDEST_PANDAS
    found = interpreters(args.pythons or [*NAMES, *in_pyenv()])
    if not found:
        return 2
    failed = [
        version
        for version, python in found.items()
        if not passes(python, args.venvs.resolve() / version, tests, pins)
    ]
    done = "the suite" if args.suite else "the smoke run"
    done = " ".join(args.tests) or done
    if args.oldest_pandas:
        done = f"wealthdata on {' '.join(OLDEST_PANDAS)}"
    print(f"{done}: {len(found) - len(failed)} of {len(found)} Pythons passed", end="")
    print(f"; failed: {' '.join(failed)}" if failed else "")
    return bool(failed)


def in_pyenv() -> list[str]:
    """Return the interpreters that pyenv has installed; its shims may refuse to run."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return [str(path) for name in NAMES for path in root.glob(f"versions/*/bin/{name}")]


def interpreters(names: list[str] | tuple[str, ...]) -> dict[str, str]:
    """Return those that run, by version; print the others with the reason."""
    found: dict[str, str] = {}
    for name in names:
        version = version_of(name)
        if version is None:
            print(f"{name}: not found")
        elif tuple(map(int, version.split(".")[:2])) < OLDEST:
            print(f"{name}: Python {version}, shmfeed needs 3.11")
        else:
            print(f"{name}: Python {version}")
            found.setdefault(version, shutil.which(name) or name)
    return found


def version_of(name: str) -> str | None:
    try:
        asked = subprocess.run(
            [name, "-c", ASK], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return None
    return asked.stdout.strip() or None


def passes(
    python: str, venv: Path, tests: tuple[str, ...], pins: tuple[str, ...] = ()
) -> bool:
    """Return True if an environment can be made and these tests pass; none: all."""
    own = venv / "bin" / "python"
    if not own.exists():
        venv.parent.mkdir(parents=True, exist_ok=True)
        if not runs([python, "-m", "venv", str(venv)]):
            return False
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not runs([str(own), *install, "-e", f"{ROOT}[dev]", *pins]):
        return False
    workers = ["-n", os.environ.get("WORKERS", "2"), "--dist", "worksteal"]
    return runs([str(own), "-m", "pytest", "-q", *workers, *tests])


def runs(command: list[str]) -> bool:
    print("+", *command, flush=True)
    # The tests must not see the virtual environment of this program.
    environ = {
        name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"
    }
    return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
