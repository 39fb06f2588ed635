"""A writer whose right has ended: its locks were lost, or it is a forked child.

It raises FeedLostError and stores nothing, whatever its program does: no published row
is written again. The controls take one test or one precaution away.
"""

import copy
import ctypes
import fcntl
import gc
import os
import pickle
from typing import Any

import pytest
from support import cores, forks, payload, unguarded

from shmfeed.errors import FeedBusyError, FeedLostError
from shmfeed.feed import attach
from shmfeed.layout import H_HISTORY, H_WRITER_EPOCH, S_PUBLISHED, WORD
from shmfeed.memory import right
from shmfeed.ringbuf import RingWriter
from shmfeed.segment import ownership
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import remove_unheld
from shmfeed.writer import FeedWriter, create

GEOMETRY = 8, 4, 2
KEY = payload.SYMBOL, payload.TIMEFRAME
MANY = 1000  # more descriptors than a test has open

READY, COMMAND, OUTCOME, COUNT = range(4)
STORED, LOST = 1, 2


@pytest.fixture
def removed(feed_name):
    yield
    gc.collect()  # of a dropped writer
    create(feed_name, *GEOMETRY).close(unlink=True)


@pytest.fixture(params=cores.EACH, ids=str)
def writing_core(request, monkeypatch):
    """Let a feed be written by each core."""
    monkeypatch.setattr("shmfeed.writer.RingWriter", request.param.RingWriter)
    return request.param


