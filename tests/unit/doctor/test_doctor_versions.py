"""Installed versions against the floors that the package's metadata states."""

import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from shmfeed.doctor.versions import check_socket_module, check_version, check_versions

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())


def test_here_all_is_well_and_each_dependency_is_named() -> None:
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
    assert findings["python"].found.endswith("wanted >=3.11")


@pytest.mark.parametrize(
    ("installed", "wanted", "level", "found"),
    [
        ("1.9.1", "<2,>=1.9.1", "ok", "1.9.1, wanted"),
        ("1.10", ">=1.9.1", "ok", ""),
        ("1.9", ">=1.9.1", "problem", "1.9 is not >=1.9.1"),
        ("2.0rc1", ">=1.9.1,<2", "problem", "2.0rc1 is not <2"),
        ("1.9.0.post1", ">=1.9", "ok", ""),
        ("3", "!=3.0", "problem", "3 is not !=3.0"),
        ("odd", ">=1", "problem", "odd is not >=1"),
        ("1", "", "ok", "wanted any"),
        (None, ">=1", "problem", "is not installed"),
    ],
)
def test_bounds(installed, wanted, level, found) -> None:
    finding = check_version("name", wanted, installed)
    assert finding.level == level
    assert found in finding.found
    assert level == "ok" or finding.remedy == f"pip install --upgrade 'name{wanted}'"


def test_what_is_optional_is_a_note() -> None:
    finding = check_version("PyYAML", ">=6", None, "yaml")
    assert (finding.level, finding.remedy) == (
        "note",
        "pip install --upgrade 'PyYAML>=6'",
    )
    assert "YAML files need it" in finding.found
    assert check_version("PyYAML", ">=6", "5", "yaml").level == "problem"


def test_an_old_python_is_not_upgraded_by_pip() -> None:
    assert "virtual environment" in check_version("python", ">=3.11", "3.9").remedy


@pytest.fixture
def path_first(tmp_path, monkeypatch):
    """A directory that imports look into first."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "websocket", raising=False)
    return tmp_path


def test_a_file_of_one_s_own_that_is_called_websocket(path_first) -> None:
    (path_first / "websocket.py").touch()
    finding = check_socket_module()
    assert finding.level == "problem"
    assert str(path_first) in finding.found
    assert "websocket.py" in finding.remedy


def test_another_package_of_that_name(path_first) -> None:
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
    assert "is websocket's, not websocket-client's" in finding.found
    assert finding.remedy.startswith("pip uninstall -y websocket websocket-client && ")


def test_from_the_source_without_metadata(monkeypatch) -> None:
    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", none)
    (finding,) = check_versions()
    assert finding.level == "note"
    assert "pip install" in finding.remedy
