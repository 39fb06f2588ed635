"""No end of a reader changes the feed, its writer or other readers."""

import os
import signal
from pathlib import Path

import pytest
from support import forks, payload

from shmfeed.feed import attach
from shmfeed.segment.mapping import place
from shmfeed.writer import create

GEOMETRY = 64, 16, 2
FORKS = int(200 * forks.SCALE)  # killed, and as many that exit
SPAWNED = 12  # at once, every other one killed
ROUNDS = max(1, int(forks.SCALE))

STOP, ATTACHED = 0, 1

SAY_ALL = "import sys; sys.warnoptions.clear()\n"  # the resource tracker's warnings too

READER = """
import shmfeed
feed = shmfeed.attach(sys.argv[1])
rows = feed.ring("BTCUSDT", "1m").view(64)
assert float(rows["close"][-1]) > 0
print("attached", flush=True)
sys.stdin.readline()
"""

# A strategy that uses the standard library's pools and its own shared memory beside
# the feed. Its resource tracker must not unlink the feed.
POOLS = """
import multiprocessing
import os
import signal
from multiprocessing import shared_memory
import shmfeed

def read(name):
    with shmfeed.attach(name) as feed:
        assert len(feed.ring("BTCUSDT", "1m").view(64)) == 64

def read_and_die(name):
    read(name)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    own = shared_memory.SharedMemory(create=True, size=64)
    read(sys.argv[1])
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        for target, code in ((read, 0), (read_and_die, -9)):
            reader = context.Process(target=target, args=(sys.argv[1],))
            reader.start()
            reader.join()
            assert reader.exitcode == code, method
    own.close()
    own.unlink()
"""

NAIVE = """
from multiprocessing import shared_memory
shared_memory.SharedMemory(sys.argv[1]).close()
"""

FEEDER_THAT_FALLS_OVER = """
import shmfeed
writer = shmfeed.create(sys.argv[1], 64, 16, 2)
ring = writer.add_stream("BTCUSDT", "1m")
ring.append(60_000, 1, 1, 1, 1, 1)
"""


def write_until_stopped(name, board):
    with create(name, *GEOMETRY) as writer:
        ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
        number = 0
        while not board[STOP]:
            number += 1
            payload.append(ring, number)
            os.sched_yield()
    return number


@pytest.fixture
def writer(feed_name):
    board = forks.board()
    with forks.Fork(write_until_stopped, feed_name, board) as child:
        with attach(feed_name, timeout=10) as feed:
            forks.wait_until(lambda: count_of(feed) > 100, 10, "bars")
        yield child
        board[STOP] = 1
        assert child.result() > 100
    create(feed_name, *GEOMETRY).close(unlink=True)


def count_of(feed):
    names = (payload.SYMBOL, payload.TIMEFRAME)
    return feed.ring(*names).count if names in feed.streams() else 0


def owned(pid):
    """Return the descriptors of a process, the number of its threads, its memory."""
    process = Path(f"/proc/{pid}")
    fds = sorted(str(fd.readlink()) for fd in (process / "fd").iterdir())
    lines = (process / "status").read_text()
    private, threads = (
        int(lines.split(f"{name}:")[1].split()[0]) for name in ("RssAnon", "Threads")
    )
    return fds, threads, private << 10


def check_owned(pid, before):
    """Check that a writer holds what it held, and a megabyte more at most."""
    fds, threads, private = owned(pid)
    assert (fds, threads) == before[:2]
    assert abs(private - before[2]) < 1 << 20


def read_until_killed(name, board, exits):
    feed = attach(name)
    ring = feed.ring(payload.SYMBOL, payload.TIMEFRAME)
    board[ATTACHED] += 1
    while not exits:
        rows = ring.snapshot(64)
        assert payload.bad_rows(rows) == 0
    return len(ring.view(64))


def check_alive(feed, before):
    count = count_of(feed)
    assert count >= before
    forks.wait_until(lambda: count_of(feed) > count, 5, "the writer goes on")
    return count


@pytest.mark.parametrize("exits", [False, True])
def test_forked_readers_come_and_go(nest, feed_name, writer, exits):
    held, identity = owned(writer.pid), place(feed_name).segment.stat().st_ino
    board = nest.clear_board()
    count = 0
    with attach(feed_name) as feed:
        for number in range(1, FORKS + 1):
            with nest.fork(read_until_killed, feed_name, board, exits) as reader:
                forks.wait_until(lambda now=number: board[ATTACHED] == now, 10, "it")
                if exits:
                    assert reader.result() == 64
                else:
                    reader.kill()
                    assert reader.wait() == -signal.SIGKILL
            count = check_alive(feed, count)
    check_owned(writer.pid, held)
    assert place(feed_name).segment.stat().st_ino == identity


def come_and_go(readers):
    for number, reader in enumerate(readers):
        assert reader.stdout.readline() == "attached\n"
        if number % 2:
            reader.kill()
        out, err = reader.communicate("\n", timeout=30)
        assert (out, err) == ("", "")  # no warning of the resource tracker
        assert reader.returncode == (-signal.SIGKILL if number % 2 else 0)


def test_fresh_interpreters_come_and_go(child, feed_name, writer):
    held = owned(writer.pid)
    for _ in range(ROUNDS):
        come_and_go([child(SAY_ALL + READER, feed_name) for _ in range(SPAWNED)])
    with attach(feed_name) as feed:
        check_alive(feed, 0)
    check_owned(writer.pid, held)


def test_a_strategy_with_pools_and_a_resource_tracker(
    child, feed_name, writer, tmp_path
):
    program = tmp_path / "strategy.py"
    program.write_text(SAY_ALL + POOLS)
    run = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    strategy = child(run, program, feed_name)
    out, err = strategy.communicate(timeout=50)
    assert (out, err, strategy.returncode) == ("", "", 0)
    with attach(feed_name) as feed:
        check_alive(feed, 0)


def test_a_feeder_that_fails_leaves_its_feed(child, feed_name):
    feeder = child(SAY_ALL + FEEDER_THAT_FALLS_OVER, feed_name)
    out, err = feeder.communicate(timeout=30)
    assert (out, err, feeder.returncode) == ("", "", 0)
    with attach(feed_name) as feed:
        assert count_of(feed) == 1
    create(feed_name, *GEOMETRY).close(unlink=True)


def test_a_reader_by_the_standard_library_removes_the_feed(child, feed_name):
    """The control: the way in which `attach` does not attach."""
    create(feed_name, *GEOMETRY).close()
    where = place(feed_name)
    reader = child(SAY_ALL + NAIVE, where.object_name)
    _, err = reader.communicate(timeout=30)
    assert reader.returncode == 0
    forks.wait_until(lambda: not where.segment.exists(), 5, "the feed is gone")
    assert "leaked shared_memory" in err
