"""Check the files in dist/ as their users have them: `make dist-check`.

Each check prints a line. The program exits with 1 after the first that fails.
"""

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from contents import faults_of, files_of
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from build import ROOT, wanted

DIST = ROOT / "dist"
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check", "install")
# Of an sdist, where a few minutes must do.
TESTS = "tests/unit/memory tests/unit/settings tests/unit/segment tests/unit/shmfeed"
USER = """
import shmfeed, sys, wealthdata
from shmfeed import core
from shmfeed.observe import charts
assert core.__file__.startswith(sys.prefix), core.__file__
assert core.build == "C", core.WHY
assert charts.read_script() and charts.read_notice()
with shmfeed.create(sys.argv[1], history=8, max_streams=1) as writer:
    ring = writer.add_stream("BTCUSDT", "1m")
    ring.append(0, 1, 2, 0.5, 1.5, 10)
    frame = wealthdata.get_price(
        "BTCUSDT", count=1, frequency="1m", feed=sys.argv[1], on_stale="ignore"
    )
    assert frame["close"].tolist() == [1.5], frame
    writer.close(unlink=True)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venvs", type=Path, required=True, help="of the builds")
    parser.add_argument("--tests", default=TESTS, help="of the sdist, or all")
    parser.add_argument("--users", action="store_true", help="only install the wheels")
    parser.add_argument("pythons", nargs="*", help="default: one of each version")
    args = parser.parse_args()
    if not (sums := DIST / "SHA256SUMS").exists():
        sys.exit(f"{sums} is missing: make dist")
    with tempfile.TemporaryDirectory(prefix="shmfeed-release-") as name:
        place = Path(name)
        if not args.users:
            check_files(args, place)
        pythons = wanted(args.pythons)
        for version, python in pythons.items():
            check(f"a new user of Python {version}", check_user, version, python, place)
        if not args.users:
            python = next(iter(pythons.values()))
            check(f"sdist, tests {args.tests}", check_sdist, args.tests, python, place)
    return 0


def check_files(args: argparse.Namespace, place: Path) -> None:
    check("checksums", check_sums)
    check("description and metadata", check_metadata)
    check("bill of materials", check_bill)
    check("contents and tags of wheels", check_wheels)
    check("a second build has the same bytes", check_again, args, place)


def check(text: str, work: Callable[..., None], *arguments: object) -> None:
    print(f"{text}: ", end="", flush=True)
    try:
        work(*arguments)
    except (subprocess.CalledProcessError, ValueError) as error:
        output = getattr(error, "output", None)
        print(f"FAILED: {error}\n{output or ''}")
        sys.exit(1)
    print("ok", flush=True)


def run(*command: object, cwd: Path | str = "/", **environ: str) -> str:
    """Run a command outside the clone, which its Python must not see."""
    clean = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=clean | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout


def files(pattern: str) -> list[Path]:
    found = sorted(DIST.glob(pattern))
    if not found:
        raise ValueError(f"dist has no {pattern}")
    return found


def check_sums() -> None:
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=DIST)
    listed = {
        line.split()[1]
        for line in (DIST / "SHA256SUMS").read_text().split("\n")
        if line
    }
    if (
        others := {path.name for path in DIST.iterdir()}
        - listed
        - {"SHA256SUMS", "SHA256SUMS.asc"}
    ):
        raise ValueError(f"not in SHA256SUMS: {sorted(others)}")


def check_metadata() -> None:
    paths = [*files("*.whl"), *files("*.tar.gz")]
    run(sys.executable, "-m", "twine", "check", "--strict", *paths)


def check_bill() -> None:
    for path in files("*.cdx.json"):
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text())
        if error:
            raise ValueError(f"{path.name}: {error}")


def check_wheels() -> None:
    (archive,) = files("*.tar.gz")
    wanted_files = files_of(archive)
    faults = [
        f"{path.name} {text}"
        for path in files("*.whl")
        for text in faults_of(path, wanted_files)
    ]
    if faults:
        raise ValueError("; ".join(faults))


def check_again(args: argparse.Namespace, place: Path) -> None:
    again = place / "again"
    command = [sys.executable, ROOT / "release/build.py", "--into", again]
    built = [*command, "--venvs", args.venvs.absolute(), *args.pythons]
    run(*built, PYTHONPATH=os.environ["PYTHONPATH"], cwd=ROOT)
    differ = [
        path.name
        for path in again.iterdir()
        if digest(path) != digest(DIST / path.name)
    ]
    if differ:
        raise ValueError(f"other bytes than at HEAD: {', '.join(sorted(differ))}")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def check_user(version: str, python: str, place: Path) -> None:
    """Install the wheel with its extras in a new environment, and use it."""
    tag = "cp" + version.replace(".", "")
    (wheel,) = files(f"*-{tag}-*_{platform.machine()}.whl")
    venv = place / f"user-{tag}"
    run(python, "-m", "venv", venv)
    own = venv / "bin/python"
    run(own, *PIP, f"{wheel}[cli,dashboard,metrics,sim,yaml]", "mypy>=1.15")
    run(own, "-c", USER, f"release-{os.getpid()}")
    run(venv / "bin/shmfeed", "--version")
    run(venv / "bin/shmfeed", "demo", "--seconds", "5")
    for line in run_doctor(venv / "bin/shmfeed"):
        if "pure Python" in line or "is not installed" in line:
            raise ValueError(line)
    program = place / "strategy.py"
    program.write_text("import wealthdata\nwealthdata.get_price('X', cuont=1)\n")
    done = subprocess.run(
        [own, "-m", "mypy", "--strict", program],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    if 'Unexpected keyword argument "cuont"' not in done.stdout:
        raise ValueError(f"the types are not seen: {done.stdout}{done.stderr}")


def run_doctor(shmfeed: Path) -> Iterator[str]:
    # Its code is 1 where this host has a problem, which is no fault of the files.
    done = subprocess.run(
        [shmfeed, "doctor"], cwd="/", capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1) or not done.stdout:
        raise ValueError(f"shmfeed doctor: {done.stderr}")
    yield from done.stdout.splitlines()


def check_sdist(tests: str, python: str, place: Path) -> None:
    """Unpack the sdist, and run its tests with nothing of the clone."""
    (archive,) = files("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(place, filter="data")
    tree = place / archive.name.removesuffix(".tar.gz")
    make = (shutil.which("make") or "make", f"PYTHON={python}")
    if tests == "all":
        run(*make, "test", cwd=tree)
        return
    run(*make, ".venv/.core", cwd=tree)
    pytest = tree / ".venv/bin/pytest"
    run(pytest, "-q", "-n", "2", *tests.split(), cwd=tree)


if __name__ == "__main__":
    sys.exit(main())
