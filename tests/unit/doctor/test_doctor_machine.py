"""Platform, clock, descriptors: as they are here, and as they might be."""

import platform
import resource
import sys
import time

import pytest

from shmfeed import core
from shmfeed.doctor.machine import (
    FEW_FILES,
    MIN_FILES,
    check_clock,
    check_core,
    check_files,
    check_machine,
    check_support,
)


@pytest.fixture
def most_files():
    """Sets how many files this process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_here_all_is_well(most_files) -> None:
    most_files(1024)
    levels = {finding.check: finding.level for finding in check_machine()}
    core_level = levels.pop("core")
    assert core_level == ("ok" if core.build == "C" else "note")
    assert levels == dict.fromkeys(("platform", "clock", "open files"), "ok")


def test_the_c_core(monkeypatch) -> None:
    monkeypatch.setattr(core, "build", "C")
    assert check_core() == ("core", "ok", "C", None)


def test_pure_python_is_a_note_that_says_why(monkeypatch) -> None:
    monkeypatch.setattr(core, "build", "pure Python")
    monkeypatch.setattr(core, "WHY", "the C core was not built")
    found = check_core()
    assert found.level == "note"
    assert found.found == "pure Python, the slower one: the C core was not built"
    assert found.remedy == core.REMEDY


@pytest.mark.parametrize(
    ("most", "level"),
    [(MIN_FILES - 1, "problem"), (FEW_FILES - 1, "note"), (FEW_FILES, "ok")],
)
def test_few_descriptors(most_files, most, level) -> None:
    most_files(most)
    found = check_files()
    assert found.level == level
    assert f"a process may have {most}" in found.found
    assert level == "ok" or "ulimit -n 1024" in found.remedy


def test_no_limits_on_this_platform(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert check_files().level == "note"


def test_another_cpu(monkeypatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(core, "build", "pure Python")
    found = check_support()
    assert found.level == "problem"
    assert "on this CPU, 'aarch64'" in found.found


def test_no_shared_memory(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("shmfeed.segment.platform.SHARED_MEMORY", tmp_path / "none")
    found = check_support()
    assert found.level == "problem"
    assert f"not here: {tmp_path / 'none'}" in found.found
    assert "on Linux, with /dev/shm" in found.remedy


def test_no_boot_clock(monkeypatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    assert check_clock().level == "problem"
