"""Installed versions, compared with the requirements in the package's metadata."""

import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from shmfeed.doctor.versions import check_socket_module, check_version, check_versions

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())


def test_every_dependency_here_is_ok_and_named() -> None:
    findings = {finding.check: finding for finding in check_versions()}
    named = {"shmfeed", "python", "module websocket"}
    for requirement in [
        *PROJECT["project"]["dependencies"],
        *(
            PROJECT["project"]["optional-dependencies"][e][0]
            for e in ("cli", "sim", "yaml")
        ),
    ]:
        named.add(requirement.partition(">")[0])
    assert findings.keys() == named
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert findings["python"].found.endswith("required >=3.11")


@pytest.mark.parametrize(
    ("installed", "wanted", "level", "found"),
    [
        ("1.9.1", "<2,>=1.9.1", "ok", "1.9.1, required"),
        ("1.10", ">=1.9.1", "ok", ""),
        ("1.9", ">=1.9.1", "problem", "1.9 does not satisfy >=1.9.1"),
        ("2.0rc1", ">=1.9.1,<2", "problem", "2.0rc1 does not satisfy <2"),
        ("1.9.0.post1", ">=1.9", "ok", ""),
        ("3", "!=3.0", "problem", "3 does not satisfy !=3.0"),
        ("odd", ">=1", "problem", "odd does not satisfy >=1"),
        ("1", "", "ok", "required any"),
        (None, ">=1", "problem", "is not installed"),
    ],
)
def test_bounds(installed, wanted, level, found) -> None:
    finding = check_version("name", wanted, installed)
    assert finding.level == level
    assert found in finding.found
    assert level == "ok" or finding.remedy == f"pip install --upgrade 'name{wanted}'"


def test_a_missing_optional_package_is_a_note() -> None:
    finding = check_version("PyYAML", ">=6", None, "yaml")
    assert (finding.level, finding.remedy) == (
        "note",
        "pip install --upgrade 'PyYAML>=6'",
    )
    assert "needed for YAML files" in finding.found
    assert check_version("PyYAML", ">=6", "5", "yaml").level == "problem"


def test_an_old_python_is_not_upgraded_by_pip() -> None:
    assert "virtual environment" in check_version("python", ">=3.11", "3.9").remedy


@pytest.fixture
def path_first(tmp_path, monkeypatch):
    """Return a directory that is first on sys.path."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "websocket", raising=False)
    return tmp_path


def test_a_file_of_the_user_called_websocket_is_a_problem(path_first) -> None:
    (path_first / "websocket.py").touch()
    finding = check_socket_module()
    assert finding.level == "problem"
    assert str(path_first) in finding.found
    assert "websocket.py" in finding.remedy


def test_another_package_with_the_module_is_a_problem(path_first) -> None:
    (path_first / "websocket").mkdir()
    (path_first / "websocket/__init__.py").touch()
    info = path_first / "websocket-0.2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: websocket\nVersion: 0.2.1\n"
    )
    (info / "RECORD").write_text("websocket/__init__.py,,\n")
    finding = check_socket_module()
    assert finding.level == "problem"
    assert "belongs to websocket, not to websocket-client" in finding.found
    assert finding.remedy.startswith("pip uninstall -y websocket websocket-client && ")


def test_a_missing_websocket_module_is_a_problem(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    finding = check_socket_module()
    assert (finding.level, finding.found) == ("problem", "is missing")


def test_a_source_without_metadata_is_a_note(monkeypatch) -> None:
    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", none)
    (finding,) = check_versions()
    assert finding.level == "note"
    assert "pip install" in finding.remedy
