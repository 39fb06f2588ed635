"""The header for readers in C states the layout, and each way to install carries it."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.compiling import checkout
from support.packing import built

import shmfeed
from shmfeed import layout

HEADER = "shmfeed/include/shmfeed_layout.h"


def header() -> str:
    return Path(shmfeed.get_include(), "shmfeed_layout.h").read_text()


def macros() -> dict[str, int]:
    found = re.findall(r"^#define (SHM_\w+) (-?\d+)LL\b", header(), re.MULTILINE)
    return {name: int(value) for name, value in found}


def test_each_number_of_the_layout_is_a_macro() -> None:
    numbers = {
        f"SHM_{name}": value
        for name, value in vars(layout).items()
        if name.isupper() and name[0] != "_" and type(value) is int
    }
    assert numbers.items() <= macros().items()
    assert macros()["SHM_COLUMNS"] == len(layout.COLUMNS)


@pytest.mark.parametrize(
    ("prefix", "members"),
    [
        ("COLUMN", layout.COLUMNS),
        ("COUNTER", layout.COUNTERS),
        ("STATE", layout.STATES),
    ],
)
def test_members_of_tables_have_their_number(
    prefix: str, members: tuple[str, ...]
) -> None:
    numbers = {f"SHM_{prefix}_{name.upper()}": n for n, name in enumerate(members)}
    assert numbers.items() <= macros().items()


def test_it_has_the_picture_and_the_comments() -> None:
    text = header()
    assert layout.__doc__
    for line in layout.__doc__.splitlines():
        assert f" * {line}".rstrip() in text
    assert "#define SHM_H_RETIRED 6LL /* 1: retired, " in text
    assert "\n/* Entry words. */\n#define SHM_E_WORD 0LL" in text
    assert max(map(len, text.splitlines())) <= 91  # the picture is indented by 3


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout that lacks the header, as a clone does."""
    source = checkout(tmp_path_factory.mktemp("clone"))
    (source / HEADER).unlink()
    return source


def test_a_wheel_carries_it_without_the_extension_too(
    tree: Path, tmp_path: Path
) -> None:
    wheel = built("wheel", tree, tmp_path)
    with zipfile.ZipFile(wheel) as packed:
        assert packed.read(HEADER).decode() == header()


def test_an_sdist_carries_it(tree: Path, tmp_path: Path) -> None:
    sdist = built("sdist", tree, tmp_path)
    with tarfile.open(sdist) as packed:
        (name,) = [name for name in packed.getnames() if name.endswith(HEADER)]
        found = packed.extractfile(name)
        assert found is not None
        assert found.read().decode() == header()


def test_a_current_header_is_left_alone(tree: Path) -> None:
    """An installation from a read-only tree must not fail."""

    def run() -> int:
        command = [sys.executable, "setup.py", "--quiet", "--version"]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return (tree / HEADER).stat().st_mtime_ns

    assert run() == run()
