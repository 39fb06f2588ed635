"""Feeder and manager meet only at the control socket and at the segment."""

from pathlib import Path

import pytest
from support.floors import Imports, reach, read_imports

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def imports() -> Imports:
    return read_imports(ROOT, ("shmfeed",))


def test_the_client_loads_no_server(imports: Imports) -> None:
    assert "shmfeed.control.server" not in reach(imports, "shmfeed.control.client")


def test_a_manager_loads_no_server_and_no_feeder(imports: Imports) -> None:
    reached = reach(imports, "shmfeed.manager", "shmfeed.manager.manager")
    assert "shmfeed.control.client" in reached
    assert "shmfeed.control.server" not in reached
    assert not [name for name in reached if name.startswith("shmfeed.feeder")]


def test_a_feeder_loads_no_manager_and_no_client(imports: Imports) -> None:
    reached = reach(imports, "shmfeed.feeder.main")
    assert "shmfeed.control.server" in reached
    assert "shmfeed.control.client" not in reached
    assert not [name for name in reached if name.startswith("shmfeed.manager")]
