"""The recorder's thread: it waits for no disk and no lock, and catches up."""

import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support.storing import (
    IDENTITY,
    KEY,
    MINUTE,
    OTHER,
    START,
    bar_at,
    block_of,
    record,
    stored,
    version_of,
)
from support.waiting import until

from shmfeed.bar import Bar
from shmfeed.errors import BadArgumentError, BusyRingError, ShmfeedError
from shmfeed.store import process as process_module
from shmfeed.store import recorder as recorder_module
from shmfeed.store.file import StoreFile
from shmfeed.store.process import StoreProcess
from shmfeed.store.recorder import RecorderTimes, StoreRecorder
from shmfeed.store.schema import StoreError

FAST = RecorderTimes(turn=0.02, retry=0.1, locked=0.1)
DEADLINE = 20.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bars.sqlite"


@pytest.fixture
def make(path):
    made = []

    def make(identity=IDENTITY, times=FAST, **options):
        options = {"open_file": StoreFile} | options  # of this process: SQLite itself
        made.append(StoreRecorder(str(path), identity, times=times, **options))
        made[-1].open()
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()


def numbers(path):
    return [(at - START) // MINUTE for (at,) in stored(path, "open_time")]


def has(path, count):
    try:
        return len(stored(path)) >= count
    except sqlite3.Error:
        return False


def test_versions_are_written_soon(make, path):
    recorder = make()
    record(recorder, [version_of(0), version_of(1)])
    until(lambda: has(path, 2))
    assert recorder.said == ""


def test_the_end_writes_all(make, path):
    recorder = make(times=RecorderTimes(turn=60))
    for number in range(500):
        record(recorder, [version_of(number)])
    recorder.close()
    assert numbers(path) == list(range(500))
    recorder.close()
    assert not path.with_name("bars.sqlite-wal").exists()


def test_a_path_that_cannot_be_one(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "bars.sqlite"):
        with pytest.raises(BadArgumentError):
            StoreRecorder(str(path), IDENTITY)


def test_another_identity_is_an_error_at_the_start(make, path):
    record(make(), [version_of(0)])
    until(lambda: has(path, 1))
    with pytest.raises(BadArgumentError, match="--replace"):
        make(OTHER)
    assert numbers(path) == [0]
    make(OTHER, replace=True)
    assert numbers(path) == []


def test_newest_rows(make):
    recorder = make()
    record(recorder, [version_of(number) for number in range(30)])
    recorder.close()
    recorder = make()
    found = recorder.newest([KEY, ("none", "1h")], 10)
    assert list(found) == [KEY]
    opens = found[KEY][0].view(np.int64).tolist()
    assert opens == [START + number * MINUTE for number in range(20, 30)]


class TestFollow:
    def test_rows_that_the_store_lacks(self, make, path):
        recorder = make()
        recorder.follow([KEY], lambda key: block_of([bar_at(n) for n in range(5)]))
        until(lambda: has(path, 5))
        assert {cause for (cause,) in stored(path, "cause")} == {"caught_up"}

    def test_a_ring_that_is_busy_or_gone(self, make, path):
        calls = []

        def rows_of(key):
            calls.append(key)
            if key == KEY and calls.count(KEY) < 3:
                raise BusyRingError("busy")
            if key != KEY:
                raise ShmfeedError("gone")
            return block_of([bar_at(0)])

        recorder = make()
        recorder.follow([KEY, ("gone", "1m")], rows_of)
        until(lambda: has(path, 1))
        assert calls.count(("gone", "1m")) == 1


class TestFullQueue:
    def test_what_it_cannot_take_is_caught_up(self, make, path, monkeypatch):
        monkeypatch.setattr(recorder_module, "MOST_QUEUED", 10)
        ring = block_of([bar_at(n) for n in range(40)])
        recorder = make(times=FAST._replace(turn=60))
        recorder.follow([KEY], lambda key: ring[:, :0])
        recorder.newest([], 1)
        until(lambda: not recorder._missed)
        for number in range(40):
            record(recorder, [version_of(number)])
        assert len(recorder._queue) == 10
        assert recorder._missed == {KEY: (START + 10 * MINUTE, START + 39 * MINUTE)}
        recorder._rows_of = lambda key: ring
        recorder.close()
        assert stored(path, "cause") == [("closed",)] * 10 + [("caught_up",)] * 30

    def test_bars_that_left_the_ring_are_said(self, make, path, monkeypatch, caplog):
        monkeypatch.setattr(recorder_module, "MOST_QUEUED", 0)
        recorder = make(times=FAST._replace(turn=60))
        record(recorder, [version_of(n) for n in range(9)])
        recorder._rows_of = lambda key: block_of([bar_at(n) for n in range(5, 9)])
        recorder.close()
        assert numbers(path) == [5, 6, 7, 8]
        assert "lacks bars of BTCUSDT 1m before" in caplog.text


def test_a_task_that_fails_does_not_end_the_thread(make, path):
    def broken(*arguments):
        raise ValueError("odd")

    recorder = make(open_file=broken)
    assert "ValueError('odd')" in recorder.said
    recorder._open_file = StoreFile
    record(recorder, [version_of(0)])
    until(lambda: has(path, 1))


class TestFailures:
    """The feed goes on; the failure is said once; the store catches up."""

    def fails(self, recorder, path, count=3):
        """Record while the store fails; return the rows of the ring."""
        begin = time.monotonic()
        for number in range(count):
            record(recorder, [version_of(number)])
        assert time.monotonic() - begin < 1.0
        return lambda key: block_of([bar_at(n) for n in range(count)])

    def recovers(self, recorder, path, caplog, kind, count=3):
        until(lambda: kind in recorder.said)
        assert "the feed goes on without it" in recorder.said
        self.repair()
        until(lambda: has(path, count))
        assert numbers(path) == list(range(count))
        until(lambda: "is in use again" in caplog.text)
        levels = [record.levelno for record in caplog.records]
        assert levels == [logging.WARNING] * 2  # said once, and that it is over

    def test_rubbish(self, make, path, caplog):
        path.write_bytes(b"rubbish" * 1000)
        self.repair = path.unlink
        recorder = make()
        recorder.follow([KEY], self.fails(recorder, path))
        self.recovers(recorder, path, caplog, "is damaged")

    def test_another_version(self, make, path, caplog):
        make().close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 3")
        self.repair = path.unlink
        recorder = make()
        recorder.follow([KEY], self.fails(recorder, path))
        self.recovers(recorder, path, caplog, "is of version 3")

    @pytest.mark.parametrize("mode", ["EXCLUSIVE", "IMMEDIATE"])
    def test_a_lock_of_another_process(self, make, path, caplog, child, mode):
        recorder = make()
        holder = child(
            "import sqlite3, sys\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "c.execute('BEGIN ' + sys.argv[2])\n"
            "print('held', flush=True)\n"
            "sys.stdin.readline()\n"
            "c.close()",
            path,
            mode,
        )
        assert holder.stdout.readline() == "held\n"
        self.repair = lambda: holder.communicate("\n")
        recorder.follow([KEY], self.fails(recorder, path))
        self.recovers(recorder, path, caplog, "is locked by another process")

    def test_a_file_that_is_read_only(self, make, path, caplog, monkeypatch):
        """Root may write any file: SQLite is told to open it read-only."""
        make().close()
        real = sqlite3.connect
        monkeypatch.setattr(
            sqlite3, "connect", lambda to, **o: real(to.replace("rwc", "ro"), **o)
        )
        self.repair = lambda: monkeypatch.setattr(sqlite3, "connect", real)
        recorder = make()
        recorder.follow([KEY], self.fails(recorder, path))
        self.recovers(recorder, path, caplog, "is read-only")

    def test_a_disk_that_is_full(self, make, path, caplog):
        recorder = make()
        file = recorder._file
        pages = file._connection.execute("PRAGMA page_count").fetchone()[0]
        file._connection.execute(f"PRAGMA max_page_count = {pages}")
        self.repair = lambda: None  # another connection has no limit
        count = 3000
        recorder.follow([KEY], self.fails(recorder, path, count))
        self.recovers(recorder, path, caplog, "the disk is full", count)

    def test_a_file_that_was_removed(self, make, path, caplog):
        recorder = make()
        record(recorder, [version_of(0)])
        until(lambda: has(path, 1))
        path.unlink()
        self.repair = lambda: None
        recorder.follow([KEY], self.fails(recorder, path))
        self.recovers(recorder, path, caplog, "moved, removed or replaced")

    def test_a_directory_in_its_place(self, make, path, caplog):
        make().close()
        recorder = make()

        def gone(*_arguments):
            raise StoreError("gone", "failed")

        recorder._open_file = gone  # until the directory is in place
        recorder._tasks.append(lambda: recorder._fail(StoreError("gone", "failed")))
        until(lambda: recorder._file is None and "gone" in caplog.text)
        path.unlink()
        path.mkdir()
        recorder._open_file = StoreFile
        self.repair = path.rmdir
        caplog.clear()
        recorder.follow([KEY], self.fails(recorder, path))
        self.recovers(recorder, path, caplog, "it is a directory")

    def test_the_end_does_not_wait_for_a_lock(self, make, path, caplog):
        recorder = make(times=RecorderTimes(turn=0.02))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            record(recorder, [version_of(0)])
            begin = time.monotonic()
            recorder.close()
            assert time.monotonic() - begin < 2.0
        assert "lacks the last 1 version" in caplog.text

    def test_an_unforeseen_error_does_not_end_the_thread(self, make, path, caplog):
        recorder = make()
        recorder.follow([KEY], lambda key: 1 / 0)
        until(lambda: "ZeroDivisionError" in recorder.said)
        recorder._rows_of = lambda key: block_of([bar_at(0)])
        until(lambda: has(path, 1))


def test_a_slow_store_does_not_hold_up_the_start(make, path, monkeypatch):
    release = threading.Event()
    real = StoreFile.__init__

    def slow(self, *arguments):
        release.wait(DEADLINE)
        real(self, *arguments)

    monkeypatch.setattr(StoreFile, "__init__", slow)
    monkeypatch.setattr(recorder_module, "_START_SECONDS", 0.05)
    recorder = make()
    assert "does not answer" in recorder.said
    record(recorder, [version_of(0)])
    assert recorder.newest([KEY], 1, 0.01) == {}
    release.set()
    until(lambda: has(path, 1))


class TestProcess:
    """The store's process: it is killed, stopped, left alone by its feeder."""

    @pytest.fixture
    def recorder(self, make, path):
        recorder = make(open_file=StoreProcess)
        record(recorder, [version_of(0)])
        until(lambda: has(path, 1))
        return recorder

    def test_numbers_of_numpy_travel(self, recorder, path):
        plain = version_of(1).bar
        ints = [np.int64(one) for one in (*plain[:2], plain.flags)]
        bar = Bar(*ints[:2], *map(np.float64, plain[2:8]), ints[2])
        recorder.record([(KEY, bar, -np.inf, "closed")], 5.0, time.time_ns())
        until(lambda: has(path, 2))

    def test_rows_that_cannot_be_written_are_left_to_the_ring(self, recorder, path):
        recorder.record([(KEY, bar_at(1)._replace(close="x"), 1.0, "closed")], 2.0, 3)
        record(recorder, [version_of(2)])
        until(lambda: "ValidationError" in recorder.said)
        recorder.follow([KEY], lambda key: block_of([bar_at(n) for n in range(3)]))
        until(lambda: has(path, 3))
        assert numbers(path) == [0, 1, 2]

    def test_newest_and_catch_up(self, recorder, path):
        recorder.follow([KEY], lambda key: block_of([bar_at(0), bar_at(1, 1.75)]))
        until(lambda: has(path, 2))
        (block,) = recorder.newest([KEY], 5).values()
        assert block[5].tolist() == [1.5, 1.75]

    def test_a_process_that_is_killed(self, recorder, path, caplog):
        ring = block_of([bar_at(n) for n in range(50)])
        recorder.follow([KEY], lambda key: ring)
        recorder._file.kill()
        record(recorder, [version_of(n) for n in range(1, 50)])
        until(lambda: "has ended" in recorder.said)
        until(lambda: has(path, 50))
        assert numbers(path) == list(range(50))
        until(lambda: "is in use again" in caplog.text)

    def test_one_that_hangs_holds_up_neither_feed_nor_end(self, recorder, path, caplog):
        process = recorder._file._process
        process.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        record(recorder, [version_of(n) for n in range(1, 1000)])
        recorder.close(0.2)
        assert time.monotonic() - begin < 5.0
        assert process.wait(5) == -signal.SIGKILL
        assert "lacks the last 999 versions" in caplog.text

    def test_the_end_opens_no_store_that_it_has_given_up(
        self, recorder, path, monkeypatch
    ):
        """Another process would outlive the recorder."""
        opened = []

        def open_file(*arguments):
            opened.append(1)
            return StoreProcess(*arguments)

        recorder._open_file = open_file
        recorder._file._process.send_signal(signal.SIGSTOP)
        record(recorder, [version_of(1)])
        recorder.close(0.2)
        assert not recorder._thread.is_alive()
        assert opened == []

    @pytest.mark.parametrize("count", [1, 20_000])  # more than a pipe holds
    def test_one_that_does_not_answer_is_replaced(
        self, recorder, path, caplog, monkeypatch, count
    ):
        monkeypatch.setattr(process_module, "ANSWER_SECONDS", 0.2)
        stopped = recorder._file._process
        stopped.send_signal(signal.SIGSTOP)
        ring = block_of([bar_at(n) for n in range(count)])
        recorder.follow([KEY], lambda key: ring)
        record(recorder, [version_of(0, 1.75)])
        until(lambda: "does not answer" in recorder.said)
        monkeypatch.setattr(process_module, "ANSWER_SECONDS", DEADLINE)
        until(lambda: "is in use again" in caplog.text)
        assert stopped.poll() == -signal.SIGKILL
        assert has(path, count)

    def test_a_path_that_is_not_utf8(self, tmp_path):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xffrs.sqlite"))
        recorder = StoreRecorder(str(path), IDENTITY, times=FAST)
        recorder.open()
        record(recorder, [version_of(0)])
        recorder.close()
        assert recorder.said == ""
        assert path.exists()

    def test_a_module_of_the_directory_does_not_shadow_its_own(
        self, make, tmp_path, monkeypatch
    ):
        (tmp_path / "msgspec.py").write_text("raise RuntimeError")
        (tmp_path / "shmfeed.py").write_text("raise RuntimeError")
        monkeypatch.chdir(tmp_path)
        assert make(open_file=StoreProcess).said == ""

    def test_it_has_no_secret_and_no_stream_of_its_feeder(self, make, monkeypatch):
        monkeypatch.setenv("SHMFEED_CSRF_TOKEN", "0f3a9c51")
        process = make(open_file=StoreProcess)._file._process
        folder = Path(f"/proc/{process.pid}")
        assert b"0f3a9c51" not in (folder / "environ").read_bytes()
        assert str((folder / "fd/2").readlink()) == "/dev/null"

    def test_it_ends_with_its_feeder(self, child, path):
        """All that it was given is written, and no process is left."""
        tests = str(Path(__file__).parents[2])
        feeder = child(
            "import os, signal, sys\n"
            "sys.path.insert(0, sys.argv[2])\n"
            "from support.storing import IDENTITY, record, version_of\n"
            "from shmfeed.store.recorder import RecorderTimes, StoreRecorder\n"
            "times = RecorderTimes(turn=0.001)\n"
            "recorder = StoreRecorder(sys.argv[1], IDENTITY, times=times)\n"
            "recorder.open()\n"
            "print(recorder._file._process.pid, flush=True)\n"
            "record(recorder, [version_of(n) for n in range(300)])\n"
            "while recorder._waiting:\n"
            "    pass\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n",
            path,
            tests,
        )
        pid = int(feeder.stdout.readline())
        feeder.wait(20)
        until(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid))
        assert numbers(path) == list(range(300))

    def test_one_that_cannot_be_started(self, make, path, monkeypatch):
        monkeypatch.setattr(sys, "executable", "/none/python")
        recorder = make(open_file=StoreProcess)
        assert "its process cannot be started: No such file" in recorder.said


def is_zombie(pid):
    """Return True if the process has ended and only init has not heard of it yet."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_dropped_rows_do_not_come_back_out_of_the_queue(make, path):
    recorder = make(times=RecorderTimes(turn=60))  # it writes when it is woken
    record(recorder, [version_of(0), version_of(1)])
    counts = []
    recorder.drop_rows({KEY: START + MINUTE, OTHER: None}, counts.append)
    until(lambda: counts)
    assert counts == [[1, 0]]
    recorder.close()
    assert numbers(path) == [1]


def test_a_store_that_is_away_says_that_it_has_dropped_nothing(make, path):
    def refuse(*_):
        raise StoreError("no", "failed")

    recorder = make(open_file=refuse)
    counts = []
    recorder.drop_rows({KEY: None}, counts.append)
    until(lambda: counts)
    assert counts == [[-1]]
