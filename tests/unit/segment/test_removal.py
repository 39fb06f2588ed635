"""Removal of what no feeder holds: what goes, what stays, and why."""

import os
import signal
import socket

import pytest
from support.forks import Fork
from support.replacing import replacing
from support.waiting import until

import shmfeed
from shmfeed.errors import SegmentFormatError
from shmfeed.layout import READY
from shmfeed.segment import removal
from shmfeed.segment.locking import acquire_lock_file
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import FOREIGN, HELD, UNHELD, leftovers, remove_unheld
from shmfeed.writer import create


def leave_socket(where):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(where.socket))


def hold_for_ever(name, pipe):
    writer = create(name)
    os.write(pipe, b"x")
    signal.pause()
    writer.close()


def holder(name):
    """Return a process that holds the feed."""
    told, telling = os.pipe()
    one = Fork(hold_for_ever, name, telling)
    os.close(telling)
    assert os.read(told, 1)
    os.close(told)
    return one


def test_an_unheld_segment_is_removed_with_its_other_files(feed_name):
    where = place(feed_name)
    with create(feed_name) as writer:
        ring = writer.add_stream("BTCUSDT", "1m")
        ring.append(0, 1, 2, 1, 2, 1)
        assert not remove_unheld(where)
        with shmfeed.attach(feed_name) as feed:
            view = feed.ring("BTCUSDT", "1m").view(1)
            writer.close()
            leave_socket(where)  # as a killed feeder leaves it
            assert remove_unheld(where)
            assert not where.segment.exists()
            assert not where.socket.exists()
            assert view["close"].tolist() == [2.0]  # readers keep their bars
            with create(feed_name) as successor:
                successor.add_stream("ETHUSDT", "1m")
                assert feed.streams() == [("ETHUSDT", "1m")]
                successor.close(unlink=True)
    assert not remove_unheld(where)


def test_a_holder_keeps_its_segment_without_the_lock_file(feed_name):
    where = place(feed_name)
    with create(feed_name) as writer:
        where.lock.unlink()
        assert not remove_unheld(where)
        assert where.segment.exists()
        writer.close()
    assert remove_unheld(where)


def test_readers_of_a_removed_segment_find_its_successor_at_once(feed_name):
    # A killed feeder's last beat is fresh: only the word `retired` ends the segment.
    with holder(feed_name) as one, shmfeed.attach(feed_name) as feed:
        before = feed.current().identity
        one.kill()
        assert leftovers(place(feed_name), remove=True)
        with create(feed_name) as successor:
            assert feed.current().identity != before
            successor.close(unlink=True)


def test_listing_takes_nothing_from_the_next_feeder(feed_name):
    create(feed_name).close()
    assert [left.state for left in leftovers(place(feed_name))] == [UNHELD]
    with create(feed_name) as writer:
        assert writer.reused
        writer.close(unlink=True)


def test_a_segment_that_was_replaced_just_now_stays(feed_name, monkeypatch):
    where = place(feed_name)
    create(feed_name).close()
    monkeypatch.setattr(removal, "lock_segment", replacing(removal.lock_segment))
    (found,) = leftovers(where, remove=True)
    assert (found.state, found.reason) == (HELD, "is held by another process")
    assert where.segment.exists()


@pytest.mark.parametrize("content", [b"x", b"hello", b"\0\0\0x", b"1234567"])
def test_a_foreign_file_of_less_than_a_word_stays(feed_name, content):
    where = place(feed_name)
    create(feed_name).close(unlink=True)
    where.segment.touch(0o600)
    where.segment.write_bytes(content)
    for refuse in (lambda: remove_unheld(where), lambda: create(feed_name)):
        with pytest.raises(SegmentFormatError, match="not a shmfeed segment"):
            refuse()
    assert where.segment.read_bytes() == content


def test_a_foreign_file_stays(feed_name):
    where = place(feed_name)
    create(feed_name).close(unlink=True)
    where.segment.symlink_to("/etc/passwd")
    with pytest.raises(SegmentFormatError):
        remove_unheld(where)
    where.segment.unlink()
    where.segment.write_bytes(b"someone's")
    where.segment.chmod(0o644)
    with pytest.raises(SegmentFormatError):
        remove_unheld(where)
    assert where.segment.read_bytes() == b"someone's"
    where.segment.chmod(0o600)
    with pytest.raises(SegmentFormatError, match="not a shmfeed segment"):
        remove_unheld(where)
    assert where.segment.read_bytes() == b"someone's"
    where.segment.unlink()


def test_an_unfinished_segment_is_removed(feed_name):
    where = place(feed_name)
    create(feed_name).close(unlink=True)
    fd = os.open(where.segment, os.O_CREAT | os.O_WRONLY, 0o600)
    os.close(fd)
    assert remove_unheld(where)
    assert not where.segment.exists()