def refused(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(FeedLostError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def written(ring: Any, number: int) -> int:
    try:
        payload.append(ring, number)
    except FeedLostError:
        return LOST
    return STORED


# Locks last as long as a writer


@pytest.mark.usefixtures("writing_core", "removed")
class TestDropped:
    def test_a_ring_s_writer_keeps_the_feed(self, feed_name):
        ring = create(feed_name, *GEOMETRY).add_stream(*KEY)
        gc.collect()
        payload.append(ring, 1)
        with pytest.raises(FeedBusyError) as caught:
            create(feed_name, *GEOMETRY)
        assert caught.value.pid == os.getpid()
        payload.append(ring, 2)
        del ring
        with create(feed_name, *GEOMETRY) as successor:
            assert successor.add_stream(*KEY).reader.count == 2

    def test_a_feed_s_writer_keeps_it_too(self, feed_name):
        writer = create(feed_name, *GEOMETRY)
        payload.append(writer.add_stream(*KEY), 1)
        gc.collect()
        with pytest.raises(FeedBusyError):
            create(feed_name, *GEOMETRY)
        del writer
        create(feed_name, *GEOMETRY).close()

    def test_close_ends_the_right_of_each_ring(self, feed_name):
        writer = create(feed_name, *GEOMETRY)
        ring = writer.add_stream(*KEY)
        writer.close()
        with create(feed_name, *GEOMETRY):
            assert "is closed" in refused(payload.append, ring, 1)
            assert "is closed" in refused(payload.update_forming, ring, 1, 1)
            assert "is closed" in refused(writer.beat)

    def test_a_closed_ring_lets_go_of_the_feed(self, feed_name):
        ring = create(feed_name, *GEOMETRY).add_stream(*KEY)
        ring.close()
        create(feed_name, *GEOMETRY).close()
        assert "is closed" in refused(payload.append, ring, 1)

    def test_a_ring_that_holds_the_word_alone_lets_another_writer_in(
        self, feed_name, monkeypatch
    ):
        """The control."""
        init = RingWriter.__init__

        def hold_less(ring, *arguments):
            init(ring, *arguments)
            ring._right = right.ENDED

        monkeypatch.setattr("shmfeed.writer.RingWriter", RingWriter)
        monkeypatch.setattr(RingWriter, "__init__", hold_less)
        ring = create(feed_name, *GEOMETRY).add_stream(*KEY)
        create(feed_name, *GEOMETRY).close()
        assert ring._word[0]  # and this one would write on


# Descriptors that other code closes


def lose_descriptors(name: str, core: cores.Core, board: Any, guarded: bool) -> None:
    """Create a feed, close all descriptors as a daemoniser does, and write on."""
    cores.write_purely() if core is cores.PURE else None
    writer = create(name, *GEOMETRY)
    ring = writer.add_stream(*KEY)
    for number in range(1, 6):
        payload.append(ring, number)
    board[READY] = 1
    forks.wait_until(lambda: board[COMMAND] == 1, 20, "the command to close")
    os.closerange(3, MANY)
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]  # the same numbers
    board[READY] = 2
    forks.wait_until(lambda: board[COMMAND] == 2, 20, "the command to write")
    if guarded:
        board[OUTCOME] = written(ring, 6)
        for _ in range(2):
            refused(writer.beat)
    else:
        unguarded.append(ring, 6 * payload.STEP, 1.0, 1.0, 1.0, 1.0, 1.0)
        board[OUTCOME] = STORED
    writer.close(unlink=True)
    for fd in taken:
        os.fstat(fd)  # none was closed in place of a lock
    os._exit(0)


def appended(name: str, first: int, last: int) -> FeedWriter:
    writer = create(name, *GEOMETRY)
    ring = writer.add_stream(*KEY)
    for number in range(first, last + 1):
        payload.append(ring, number)
    return writer


def write_after_a_successor(
    name: str, core: cores.Core, guarded: bool
) -> tuple[int, bool]:
    """Return the outcome of the first writer, and whether the rows are as they were."""
    board = forks.board()
    with forks.Fork(lose_descriptors, name, core, board, guarded) as first:
        forks.wait_until(lambda: board[READY] == 1, 20, "five bars")
        board[COMMAND] = 1
        forks.wait_until(lambda: board[READY] == 2, 20, "the descriptors are closed")
        with appended(name, 6, 9) as writer, attach(name) as feed:
            ring = feed.ring(*KEY)
            before = ring.snapshot(8).block.tobytes()
            board[COMMAND] = 2
            assert first.wait() == 0
            kept = ring.snapshot(8).block.tobytes() == before and ring.count == 9
            writer.beat()  # its segment and its locks are there
            if kept:
                payload.append(writer.add_stream(*KEY), 10)
    return board[OUTCOME], kept


@pytest.mark.usefixtures("removed")
@pytest.mark.parametrize("core", cores.EACH, ids=str)
def test_a_writer_whose_locks_were_closed_changes_nothing(feed_name, core):
    assert write_after_a_successor(feed_name, core, True) == (LOST, True)


def replace_by_another_geometry(name: str) -> None:
    with create(name, GEOMETRY[0] + 1, *GEOMETRY[1:]) as writer:
        assert not writer.reused
        assert writer.add_stream(*KEY).reader.count == 5


def replace_damaged(name: str) -> None:
    with place(name).segment.open("r+b") as file:
        file.seek(H_HISTORY * WORD)
        file.write(b"\xff" * WORD)
    create(name, *GEOMETRY).close()


def remove(name: str) -> None:
    assert remove_unheld(place(name))


@pytest.mark.usefixtures("removed")
@pytest.mark.parametrize("core", cores.EACH, ids=str)
@pytest.mark.parametrize(
    "replace", [replace_by_another_geometry, replace_damaged, remove]
)
def test_a_writer_whose_segment_was_replaced_stores_nothing(feed_name, core, replace):
    """No reader would find its bars, and only its next beat would tell it."""
    board = forks.board()
    with forks.Fork(lose_descriptors, feed_name, core, board, True) as first:
        forks.wait_until(lambda: board[READY] == 1, 20, "five bars")
        board[COMMAND] = 1
        forks.wait_until(lambda: board[READY] == 2, 20, "the descriptors are closed")
        with attach(feed_name) as feed:
            replace(feed_name)
            board[COMMAND] = 2
            assert first.wait() == 0
            assert feed.streams() in ([KEY], [])
    assert board[OUTCOME] == LOST


@pytest.mark.usefixtures("removed")
def test_without_the_tests_it_writes_over_its_successor_s_rows(feed_name):
    """The control."""
    assert write_after_a_successor(feed_name, cores.PURE, False) == (STORED, False)


@pytest.mark.usefixtures("removed")
def test_the_next_beat_finds_closed_locks(feed_name):
    board = forks.board()
    with forks.Fork(beat_without_locks, feed_name, board) as child:
        assert child.wait() == 0
    assert board[OUTCOME] == LOST
    with attach(feed_name) as feed:
        assert feed.ring(*KEY).count == 1


def beat_without_locks(name: str, board: Any) -> None:
    writer = appended(name, 1, 1)
    os.closerange(3, MANY)
    assert "not locked by this feeder" in refused(writer.beat)
    assert "not locked by this feeder" in refused(writer.beat_alive)
    assert "not locked by this feeder" in refused(writer.add_stream, *KEY)
    board[OUTCOME] = LOST
    os._exit(0)


@pytest.mark.usefixtures("removed")
def test_a_lock_that_was_released_is_taken_again_or_lost(feed_name):
    """As by a child that unlocks the descriptor that it shares with its parent."""
    writer = appended(feed_name, 1, 1)
    lock = writer._owner._locks[-1]
    fcntl.flock(lock.fileno(), fcntl.LOCK_UN)
    writer.beat()
    rival = os.open(place(feed_name).segment, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(rival, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(lock.fileno(), fcntl.LOCK_UN)
    fcntl.flock(rival, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert "another process has the lock" in refused(writer.beat)
    os.close(rival)
    writer.close()


# Children


def fork_in_c() -> int:
    """Fork as a C library does, without Python's handlers."""
    return ctypes.PyDLL(None).fork()


def write_in_a_child(name: str, core: cores.Core, board: Any, wiped: bool) -> list[int]:
    cores.write_purely() if core is cores.PURE else None
    if not wiped:
        ownership._private_page = lambda: bytearray(8)
    writer = appended(name, 1, 3)
    ring = writer.add_stream(*KEY)
    pid = fork_in_c()
    if not pid:
        board[OUTCOME] = written(ring, 4)
        if wiped:
            assert "forked child" in refused(payload.update_forming, ring, 4, 1)
            assert "forked child" in refused(writer.beat)
            assert "forked child" in refused(writer.count, "bars")
            writer.close(unlink=True)
            board[COUNT] = 1
        os._exit(0)
    os.waitpid(pid, 0)
    mine = written(ring, 4)
    writer.close()
    return [mine, ring.reader.count]


@pytest.mark.usefixtures("removed")
@pytest.mark.parametrize("core", cores.EACH, ids=str)
def test_a_child_that_c_code_forked_stores_nothing(feed_name, core):
    board = forks.board()
    with forks.Fork(write_in_a_child, feed_name, core, board, True) as parent:
        assert parent.result() == [STORED, 4]
    assert board[OUTCOME] == LOST
    assert board[COUNT] == 1  # the child went through all its refusals


@pytest.mark.usefixtures("removed")
@pytest.mark.parametrize("core", cores.EACH, ids=str)
def test_in_memory_that_a_fork_keeps_the_child_would_write(feed_name, core):
    """The control; the parent then finds rows that it did not publish."""
    board = forks.board()
    with forks.Fork(write_in_a_child, feed_name, core, board, False) as parent:
        assert parent.result() == [LOST, 4]
    assert board[OUTCOME] == STORED


# Rows of another program, and copies


@pytest.mark.usefixtures("removed")
@pytest.mark.parametrize("core", cores.EACH, ids=str)
class TestRewound:
    def make(self, feed_name, core, monkeypatch):
        monkeypatch.setattr("shmfeed.writer.RingWriter", core.RingWriter)
        writer = appended(feed_name, 1, 5)
        ring = writer.add_stream(*KEY)
        ints, geometry = writer._words.ints, writer.geometry
        return writer, ring, ints, geometry.slot_word(0) + S_PUBLISHED

    @pytest.mark.parametrize("rows", [3, 6])
    def test_foreign_rows_are_not_written_over(
        self, feed_name, core, monkeypatch, rows
    ):
        writer, ring, ints, published = self.make(feed_name, core, monkeypatch)
        ints[published] = rows
        before = bytes(writer._words.raw)
        said = refused(payload.append, ring, 6)
        assert f"{rows} rows are published, this writer published 5" in said
        assert bytes(writer._words.raw) == before
        ints[published] = 5
        payload.append(ring, 6)
        writer.close()

    def test_without_the_test_a_published_row_is_written_again(
        self, feed_name, core, monkeypatch
    ):
        """The control: a successor published row 6 of its own."""
        if core is not cores.PURE:
            pytest.skip("the mutant is the pure core's")
        writer, ring, *_ = self.make(feed_name, core, monkeypatch)
        row = ring._row
        payload.append(ring, 6)
        ring._row = row  # as of a writer that did not append it
        with attach(feed_name) as feed:
            rows = feed.ring(*KEY).view(2)
            close = rows["close"].tolist()
            unguarded.append(ring, 7 * payload.STEP, 1.0, 1.0, 1.0, 1.0, 1.0)
            assert rows["close"].tolist() != close
            assert rows.valid
        del rows
        writer.close()

    def test_another_writer_s_epoch_ends_all_stores(self, feed_name, core, monkeypatch):
        writer, ring, ints, _ = self.make(feed_name, core, monkeypatch)
        ints[H_WRITER_EPOCH] += 1
        before = bytes(writer._words.raw)
        calls = (
            (payload.append, ring, 6),
            (payload.update_forming, ring, 6, 1),
            (writer.tick,),
            (writer.beat,),
            (writer.beat_alive,),
            (writer.mark_message,),
            (writer.count, "bars"),
            (writer.set_state, "error"),
            (writer.note, {}),
            (writer.wake,),
            (writer.add_stream, "B", "1h"),
            (writer.unsubscribe, *KEY),
        )
        for call, *arguments in calls:
            assert "another writer took the segment" in refused(call, *arguments)
        writer.close(unlink=True)
        assert bytes(writer._words.raw) == before
        assert place(feed_name).segment.exists()

    def test_a_writer_cannot_be_copied(self, feed_name, core, monkeypatch):
        writer, ring, *_ = self.make(feed_name, core, monkeypatch)
        for item in (ring, writer, writer._owner):
            for how in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="cannot be copied or pickled"):
                    how(item)
        payload.append(ring, 6)
        writer.close()
