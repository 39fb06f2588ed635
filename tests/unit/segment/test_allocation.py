"""Shared-memory objects that outlive the process that created them."""

import errno
import os
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
from conftest import Child
from hypothesis import given
from hypothesis import strategies as st

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


MIB = 1 << 20
PAGE = os.sysconf("SC_PAGESIZE")


@pytest.fixture
def blank() -> Iterator[int]:
    """Return a descriptor of an empty file in shared memory."""
    fd = os.memfd_create("blank")
    yield fd
    os.close(fd)


def reserved(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


class Kernel:
    """A kernel that undoes a whole `fallocate` at a signal, as those before 2024 did.

    The process gets a signal after each `period` bytes.
    """

    def __init__(self, period: int) -> None:
        self.period, self.progress, self.pieces = period, 0, list[tuple[int, int]]()

    def fallocate(self, fd: int, start: int, size: int) -> None:
        for _ in range(3):  # Python repeats an interrupted call
            left = self.period - self.progress
            if size <= left:
                self.progress += size
                self.pieces.append((start, size))
                return
            self.progress = 0
        raise TimeoutError(f"{size} bytes are never done between two signals")


def test_periodic_signals_do_not_starve_it(
    blank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(period=3 * MIB // 2)
    monkeypatch.setattr(os, "posix_fallocate", kernel.fallocate)
    allocation.reserve(blank, 0, 64 * MIB)
    assert len(kernel.pieces) == 64


def test_in_one_call_they_do(blank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same signals, and one piece of all."""
    kernel = Kernel(period=3 * MIB // 2)
    monkeypatch.setattr(os, "posix_fallocate", kernel.fallocate)
    monkeypatch.setattr(allocation, "_PIECE_BYTES", 64 * MIB)
    with pytest.raises(TimeoutError):
        allocation.reserve(blank, 0, 64 * MIB)


@given(start=st.integers(0, 3 * MIB), size=st.integers(1, 5 * MIB))
def test_pieces_cover_the_range_once(start: int, size: int) -> None:
    kernel = Kernel(period=MIB)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "posix_fallocate", kernel.fallocate)
        patch.setattr(allocation, "_check_free", lambda *_: None)
        allocation.reserve(-1, start, size)
    ends = [at + piece for at, piece in kernel.pieces]
    assert [at for at, _ in kernel.pieces] == [start, *ends[:-1]]
    assert ends[-1] == start + size


def test_it_ends_in_a_storm_of_signals(blank: int) -> None:
    count = 0

    def note_signal(*_: object) -> None:
        nonlocal count
        count += 1

    before = signal.signal(signal.SIGALRM, note_signal)
    os.ftruncate(blank, 64 * MIB)
    signal.setitimer(signal.ITIMER_REAL, 3e-4, 3e-4)
    try:
        allocation.reserve(blank, 0, 64 * MIB)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert count > 0
    assert reserved(blank) == 64 * MIB


def test_content_stays_and_other_pages_are_not_reserved(blank: int) -> None:
    os.ftruncate(blank, 8 * PAGE)
    os.pwrite(blank, b"kept", 2 * PAGE)
    allocation.reserve(blank, 2 * PAGE, 3 * PAGE)
    assert os.pread(blank, 4, 2 * PAGE) == b"kept"
    assert reserved(blank) == 3 * PAGE
    assert os.fstat(blank).st_size == 8 * PAGE


def test_a_full_device_is_told_at_the_piece_that_fails(
    blank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = []

    def fill(fd: int, start: int, size: int) -> None:
        if start >= 2 * MIB:
            raise OSError(errno.ENOSPC, "No space left on device")
        pieces.append(start)

    monkeypatch.setattr(os, "posix_fallocate", fill)
    with pytest.raises(OSError, match="No space left"):
        allocation.reserve(blank, 0, 8 * MIB)
    assert pieces == [0, MIB]


def test_a_request_that_cannot_succeed_takes_nothing(
    where: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = []
    monkeypatch.setattr(os, "posix_fallocate", lambda *piece: pieces.append(piece))
    usage = os.statvfs("/dev/shm")
    if not usage.f_blocks:
        pytest.skip("/dev/shm has no limit here")
    allocation.create_object(where.object_name, MIB)
    with (
        where.segment.open("r+b") as file,
        pytest.raises(OSError, match="No space") as caught,
    ):
        allocation.reserve(file.fileno(), 0, (usage.f_blocks + 1) * usage.f_frsize)
    assert caught.value.errno == errno.ENOSPC
    assert pieces == []
