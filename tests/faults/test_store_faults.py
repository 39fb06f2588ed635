"""A store whose process, disk or file fails: nothing committed is lost or damaged.

Permitted after a kill: the versions of each whole transaction up to the kill, of all
that were acknowledged at least. Permitted on a disk that is full or read-only: the
recorder says so, its caller never waits, and the rows are written later.
"""

import sqlite3

import pytest
from support import own_shm
from support.storing import IDENTITY, stored, version_of

from shmfeed.store.file import StoreFile
from shmfeed.store.schema import StoreError

WRITE_AND_DIE = """
import os, random, select, signal, sys, time
sys.path.insert(0, sys.argv[3])
from support.storing import IDENTITY, version_of
from shmfeed.store.file import StoreFile

path, rng, kills = sys.argv[1], random.Random(int(sys.argv[2])), int(sys.argv[4])
is_early = sys.argv[5] == "early"  # the mutant acknowledges before it has written

def write(ack):
    with StoreFile(path, IDENTITY, replace=False) as file:
        number = file._last.get(1, 0)
        number = (number - 1_767_225_600_000) // 60_000 + 1 if number else 0
        while True:
            batch = [version_of(number + n) for n in range(rng.randrange(1, 200))]
            number += len(batch)
            if is_early:
                os.write(ack, b"%d\\n" % number)
            file.write(batch)
            if not is_early:
                os.write(ack, b"%d\\n" % number)

acknowledged = 0
for kill in range(kills):
    mine, its = os.pipe()
    child = os.fork()
    if not child:
        rng.seed(kill)
        write(its)
    os.close(its)
    select.select([mine], [], [], 30)
    time.sleep(rng.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    lines = b""
    while piece := os.read(mine, 65536):
        lines += piece
    os.close(mine)
    acknowledged = max([acknowledged, *map(int, lines.split())])
    print(acknowledged, flush=True)
"""


def write_and_die(child, path, seed, kills, when):
    tests = str(own_shm.__file__).partition("/support/")[0]
    process = child(WRITE_AND_DIE, path, seed, tests, kills, when)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return int(out.split()[-1])


def lost(path, acknowledged):
    """Return the acknowledged bars that the store lacks; check that it is whole."""
    with StoreFile(str(path), IDENTITY, replace=False):  # checks each page
        pass
    bars = [version_of(number).bar for number in range(acknowledged)]
    found = stored(path, "open_time, version, close, volume")
    opens = [row[0] for row in found]
    step = 60_000
    assert opens == list(
        range(bars[0].open_time, bars[0].open_time + step * len(opens), step)
    )
    for (opened, version, close, volume), bar in zip(found, bars, strict=False):
        assert (opened, version, close, volume) == (bar.open_time, 1, 1.5, bar.volume)
    return acknowledged - min(acknowledged, len(opens))


class TestKills:
    def test_no_acknowledged_version_is_lost(self, child, tmp_path, seed):
        path = tmp_path / "bars.sqlite"
        acknowledged = write_and_die(child, path, seed, 25, "after")
        assert acknowledged > 1000
        assert lost(path, acknowledged) == 0

    def test_control_an_early_acknowledgement_is_found_out(self, child, tmp_path, seed):
        path = tmp_path / "bars.sqlite"
        for attempt in range(5):
            acknowledged = write_and_die(child, path, seed + attempt, 1, "early")
            if lost(path, acknowledged):
                return
        pytest.fail("no kill fell between acknowledgement and commit")


class TestLog:
    """The log beside the file, cut or damaged: whole transactions, or an error."""

    @pytest.fixture
    def crashed(self, tmp_path):
        """Return a function that makes a store and a log as a kill leaves them."""

        def make(name):
            path = tmp_path / name
            with StoreFile(str(path), IDENTITY, replace=False) as file:
                for batch in range(20):
                    versions = [version_of(batch * 10 + n) for n in range(10)]
                    file.write(versions)
                data, log = (
                    path.read_bytes(),
                    path.with_name(f"{name}-wal").read_bytes(),
                )
            path.write_bytes(data)
            path.with_name(f"{name}-wal").write_bytes(log)
            return path

        return make

    def test_it_is_whole(self, crashed):
        path = crashed("whole")
        assert lost(path, 200) == 0

    def test_each_cut_leaves_whole_transactions(self, crashed, rng):
        for number in range(25):
            path = crashed(f"cut{number}")
            log = path.with_name(f"{path.name}-wal")
            with log.open("r+b") as file:
                file.truncate(int(rng.integers(0, log.stat().st_size)))
            count = 200 - lost(path, 200)
            assert count % 10 == 0

    def test_a_flipped_byte_ends_the_log_there(self, crashed, rng):
        for number in range(10):
            path = crashed(f"flip{number}")
            log = path.with_name(f"{path.name}-wal")
            data = bytearray(log.read_bytes())
            data[int(rng.integers(0, len(data)))] ^= 0x55
            log.write_bytes(data)
            assert (200 - lost(path, 200)) % 10 == 0

    def test_damaged_pages_are_errors_not_bars(self, crashed, rng):
        """Control: the checks of `lost` see a page that changed under the store."""
        path = crashed("page")
        lost(path, 200)
        data = bytearray(path.read_bytes())
        data[-3000:] = bytes(3000)
        path.write_bytes(data)
        with pytest.raises((AssertionError, StoreError, sqlite3.DatabaseError)):
            assert lost(path, 200) == 0


