"""Claimants, the union of their streams, and what lingers of ended ones."""

import os
import subprocess
import sys

import pytest

from shmfeed.control.peer import Peer, process_start
from shmfeed.feeder.wants import Claimant, Wants

A, B, C = ("A", "1m"), ("B", "1m"), ("C", "1m")
ME = Peer.of(os.getpid())
GONE = Peer(2**22 + 1, 0)  # above the kernel's highest pid


def claimant(kind="manager", name="bot", process=ME, linger=60.0, connection=0):
    return Claimant(kind, name, process, 0, linger, connection=connection)


@pytest.fixture
def wants():
    return Wants()


def add(wants, claimant_id, *streams, **facts):
    wants.admit(claimant_id, claimant(**facts))
    return wants.put(claimant_id, streams)


def ticked(wants, now):
    wants.look(now)
    return wants.due(now)


def test_the_union_has_each_stream_once_in_the_order_wanted(wants):
    assert wants.union() == ()
    add(wants, "one", B, A, name="a")
    add(wants, "two", A, C, name="b")
    assert wants.union() == (B, A, C)
    wants.put("one", (C,))
    assert set(wants.union()) == {A, C}
    assert wants.drop("two")
    assert not wants.drop("unknown")
    assert wants.union() == (C,)


def test_a_claimant_without_streams_keeps_no_feeder(wants):
    add(wants, "one", A)
    assert not wants.is_empty()
    wants.put("one", ())
    assert wants.is_empty()
    assert wants.union() == ()
    assert wants.claimants() == []
    assert not wants.keep_feeder(0)


def test_refused_streams_are_rolled_back(wants):
    add(wants, "one", A)
    wants.restore("one", wants.put("one", (B,)))
    assert wants.union() == (A,)
    wants.restore("two", add(wants, "two", C, name="other"))
    assert wants.union() == (A,)


def test_dropped_streams_do_not_come_back(wants):
    add(wants, "one", A)
    refused = wants.put("one", (B,))
    wants.drop("one")
    wants.restore("one", refused)
    assert wants.union() == ()
    add(wants, "one", C)
    wants.restore("one", refused)
    assert wants.union() == (C,)


def test_the_wants_of_an_ended_connection_linger(wants):
    add(wants, "one", A, connection=7, linger=60.0)
    wants.disconnected(8, 100.0)  # of another one
    assert wants.keep_feeder(100.0)
    wants.disconnected(7, 100.0)
    assert wants.union() == (A,)
    assert not wants.keep_feeder(100.0)
    assert ticked(wants, 159.9) == []
    assert ticked(wants, 160.0) == ["one"]


def test_a_claimant_that_comes_back_lingers_no_more(wants):
    add(wants, "one", A, connection=7)
    wants.disconnected(7, 100.0)
    wants.admit("one", claimant(connection=9))
    assert wants.union() == (A,)
    assert wants.keep_feeder(1e9)
    assert ticked(wants, 1e9) == []
    wants.disconnected(7, 200.0)  # the old connection is nothing to it
    assert wants.keep_feeder(1e9)


def test_a_new_manager_takes_over_the_wants_of_its_ended_namesake(wants):
    add(wants, "old", A, B, connection=7)
    wants.disconnected(7, 100.0)
    add(wants, "new", B)
    assert wants.union() == (B,)
    # Its later changes take over nothing.
    add(wants, "third", C, connection=8)
    wants.disconnected(8, 100.0)
    wants.put("new", (A,))
    assert set(wants.union()) == {A, C}


@pytest.mark.parametrize(
    "other",
    [{"name": "another"}, {"kind": "lease"}, {"name": ""}],
    ids=["name", "kind", "nameless"],
)
def test_the_wants_of_others_are_not_taken_over(wants, other):
    add(wants, "old", A, connection=7)
    wants.disconnected(7, 100.0)
    add(wants, "new", B, **other)
    assert set(wants.union()) == {A, B}


def test_the_wants_of_a_namesake_that_runs_are_not_taken_over(wants):
    add(wants, "old", A, connection=7)
    add(wants, "new", B, connection=8)
    assert set(wants.union()) == {A, B}


def test_of_several_namesakes_the_one_with_most_in_common_is_taken_over(wants):
    add(wants, "first", A, connection=1)
    add(wants, "second", B, C, connection=2)
    for connection in 1, 2:
        wants.disconnected(connection, 100.0)
    add(wants, "new", C)
    assert set(wants.union()) == {A, C}


def test_a_refused_change_takes_over_nothing(wants):
    add(wants, "old", A, connection=7)
    wants.disconnected(7, 100.0)
    wants.restore("new", add(wants, "new", B))
    assert wants.union() == (A,)
    assert ticked(wants, 160.0) == ["old"]


def test_only_running_managers_keep_the_feeder(wants):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as other:
        add(wants, "other", A, process=Peer.of(other.pid))
        assert wants.keep_feeder(0)
        other.kill()
    assert not wants.keep_feeder(0)
    assert wants.union() == (A,)  # a dead manager's streams stay
    assert ticked(wants, 100.0) == []
    assert ticked(wants, 160.0) == ["other"]
    add(wants, "never", B, process=GONE)
    assert not wants.keep_feeder(0)


def test_a_killed_process_has_ended_though_a_child_holds_its_connection(wants):
    add(wants, "one", A, process=GONE, connection=7)
    assert ticked(wants, 100.0) == []
    assert ticked(wants, 160.0) == ["one"]


def test_a_reused_pid_is_another_process(wants):
    add(wants, "one", A, process=Peer(ME.pid, ME.started - 1))
    assert not wants.keep_feeder(0)


def test_a_zombie_has_ended():
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
    assert process_start(other.pid) is not None
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(other.pid) is None
    other.communicate()
    assert process_start(other.pid) is None


def test_a_manager_that_is_not_visible_counts_as_running(wants):
    add(wants, "in another container", A, process=Peer(0, 0))
    assert wants.keep_feeder(0)
    wants.drop("in another container")
    assert not wants.keep_feeder(0)


def test_the_list_of_a_run_does_not_end_with_a_process(wants):
    add(wants, "run", A, kind="run", process=GONE)
    assert ticked(wants, 1e9) == []
    assert wants.keep_feeder(1e9)


def test_claimants_of_an_earlier_feeder_are_awaited_for_a_while(wants):
    one = claimant(kind="lease", linger=10.0)
    one.streams, one.ends_at, one.returns_by = (A,), 110.0, 110.0
    wants.admit("lease", one)
    assert wants.keep_feeder(109.0)
    assert wants.has_lease()
    assert not wants.keep_feeder(110.0)
    assert ticked(wants, 110.0) == ["lease"]
