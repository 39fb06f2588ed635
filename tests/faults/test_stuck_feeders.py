"""A feeder that is stuck is replaced; one in another container is not dead."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.feeding import STREAM, feeder, is_running, managing, push, settings
from support.waiting import until

import shmfeed
from shmfeed.codecs.identity import identity_of
from shmfeed.errors import FeedBusyError
from shmfeed.feeder.journal import TOLD_STALL
from shmfeed.feeder.taking import take_feed
from shmfeed.simulator import Venue, verify


@pytest.fixture
def venue():
    with Venue(speed=None, symbols=["BTCUSDT", "ETHUSDT"]) as venue:
        yield venue


def pid_of(manager):
    return manager.get_status()["pid"]


def test_a_stopped_feeder_is_killed_and_replaced(feed_name, venue, caplog):
    with managing(feed_name, venue, stuck_timeout=0.1) as manager:
        manager.start(timeout=20)
        push(venue, 0)
        first = pid_of(manager)
        with shmfeed.attach(feed_name) as feed:
            ring = feed.ring(*STREAM)
            assert ring.wait(0, timeout=5) == 1
            os.kill(first, signal.SIGSTOP)
            until(lambda: pid_of(manager) not in (None, first), timeout=20)
            until(manager.is_connected)
            assert not is_running(first)
            push(venue, 1)
            assert ring.wait(1, timeout=5) == 2
    assert f"feeder {first} has given no sign of life for 2." in caplog.text


def test_a_stopped_feeder_lives_until_the_timeout(feed_name, venue):
    """Control: silence alone kills nothing."""
    with managing(feed_name, venue, stuck_timeout=60) as manager:
        manager.start(timeout=20)
        first = pid_of(manager)
        os.kill(first, signal.SIGSTOP)
        until(lambda: not manager.is_connected())
        assert is_running(first)
        os.kill(first, signal.SIGCONT)
        until(manager.is_connected)
        assert pid_of(manager) == first


def test_an_adopted_feeder_that_is_stuck_is_only_told(
    feed_name, venue, child, caplog, tmp_path
):
    """It says that it stood still once it goes on."""
    code = "import sys; from shmfeed.cli.main import main; sys.exit(main(sys.argv[1:]))"
    options = {"feed": feed_name, "endpoint": venue.url, "symbols": "BTCUSDT"}
    options |= {"resolutions": "1m", "history": 100, "log-file": tmp_path / "log"}
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    process = child(code, "run", *map(str, given), stderr=subprocess.DEVNULL)
    venue.wait_subscribed()
    with managing(feed_name, venue, stuck_timeout=0.1) as manager:
        manager.start(timeout=20)
        assert pid_of(manager) == process.pid
        process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        until(lambda: "leaves it alone" in caplog.text, timeout=20)
        with pytest.raises(FeedBusyError) as caught:  # it is not alive, and owns it
            given = settings(feed_name, venue, venue="b.com")
            take_feed(given, identity_of(given), (STREAM,), True)
        assert "/127.0.0.1, and these settings are of" in str(caught.value)
        assert process.poll() is None
        until(lambda: time.monotonic() > begun + TOLD_STALL)
        process.send_signal(signal.SIGCONT)
        said = f"feed {feed_name}: the feeder stood still for "
        until(lambda: said in (tmp_path / "log").read_text())
        until(manager.is_connected)
        assert pid_of(manager) == process.pid
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert caplog.text.count("leaves it alone") == 1


MANAGER = """
import json, os, sys, threading
from shmfeed import get_websocket_manager

feed, url = sys.argv[1:3]
manager = get_websocket_manager(feed)
manager.configure(symbols=["ETHUSDT"], resolutions=["1m"], endpoint=url, history=100)
changes = []
manager.on_state_change(lambda old, new: changes.append(new))
manager.start(timeout=20)
print(json.dumps([os.getpid(), manager.get_status()["pid"]]), flush=True)
for line in sys.stdin:
    if line == "stop\\n":
        manager.stop()
    if line == "visible\\n":  # the pid by which a manager would look for its feeder
        changes = os.path.exists(f"/proc/{manager.get_status()['pid']}")
    print(json.dumps([manager.is_connected(), changes]), flush=True)
