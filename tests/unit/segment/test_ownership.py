"""One writer for each feed: locks, reuse, recreation, removal and forks."""

import errno
import gc
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Child
from support import segment_files
from support.replacing import replacing

from shmfeed.errors import (
    FeedBusyError,
    FeedLostError,
    SegmentError,
    SegmentFormatError,
    SegmentFullError,
)
from shmfeed.layout import (
    H_READY,
    H_RETIRED,
    MAGIC,
    MAGIC_SHIFT,
    READY,
    VERSION,
    WORD,
    Geometry,
)
from shmfeed.segment import ownership as module
from shmfeed.segment.allocation import create_object
from shmfeed.segment.locking import FileLock, acquire_lock_file, lock_segment
from shmfeed.segment.mapping import Place, identity_at, open_segment, place
from shmfeed.segment.ownership import SegmentOwner

GEOMETRY = Geometry(2, 5, 3)
OTHER = Geometry(2, 6, 3)

HOLD = """
import os, sys
import shmfeed
writer = shmfeed.create(sys.argv[1], history=5, guard=3, max_streams=2)
print(os.getpid(), flush=True)
input()
"""


@pytest.fixture
def where(feed_name: str) -> Place:
    return place(feed_name)


def hold(where: Place, geometry: Geometry = GEOMETRY) -> SegmentOwner:
    owner = SegmentOwner(where, geometry)
    owner.publish()
    return owner


@pytest.fixture
def owner(where: Place) -> Iterator[SegmentOwner]:
    owner = hold(where)
    yield owner
    owner.release(unlink=False)


@pytest.fixture
def other_process(where: Place, child: Child) -> subprocess.Popen:
    """Yield another process that owns the feed."""
    process = child(HOLD, where.name)
    assert process.stdout.readline() == f"{process.pid}\n"
    return process


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def retired(where: Place) -> int:
    content = where.segment.read_bytes()
    return struct.unpack_from("=q", content, H_RETIRED * WORD)[0]


class TestNew:
    def test_files_are_private(self, where: Place, owner: SegmentOwner) -> None:
        assert mode(where.segment) == 0o600
        assert mode(where.lock) == 0o600
        assert mode(where.directory) == 0o700
        assert where.segment.stat().st_size == GEOMETRY.size
        assert not owner.reused
        assert owner.previous is None

    def test_pages_are_reserved(self, where: Place, owner: SegmentOwner) -> None:
        # Of the header, the catalog and the first stream's slot.
        assert where.segment.stat().st_blocks * 512 == GEOMETRY.slot_word(1) * WORD
        owner.reserve_slots(1, 1)
        assert where.segment.stat().st_blocks * 512 == GEOMETRY.slot_word(2) * WORD

    def test_readers_see_it_once_it_is_published(self, where: Place) -> None:
        owner = SegmentOwner(where, GEOMETRY)
        assert owner.mapping.words.ints[H_READY] == 0
        owner.publish()
        assert open_segment(where).geometry == GEOMETRY
        assert open_segment(where).identity == owner.mapping.identity
        owner.release(unlink=True)

    def test_the_lock_file_names_the_holder(
        self, where: Place, owner: SegmentOwner
    ) -> None:
        assert where.lock.read_text() == f"{os.getpid()}\n"

    def test_a_longer_old_pid_is_overwritten_whole(self, where: Place) -> None:
        hold(where).release(unlink=True)
        where.lock.write_text("1234567890\n")
        owner = hold(where)
        assert where.lock.read_text() == f"{os.getpid()}\n"
        owner.release(unlink=True)


UMASK = """
import os, sys, stat
import encodings.idna, shmfeed.writer
from shmfeed.segment.mapping import place
import shmfeed.feed
if os.geteuid() == 0:  # root is let in whatever the mode
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.umask(int(sys.argv[2], 8))
writer = shmfeed.writer.create(sys.argv[1], history=5)
ring = writer.add_stream("A", "1h")
ring.append(0, 1, 2, 0.5, 1.5, 9)
where = place(sys.argv[1])
close = shmfeed.feed.attach(sys.argv[1]).ring("A", "1h").view(1)["close"][0]
paths = where.segment, where.directory
print(close, *(oct(stat.S_IMODE(path.stat().st_mode)) for path in paths))
writer.close()
writer = shmfeed.writer.create(sys.argv[1], history=5)
print(writer.reused)
writer.close(unlink=True)
"""
FOREIGN_UID = 65534


@pytest.fixture
def foreign_directory(feed_name: str) -> Iterator[None]:
    """Remove the directory of a user without feeds after the test."""
    directory = Path(f"/dev/shm/shmfeed-{FOREIGN_UID}")
    was_there = directory.exists()
    yield
    if directory.exists() and not was_there:
        shutil.rmtree(directory)