def test_a_holder_keeps_all_and_a_killed_one_nothing(feed_name):
    where = place(feed_name)
    with holder(feed_name) as one:
        leave_socket(where)
        where.successor.touch(0o600)
        for remove in (False, True):
            found = leftovers(where, remove)
            assert [left.path for left in found] == [
                where.segment,
                where.successor,
                where.socket,
            ]
            assert {left.reason for left in found} == {f"is held by process {one.pid}"}
            assert all(left.state == HELD and left.path.exists() for left in found)
        one.kill()
        found = leftovers(where)
        assert [(left.reason, left.path.exists()) for left in found] == [("", True)] * 3
        assert found[0].size == where.segment.stat().st_size
        assert leftovers(where, remove=True) == found
        assert not any(left.path.exists() for left in found)
        assert where.lock.exists()
    assert leftovers(where, remove=True) == []


def test_without_its_lock_file_a_holder_keeps_its_socket_too(feed_name):
    where = place(feed_name)
    with holder(feed_name) as one:
        leave_socket(where)
        where.lock.unlink()
        assert all(left.state == HELD for left in leftovers(where))
        assert not where.lock.exists()  # listing creates none
        assert all(left.state == HELD for left in leftovers(where, remove=True))
        assert where.segment.exists()
        assert where.socket.exists()
        one.kill()
        # Another process may list the files now, and hold the locks for that long.
        until(lambda: all(one.state == UNHELD for one in leftovers(where, remove=True)))
        assert not where.segment.exists()


def test_a_listing_creates_no_lock_file_that_is_removed_meanwhile(
    feed_name, monkeypatch
):
    where = place(feed_name)
    create(feed_name).close()
    lock = acquire_lock_file(where)

    def remove_and_release(seconds):
        where.lock.unlink(missing_ok=True)
        lock.release()

    monkeypatch.setattr("shmfeed.segment.locking.time.sleep", remove_and_release)
    assert {left.state for left in leftovers(where)} == {UNHELD}
    assert not where.lock.exists()


def test_without_the_lock_on_the_segment_a_holder_loses_it(feed_name, monkeypatch):
    """The control: the lock file alone does not keep a holder's segment."""
    where = place(feed_name)
    with holder(feed_name):
        where.lock.unlink()
        monkeypatch.setattr("fcntl.flock", lambda fd, how: None)
        leftovers(where, remove=True)
        assert not where.segment.exists()


def directory(path):
    path.mkdir()


def symlink(path):
    path.symlink_to("/etc/passwd")


def pipe(path):
    os.mkfifo(path, 0o600)


def open_file(path):
    path.touch(0o644)


def text(path):
    path.touch(0o600)
    path.write_text("a letter")


@pytest.mark.parametrize("make", [directory, symlink, pipe, open_file, text])
@pytest.mark.parametrize("which", ["segment", "successor", "socket", "lock"])
def test_files_that_no_feeder_creates_stay(feed_name, make, which):
    where = place(feed_name)
    create(feed_name).close()
    path = getattr(where, which)
    path.unlink(missing_ok=True)
    make(path)
    before = path.lstat()
    found = leftovers(where, remove=True)
    after = path.lstat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    if which == "lock":
        # Any content of a lock file is accepted: a feeder would lock the same file.
        assert (not found[0].reason) == (make in (open_file, text))
        return
    stayed = [left for left in found if left.reason]
    assert [left.path for left in stayed] == [path]
    assert stayed[0].state == FOREIGN
    assert str(path) not in stayed[0].reason
    assert where.segment.exists() == (which == "segment")  # the rest was removed


def test_a_segment_of_another_version_is_removed(feed_name):
    where = place(feed_name)
    with create(feed_name, 16, 16, 1) as writer:
        writer._words.ints[0] = READY + 7
        assert leftovers(where, remove=True)[0].state == HELD
    assert leftovers(where, remove=True)[0].reason == ""
    assert not where.segment.exists()


def test_a_file_of_another_user_stays(feed_name):
    where = place(feed_name)
    if os.geteuid():
        pytest.skip("only root can make another user's file")
    create(feed_name).close()
    os.chown(where.segment, 65534, 65534)
    (left,) = leftovers(where, remove=True)
    assert "it belongs to user 65534, not to 0" in left.reason
    assert where.segment.exists()


def test_a_file_in_place_of_the_directory(feed_name, tmp_path, monkeypatch):
    monkeypatch.setattr("shmfeed.segment.platform.SHARED_MEMORY", tmp_path)
    where = place(feed_name)
    where.segment.touch(0o600)
    where.directory.symlink_to(tmp_path)
    (left,) = leftovers(where, remove=True)
    assert left.reason.startswith("cannot be locked: ")
    assert "move it away" in left.reason
    assert where.segment.exists()
    where.directory.unlink()
    assert leftovers(where, remove=True)[0].reason == ""
    assert not where.segment.exists()
    assert where.directory.stat().st_mode & 0o777 == 0o700
