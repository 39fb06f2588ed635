"""Shared-memory objects that outlive the process that created them."""

from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
from conftest import Child

from shmfeed.segment import allocation
from shmfeed.segment.mapping import Place, place


@pytest.fixture
def where(feed_name: str) -> Place:
    return place(feed_name)


Calls = list[tuple[str, str]]


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """Return the list of names that the resource tracker is told."""
    calls: Calls = []
    monkeypatch.setattr(
        resource_tracker, "register", lambda name, _: calls.append(("+", name))
    )
    monkeypatch.setattr(
        resource_tracker, "unregister", lambda name, _: calls.append(("-", name))
    )
    return calls


def test_an_object_is_private_and_of_full_size(where: Place, tracked: Calls) -> None:
    allocation.create_object(where.object_name, 12_345)
    status = where.segment.stat()
    assert status.st_size == 12_345
    assert status.st_mode & 0o777 == 0o600
    assert tracked == []


def test_an_existing_object_stays(where: Place, tracked: Calls) -> None:
    allocation.create_object(where.object_name, 8)
    with pytest.raises(FileExistsError):
        allocation.create_object(where.object_name, 16)
    assert where.segment.stat().st_size == 8
    assert tracked == []


def test_an_impossible_size_leaves_no_object(where: Place, tracked: Calls) -> None:
    with pytest.raises((OSError, OverflowError)):
        allocation.create_object(where.object_name, 1 << 62)
    assert not where.segment.exists()
    assert tracked == []


def test_other_names_are_still_tracked(tracked: Calls) -> None:
    with allocation._untracked("/ours"):
        resource_tracker.register("/theirs", "shared_memory")
        resource_tracker.register("/ours", "shared_memory")
        resource_tracker.unregister("/ours", "shared_memory")
    resource_tracker.register("/ours", "shared_memory")
    assert tracked == [("+", "/theirs"), ("+", "/ours")]


CREATE = """
import sys
from multiprocessing import shared_memory
import shmfeed
own = shared_memory.SharedMemory(create=True, size=8)  # starts the tracker
writer = shmfeed.create(sys.argv[1], history=10)
writer.add_stream("A", "1h").append(0, 1, 2, 0.5, 1.5, 9)
own.close()
own.unlink()
"""
ATTACH = """
import sys
import shmfeed
feed = shmfeed.attach(sys.argv[1])
print(feed.ring("A", "1h").view(1)["close"][0], flush=True)
"""
TRACKED = """
import sys
from multiprocessing import shared_memory
shared_memory.SharedMemory(sys.argv[1], create=True, size=8)
"""


def test_an_exit_removes_no_feed(where: Place, child: Child) -> None:
    for code, output in ((CREATE, ""), (ATTACH, "1.5\n"), (ATTACH, "1.5\n")):
        process = child(code, where.name)
        assert process.communicate() == (output, "")
        assert process.returncode == 0
        assert where.segment.exists()


def test_an_exit_removes_a_tracked_object(where: Place, child: Child) -> None:
    """The control: the tracker would remove a feed that it knew."""
    name = where.object_name
    process = child(TRACKED, name)
    process.communicate()
    assert not Path("/dev/shm", name).exists()
