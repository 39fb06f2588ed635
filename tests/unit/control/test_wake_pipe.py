"""The pipe that wakes a thread, at its end and in a forked child."""

import os
import select
import threading

from support.forks import Fork

from shmfeed.control.wake_pipe import WakePipe


def _is_readable(pipe: WakePipe) -> bool:
    return select.select([pipe.fd], [], [], 0)[0] != []


def test_it_is_readable_from_a_wake_until_it_is_drained() -> None:
    pipe = WakePipe()
    assert not _is_readable(pipe)
    for _ in range(2):
        pipe.wake()
    assert _is_readable(pipe)
    pipe.drain()
    assert not _is_readable(pipe)
    pipe.drain()  # nothing is there, and it does not wait
    pipe.close()
    pipe.wake()  # its number may be another file's by now


def test_a_forked_child_closes_its_copy_of_a_locked_pipe() -> None:
    """Another thread, which the child does not have, held the lock at the fork."""
    pipe = WakePipe()
    holds, ends = threading.Event(), threading.Event()

    def hold() -> None:
        with pipe._lock:
            holds.set()
            ends.wait(60)

    def child() -> None:
        pipe.disown()
        try:
            os.fstat(pipe.fd)
        except OSError:
            return
        raise AssertionError("the child's copy is open")

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(60)
    try:
        with Fork(child) as forked:
            assert forked.wait() == 0
    finally:
        ends.set()
        thread.join()
    pipe.wake()  # the parent's is as it was
    assert _is_readable(pipe)
    pipe.close()