"""


@pytest.fixture
def contained(feed_name, venue):
    """Return a function that starts a manager in a PID namespace of its own."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this host permits no PID namespace: {error}")
    started = []

    def start():
        home = str(Path(__file__).parents[2])
        process = subprocess.Popen(
            [*command, sys.executable, "-c", MANAGER, feed_name, venue.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": home},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        with process:
            pass


def ask(process, line="look"):
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def test_a_manager_in_another_pid_namespace_is_served(
    feed_name, venue, contained, caplog
):
    caplog.set_level(logging.INFO)
    with feeder(feed_name, venue) as one, shmfeed.attach(feed_name) as feed:
        venue.wait_subscribed()
        other = contained()
        assert json.loads(other.stdout.readline()) == [1, os.getpid()]
        assert (("ETHUSDT", "1m") in feed.streams()) is True
        for _ in range(20):  # it does not flap
            connected, changes = ask(other)
        assert connected
        assert changes[-1:] == ["connected"]
        assert len(changes) <= 2  # perhaps "connecting" first
        # The namespaced manager is no reason to stop, and none to be overlooked.
        with managing(feed_name, venue) as manager:
            manager.start(timeout=20)
        assert one.thread.is_alive()
        assert ("ETHUSDT", "1m") in feed.streams()
        assert ask(other, "stop")[0] is False
        until(lambda: ("ETHUSDT", "1m") not in feed.streams())


def test_a_manager_in_another_pid_namespace_sees_its_feeder_end(
    feed_name, venue, contained
):
    with managing(feed_name, venue) as manager:
        manager.start(timeout=20)
        first = pid_of(manager)
        other = contained()
        assert json.loads(other.stdout.readline()) == [1, first]
        os.kill(first, signal.SIGKILL)
        until(lambda: pid_of(manager) not in (None, first))
        until(manager.is_connected)
        until(lambda: "reconnecting" in ask(other)[1], timeout=20)
        until(lambda: ask(other)[0], timeout=20)
        with shmfeed.attach(feed_name) as feed:
            until(lambda: ("ETHUSDT", "1m") in feed.streams())


def test_managers_of_two_containers_share_a_feeder(feed_name, venue, contained):
    """Neither sees the other's process, nor does the second see the feeder's."""
    first = contained()
    _, pid = json.loads(first.stdout.readline())
    second = contained()
    assert json.loads(second.stdout.readline()) == [1, pid]  # adopted, not launched
    assert venue.connections == 1
    for _ in range(20):
        assert ask(second)[0]
    # Control: a manager that asked its own /proc would take the feeder for dead.
    assert ask(second, "visible")[1] is False
    assert ask(first, "visible")[1] is True
    ask(first, "stop")
    with shmfeed.attach(feed_name) as feed:
        assert feed.alive()  # the second manager wants it, although it is not visible
        assert ask(second)[0]
        assert feed.heartbeat().epoch == 1
        ask(second, "stop")
    until(lambda: venue.connections == 0)


def test_a_feeder_that_dies_in_another_container_is_replaced(
    feed_name, venue, contained
):
    first = contained()
    json.loads(first.stdout.readline())
    second = contained()
    json.loads(second.stdout.readline())
    first.kill()  # and with it, its container
    with shmfeed.attach(feed_name) as feed:
        until(lambda: feed.heartbeat().epoch == 2, timeout=20)
        until(lambda: ask(second)[0], timeout=20)
    ask(second, "stop")


def test_a_feeder_that_was_stopped_reads_before_its_clock_closes(feed_name):
    """The venue flags no bar, so the clock does; the bars of the stop lie unread."""
    with Venue(speed=1, seed=5, closed_flag=False, update_interval=0.05) as venue:
        # A busy host may deliver late, by less than the grace.
        given = {"resolutions": ["1s"], "close_grace": 1.0}
        with managing(feed_name, venue, **given) as manager:
            manager.start(timeout=20)
            with shmfeed.attach(feed_name) as feed:
                ring = feed.ring("BTCUSDT", "1s")
                count = ring.wait(1, timeout=10)
                pid = pid_of(manager)
                os.kill(pid, signal.SIGSTOP)
                time.sleep(3.2)  # the grace of two bars ends
                os.kill(pid, signal.SIGCONT)
                assert ring.wait(count + 4, timeout=10) > count + 4
                rows = ring.snapshot(20)
                assert verify(5, "BTCUSDT", "1s", rows) == 0
                assert feed.status()["gaps"] == 0
