"""`make versions` finds the Pythons of this host and names those that it lacks."""

import re
import sys
from pathlib import Path

import pytest
from support import versions


def test_each_python_is_found_once(capsys):
    found = versions.interpreters([sys.executable, "python9.9", sys.executable])
    assert list(found.values()) == [sys.executable]
    said = capsys.readouterr().out
    assert "python9.9: not found" in said
    assert f"{sys.executable}: Python {next(iter(found))}" in said


@pytest.mark.parametrize(
    ("says", "told"),
    [("3.10.13", "Python 3.10.13, shmfeed needs 3.11"), ("", "not found")],
)
def test_an_old_or_silent_python_is_refused(tmp_path, capsys, says, told):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {says}\n")
    python.chmod(0o755)
    assert versions.interpreters([str(python)]) == {}
    assert f"{python}: {told}" in capsys.readouterr().out


def test_the_pythons_of_pyenv_are_found_in_its_folder(tmp_path, monkeypatch):
    for version, name in (("3.12.1", "python3.12"), ("3.6.15", "python3.6")):
        folder = tmp_path / "versions" / version / "bin"
        folder.mkdir(parents=True)
        (folder / name).touch()
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert versions.in_pyenv() == [str(tmp_path / "versions/3.12.1/bin/python3.12")]


def test_an_environment_that_cannot_be_made_is_a_failure(tmp_path, capsys):
    assert not versions.passes("/bin/false", tmp_path / "venv", versions.SMOKE)
    assert "/bin/false -m venv" in capsys.readouterr().out


def test_the_files_of_the_smoke_run_exist():
    assert versions.FRAMES
    for name in (*versions.SMOKE, *versions.FRAMES):
        assert (versions.ROOT / name).is_file(), name
    classifiers = Path(versions.ROOT, "pyproject.toml").read_text()
    supported = re.findall(r"Python :: (3\.\d+)", classifiers)
    assert [f"python{one}" for one in supported] == list(versions.NAMES)