@pytest.mark.usefixtures("foreign_directory")
@pytest.mark.parametrize("umask", ["0", "22", "77", "177", "277", "777"])
def test_the_umask_does_not_matter(feed_name: str, child: Child, umask: str) -> None:
    process = child(UMASK, feed_name, umask)
    assert process.communicate() == ("1.5 0o600 0o700\nTrue\n", "")


class TestBusy:
    def test_in_one_process(self, where: Place, owner: SegmentOwner) -> None:
        with pytest.raises(FeedBusyError) as caught:
            SegmentOwner(where, GEOMETRY)
        assert caught.value.pid == os.getpid()
        assert f"process {os.getpid()}" in str(caught.value)
        assert where.name in str(caught.value)
        owner.check_owned()

    def test_another_process(
        self, where: Place, other_process: subprocess.Popen
    ) -> None:
        for geometry in (GEOMETRY, OTHER):
            with pytest.raises(FeedBusyError) as caught:
                SegmentOwner(where, geometry)
            assert caught.value.pid == other_process.pid
        assert retired(where) == 0

    def test_without_its_lock_file_the_segment_is_locked_still(
        self, where: Place, other_process: subprocess.Popen
    ) -> None:
        where.lock.unlink()
        for geometry in (GEOMETRY, OTHER):
            with pytest.raises(FeedBusyError) as caught:
                SegmentOwner(where, geometry)
            assert caught.value.pid == other_process.pid
        assert retired(where) == 0

    @pytest.mark.parametrize("text", ["nonsense", "", "0", "-1", "9" * 30])
    def test_an_unreadable_pid_is_reported_as_unknown(
        self, where: Place, owner: SegmentOwner, text: str
    ) -> None:
        where.lock.write_text(text)
        with pytest.raises(FeedBusyError, match="another process") as caught:
            SegmentOwner(where, GEOMETRY)
        assert caught.value.pid is None

    def test_a_segment_that_was_replaced_just_now_is_not_taken(
        self, where: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hold(where).release(unlink=False)
        monkeypatch.setattr(module, "lock_segment", replacing(lock_segment))
        with pytest.raises(FeedBusyError, match="another process"):
            SegmentOwner(where, GEOMETRY)
        assert retired(where) == 0

    def test_a_dead_owner_is_not_named(
        self, where: Place, other_process: subprocess.Popen
    ) -> None:
        # `clean` holds the locks for a moment, and signs no lock file.
        other_process.kill()
        other_process.wait()
        assert where.lock.read_text() == f"{other_process.pid}\n"
        cleaner = acquire_lock_file(where)
        with pytest.raises(FeedBusyError, match="another process") as by_file:
            SegmentOwner(where, GEOMETRY)
        cleaner.release()
        segment = lock_segment(where, where.segment)
        with pytest.raises(FeedBusyError, match="another process") as by_segment:
            SegmentOwner(where, GEOMETRY)
        segment.release()
        assert by_file.value.pid is by_segment.value.pid is None

    @pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_dead_owner_s_segment_is_reused(
        self, where: Place, other_process: subprocess.Popen, signal_number: int
    ) -> None:
        identity = identity_at(where.segment)
        other_process.send_signal(signal_number)
        other_process.wait(10)
        owner = hold(where)
        assert owner.reused
        assert owner.mapping.identity == identity
        owner.release(unlink=True)

    def test_a_file_created_meanwhile_is_refused(
        self, where: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def created_by_another(name: str, size: int) -> None:
            where.segment.write_bytes(b"another's")
            create_object(name, size)

        monkeypatch.setattr(
            "shmfeed.segment.creation.create_object", created_by_another
        )
        with pytest.raises(SegmentFormatError, match="created by another program"):
            SegmentOwner(where, GEOMETRY)
        assert where.segment.read_bytes() == b"another's"

    def test_another_system_error_names_the_feed(
        self, where: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "posix_fallocate", broken)
        with pytest.raises(
            SegmentError, match=r"created or locked .*put/output"
        ) as caught:
            SegmentOwner(where, GEOMETRY)
        assert where.name in str(caught.value)
        assert isinstance(caught.value.__cause__, OSError)
        assert not where.segment.exists()

    def test_a_refusal_holds_nothing(self, where: Place, owner: SegmentOwner) -> None:
        with pytest.raises(FeedBusyError):
            SegmentOwner(where, GEOMETRY)
        owner.release(unlink=False)
        hold(where).release(unlink=True)


class TestReuse:
    def test_the_same_geometry(self, where: Place) -> None:
        first = hold(where)
        identity = first.mapping.identity
        first.release(unlink=False)
        second = hold(where)
        assert second.reused
        assert second.previous is None
        assert second.mapping.identity == identity
        second.release(unlink=True)

    def test_another_geometry_recreates_it(self, where: Place) -> None:
        first = hold(where)
        first.release(unlink=False)
        reader = open_segment(where)
        second = hold(where, OTHER)
        assert not second.reused
        assert second.previous.identity == first.mapping.identity
        assert reader.words.ints[H_RETIRED] == 1
        assert open_segment(where).geometry == OTHER
        assert open_segment(where).words.ints[H_RETIRED] == 0
        second.release(unlink=True)

    def test_readers_use_the_old_one_until_publishing(self, where: Place) -> None:
        first = hold(where)
        first.release(unlink=False)
        second = SegmentOwner(where, OTHER)
        assert open_segment(where).identity == first.mapping.identity
        assert retired(where) == 0
        second.check_owned()
        second.publish()
        assert open_segment(where).identity == second.mapping.identity
        assert retired(where) == 0
        second.check_owned()
        second.release(unlink=True)

    @pytest.mark.parametrize("unlink", [False, True])
    def test_released_before_publishing_the_old_one_stays(
        self, where: Place, unlink: bool
    ) -> None:
        hold(where).release(unlink=False)
        before = identity_at(where.segment)
        SegmentOwner(where, OTHER).release(unlink=unlink)
        assert identity_at(where.segment) == before
        third = hold(where)
        assert third.reused
        assert [*where.segment.parent.glob(f"{where.object_name}*")] == [where.segment]
        third.release(unlink=True)

    def test_both_segments_are_locked_until_publishing(self, where: Place) -> None:
        hold(where).release(unlink=False)
        second = SegmentOwner(where, OTHER)
        where.lock.unlink()
        with pytest.raises(FeedBusyError):
            SegmentOwner(where, GEOMETRY)
        second.release(unlink=True)

    def test_a_segment_put_in_the_old_one_s_place_is_not_overwritten(
        self, where: Place
    ) -> None:
        hold(where).release(unlink=False)
        second = SegmentOwner(where, OTHER)
        where.segment.unlink()
        where.segment.write_bytes(b"other_process")
        with pytest.raises(FeedLostError, match=where.object_name):
            second.publish()
        second.release(unlink=True)
        assert where.segment.read_bytes() == b"other_process"

    def leave(self, where: Place, size: int = GEOMETRY.size, **words: int) -> None:
        """Leave a segment with changed header words, truncated to `size`."""
        hold(where).release(unlink=False)
        content = bytearray(where.segment.read_bytes())
        for name, value in words.items():
            struct.pack_into("=q", content, globals()[name] * WORD, value)
        segment_files.put(where.segment, bytes(content), size)

    @pytest.mark.parametrize(
        ("size", "words"),
        [
            (GEOMETRY.size, {"H_READY": 0}),
            (GEOMETRY.size, {"H_RETIRED": 1}),
            (GEOMETRY.size, {"H_READY": MAGIC << MAGIC_SHIFT | VERSION + 1}),
            (GEOMETRY.size - 1, {}),
            (GEOMETRY.size - WORD, {}),
            (WORD, {}),
            (0, {}),
        ],
        ids=["unready", "retired", "version", "odd", "short", "one word", "empty"],
    )
    def test_an_unusable_segment_is_recreated(
        self, where: Place, size: int, words: dict[str, int]
    ) -> None:
        self.leave(where, size, **words)
        before = identity_at(where.segment)
        owner = hold(where)
        assert not owner.reused
        assert owner.previous is None
        assert open_segment(where).identity == owner.mapping.identity != before
        owner.release(unlink=True)

    @pytest.mark.parametrize("version", [VERSION + 1, 7])
    def test_a_segment_of_another_layout_is_retired(
        self, where: Place, version: int
    ) -> None:
        self.leave(where, H_READY=MAGIC << MAGIC_SHIFT | version)
        with where.segment.open("rb") as reader:
            hold(where).release(unlink=True)
            reader.seek(H_RETIRED * WORD)
            assert struct.unpack("=q", reader.read(WORD)) == (1,)

    def test_a_foreign_file_stays(self, where: Place) -> None:
        content = b"data of another program" * 1000
        where.segment.write_bytes(content)
        where.segment.chmod(0o600)
        with pytest.raises(SegmentFormatError, match="was not changed"):
            SegmentOwner(where, GEOMETRY)
        assert where.segment.read_bytes() == content

    @pytest.mark.parametrize("kind", ["mode", "fifo", "directory", "link"])
    def test_other_files_are_refused_and_no_lock_is_held(
        self, where: Place, kind: str
    ) -> None:
        self.leave(where)
        kept = where.segment.rename(where.segment.with_name(f"{where.object_name}2"))
        if kind == "mode":
            kept.rename(where.segment)
            where.segment.chmod(0o644)
        elif kind == "fifo":
            os.mkfifo(where.segment, 0o600)
        elif kind == "directory":
            where.segment.mkdir()
        else:
            where.segment.symlink_to(kept)
        for _ in range(2):
            with pytest.raises(SegmentFormatError, match=str(where.segment)):
                SegmentOwner(where, GEOMETRY)
        assert os.path.lexists(where.segment)


class TestDirectory:
    def test_a_directory_that_others_may_enter_is_refused(
        self, where: Place, tmp_path: Path
    ) -> None:
        directory = tmp_path / "open"
        directory.mkdir(0o755)
        elsewhere = where._replace(directory=directory, lock=directory / "a.lock")
        with pytest.raises(SegmentFormatError, match="mode 0700"):
            SegmentOwner(elsewhere, GEOMETRY)
        assert [*directory.iterdir()] == []

    @pytest.mark.parametrize("kind", ["link", "file"])
    def test_other_files_are_refused_as_directory(
        self, where: Place, tmp_path: Path, kind: str
    ) -> None:
        target = tmp_path / "target"
        target.mkdir(0o700)
        directory = tmp_path / "directory"
        if kind == "link":
            directory.symlink_to(target)
        else:
            directory.touch(0o600)
        elsewhere = where._replace(directory=directory, lock=directory / "a.lock")
        with pytest.raises(SegmentFormatError, match="must be a directory"):
            SegmentOwner(elsewhere, GEOMETRY)


class TestFullDisk:
    def test_a_full_disk_is_reported_at_creation(self, where: Place) -> None:
        room = os.statvfs("/dev/shm")
        size = room.f_blocks * room.f_frsize
        if not size:
            pytest.skip("/dev/shm has no limit here")
        geometry = Geometry(1, size // 8 // 18 // 9 + 1000, 16)
        assert geometry.size > size
        with pytest.raises(SegmentFullError) as caught:
            SegmentOwner(where, geometry)
        assert caught.value.errno in (errno.ENOSPC, errno.ENOMEM)
        assert isinstance(caught.value, SegmentError)
        assert "MiB free" in str(caught.value)
        assert not where.segment.exists()
        hold(where).release(unlink=True)

    def test_no_lock_is_held_after_a_full_disk(
        self, where: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            with pytest.raises(SegmentFullError, match="--shm-size"):
                SegmentOwner(where, GEOMETRY)
        assert not where.segment.exists()
        hold(where).release(unlink=True)


class TestCheck:
    def test_an_intact_segment_passes(self, owner: SegmentOwner) -> None:
        owner.check_owned()

    @pytest.mark.parametrize("which", ["segment", "lock"])
    @pytest.mark.parametrize("replaced", [False, True])
    def test_a_removed_or_replaced_file_is_noticed(
        self, where: Place, owner: SegmentOwner, which: str, replaced: bool
    ) -> None:
        path = getattr(where, which)
        kept = path.rename(f"{path}2")
        if replaced:
            path.write_bytes(kept.read_bytes())
        with pytest.raises(FeedLostError) as caught:
            owner.check_owned()
        assert str(path) in str(caught.value)
        assert f"pid {os.getpid()}" in str(caught.value)


class TestRelease:
    def test_the_segment_stays(self, where: Place) -> None:
        hold(where).release(unlink=False)
        assert where.segment.exists()
        assert retired(where) == 0

    def test_with_unlink_it_is_retired_and_removed(self, where: Place) -> None:
        owner = hold(where)
        reader = open_segment(where)
        owner.release(unlink=True)
        assert reader.words.ints[H_RETIRED] == 1
        assert not where.segment.exists()
        assert where.lock.exists()

    def test_a_second_release_does_nothing(self, where: Place) -> None:
        first = hold(where)
        first.release(unlink=True)
        second = hold(where)
        first.release(unlink=True)
        second.check_owned()
        assert retired(where) == 0
        second.release(unlink=True)

    def test_a_segment_of_another_owner_stays(self, where: Place) -> None:
        owner = hold(where)
        where.segment.unlink()
        where.segment.write_bytes(b"another's")
        owner.release(unlink=True)
        assert where.segment.read_bytes() == b"another's"

    def test_a_dropped_owner_holds_no_lock(self, where: Place) -> None:
        gc.collect()  # garbage of earlier tests
        before = len(list(Path("/proc/self/fd").iterdir()))
        hold(where)  # which unlocks it
        gc.collect()
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        successor = hold(where)
        assert successor.reused
        successor.release(unlink=True)

    def test_a_removed_segment_can_be_released(self, where: Place) -> None:
        owner = hold(where)
        where.segment.unlink()
        owner.release(unlink=True)


FORK = """
import os, sys
import shmfeed
writer = shmfeed.create(sys.argv[1], history=5, guard=3, max_streams=2)
ring = writer.add_stream("A", "1h")
ring.append(0, 1, 2, 0.5, 1.5, 9)
feed = shmfeed.attach(sys.argv[1])
inherited = feed.ring("A", "1h")

def lost(call, *arguments):
    try:
        call(*arguments)
    except shmfeed.FeedLostError:
        return
    raise AssertionError(call)

pid = os.fork()
if not pid:
    bar = (3600000, 1, 2, 0.5, 1.5, 9)
    lost(ring.append, *bar)
    lost(ring.update_forming, *bar)
    for call in (writer.beat, writer.beat_alive, writer.tick, writer.wake):
        lost(call)
    for call in (writer.mark_message,):
        lost(call)
    lost(writer.count, "bars")
    lost(writer.set_state, "error")
    lost(writer.note, {})
    lost(writer.add_stream, "B", "1h")
    assert inherited.view(1)["close"].tolist() == [1.5]
    assert inherited.count == 1
    writer.close(unlink=True)
    del writer, ring
    sys.exit(3)  # with all that an interpreter does at its end
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
ring.append(3600000, 1, 2, 0.5, 2.5, 9)
writer.beat()
print(inherited.count, feed.status()["health"], flush=True)
input()
writer.close(unlink=True)
"""
FORK_AND_WAIT = """
import os, sys
import shmfeed
writer = shmfeed.create(sys.argv[1], history=5, guard=3, max_streams=2)
pid = os.fork()
if not pid:
    print(os.getpid(), flush=True)
input()
"""


class TestFork:
    def test_a_child_s_exit_changes_nothing(self, where: Place, child: Child) -> None:
        process = child(FORK, where.name)
        said = process.stdout.readline()
        if said:
            with pytest.raises(FeedBusyError) as caught:
                SegmentOwner(where, GEOMETRY)
            assert caught.value.pid == process.pid
        _, complaint = process.communicate("\n")
        assert (said, complaint) == ("2 live\n", "")
        assert process.returncode == 0
        assert not where.segment.exists()

    def test_a_killed_parent_s_feed_can_be_taken_while_the_child_lives(
        self, where: Place, child: Child
    ) -> None:
        process = child(FORK_AND_WAIT, where.name)
        pid = int(process.stdout.readline())
        process.kill()
        process.wait(10)
        os.kill(pid, 0)  # the child lives
        owner = hold(where)
        assert owner.reused
        os.kill(pid, 0)
        process.stdin.close()  # it ends
        assert process.stdout.read() == ""
        owner.check_owned()
        assert open_segment(where).words.ints[H_READY] == READY
        owner.release(unlink=True)


class TestFileLock:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "locked"
        path.touch(0o600)
        return path

    def lock(self, path: Path) -> FileLock:
        return FileLock(os.open(path, os.O_RDWR))

    def test_one_holds_it(self, path: Path) -> None:
        first, second = self.lock(path), self.lock(path)
        assert first.is_held
        assert first.is_held
        assert not second.is_held
        first.release()
        assert second.is_held
        assert not first.is_held
        second.release()

    def test_a_dropped_one_is_released(self, path: Path) -> None:
        first = self.lock(path)
        assert first.is_held
        del first
        second = self.lock(path)
        assert second.is_held
        second.release()

    def test_a_closed_descriptor_holds_nothing(self, path: Path) -> None:
        lock = self.lock(path)
        assert lock.is_held
        os.close(lock.fileno())
        assert not lock.is_held
        lock.release()

    def test_a_number_of_another_file_is_left_open(
        self, path: Path, tmp_path: Path
    ) -> None:
        lock = self.lock(path)
        other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
        os.dup2(other, lock.fileno())
        assert not lock.is_held
        lock.release()
        os.fstat(lock.fileno())
        os.close(lock.fileno())
        os.close(other)

    def test_two_releases_close_one_descriptor(self, path: Path) -> None:
        lock = self.lock(path)
        lock.release()
        again = os.open(path, os.O_RDWR)
        lock.release()
        os.fstat(again)
        os.close(again)
