import os
import subprocess
import sys

from shmfeed.control.peer import Peer, process_start
from shmfeed.feeder.subscriptions import Subscriptions

A, B, C = ("A", "1m"), ("B", "1m"), ("C", "1m")
ME = os.getpid()


def test_the_union_has_each_stream_once_in_the_order_wanted():
    subscriptions = Subscriptions()
    assert subscriptions.union() == ()
    subscriptions.put("one", ME, (B, A))
    subscriptions.put("two", ME, (A, C))
    assert subscriptions.union() == (B, A, C)
    subscriptions.put("one", ME, (C,))
    assert set(subscriptions.union()) == {A, C}
    subscriptions.drop("two")
    subscriptions.drop("unknown")
    assert subscriptions.union() == (C,)


def test_a_manager_without_streams_does_not_count():
    subscriptions = Subscriptions()
    subscriptions.put("one", ME, (A,))
    subscriptions.put("one", ME, ())
    assert subscriptions.union() == ()
    assert subscriptions.get("one") is None
    assert not subscriptions.has_running_manager()


def test_refused_streams_are_rolled_back():
    subscriptions = Subscriptions()
    before = subscriptions.put("one", ME, (A,))
    refused = subscriptions.put("one", ME, (B,))
    subscriptions.restore("one", refused, before)
    assert subscriptions.union() == (A,)
    first = subscriptions.put("two", ME, (C,))
    subscriptions.restore("two", first, None)
    assert subscriptions.get("two") is None
    nothing = subscriptions.put("one", ME, ())
    subscriptions.restore("one", nothing, before)
    assert subscriptions.get("one") == before


def test_dropped_streams_do_not_come_back():
    subscriptions = Subscriptions()
    before = subscriptions.put("one", ME, (A,))
    refused = subscriptions.put("one", ME, (B,))
    subscriptions.drop("one")
    subscriptions.restore("one", refused, before)
    assert subscriptions.get("one") is None
    newer = subscriptions.put("one", ME, (C,))
    subscriptions.restore("one", refused, before)
    assert subscriptions.get("one") is newer


def test_only_running_managers_count():
    subscriptions = Subscriptions()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as other:
        subscriptions.put("other", other.pid, (A,))
        assert subscriptions.has_running_manager()
        other.kill()
    assert not subscriptions.has_running_manager()
    assert subscriptions.union() == (A,)  # a dead manager's streams stay
    subscriptions.put("never", 2**22 + 1, (B,))
    assert not subscriptions.has_running_manager()


def test_a_reused_pid_is_another_process():
    subscriptions = Subscriptions()
    streams = subscriptions.put("one", ME, (A,))
    subscriptions._streams["one"] = streams._replace(
        process=Peer(ME, streams.process.started - 1)
    )
    assert not subscriptions.has_running_manager()


def test_a_zombie_has_ended():
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
    assert process_start(other.pid) is not None
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(other.pid) is None
    other.communicate()
    assert process_start(other.pid) is None


def test_a_manager_that_is_not_visible_counts_as_running() -> None:
    subscriptions = Subscriptions()
    subscriptions.put("in another container", 0, (("A", "1m"),))
    assert subscriptions.has_running_manager()
    subscriptions.drop("in another container")
    assert not subscriptions.has_running_manager()
