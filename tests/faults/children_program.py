"""A process with every object of shmfeed, and children made in every way.

argv: its own feed, a manager's feed, the venue's URL, and the mutant that it is, or "".
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import shmfeed
import wealthdata
from shmfeed.manager import WebSocketManager
from shmfeed.segment.locking import FileLock
from shmfeed.segment.mapping import place
from shmfeed.segment.ownership import SegmentOwner

HOUR = 3_600_000
METHODS = ("fork", "spawn", "forkserver")
WAITS = 20.0

# Objects that a forked child inherits and a spawned one lacks.
inherited: dict[str, Any] = {}


def read(own: str, managed: str) -> int:
    """Read both feeds in a child, by inherited rings too; return the count of bars."""
    with shmfeed.attach(managed) as feed:
        assert feed.streams() == [("BTCUSDT", "1m")]
    with shmfeed.attach(own) as feed:
        ring = feed.ring("BTCUSDT", "1h")
        rows = ring.view(5)
        assert rows.open_time.tolist() == sorted(rows.open_time.tolist())
        if inherited:
            assert inherited["ring"].count >= rows.last
            assert inherited["ring"].snapshot(5).valid
            assert inherited["slice"]["close"].tolist() == [1.5] * 5
    wealthdata.use(feed=own)
    frame = wealthdata.get_price("BTCUSDT", count=5, on_stale="ignore")
    assert len(frame) == 5
    return rows.last


def live(own: str, managed: str) -> None:
    """Read in a child, and check that it owns none of its parent's objects."""
    read(own, managed)
    if not inherited:
        return
    writer, ring, manager = (inherited[key] for key in ("writer", "out", "manager"))
    for call in (writer.beat, writer.wake, lambda: ring.append(1 << 60, 1, 2, 1, 1, 1)):
        try:
            call()
        except shmfeed.FeedLostError:
            continue
        raise AssertionError("a child has written its parent's feed")
    assert not manager.is_connected()
    manager.stop()
    writer.close(unlink=True)


def fall_over(name: str) -> None:
    """Create a feed in a child, and leave it without closing."""
    writer = shmfeed.create(name, 5, 1, 1)
    writer.add_stream("A", "1h").append(0, 1, 2, 1, 1, 1)


class Parent:
    """The process itself: its objects work on, whatever its children do."""

    def __init__(self, own: str, managed: str, url: str) -> None:
        self.own, self.managed = own, managed
        self.writer = shmfeed.create(own, 100, 1000, 2)
        self.ring = self.writer.add_stream("BTCUSDT", "1h")
        for number in range(10):
            self.append(number)
        self.feed = shmfeed.attach(own)
        self.manager = WebSocketManager(managed)
        self.manager.configure(
            symbols=["BTCUSDT"],
            resolutions=["1m"],
            endpoint=url,
            history=50,
            data_timeout=600,  # the venue sends one bar
        )
        self.manager.start(timeout=WAITS)
        self.pid = self.manager.get_status()["pid"]
        self.inodes = self.objects()
        inherited.update(
            writer=self.writer,
            out=self.ring,
            manager=self.manager,
            ring=self.feed.ring("BTCUSDT", "1h"),
            slice=self.feed.ring("BTCUSDT", "1h").view(5),
        )

    def append(self, number: int) -> None:
        self.ring.append(number * HOUR, 1.0, 2.0, 0.5, 1.5, 9.0)

    def objects(self) -> list[int]:
        names = (self.own, self.managed)
        return [place(name).segment.stat().st_ino for name in names]

    def check(self, what: str) -> None:
        count = self.ring.reader.count
        self.append(count)
        self.writer.beat()
        assert self.feed.ring("BTCUSDT", "1h").count == count + 1, what
        assert self.feed.status()["health"] == "live", what
        assert self.manager.is_connected(), what
        assert self.manager.get_status()["pid"] == self.pid, what
        os.kill(self.pid, 0)
        assert self.objects() == self.inodes, what

    def end(self) -> None:
        self.writer.close(unlink=True)
        self.manager.stop()


def by_processes(parent: Parent) -> None:
    """Start children of multiprocessing: a lasting one, a pool, one with a feed."""
    names = parent.own, parent.managed
    for method in METHODS:
        context = multiprocessing.get_context(method)
        child = context.Process(target=live, args=names)
        child.start()
        child.join(WAITS)
        assert child.exitcode == 0, method
        parent.check(method)
        if method == "fork":  # the others' semaphores have names, for a while
            with context.Pool(2) as pool:
                assert min(pool.starmap(read, [names] * 4)) >= 10
            parent.check("pool")
        left = f"{parent.own}-{method}"
        child = context.Process(target=fall_over, args=(left,))
        child.start()
        child.join(WAITS)
        assert child.exitcode == 0, method
        with shmfeed.attach(left) as feed:
            assert feed.ring("A", "1h").count == 1
        shmfeed.create(left, 5, 1, 1).close(unlink=True)


def by_fork(parent: Parent) -> None:
    """os.fork beside threads: children that exit, each way, and one killed."""
    for way in ("sys.exit", "os._exit", "killed"):
        pid = os.fork()
        if not pid:
            live(parent.own, parent.managed)
            if way == "sys.exit":
                sys.exit(0)  # with all that happens at exit
            if way == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == (-signal.SIGKILL if way == "killed" else 0), way
        parent.check(way)


def owns_on() -> None:
    """Apply a mutant: a forked child owns its parent's objects."""

    def own(owner: SegmentOwner) -> None:
        owner._pid = os.getpid()
        owner.word[0] = owner._epoch

    SegmentOwner.disown = own  # type: ignore[method-assign]
    FileLock.disown = lambda lock: None  # type: ignore[method-assign]


def main(own: str, managed: str, url: str, mutant: str) -> None:
    warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
    if mutant:
        owns_on()
    pid = os.getpid()
    # A resource tracker runs then. By its name a census knows whose it is.
    foreign = shared_memory.SharedMemory(f"{own}-foreign", create=True, size=64)
    parent = Parent(own, managed, url)
    done = threading.Event()
    threads = [threading.Thread(target=done.wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        by_fork(parent)
        by_processes(parent)
        parent.check("all")
    finally:  # also for a child that exits by SystemExit
        done.set()
        parent.end()
        foreign.close()
        if os.getpid() == pid:
            foreign.unlink()
    for name in (own, managed):
        assert not Path(place(name).segment).exists()
    print("done", time.process_time())


if __name__ == "__main__":
    main(*sys.argv[1:])
