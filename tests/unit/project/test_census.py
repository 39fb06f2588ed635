"""The census finds each kind of thing that a test leaves, and counts no one else's."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
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


@pytest.mark.parametrize(
    "name",
    [
        "shmfeed.0.t1x{}",  # a run of these tests: process 1 lives, and is not ours
        "bench-1-{}_0354.data",
        ".org.chromium.Chromium.{}",  # a browser
        "pulse-shm-{}",
        "sem.{}",
        "psm_{}",  # another Python program's, which is unmapped just now
        "shmfeed.0.spot-{}",  # a feed without a lock file
        "someone's file {}",
    ],
)
def test_notes_what_others_made(before: census.Census, name: str) -> None:
    theirs = Path("/dev/shm", name.format(os.getpid()))
    theirs.touch()
    try:
        assert census.leftovers(before) == []
        assert str(theirs) in census.seen_of_others
    finally:
        theirs.unlink()
        census.seen_of_others.discard(str(theirs))


@pytest.fixture
def signed(feed_name: str) -> Iterator[Callable[[int], Path]]:
    """Return a function that makes a feed of an unmarked name, signed by a process."""
    name = f"unmarked-{os.getpid()}"
    folder = Path(f"/dev/shm/shmfeed-{os.geteuid()}")
    segment = Path(f"/dev/shm/shmfeed.{os.geteuid()}.{name}")
    lock = folder / f"{name}.lock"

    def make(pid: int) -> Path:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock.write_text(str(pid))
        segment.touch()
        return segment

    yield make
    segment.unlink(missing_ok=True)
    lock.unlink(missing_ok=True)
    census.seen_of_others.discard(str(segment))


def test_finds_a_feed_of_ours_of_any_name(
    before: census.Census, signed: Callable[[int], Path]
) -> None:
    assert f"shared memory {signed(os.getpid())}" in _found(before)


def test_notes_a_feed_whose_writer_has_ended(
    before: census.Census, signed: Callable[[int], Path], child: Child
) -> None:
    """Its writer may have been another program's, which came and went meanwhile."""
    process = child("")
    assert process.wait(10) == 0
    segment = signed(process.pid)
    assert str(segment) not in _found(before)
    assert str(segment) in census.seen_of_others


def test_notes_a_feed_of_a_process_that_is_not_ours(
    before: census.Census, signed: Callable[[int], Path]
) -> None:
    segment = signed(1)
    assert census.leftovers(before) == []
    assert str(segment) in census.seen_of_others


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


NOISE = """
import os, sys, time
from multiprocessing import shared_memory
print("making", flush=True)
number = 0
while True:
    number += 1
    mine = f"{number}-{os.getpid()}"
    names = f".org.chromium.{mine}", f"shmfeed.0.noise{mine}"
    for name in names:
        open("/dev/shm/" + name, "w").close()
    own = shared_memory.SharedMemory(create=True, size=8)
    time.sleep(0.01)  # there most of the time, at little CPU
    own.close()
    own.unlink()
    for name in names:
        os.unlink("/dev/shm/" + name)
    if number == 5:
        open(sys.argv[1], "w").close()
    if os.path.exists(sys.argv[2]):
        break
"""


def test_a_run_passes_beside_programs_that_use_shared_memory(
    child: Child, tmp_path: Path
) -> None:
    """Run real tests twice, side by side, while a third program makes entries.

    Both runs pass, and their summaries list what they saw.
    """
    busy, stop = tmp_path / "busy", tmp_path / "stop"
    environ = {key: value for key, value in os.environ.items() if key != census.MARK}
    noise = child(NOISE, busy, stop, env=environ)
    until(busy.exists)
    chosen = ["tests/unit/segment/test_removal.py"]
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", *chosen],
            cwd=Path(__file__).parents[3],
            env=environ | {"PYTEST_ADDOPTS": "-p no:cacheprovider"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    stop.touch()
    assert noise.wait(10) == 0, noise.stderr.read()
    for run, output in zip(runs, outputs, strict=True):
        assert run.returncode == 0, output
        assert "new entries of other programs in /dev/shm, not counted" in output
