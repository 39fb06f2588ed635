"""The census finds what a test leaves behind: each kind once, left on purpose."""

import os
import threading
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path

import pytest
from conftest import Child
from support import census
from support.waiting import until


@pytest.fixture
def before() -> census.Census:
    return census.take()


def _found(before: census.Census) -> str:
    return "\n".join(census.leftovers(before, patience=0.0))


def test_nothing_left_is_nothing_found(before: census.Census) -> None:
    assert census.leftovers(before) == []


def test_finds_an_open_descriptor(before: census.Census) -> None:
    with Path("/dev/null").open() as file:
        assert f"descriptor {file.fileno()}: /dev/null" in _found(before)


def test_finds_a_thread(before: census.Census) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="left")
    thread.start()
    try:
        assert "left" in _found(before)
    finally:
        stop.set()
        thread.join()


def test_waits_for_a_thread_that_is_ending(before: census.Census) -> None:
    timer = threading.Timer(0.1, lambda: None)
    timer.start()
    assert census.leftovers(before) == []


def test_finds_a_child(before: census.Census, child: Child) -> None:
    process = child("input()")
    assert f"process {process.pid}: " in _found(before)


def test_finds_a_child_that_was_not_reaped(before: census.Census) -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        assert f"process {pid}: not reaped" in _found(before)
    finally:
        os.waitpid(pid, 0)


ORPHAN = """
import subprocess, sys
nap = [sys.executable, "-c", "input()"]
print(subprocess.Popen(nap, stdin=0, stdout=2).pid, flush=True)
"""


def test_finds_an_orphan(before: census.Census, child: Child) -> None:
    with child(ORPHAN) as parent:
        pid = int(parent.stdout.readline())
        assert parent.wait(10) == 0
        assert f"process {pid}: " in _found(before)


@pytest.fixture
def segments(feed_name: str) -> Iterator[Path]:
    path = Path(f"/dev/shm/shmfeed.{os.geteuid()}.{feed_name}")
    yield path
    path.unlink(missing_ok=True)


def test_finds_shared_memory(before: census.Census, segments: Path) -> None:
    segments.touch()
    assert f"shared memory {segments}" in _found(before)


@pytest.mark.parametrize("name", ["shmfeed.0.t1x{}", "bench-1-{}_0354.data"])
def test_leaves_others_shared_memory_alone(before: census.Census, name: str) -> None:
    # Process 1 lives, and is not ours.
    theirs = Path("/dev/shm", name.format(os.getpid()))
    theirs.touch()
    try:
        assert census.leftovers(before) == []
    finally:
        theirs.unlink()


STRANGER = """
import os, subprocess, sys
code = '''
import sys
from multiprocessing import shared_memory
own = shared_memory.SharedMemory(create=True, size=8)
print(own.name, flush=True)
input()
own.close()
own.unlink()
'''
environ = {key: value for key, value in os.environ.items() if key != sys.argv[1]}
subprocess.Popen([sys.executable, "-c", code], env=environ)
"""


def test_leaves_others_nameless_memory_alone(
    before: census.Census, child: Child
) -> None:
    """The standard library's, which a process that is not ours has mapped."""
    with child(STRANGER, census.MARK) as parent:
        name = parent.stdout.readline().strip()
        assert parent.wait(10) == 0
        assert f"/dev/shm/{name}" in census.take().shared
        assert name not in _found(before)
        parent.stdin.write("\n")
    until(lambda: not Path(f"/dev/shm/{name}").exists())


def test_finds_nameless_memory_of_ours(before: census.Census) -> None:
    own = shared_memory.SharedMemory(create=True, size=8)
    try:
        assert own.name in _found(before)
    finally:
        own.close()
        own.unlink()
    assert own.name not in _found(before)
