import os
import subprocess
import sys

from shmfeed.control.peer import process_start
from shmfeed.feeder.subscriptions import Subscriptions

A, B, C = ("A", "1m"), ("B", "1m"), ("C", "1m")
ME = os.getpid()


def test_the_union_has_each_stream_once_in_the_order_wanted():
    wants = Subscriptions()
    assert wants.union() == ()
    wants.put("one", ME, (B, A))
    wants.put("two", ME, (A, C))
    assert wants.union() == (B, A, C)
    wants.put("one", ME, (C,))
    assert set(wants.union()) == {A, C}
    wants.drop("two")
    wants.drop("unknown")
    assert wants.union() == (C,)


def test_a_manager_without_streams_does_not_count():
    wants = Subscriptions()
    wants.put("one", ME, (A,))
    wants.put("one", ME, ())
    assert wants.union() == ()
    assert wants.get("one") is None
    assert not wants.is_wanted()


def test_a_refused_want_is_taken_back():
    wants = Subscriptions()
    before = wants.put("one", ME, (A,))
    refused = wants.put("one", ME, (B,))
    wants.take_back("one", refused, before)
    assert wants.union() == (A,)
    first = wants.put("two", ME, (C,))
    wants.take_back("two", first, None)
    assert wants.get("two") is None
    nothing = wants.put("one", ME, ())
    wants.take_back("one", nothing, before)
    assert wants.get("one") == before


def test_a_dropped_want_does_not_come_back():
    wants = Subscriptions()
    before = wants.put("one", ME, (A,))
    refused = wants.put("one", ME, (B,))
    wants.drop("one")
    wants.take_back("one", refused, before)
    assert wants.get("one") is None
    newer = wants.put("one", ME, (C,))
    wants.take_back("one", refused, before)
    assert wants.get("one") is newer


def test_only_running_managers_count():
    wants = Subscriptions()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as other:
        wants.put("other", other.pid, (A,))
        assert wants.is_wanted()
        other.kill()
    assert not wants.is_wanted()
    assert wants.union() == (A,)  # a dead one's streams go on
    wants.put("never", 2**22 + 1, (B,))
    assert not wants.is_wanted()


def test_a_reused_pid_is_another_process():
    wants = Subscriptions()
    want = wants.put("one", ME, (A,))
    wants._wants["one"] = want._replace(started=want.started - 1)
    assert not wants.is_wanted()


def test_a_zombie_has_ended():
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
    assert process_start(other.pid) is not None
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(other.pid) is None
    other.communicate()
    assert process_start(other.pid) is None
