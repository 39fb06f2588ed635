"""Which Pythons `make versions` finds, and that it says which it does not."""

import re
import sys
from pathlib import Path

import pytest
from support import versions


def test_those_that_run_are_found_once(capsys):
    found = versions.interpreters([sys.executable, "python9.9", sys.executable])
    assert list(found.values()) == [sys.executable]
    said = capsys.readouterr().out
    assert "python9.9: not found" in said
    assert f"{sys.executable}: Python {next(iter(found))}" in said


@pytest.mark.parametrize(
    ("says", "told"),
    [("3.10.13", "Python 3.10.13, shmfeed needs 3.11"), ("", "not found")],
)
def test_what_is_too_old_or_says_nothing_is_not(tmp_path, capsys, says, told):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {says}\n")
    python.chmod(0o755)
    assert versions.interpreters([str(python)]) == {}
    assert f"{python}: {told}" in capsys.readouterr().out


def test_an_environment_that_cannot_be_made_is_a_failure(tmp_path, capsys):
    assert not versions.passes("/bin/false", tmp_path / "venv", versions.SMOKE)
    assert "/bin/false -m venv" in capsys.readouterr().out


def test_its_smoke_run_and_its_names_are_real():
    assert versions.FRAMES
    for name in (*versions.SMOKE, *versions.FRAMES):
        assert (versions.ROOT / name).is_file(), name
    classifiers = Path(versions.ROOT, "pyproject.toml").read_text()
    supported = re.findall(r"Python :: (3\.\d+)", classifiers)
    assert [f"python{one}" for one in supported] == list(versions.NAMES)
