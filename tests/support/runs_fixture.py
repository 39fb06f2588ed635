"""The fixture `runs`, by `pytest_plugins = ["support.runs_fixture"]`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.runs import Runs


@pytest.fixture
def runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Runs]:
    """Run strategies; leave neither their modules nor their folders behind."""
    modules, path = set(sys.modules), list(sys.path)
    yield Runs(tmp_path, capsys)
    for name in set(sys.modules) - modules:
        found = getattr(sys.modules[name], "__file__", None) or ""
        if found.startswith(str(tmp_path)) or name.startswith(
            ("strategies_", "jqdata")
        ):
            del sys.modules[name]
    sys.path[:] = path
