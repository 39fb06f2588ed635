"""One writer a feed: locks, adoption, replacement, removal, and forks."""

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
from shmfeed.segment.locking import acquire_lock_file, lock_segment
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
    holding = SegmentOwner(where, geometry)
    holding.publish()
    return holding


@pytest.fixture
def holding(where: Place) -> Iterator[SegmentOwner]:
    holding = hold(where)
    yield holding
    holding.release(unlink=False)


@pytest.fixture
def stranger(where: Place, child: Child) -> subprocess.Popen:
    """Another process that holds the feed."""
    process = child(HOLD, where.name)
    assert process.stdout.readline() == f"{process.pid}\n"
    return process


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def retired(where: Place) -> int:
    content = where.segment.read_bytes()
    return struct.unpack_from("=q", content, H_RETIRED * WORD)[0]


class TestNew:
    def test_files_are_private(self, where: Place, holding: SegmentOwner) -> None:
        assert mode(where.segment) == 0o600
        assert mode(where.lock) == 0o600
        assert mode(where.directory) == 0o700
        assert where.segment.stat().st_size == GEOMETRY.size
        assert not holding.reused
        assert holding.previous is None

    def test_pages_are_reserved(self, where: Place, holding: SegmentOwner) -> None:
        assert where.segment.stat().st_blocks * 512 >= GEOMETRY.size

    def test_readers_see_it_once_it_is_published(self, where: Place) -> None:
        holding = SegmentOwner(where, GEOMETRY)
        assert holding.mapping.words.ints[H_READY] == 0
        holding.publish()
        assert open_segment(where).geometry == GEOMETRY
        assert open_segment(where).identity == holding.mapping.identity
        holding.release(unlink=True)

    def test_the_lock_file_names_the_holder(
        self, where: Place, holding: SegmentOwner
    ) -> None:
        assert where.lock.read_text() == f"{os.getpid()}\n"

    def test_a_longer_old_pid_is_overwritten_whole(self, where: Place) -> None:
        hold(where).release(unlink=True)
        where.lock.write_text("1234567890\n")
        holding = hold(where)
        assert where.lock.read_text() == f"{os.getpid()}\n"
        holding.release(unlink=True)


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
NOBODY = 65534


@pytest.fixture
def nobodys_directory(feed_name: str) -> Iterator[None]:
    """The directory of a user who has no feeds goes with the test that made it."""
    directory = Path(f"/dev/shm/shmfeed-{NOBODY}")
    was_there = directory.exists()
    yield
    if directory.exists() and not was_there:
        shutil.rmtree(directory)


@pytest.mark.usefixtures("nobodys_directory")
@pytest.mark.parametrize("umask", ["0", "22", "77", "177", "277", "777"])
def test_no_umask_is_in_the_way(feed_name: str, child: Child, umask: str) -> None:
    process = child(UMASK, feed_name, umask)
    assert process.communicate() == ("1.5 0o600 0o700\nTrue\n", "")


