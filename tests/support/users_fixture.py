"""The fixture of tests that run as several users."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.users import FEEDER, READER, STRANGER


@pytest.fixture
def other_users() -> Iterator[None]:
    """Skip where this process is not root; remove the users' files afterwards."""
    if os.geteuid():
        pytest.skip("only root can be another user")
    yield
    for uid in (FEEDER, READER, STRANGER):
        shutil.rmtree(f"/dev/shm/shmfeed-{uid}", ignore_errors=True)
        for path in Path("/dev/shm").glob(f"shmfeed.{uid}.*"):
            path.unlink(missing_ok=True)
