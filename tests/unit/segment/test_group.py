"""A feed that a group reads: real users, and what its readers can do to it.

The feeder's user has the token. A reader of the group reads and waits, nothing else.
"""

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
from support.users import (
    FEEDER,
    GROUP,
    OTHER_GROUP,
    READER,
    STRANGER,
    as_user,
    result_as,
)

import shmfeed
from shmfeed.errors import ShmfeedError
from shmfeed.segment.mapping import Place, place

pytest_plugins = ["support.users_fixture"]
pytestmark = pytest.mark.usefixtures("other_users")

SIZES = 100, 16, 4
BEGIN = 1_700_000_040_000


@pytest.fixture
def where(feed_name: str) -> Place:
    return place(feed_name, FEEDER)


class Feeder:
    """A feeder in a child of its own user; it appends one bar a line of its pipe."""

    def __init__(self, name: str, group: str | None = str(GROUP), **sizes: int) -> None:
        self._commands, commands = os.pipe()
        ready, self._ready = os.pipe()
        self._end = commands
        self.child = as_user(FEEDER, [GROUP, OTHER_GROUP], self._work, name, group)
        os.close(self._commands)
        os.close(self._ready)
        self._begun = ready
        assert self.await_ready() == b"r"

    def _work(self, name: str, group: str | None) -> int:
        os.close(self._end)
        with shmfeed.create(name, *SIZES, group=group) as writer:
            ring = writer.add_stream("BTCUSDT", "1m")
            os.write(self._ready, b"r")
            count = 0
            seen = shmfeed.attach(name).ring("BTCUSDT", "1m")
            while os.read(self._commands, 1):
                at = seen.count
                ring.append(BEGIN + at * 60_000, 1.0, 1.0, 1.0, float(at), 1.0)
                writer.beat()
                os.write(self._ready, b"b")
                count += 1
        return count

    def await_ready(self) -> bytes:
        return os.read(self._begun, 1)

    def append(self) -> None:
        os.write(self._end, b"a")
        assert self.await_ready() == b"b"

    def close(self) -> None:
        os.close(self._end)
        with self.child:
            self.child.wait()
        os.close(self._begun)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.child.status is None:
            self.close()


def refusal(call: Callable[..., object], *arguments: object) -> list[str]:
    """Return kind and text of the error that a call raises."""
    try:
        call(*arguments)
    except (ShmfeedError, OSError, TypeError, ValueError) as error:
        return [type(error).__name__, str(error)]
    return ["", "no error"]


def newest(name: str, owner: object) -> float:
    with shmfeed.attach(name, owner=owner) as feed:  # type: ignore[arg-type]
        return feed.ring("BTCUSDT", "1m").latest("close")


def test_a_member_reads_and_waits(feed_name: str, where: Place) -> None:
    told, tell = os.pipe()

    def read(name: str) -> list[float]:
        with shmfeed.attach(name, owner=FEEDER) as feed:
            ring = feed.ring("BTCUSDT", "1m")
            os.write(tell, b"w")
            count = ring.wait(1, timeout=30)
            alive = feed.alive()
            return [float(count or 0), ring.latest("close"), float(alive)]

    with Feeder(feed_name) as feeder:
        assert access(where.segment) == (0o640, FEEDER, GROUP)
        assert access(where.directory) == (0o750, FEEDER, GROUP)
        assert access(where.lock)[0] == 0o600
        feeder.append()
        with as_user(READER, [GROUP], read, feed_name) as reader:
            assert os.read(told, 1) == b"w"
            feeder.append()
            assert reader.result() == [2.0, 1.0, 1.0]
    os.close(told)
    os.close(tell)