FAILING = """
import logging, pathlib, time
sys.path.insert(0, sys.argv[3])
from support.storing import IDENTITY, KEY, bar_at, block_of, stored, version_of
from support.storing import record as give
from shmfeed.store import recorder as recorder_module
from shmfeed.store.recorder import RecorderTimes, StoreRecorder

path = pathlib.Path("/dev/shm/bars.sqlite")
count, longest = 0, 0.0
recorder = StoreRecorder(
    str(path), IDENTITY, times=RecorderTimes(turn=0.01, retry=0.05, locked=0.05)
)
recorder.open()
recorder.follow([KEY], lambda key: block_of([bar_at(n) for n in range(count)]))

def record(versions=100):
    global count, longest
    for _ in range(versions):
        begin = time.thread_time()
        give(recorder, [version_of(count)])
        longest = max(longest, time.thread_time() - begin)
        count += 1

def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, recorder.said
        time.sleep(0.01)

def numbers():
    try:
        opens = stored(path, "open_time - 1767225600000")
        return [at // 60_000 for (at,) in opens]
    except Exception as error:
        return [repr(error)]

record()
until(lambda: numbers() == list(range(100)))
"""


def fail(child, name, code):
    process_name = own_shm.MOUNT + FAILING
    tests = str(own_shm.__file__).partition("/support/")[0]
    process = child(process_name + code, name, "size=2m", tests)
    out, err = process.communicate(timeout=60)
    if process.returncode == own_shm.NOT_PERMITTED:
        pytest.skip(f"this host permits no mount namespace: {err.strip()}")
    assert process.returncode == 0, (out, err)
    said, found, expected, longest = out.splitlines()
    assert found == expected
    assert float(longest) < 0.05
    return said


TELL = """
recorder.close()
print(recorder.said)
print(numbers())
print(list(range(count)))
print(longest)
"""


class TestDisks:
    def test_a_full_disk(self, child, feed_name):
        code = """
with open("/dev/shm/filler", "wb") as file:
    room = os.statvfs("/dev/shm")
    os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_bsize)
while not recorder.said:
    record(500)
    time.sleep(0.02)
record(2000)
os.unlink("/dev/shm/filler")
until(lambda: len(numbers()) == count)
"""
        assert "the disk is full" in fail(child, feed_name, code + TELL)

    def test_a_full_disk_and_a_full_queue(self, child, feed_name):
        code = """
with open("/dev/shm/filler", "wb") as file:
    room = os.statvfs("/dev/shm")
    os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_bsize)
recorder_module.MOST_QUEUED = 1000
while not recorder.said:
    record(500)
    time.sleep(0.02)
record(3000)
assert recorder._missed
os.unlink("/dev/shm/filler")
until(lambda: len(numbers()) == count)
"""
        assert "the disk is full" in fail(child, feed_name, code + TELL)

    def test_a_disk_that_becomes_read_only(self, child, feed_name):
        code = """
recorder.close()  # a file that is open to be written keeps its mount writable
READ_ONLY, REMOUNT = 1, 32
mount(b"none", b"/dev/shm", None, READ_ONLY | REMOUNT, None)
recorder = StoreRecorder(
    str(path), IDENTITY, times=RecorderTimes(turn=0.01, retry=0.05, locked=0.05)
)
recorder.open()
recorder.follow([KEY], lambda key: block_of([bar_at(n) for n in range(count)]))
record()
until(lambda: recorder.said)
mount(b"none", b"/dev/shm", None, REMOUNT, None)
until(lambda: len(numbers()) == count)
"""
        said = fail(child, feed_name, code + TELL)
        assert "is read-only" in said
