"""Wrong files in place of a segment, its lock, its directory: typed errors, no harm.

A foreign file stays byte for byte the same. A load past a file's end raises SIGBUS, so
code that could meet one runs in a forked child.
"""

import faulthandler
import os
import resource
import shutil
import signal
import socket
import struct
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support import damage_cases, forks, own_shm, segment_files
from support.damage_cases import GEOMETRY, ROWS, STREAMS

import shmfeed
from shmfeed import listing
from shmfeed.control.server import ControlServer
from shmfeed.errors import (
    FeedBusyError,
    FeedNotFoundError,
    SegmentFormatError,
    SegmentFullError,
)
from shmfeed.layout import (
    HEADER_WORDS,
    MAGIC,
    MAGIC_SHIFT,
    V1_HEADER_WORDS,
    VERSION,
    WORD,
    Geometry,
)
from shmfeed.segment import mapping
from shmfeed.segment.mapping import place
from shmfeed.segment.ownership import SegmentOwner
from shmfeed.segment.removal import remove_unheld

SIZES = tuple(GEOMETRY[i] for i in (1, 2, 0))  # as `create` takes them
BLOCK = 512
OTHER_UID = 65534


@pytest.fixture
def where(feed_name):
    return place(feed_name)


@pytest.fixture
def intact(feed_name) -> bytes:
    """Return the bytes of a segment with bars, which no feeder holds."""
    return damage_cases.make(feed_name)


def refusal(call, *arguments, **options):
    """Return the type and the message of the error that a call raises, or None."""
    try:
        found = call(*arguments, **options)
    except shmfeed.ShmfeedError as error:
        return type(error).__name__, str(error)
    with suppress(AttributeError):
        found.close()
    return None


def is_same(path: Path, before: os.stat_result, content: bytes | None) -> bool:
    now = path.lstat()
    same = (now.st_ino, now.st_mode, now.st_uid) == (
        before.st_ino,
        before.st_mode,
        before.st_uid,
    )
    return same and (content is None or path.read_bytes() == content)


