"""Platform, core, clock, descriptors: as they are here, and as they may be."""

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
    check_live_feeds,
    check_machine,
    check_open_files,
)


@pytest.fixture
def set_file_limit():
    """Return a function that sets how many files this process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_this_machine_is_fit(set_file_limit) -> None:
    set_file_limit(1024)
    levels = {finding.check: finding.level for finding in check_machine()}
    core_level = levels.pop("core")
    assert core_level == ("ok" if core.build == "C" else "note")
    assert levels == dict.fromkeys(("platform", "clock", "open files"), "ok")


def test_the_c_core_is_ok(monkeypatch) -> None:
    monkeypatch.setattr(core, "build", "C")
    assert check_core() == ("core", "ok", "C", None)


def test_pure_python_is_a_note_with_the_reason(monkeypatch) -> None:
    monkeypatch.setattr(core, "build", "pure Python")
    monkeypatch.setattr(core, "WHY", "the C core was not built")
    found = check_core()
    assert found.level == "note"
    assert found.found == "pure Python, slower than C: the C core was not built"
    assert found.remedy == core.REMEDY


@pytest.mark.parametrize(
    ("limit", "level"),
    [(MIN_FILES - 1, "problem"), (FEW_FILES - 1, "note"), (FEW_FILES, "ok")],
)
def test_a_low_limit_of_descriptors(set_file_limit, limit, level) -> None:
    set_file_limit(limit)
    found = check_open_files()
    assert found.level == level
    assert f"a process may open {limit} files" in found.found
    assert level == "ok" or "ulimit -n 1024" in found.remedy


def test_a_platform_without_limits_is_a_note(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert check_open_files().level == "note"


def test_another_cpu_without_the_c_core_is_a_problem(monkeypatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(core, "build", "pure Python")
    found = check_live_feeds()
    assert found.level == "problem"
    assert "on this CPU, 'aarch64'" in found.found


def test_no_shared_memory_is_a_problem(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("shmfeed.segment.platform.SHARED_MEMORY", tmp_path / "none")
    found = check_live_feeds()
    assert found.level == "problem"
    assert f"this host lacks: {tmp_path / 'none'}" in found.found
    assert "on Linux, with /dev/shm" in found.remedy


def test_no_boot_clock_is_a_problem(monkeypatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    assert check_clock().level == "problem"
