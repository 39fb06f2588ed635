import os

import pytest

import shmfeed
from shmfeed.errors import SegmentFormatError
from shmfeed.memory.removal import remove_unheld
from shmfeed.memory.segment import place
from shmfeed.writer import create


def test_what_nobody_holds_goes_with_what_is_beside_it(feed_name):
    where = place(feed_name)
    with create(feed_name) as writer:
        ring = writer.add_stream("BTCUSDT", "1m")
        ring.append(0, 1, 2, 1, 2, 1)
        assert not remove_unheld(where)
        with shmfeed.attach(feed_name) as feed:
            view = feed.ring("BTCUSDT", "1m").view(1)
            writer.close()
            where.socket.touch()  # of a feeder that was killed
            assert remove_unheld(where)
            assert not where.segment.exists()
            assert not where.socket.exists()
            assert view["close"].tolist() == [2.0]  # readers keep what they have
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


def test_an_unfinished_segment_goes(feed_name):
    where = place(feed_name)
    create(feed_name).close(unlink=True)
    fd = os.open(where.segment, os.O_CREAT | os.O_WRONLY, 0o600)
    os.close(fd)
    assert remove_unheld(where)
    assert not where.segment.exists()