def access(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


def test_a_member_can_change_nothing(feed_name: str, where: Place) -> None:
    def attempts(name: str) -> dict[str, list[str]]:
        with shmfeed.attach(name, owner=FEEDER) as feed:
            view = feed.ring("BTCUSDT", "1m").view(1)["close"]
            return {
                "write a bar": refusal(view.__setitem__, 0, 9.0),
                "make it writable": refusal(view.setflags, True),
                "open to write": refusal(os.open, where.segment, os.O_RDWR),
                "truncate": refusal(os.truncate, where.segment, 0),
                "remove": refusal(where.segment.unlink),
                "rename": refusal(where.segment.rename, f"{where.segment}x"),
                "replace": refusal(os.open, where.successor, os.O_CREAT | os.O_WRONLY),
                "change the mode": refusal(where.segment.chmod, 0o666),
                "open the lock": refusal(os.open, where.lock, os.O_RDONLY),
                "remove the lock": refusal(where.lock.unlink),
                "make a socket": refusal(where.socket.touch),
            }

    with Feeder(feed_name) as feeder:
        feeder.append()
        told = result_as(READER, [GROUP], attempts, feed_name)
        where.successor.unlink(missing_ok=True)
        # Any user may create a file in /dev/shm; one of another user is refused.
        assert told.pop("replace") == ["", "no error"]
        assert not {what for what, (kind, _) in told.items() if not kind}
        feeder.append()
        assert newest(feed_name, FEEDER) == 1.0


def test_others_are_told_why_they_cannot_read(feed_name: str, where: Place) -> None:
    with Feeder(feed_name) as feeder:
        feeder.append()
        kind, text = result_as(
            STRANGER, [OTHER_GROUP], refusal, newest, feed_name, FEEDER
        )
        assert kind == "SegmentError"
        assert f"belongs to user {FEEDER}, and user {STRANGER} may not read it" in text
        assert "the setting group" in text
        # Without the owner a reader looks for a feed of its own user.
        kind, _ = result_as(READER, [GROUP], refusal, newest, feed_name, None)
        assert kind == "FeedNotFoundError"
    kind, text = result_as(READER, [GROUP], refusal, newest, "no-such", FEEDER)
    assert (kind, f"user {FEEDER} has no feed 'no-such'" in text) == (
        "FeedNotFoundError",
        True,
    )


def test_a_segment_of_another_user_than_the_one_named_is_refused(
    feed_name: str, where: Place
) -> None:
    """Any user may create a file of that name: the owner of the file is what counts."""
    forged = where.segment

    def forge(name: str) -> None:
        with shmfeed.create(name, *SIZES) as writer:
            writer.add_stream("BTCUSDT", "1m").append(BEGIN, 1, 1, 1, 666.0, 1)
        own = place(name).segment
        own.rename(forged)
        forged.chmod(0o644)

    result_as(STRANGER, [], forge, feed_name)
    kind, text = result_as(READER, [GROUP], refusal, newest, feed_name, FEEDER)
    assert kind == "SegmentFormatError"
    assert f"it belongs to user {STRANGER}, not to {FEEDER}" in text
    forged.chmod(0o640)
    os.chown(forged, FEEDER, GROUP)  # the control: now it is the feeder's
    assert result_as(READER, [GROUP], newest, feed_name, FEEDER) == 666.0


@pytest.mark.parametrize("group", ["0", "no-such-group", "", "-1"])
def test_a_feeder_in_no_such_group_creates_nothing(
    feed_name: str, where: Place, group: str
) -> None:
    def create(name: str) -> None:
        shmfeed.create(name, *SIZES, group=group)

    kind, text = result_as(FEEDER, [GROUP], refusal, create, feed_name)
    assert kind == "BadArgumentError"
    assert f"group is {group!r}" in text
    assert not where.segment.exists()


def test_each_start_sets_who_reads(feed_name: str, where: Place) -> None:
    """Also on a segment that is reused, or recreated because its size differs."""
    for group, found in (
        (None, (0o600, FEEDER)),
        (str(GROUP), (0o640, GROUP)),
        (str(OTHER_GROUP), (0o640, OTHER_GROUP)),
        (None, (0o600, OTHER_GROUP)),
    ):
        with Feeder(feed_name, group):
            mode, _, gid = access(where.segment)
            assert (mode, gid) == found
            inode = where.segment.stat().st_ino

    def recreate(name: str) -> None:
        os.umask(0)
        shmfeed.create(name, 300, 16, 4, group=str(GROUP)).close()

    result_as(FEEDER, [GROUP], recreate, feed_name)
    assert where.segment.stat().st_ino != inode
    assert access(where.segment) == (0o640, FEEDER, GROUP)


def test_a_readers_lock_keeps_no_feeder_out(feed_name: str, where: Place) -> None:
    """flock(2) needs no right to write: a reader can lock the segment for ever."""
    told, tell = os.pipe()
    stop, stopping = os.pipe()

    def lock() -> None:
        os.close(stopping)
        fd = os.open(where.segment, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(tell, b"l")
        os.read(stop, 1)

    with Feeder(feed_name) as feeder:
        feeder.append()
    inode = where.segment.stat().st_ino
    with as_user(READER, [GROUP], lock) as reader:
        assert os.read(told, 1) == b"l"
        with Feeder(feed_name) as feeder:
            feeder.append()
            assert newest(feed_name, FEEDER) == 1.0  # the first bar was kept
            assert where.segment.stat().st_ino != inode
            assert access(where.segment) == (0o640, FEEDER, GROUP)
        os.close(stopping)
        reader.wait()
    for fd in (told, tell, stop):
        os.close(fd)


def test_a_live_writer_without_its_lock_file_is_not_replaced(
    feed_name: str, where: Place
) -> None:
    """The control of the test above: its heartbeat says that no reader has the lock."""
    with Feeder(feed_name) as feeder:
        feeder.append()
        where.lock.unlink()
        create = lambda name: shmfeed.create(name, *SIZES, group=str(GROUP))  # noqa: E731
        kind, _ = result_as(FEEDER, [GROUP], refusal, create, feed_name)
        assert kind == "FeedBusyError"