class TestContent:
    def attach_at_each_block(self, name, intact):
        path, outcomes = place(name).segment, []
        for size in range(0, len(intact), BLOCK):
            segment_files.put(path, intact[:size])
            outcomes.append((size, refusal(self.read, name), path.stat().st_size))
        segment_files.put(path, intact)
        return outcomes

    def read(self, name):
        with shmfeed.attach(name) as feed:
            feed.status()
            for key in STREAMS:
                feed.ring(*key).view(99).copy()

    def test_readers_refuse_a_file_truncated_at_each_block(self, feed_name, intact):
        with forks.Fork(self.attach_at_each_block, feed_name, intact) as child:
            outcomes = child.result()
        assert len(outcomes) == -(-len(intact) // BLOCK)
        for size, (kind, words), left in outcomes:
            assert left == size
            if size < V1_HEADER_WORDS * WORD:
                assert kind == "FeedNotFoundError"
            else:
                assert kind == "SegmentFormatError"
                stated = f"its header states {len(intact)}"
                assert f"damaged: it has {size} bytes, {stated}" in words

    def test_without_the_size_check_readers_fail(self, feed_name, intact):
        """The control. No signal: a mapping is never longer than its file."""

        def trust(name, intact):
            mapping.read_geometry = lambda *_: GEOMETRY
            self.attach_at_each_block(name, intact)

        with forks.Fork(trust, feed_name, intact) as child:
            assert child.wait() == 1  # an IndexError

    def feed_at_each_block(self, name, intact):
        path, found = place(name).segment, []
        for size in range(0, len(intact), BLOCK):
            segment_files.put(path, intact[:size])
            with shmfeed.create(name, *SIZES) as writer:
                damage_cases.fill(writer)
                self.read(name)
                found.append((size, writer.reused))
        return found

    def test_the_next_feeder_recreates_a_file_truncated_at_each_block(
        self, feed_name, intact
    ):
        with forks.Fork(self.feed_at_each_block, feed_name, intact) as child:
            found = child.result()
        assert len(found) == -(-len(intact) // BLOCK)
        assert not any(adopted for _, adopted in found)

    @pytest.mark.parametrize(
        ("first", "said"),
        [
            (b"data of another program", "not a shmfeed segment"),
            (b"\x7fELF\x02\x01\x01", "not a shmfeed segment"),
            (bytes(7) + b"\x01", "not a shmfeed segment"),
            (b"\x01" + bytes(7), "not a shmfeed segment"),  # looks unfinished
            (struct.pack(">Q", MAGIC << MAGIC_SHIFT | 1), "not a shmfeed segment"),
        ],
        ids=["text", "program", "high", "low", "other endianness"],
    )
    def test_a_foreign_file_stays(self, where, intact, first, said):
        content = first + intact[len(first) :]
        segment_files.put(where.segment, content)
        before = where.segment.lstat()
        for call in (shmfeed.attach, shmfeed.create):
            kind, words = refusal(call, where.name)
            assert kind == "SegmentFormatError"
            assert said in words
            assert str(where.segment) in words
        with pytest.raises(SegmentFormatError):
            remove_unheld(where)
        assert is_same(where.segment, before, content)

    def test_a_file_that_begins_like_an_unfinished_segment_stays(self, where, intact):
        content = bytes(WORD) + b"data of another program, after a word of nothing"
        segment_files.put(where.segment, content)
        assert refusal(shmfeed.create, where.name)[0] == "SegmentFormatError"
        with pytest.raises(SegmentFormatError):
            remove_unheld(where)
        assert where.segment.read_bytes() == content

    @pytest.mark.parametrize("version", [0, VERSION + 1, 1 << 31])
    def test_another_version_is_recreated_and_its_readers_reattach(
        self, where, intact, version, caplog
    ):
        ready = struct.pack("=q", MAGIC << MAGIC_SHIFT | version)
        segment_files.put(where.segment, ready + intact[WORD:])
        kind, words = refusal(shmfeed.attach, where.name)
        assert (kind, f"version {version}," in words) == ("SegmentFormatError", True)
        assert refusal(shmfeed.create, where.name) is None
        assert f"layout version {version}" in caplog.text
        assert refusal(shmfeed.attach, where.name) is None

    def test_the_geometry_of_a_larger_segment(self, where, intact):
        other = Geometry(GEOMETRY.max_streams, GEOMETRY.history + 50, GEOMETRY.guard)
        words = [other.size, *other, other.slots]
        for count in range(1, len(words) + 1):
            changed = struct.pack(f"={count}q", *words[:count])
            content = intact[:WORD] + changed + intact[WORD + len(changed) :]
            segment_files.put(where.segment, content)
            kind, said = refusal(shmfeed.attach, where.name)
            assert kind == "SegmentFormatError"
            assert f"its header states {other.size}" in said
        assert refusal(shmfeed.create, where.name, *SIZES) is None


def a_fifo(path, target):
    os.mkfifo(path, 0o600)


def a_directory(path, target):
    path.mkdir(0o700)


def a_link(path, target):
    path.symlink_to(target)


def a_hard_link(path, target):
    path.hardlink_to(target)


def a_socket(path, target):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    path.chmod(0o600)


def an_open_file(path, target):
    shutil.copy(target, path)
    path.chmod(0o660)


def anothers(path, target):
    if os.geteuid():
        pytest.skip("only root can give a file to another user")
    shutil.copy(target, path)
    path.chmod(0o600)
    os.chown(path, OTHER_UID, OTHER_UID)


KINDS = [a_fifo, a_directory, a_link, a_hard_link, a_socket, an_open_file, anothers]
CALLS = [
    shmfeed.attach,
    lambda name: shmfeed.create(name, *SIZES),
    lambda name: remove_unheld(place(name)),
]


class TestKinds:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("call", CALLS, ids=["attach", "create", "remove"])
    def test_another_kind_of_file_is_refused_as_a_segment(
        self, where, intact, kind, call
    ):
        target = where.segment.rename(f"{where.segment}.kept")
        kind(where.segment, target)
        before = where.segment.lstat()
        begun = time.monotonic()
        said = refusal(call, where.name)
        assert time.monotonic() - begun < 5.0  # a fifo would block for ever
        assert said[0] == "SegmentFormatError"
        assert str(where.segment) in said[1]
        assert is_same(where.segment, before, None)
        assert target.read_bytes() == intact
        if kind is a_directory:
            where.segment.rmdir()

    # Not an open file: the lock's other bits open nothing, its directory is 0700.
    @pytest.mark.parametrize("kind", [one for one in KINDS if one is not an_open_file])
    @pytest.mark.parametrize("call", CALLS[1:], ids=["create", "remove"])
    def test_another_kind_of_file_is_refused_as_a_lock(self, where, intact, kind, call):
        where.lock.unlink()
        target = where.directory / f"{where.name}.kept"
        target.write_bytes(b"not to be cut")
        kind(where.lock, target)
        before = where.lock.lstat()
        said = refusal(call, where.name)
        assert said[0] == "SegmentFormatError"
        assert str(where.lock) in said[1]
        assert is_same(where.lock, before, None)
        assert target.read_bytes() == b"not to be cut"
        assert where.segment.read_bytes() == intact
        target.unlink()


def as_another_user(work, *arguments):
    """`work` in a child that is not root."""

    def drop_and_work(*arguments):
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(OTHER_UID)
            os.setuid(OTHER_UID)
        return work(*arguments)

    with forks.Fork(drop_and_work, *arguments) as child:
        return child.result()


class TestRights:
    @pytest.fixture
    def other_place(self, feed_name):
        """Yield the place of this feed for another user, and remove it afterwards."""
        if os.geteuid():
            pytest.skip("only root can be another user")
        uid = OTHER_UID
        directory = Path(f"/dev/shm/shmfeed-{uid}")
        was_there = directory.exists()
        yield place(feed_name)._replace(
            segment=Path(f"/dev/shm/shmfeed.{uid}.{feed_name}"),
            directory=directory,
            lock=directory / f"{feed_name}.lock",
        )
        if directory.exists() and not was_there:
            shutil.rmtree(directory)

    @pytest.mark.parametrize(
        ("mode", "said"),
        [(0o600, "Permission denied"), (0o644, "belongs to user 0, not to 65534")],
    )
    def test_a_file_of_root_under_the_feeds_name(self, other_place, intact, mode, said):
        other_place.segment.write_bytes(intact)
        other_place.segment.chmod(mode)
        for call in ("attach", "create"):
            kind, words = as_another_user(
                refusal, getattr(shmfeed, call), other_place.name
            )
            assert kind == "SegmentFormatError"
            assert said in words or (call == "create" and "Permission denied" in words)
        assert other_place.segment.read_bytes() == intact

    def test_a_lock_that_its_owner_may_not_write(self, other_place):
        def twice(name):
            shmfeed.create(name).close(unlink=True)
            other_place.lock.chmod(0o400)
            return refusal(shmfeed.create, name)

        kind, words = as_another_user(twice, other_place.name)
        assert kind == "SegmentFormatError"
        assert (
            f"{other_place.lock} is refused as the feed's lock: its mode is 0400"
            in words
        )

    def test_a_directory_of_root(self, other_place):
        if other_place.directory.exists():
            pytest.skip(f"{other_place.directory} is in use")
        other_place.directory.mkdir(0o700)
        kind, words = as_another_user(refusal, shmfeed.create, other_place.name)
        assert kind == "SegmentFormatError"
        assert f"{other_place.directory} is refused" in words


class TestNotReady:
    def test_while_its_creator_lives_it_stays(self, where):
        def make(board):
            where.segment.unlink(missing_ok=True)
            owner = SegmentOwner(where, GEOMETRY)
            board[0] = 1
            signal.pause()
            return owner

        board = forks.board()
        with forks.Fork(make, board) as maker:
            forks.wait_until(lambda: board[0], 10, "the maker holds it")
            before = where.segment.lstat()
            with pytest.raises(FeedNotFoundError):
                shmfeed.attach(where.name, timeout=0.05)
            with pytest.raises(FeedBusyError) as caught:
                shmfeed.create(where.name)
            assert caught.value.pid == maker.pid
            where.lock.unlink()  # the lock on the segment holds by itself
            with pytest.raises(FeedBusyError):
                shmfeed.create(where.name)
            assert not remove_unheld(where)
            assert is_same(where.segment, before, None)
        with pytest.raises(FeedNotFoundError):
            shmfeed.attach(where.name)
        assert refusal(shmfeed.create, where.name) is None
        assert shmfeed.attach(where.name).streams() == []


def quietly(work, *arguments):
    """Silence a child that dies on purpose: its traceback is not a failure."""
    faulthandler.disable()
    return work(*arguments)


class TestTruncatedInUse:
    """A truncated file takes the pages from every mapping of it.

    No reader can protect itself. A feeder checks at each beat, before its first store.
    """

    @contextmanager
    def in_use(self, name):
        with shmfeed.create(name, *SIZES) as writer, shmfeed.attach(name) as feed:
            damage_cases.fill(writer)
            yield writer, feed

    def beat(self, where, size):
        own_shm.enter()  # a listing of another test would die too
        with self.in_use(where.name) as (writer, _):
            os.truncate(where.segment, size)
            said = [refusal(writer.beat), refusal(writer.beat_alive)]
            writer.close(unlink=True)
            return said, where.segment.exists()

    @pytest.mark.parametrize("size", [0, 4096, 12288])
    def test_the_feeder_ends_with_an_error(self, where, size):
        with forks.Fork(self.beat, where, size) as child:
            said, is_there = child.result()
        for kind, words in said:
            assert kind == "FeedLostError"
            assert f"{where.segment} was truncated from " in words
            assert f" to {size} bytes; restart the feeder" in words
        assert not is_there

    def test_without_the_check_the_feeder_dies(self, where, monkeypatch):
        """The control."""
        monkeypatch.setattr(SegmentOwner, "check_owned", lambda _: None)
        with forks.Fork(quietly, self.beat, where, 0) as child:
            assert child.wait() == -signal.SIGBUS

    def read_truncated(self, where):
        with self.in_use(where.name) as (_, feed):
            rows = feed.ring(*STREAMS[0]).view(3)
            os.truncate(where.segment, HEADER_WORDS * WORD)
            rows.copy()

    def die_and_read_again(self, where):
        own_shm.enter()
        with forks.Fork(quietly, self.read_truncated, where) as child:
            code = child.wait()
        # The next feeder recreates it, and the next reader finds that.
        with self.in_use(where.name) as (_, feed):
            return code, feed.ring(*STREAMS[0]).count

    def test_a_reader_of_truncated_pages_dies(self, where):
        """A known limit, for which no promise is made."""
        with forks.Fork(self.die_and_read_again, where) as child:
            assert child.result() == [-signal.SIGBUS, ROWS]


class TestListedMeanwhile:
    """Tests damage segments while others list all feeds of this user."""

    def spoil(self, name, content, put):
        path, parent = place(name).segment, os.getppid()
        while os.getppid() == parent:
            for size in (len(content), HEADER_WORDS * WORD):
                put(path, content[:size])

    def list_meanwhile(self, name, content, put):
        if not own_shm.enter():
            os._exit(own_shm.NOT_PERMITTED)
        with forks.Fork(self.spoil, name, content, put):
            forks.wait_until(place(name).segment.exists, 10, "the first content")
            ends = time.monotonic() + 1.0
            while time.monotonic() < ends:
                listing.list_feeds()

    def test_a_listing_survives_segments_that_are_put_in_place(self, where, intact):
        work = self.list_meanwhile, where.name, intact, segment_files.put
        with forks.Fork(*work) as child:
            assert child.wait() in (0, own_shm.NOT_PERMITTED)

    def test_a_listing_dies_of_segments_that_shrink(self, where, intact):
        """The control: what these tests must not do."""

        def shrink(path, content):
            path.touch(0o600)
            path.write_bytes(content)

        work = self.list_meanwhile, where.name, intact, shrink
        with forks.Fork(quietly, *work) as child:
            assert child.wait() in (-signal.SIGBUS, own_shm.NOT_PERMITTED)


def lowest_free() -> int:
    """Return the number of the next descriptor."""
    fd = os.dup(0)
    os.close(fd)
    return fd


class TestLimits:
    """The host has no descriptor or no memory left: the feed is not changed."""

    def short_of_descriptors(self, name):
        used = lowest_free()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        said = []
        for spare in range(6):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, hard))
            said.append([refusal(call, name) for call in CALLS[:2]])
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return said

    def listen_without_descriptors(self, path):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free(), hard))
        return refusal(ControlServer, path, lambda request: {})

    def test_a_descriptor_for_the_control_socket(self, where, intact):
        path = str(where.socket)
        with forks.Fork(self.listen_without_descriptors, path) as child:
            kind, words = child.result()
        assert kind == "ControlError"
        assert words == f"cannot listen at {path}: Too many open files"
        assert not where.socket.exists()

    def test_descriptors(self, where, intact):
        inode = where.segment.lstat().st_ino
        with forks.Fork(self.short_of_descriptors, where.name) as child:
            said = child.result()
        print(said)
        assert all(
            one is None or one[0] == "SegmentError" for row in said for one in row
        )
        assert said[0][0] is not None
        assert "Too many open files" in said[0][0][1]
        assert said[-1] == [None, None]
        assert where.segment.lstat().st_ino == inode

    def short_of_memory(self, name):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (4 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return [
            refusal(call, name)
            for call in (shmfeed.attach, lambda n: shmfeed.create(n, 10_000))
        ]

    def test_memory(self, where):
        shmfeed.create(where.name, 10_000).close()
        assert where.segment.stat().st_size > 8 << 20
        inode = where.segment.lstat().st_ino
        with forks.Fork(self.short_of_memory, where.name) as child:
            said = child.result()
        print(said)
        for kind, words in said:
            assert kind == "SegmentError"
            assert "Cannot allocate memory" in words
        assert where.segment.lstat().st_ino == inode
        assert refusal(shmfeed.attach, where.name) is None


def test_streams_that_do_not_fit(where, intact):
    with (
        shmfeed.create(where.name, *SIZES) as writer,
        shmfeed.attach(where.name) as feed,
    ):
        assert writer.reused
        ring = writer.add_stream("SOLUSDT", "1h")
        before = where.segment.read_bytes()
        with pytest.raises(
            SegmentFullError, match="capacity for 3 streams and carries 3"
        ):
            writer.add_stream("XRPUSDT", "1h")
        assert where.segment.read_bytes() == before
        ring.append(0, 1, 2, 1, 2, 1)
        assert feed.ring("SOLUSDT", "1h").count == 1
        assert feed.ring(*STREAMS[0]).count == ROWS
        assert ("XRPUSDT", "1h") not in feed.streams()


GONE = """
import threading
import time
import shmfeed
from shmfeed.feeder.heartbeat import HeartbeatThread
from shmfeed.segment.mapping import place
name, HOUR = sys.argv[1], 3_600_000
where = place(name)

def remove(what):
    if what in ("segment", "both"):
        where.segment.unlink()
    if what in ("lock", "both"):
        where.lock.unlink()
    if what in ("directory", "all", "a file"):
        shutil.rmtree(where.directory)
    if what == "all":
        where.segment.unlink()
    if what == "a file":
        where.directory.touch()

def bars(ring):
    return ring.view(5)["close"].tolist()

for what in sys.argv[3:]:
    told, errors = threading.Event(), []
    def lost(error):
        errors.append(f"{type(error).__name__}: {error}")
        told.set()
    writer = shmfeed.create(name, 5, 3, 2)
    ring = writer.add_stream("A", "1h")
    for number in (1, 2, 3):
        ring.append(number * HOUR, 1, 9, 1, number, 1)
    feed = shmfeed.attach(name)
    reader = feed.ring("A", "1h")
    rows = reader.view(5)
    with HeartbeatThread(writer, lost):
        remove(what)
        told.wait(5)
    writer.close(unlink=True)
    found = {"what": what, "errors": errors, "rows": rows["close"].tolist(),
             "bars": bars(reader), "health": feed.status()["health"]}
    if what == "a file":
        where.directory.unlink()
    with shmfeed.create(name, 5, 3, 2) as successor:
        ring = successor.add_stream("A", "1h")
        ring.append(4 * HOUR, 1, 9, 1, 4, 1)
        # A segment that nothing retired: its readers look for another in a moment.
        deadline = time.monotonic() + 5
        while bars(reader) != [4] and time.monotonic() < deadline:
            successor.beat()
        found["then"] = bars(reader), feed.status()["health"]
        successor.close(unlink=True)
    tell(found)
"""


def test_removed_while_attached(child, feed_name):
    """Readers keep their bars and see it dead; the feeder ends; another one starts."""
    ways = ["segment", "lock", "both", "directory", "all", "a file"]
    code = GONE.replace("sys.argv[3:]", repr(ways))
    found = own_shm.run(child, feed_name, "size=2m", code)
    assert [one["what"] for one in found] == ways
    for one in found:
        (error,) = one["errors"]
        assert error.startswith("FeedLostError: ")
        assert "was removed or replaced" in error
        assert one["rows"] == one["bars"] == [1, 2, 3]
        assert one["health"] == "dead"
        assert one["then"] == [[4], "live"]


DIRECTORIES = """
import shmfeed
from shmfeed.segment.removal import (remove_unheld)
from shmfeed.segment.mapping import place
where = place(sys.argv[1])
other = where.directory.with_name("elsewhere")

def refusal(call, argument):
    try:
        call(argument)
    except shmfeed.ShmfeedError as error:
        return type(error).__name__, str(error)

def a_link():
    other.mkdir(0o700)
    where.directory.symlink_to(other)

def an_open_one():
    where.directory.mkdir()
    where.directory.chmod(0o777)

def a_file():
    where.directory.touch(0o700)

def anothers():
    where.directory.mkdir(0o700)
    os.chown(where.directory, 65534, 65534)

def tree():
    return sorted(os.path.join(*one) for folder, folders, files in os.walk("/dev/shm")
                  for one in [(folder, name) for name in [*folders, *files]])

for make in (a_link, an_open_one, a_file, anothers):
    try:
        make()
    except OSError as error:
        tell([make.__name__, "not permitted", str(error)])
    else:
        where.segment.touch(0o600)
        before = tree()
        said = refusal(shmfeed.create, where.name), refusal(remove_unheld, where)
        tell([make.__name__, said, before == tree()])
    for path in (where.segment, where.directory, other):
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
"""


def test_a_directory_that_others_may_enter(child, feed_name):
    for name, said, same in own_shm.run(child, feed_name, "size=1m", DIRECTORIES):
        if said == "not permitted":
            assert os.geteuid()
            print("skipped:", name, same)
            continue
        for kind, words in said:
            assert kind == "SegmentFormatError"
            assert "shmfeed-" in words
            assert "must be a directory of user" in words
        assert same


NO_SOCKET = """
import shmfeed
from shmfeed import listing
from shmfeed.control.server import ControlServer
from shmfeed.segment.mapping import place
with shmfeed.create(sys.argv[1], 5, 3, 2) as writer:
    writer.add_stream("A", "1h").append(0, 1, 2, 1, 2, 1)
    try:
        ControlServer(place(sys.argv[1]).socket, lambda request: {}).close()
    except shmfeed.ShmfeedError as error:
        tell(str(error))
    writer.beat()
    tell(shmfeed.attach(sys.argv[1]).ring("A", "1h").count)
"""


def test_a_full_disk_has_no_place_for_the_control_socket(child, feed_name):
    said, count = own_shm.run(child, feed_name, "size=1m,nr_inodes=4", NO_SOCKET)
    assert "No space left on device" in said
    assert ".sock" in said
    assert count == 1