class TestBusy:
    def test_in_one_process(self, where: Place, holding: SegmentOwner) -> None:
        with pytest.raises(FeedBusyError) as caught:
            SegmentOwner(where, GEOMETRY)
        assert caught.value.pid == os.getpid()
        assert f"process {os.getpid()}" in str(caught.value)
        assert where.name in str(caught.value)
        holding.check()

    def test_another_process(self, where: Place, stranger: subprocess.Popen) -> None:
        for geometry in (GEOMETRY, OTHER):
            with pytest.raises(FeedBusyError) as caught:
                SegmentOwner(where, geometry)
            assert caught.value.pid == stranger.pid
        assert retired(where) == 0

    def test_without_its_lock_file_the_segment_itself_refuses(
        self, where: Place, stranger: subprocess.Popen
    ) -> None:
        where.lock.unlink()
        for geometry in (GEOMETRY, OTHER):
            with pytest.raises(FeedBusyError) as caught:
                SegmentOwner(where, geometry)
            assert caught.value.pid == stranger.pid
        assert retired(where) == 0

    @pytest.mark.parametrize("text", ["nonsense", "", "0", "-1", "9" * 30])
    def test_an_unreadable_pid_is_said_to_be_unknown(
        self, where: Place, holding: SegmentOwner, text: str
    ) -> None:
        where.lock.write_text(text)
        with pytest.raises(FeedBusyError, match="another process") as caught:
            SegmentOwner(where, GEOMETRY)
        assert caught.value.pid is None

    def test_one_that_was_put_there_just_now_is_not_taken(
        self, where: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hold(where).release(unlink=False)
        monkeypatch.setattr(module, "lock_segment", replacing(lock_segment))
        with pytest.raises(FeedBusyError, match="another process"):
            SegmentOwner(where, GEOMETRY)
        assert retired(where) == 0

    def test_a_dead_one_is_not_said_to_hold_it(
        self, where: Place, stranger: subprocess.Popen
    ) -> None:
        # Who cleans up holds the locks for a moment, and signs nothing.
        stranger.kill()
        stranger.wait()
        assert where.lock.read_text() == f"{stranger.pid}\n"
        cleaner = acquire_lock_file(where)
        with pytest.raises(FeedBusyError, match="another process") as by_file:
            SegmentOwner(where, GEOMETRY)
        cleaner.release()
        segment = lock_segment(where, where.segment)
        with pytest.raises(FeedBusyError, match="another process") as by_segment:
            SegmentOwner(where, GEOMETRY)
        os.close(segment)
        assert by_file.value.pid is by_segment.value.pid is None

    @pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_dead_one_s_feed_is_gone_on_with(
        self, where: Place, stranger: subprocess.Popen, signal_number: int
    ) -> None:
        identity = identity_at(where.segment)
        stranger.send_signal(signal_number)
        stranger.wait(10)
        holding = hold(where)
        assert holding.reused
        assert holding.mapping.identity == identity
        holding.release(unlink=True)

    def test_what_appears_meanwhile_is_refused(
        self, where: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def created_by_another(name: str, size: int) -> None:
            where.segment.write_bytes(b"another's")
            create_object(name, size)

        monkeypatch.setattr(
            "shmfeed.segment.ownership.create_object", created_by_another
        )
        with pytest.raises(SegmentFormatError, match="created by another program"):
            SegmentOwner(where, GEOMETRY)
        assert where.segment.read_bytes() == b"another's"

    def test_another_error_of_the_system_is_said_with_the_feed(
        self, where: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "posix_fallocate", broken)
        with pytest.raises(
            SegmentError, match=r"create or lock .*put/output"
        ) as caught:
            SegmentOwner(where, GEOMETRY)
        assert where.name in str(caught.value)
        assert isinstance(caught.value.__cause__, OSError)
        assert not where.segment.exists()

    def test_a_refusal_holds_nothing(self, where: Place, holding: SegmentOwner) -> None:
        with pytest.raises(FeedBusyError):
            SegmentOwner(where, GEOMETRY)
        holding.release(unlink=False)
        hold(where).release(unlink=True)


class TestAdoption:
    def test_the_same_geometry(self, where: Place) -> None:
        first = hold(where)
        identity = first.mapping.identity
        first.release(unlink=False)
        second = hold(where)
        assert second.reused
        assert second.previous is None
        assert second.mapping.identity == identity
        second.release(unlink=True)

    def test_another_geometry_replaces_it(self, where: Place) -> None:
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

    def test_the_old_one_serves_until_the_new_one_is_whole(self, where: Place) -> None:
        first = hold(where)
        first.release(unlink=False)
        second = SegmentOwner(where, OTHER)
        assert open_segment(where).identity == first.mapping.identity
        assert retired(where) == 0
        second.check()
        second.publish()
        assert open_segment(where).identity == second.mapping.identity
        assert retired(where) == 0
        second.check()
        second.release(unlink=True)

    @pytest.mark.parametrize("unlink", [False, True])
    def test_given_up_on_the_way_the_old_one_stays(
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

    def test_nobody_else_may_write_either_one_on_the_way(self, where: Place) -> None:
        hold(where).release(unlink=False)
        second = SegmentOwner(where, OTHER)
        where.lock.unlink()
        with pytest.raises(FeedBusyError):
            SegmentOwner(where, GEOMETRY)
        second.release(unlink=True)

    def test_a_stranger_in_the_old_one_s_place_is_not_overwritten(
        self, where: Place
    ) -> None:
        hold(where).release(unlink=False)
        second = SegmentOwner(where, OTHER)
        where.segment.unlink()
        where.segment.write_bytes(b"stranger")
        with pytest.raises(FeedLostError, match=where.object_name):
            second.publish()
        second.release(unlink=True)
        assert where.segment.read_bytes() == b"stranger"

    def leave(self, where: Place, size: int = GEOMETRY.size, **words: int) -> None:
        """A segment with these words of its header changed, cut to `size`."""
        hold(where).release(unlink=False)
        with where.segment.open("r+b") as file:
            for name, value in words.items():
                file.seek(globals()[name] * WORD)
                file.write(struct.pack("=q", value))
            file.truncate(size)

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
    def test_what_is_no_use_is_made_anew(
        self, where: Place, size: int, words: dict[str, int]
    ) -> None:
        self.leave(where, size, **words)
        before = identity_at(where.segment)
        holding = hold(where)
        assert not holding.reused
        assert holding.previous is None
        assert open_segment(where).identity == holding.mapping.identity != before
        holding.release(unlink=True)

    @pytest.mark.parametrize("version", [VERSION + 1, 7])
    def test_readers_of_another_layout_are_told(
        self, where: Place, version: int
    ) -> None:
        self.leave(where, H_READY=MAGIC << MAGIC_SHIFT | version)
        with where.segment.open("rb") as reader:
            hold(where).release(unlink=True)
            reader.seek(H_RETIRED * WORD)
            assert struct.unpack("=q", reader.read(WORD)) == (1,)

    def test_a_foreign_file_stays(self, where: Place) -> None:
        content = b"somebody's own data" * 1000
        where.segment.write_bytes(content)
        where.segment.chmod(0o600)
        with pytest.raises(SegmentFormatError, match="stays as it is"):
            SegmentOwner(where, GEOMETRY)
        assert where.segment.read_bytes() == content

    @pytest.mark.parametrize("kind", ["mode", "fifo", "directory", "link"])
    def test_what_is_no_segment_is_refused_and_nothing_held(
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
    def test_one_that_others_may_enter_is_refused(
        self, where: Place, tmp_path: Path
    ) -> None:
        directory = tmp_path / "open"
        directory.mkdir(0o755)
        elsewhere = where._replace(directory=directory, lock=directory / "a.lock")
        with pytest.raises(SegmentFormatError, match="mode 0700"):
            SegmentOwner(elsewhere, GEOMETRY)
        assert [*directory.iterdir()] == []

    @pytest.mark.parametrize("kind", ["link", "file"])
    def test_what_is_no_directory_is_refused(
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


class TestNoRoom:
    def test_is_said_before_the_first_bar(self, where: Place) -> None:
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

    def test_leaves_nothing_held(
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
    def test_all_is_well(self, holding: SegmentOwner) -> None:
        holding.check()

    @pytest.mark.parametrize("which", ["segment", "lock"])
    @pytest.mark.parametrize("replaced", [False, True])
    def test_what_was_taken_away_is_noticed(
        self, where: Place, holding: SegmentOwner, which: str, replaced: bool
    ) -> None:
        path = getattr(where, which)
        kept = path.rename(f"{path}2")
        if replaced:
            path.write_bytes(kept.read_bytes())
        with pytest.raises(FeedLostError) as caught:
            holding.check()
        assert str(path) in str(caught.value)
        assert f"pid {os.getpid()}" in str(caught.value)


class TestRelease:
    def test_leaves_the_segment(self, where: Place) -> None:
        hold(where).release(unlink=False)
        assert where.segment.exists()
        assert retired(where) == 0

    def test_removes_it_retired(self, where: Place) -> None:
        holding = hold(where)
        reader = open_segment(where)
        holding.release(unlink=True)
        assert reader.words.ints[H_RETIRED] == 1
        assert not where.segment.exists()
        assert where.lock.exists()

    def test_again_does_nothing(self, where: Place) -> None:
        first = hold(where)
        first.release(unlink=True)
        second = hold(where)
        first.release(unlink=True)
        second.check()
        assert retired(where) == 0
        second.release(unlink=True)

    def test_another_s_segment_stays(self, where: Place) -> None:
        holding = hold(where)
        where.segment.unlink()
        where.segment.write_bytes(b"another's")
        holding.release(unlink=True)
        assert where.segment.read_bytes() == b"another's"

    def test_one_that_was_dropped_holds_nothing(self, where: Place) -> None:
        gc.collect()  # what an earlier test left in a cycle
        before = len(list(Path("/proc/self/fd").iterdir()))
        hold(where)  # in nobody's hand
        gc.collect()
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        successor = hold(where)
        assert successor.reused
        successor.release(unlink=True)

    def test_a_removed_one_is_no_error(self, where: Place) -> None:
        holding = hold(where)
        where.segment.unlink()
        holding.release(unlink=True)


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
        holding = hold(where)
        assert holding.reused
        os.kill(pid, 0)
        process.stdin.close()  # it ends
        assert process.stdout.read() == ""
        holding.check()
        assert open_segment(where).words.ints[H_READY] == READY
        holding.release(unlink=True)
