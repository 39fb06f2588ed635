"""A manager and its feeder while the venue, the host or one of them fails."""

import itertools
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from support.feeding import (
    QUICK,
    STREAM,
    is_running,
    managing,
    push,
    replace_interpreter,
    tell,
)
from support.waiting import until

import shmfeed
from shmfeed import FeedBusyError, WebSocketConnectionError, WebSocketSubscriptionError
from shmfeed.manager.restart_policy import MAX_FAILURES
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue
from shmfeed.writer import create

CANARY = "canary-6f1c-token"
# A token of this process alone: other tests pass CANARY to their children in argv, and
# may run at the same time.
SECRET = f"canary-{os.getpid()}-secret"


@pytest.fixture
def venue():
    with Venue(speed=None, token=CANARY, symbols=["BTCUSDT", "ETHUSDT"]) as venue:
        yield venue


@pytest.fixture
def secret_venue():
    with Venue(speed=None, token=SECRET, symbols=["BTCUSDT", "ETHUSDT"]) as venue:
        yield venue


def refused_start(manager, kind, timeout=20.0):
    with pytest.raises(kind) as caught:
        manager.start(timeout=timeout)
    assert not manager.is_connected()
    assert manager.get_status()["state"] == "disconnected"
    return str(caught.value)


def pid_of(manager):
    return manager.get_status()["pid"]


# Failures of the venue. The census sees that a failed start leaves nothing behind.


def test_a_refused_start_raises_the_venues_words(feed_name, venue):
    with managing(feed_name, venue, csrf_token="wrong") as manager:
        words = refused_start(manager, WebSocketSubscriptionError)
        assert "csrf_token is not accepted" in words
        assert not place(feed_name).segment.exists()
        assert not place(feed_name).socket.exists()
        assert {t.name for t in threading.enumerate()} & {
            "shmfeed-supervisor",
            "shmfeed-notifier",
            "shmfeed-log",
        } == set()


def test_silence_until_ack_timeout(feed_name, venue):
    venue.mute()
    with managing(feed_name, venue, csrf_token=CANARY, ack_timeout=0.5) as manager:
        words = refused_start(manager, WebSocketSubscriptionError)
        assert "did not acknowledge the subscription within 0.5 s" in words
        assert venue.url in words


def test_silence_until_the_timeout_of_start(feed_name, venue):
    venue.mute()
    with managing(feed_name, venue, csrf_token=CANARY, ack_timeout=60.0) as manager:
        words = refused_start(manager, WebSocketSubscriptionError, timeout=4.0)
        assert "did not acknowledge the subscription within" in words
        assert "within 4 s" in words


def test_a_refused_connection_names_endpoint_and_attempts(feed_name, venue):
    venue.refuse()
    with managing(feed_name, venue, max_reconnect_attempts=2) as manager:
        words = refused_start(manager, WebSocketConnectionError)
        assert venue.url in words
        assert "2 attempts" in words
    with managing(feed_name, ["ws://127.0.0.1:9/a", "ws://127.0.0.1:10/b"]) as manager:
        words = refused_start(manager, WebSocketConnectionError)
        assert "ws://127.0.0.1:9/a" in words
        assert "ws://127.0.0.1:10/b" in words
        assert "3 attempts" in words


def test_without_a_limit_it_keeps_trying(feed_name, venue):
    venue.refuse()
    given = {"max_reconnect_attempts": None, "reconnect_delay_max": 0.06}
    with managing(feed_name, venue, csrf_token=CANARY, **given) as manager:
        manager.start(wait=False)
        until(lambda: "6 attempts" in (manager.get_status()["last_error"] or ""))
        assert manager.get_status()["state"] != "error"
        with pytest.raises(WebSocketConnectionError, match="within 0"):
            manager.start(timeout=0.2)  # its own patience, not the feeder's end
        venue.refuse(False)
        until(manager.is_connected)


# Failures of the host.


def test_a_writer_that_is_not_a_feeder_is_named(feed_name, child):
    code = """
import sys, shmfeed
writer = shmfeed.create(sys.argv[1])
print("there", flush=True)
input()
"""
    holder = child(code, feed_name)
    assert holder.stdout.readline() == "there\n"
    with managing(feed_name, "ws://127.0.0.1:9/") as manager:
        with pytest.raises(FeedBusyError) as caught:
            manager.start(timeout=20)
        assert caught.value.pid == holder.pid
        assert str(holder.pid) in str(caught.value)
        assert holder.poll() is None
        holder.communicate("\n")
    create(feed_name).close(unlink=True)


def lose(feed, taken):
    """Remove a file of a feed, or all of them, as a cleared /dev/shm has it."""
    where = place(feed)
    paths = where.segment, where.lock, where.socket
    for path in paths if taken == "all" else [getattr(where, taken)]:
        path.unlink()


@pytest.mark.parametrize("taken", ["segment", "lock", "all"])
def test_a_lost_feed_comes_back_for_the_same_readers(feed_name, venue, taken):
    with managing(feed_name, venue, csrf_token=CANARY) as manager:
        manager.start(timeout=20)
        first = pid_of(manager)
        with shmfeed.attach(feed_name) as feed:
            lose(feed_name, taken)
            until(lambda: not is_running(first), what="the end of the old feeder")
            venue.wait_subscribed(2, timeout=20)
            until(lambda: pid_of(manager) not in (None, first))
            push(venue, 5)
            until(lambda: feed.streams() == [STREAM] and feed.ring(*STREAM).count == 1)
            assert feed.status()["pid"] == pid_of(manager)


def test_a_manager_gives_up_after_five_deaths_in_a_row(
    feed_name, venue, tmp_path, monkeypatch
):
    lives = tmp_path / "lives"
    replace_interpreter(
        tmp_path, monkeypatch, f"echo life >> {lives}; echo no luck >&2; exit 9"
    )
    with managing(feed_name, venue) as manager:
        words = refused_start(manager, WebSocketConnectionError)
        assert "died 5 times in a row before it was connected" in words
        assert "no luck" in words
        assert lives.read_text().count("life") == MAX_FAILURES
        # wait=False ends in `error`, and the next start begins to count again.
        manager.start(wait=False)
        until(lambda: manager.get_status()["state"] == "error")
        assert "5 times" in manager.get_status()["last_error"]
        monkeypatch.undo()
        manager.configure(
            symbols=["BTCUSDT"],
            resolutions=["1m"],
            endpoint=venue.url,
            csrf_token=CANARY,
            history=100,
            **QUICK,
        )
        manager.start(timeout=20)
        assert manager.is_connected()


def test_start_after_error_tries_again(feed_name, venue, tmp_path, monkeypatch):
    replace_interpreter(tmp_path, monkeypatch, "exit 9")
    with managing(feed_name, venue, csrf_token=CANARY) as manager:
        manager.start(wait=False)
        until(lambda: manager.get_status()["state"] == "error")
        monkeypatch.undo()
        manager.start(timeout=20)
        assert manager.is_connected()


def test_a_host_that_cannot_start_a_process(feed_name, venue, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with managing(feed_name, venue) as manager:
        words = refused_start(manager, WebSocketConnectionError)
        assert "/nowhere/python" in words


# Failures of the feeder.


def test_a_killed_feeder_is_replaced_at_once_and_reaped(
    feed_name, venue, record_property
):
    states = []
    with managing(feed_name, venue, csrf_token=CANARY) as manager:
        manager.on_state_change(lambda old, new: states.append((old, new)))
        manager.start(timeout=20)
        with shmfeed.attach(feed_name) as feed:
            ring = feed.ring(*STREAM)
            push(venue, 0)
            assert ring.wait(0, timeout=5) == 1
            for round_ in range(2):
                first = pid_of(manager)
                begun = time.monotonic()
                os.kill(first, signal.SIGKILL)
                until(lambda pid=first: pid_of(manager) not in (None, pid))
                until(manager.is_connected)
                seconds = time.monotonic() - begun
                record_property("seconds to recover", round(seconds, 3))
                assert seconds < 10
                assert not is_running(first)  # reaped: no zombie is left either
                push(venue, round_ + 1)
                assert ring.wait(round_ + 1, timeout=5) == round_ + 2
            opens = ring.view(10).open_time.tolist()
            assert [b - a for a, b in itertools.pairwise(opens)] == [60_000, 60_000]
    assert states[1:4] == [
        ("connecting", "connected"),
        ("connected", "reconnecting"),
        ("reconnecting", "connected"),
    ]


def test_a_stopped_feeder_is_dead_until_it_continues(feed_name, venue):
    with managing(feed_name, venue, csrf_token=CANARY) as manager:
        manager.start(timeout=20)
        push(venue, 0)
        pid = pid_of(manager)
        with shmfeed.attach(feed_name) as feed:
            ring = feed.ring(*STREAM)
            assert ring.wait(0, timeout=5) == 1
            os.kill(pid, signal.SIGSTOP)
            begun = time.monotonic()
            until(lambda: ring.status().health == "dead")
            assert 1.0 < time.monotonic() - begun < 3.5
            assert len(ring.view(5)) == 1  # reads go on
            until(lambda: not manager.is_connected())
            assert "no heartbeat for 2 s" in manager.get_status()["last_error"]
            os.kill(pid, signal.SIGCONT)
            until(manager.is_connected)
            assert manager.get_status()["last_error"] is None
            assert pid_of(manager) == pid
            push(venue, 1)
            assert ring.wait(1, timeout=5) == 2


def test_stop_beside_sigterm_leaves_nothing(feed_name, venue):
    for _ in range(3):
        with managing(feed_name, venue, csrf_token=CANARY) as manager:
            manager.start(timeout=20)
            os.kill(pid_of(manager), signal.SIGTERM)
            manager.stop()
            assert not place(feed_name).segment.exists()
            assert not place(feed_name).socket.exists()


def test_stop_right_after_a_kill_leaves_nothing(feed_name, venue):
    with managing(feed_name, venue, csrf_token=CANARY) as manager:
        manager.start(timeout=20)
        os.kill(pid_of(manager), signal.SIGKILL)
        manager.stop()
        assert not place(feed_name).segment.exists()
        assert not place(feed_name).socket.exists()


# Failures of the manager.

MANAGER = """
import json, os, sys
from support.feeding import managing
with managing(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3])) as manager:
    manager.start(timeout=20)
    print(manager.get_status()["pid"], flush=True)
    for line in sys.stdin:
        print(json.dumps(eval(line)), flush=True)
"""


class Other:
    """A manager in another process."""

    def __init__(self, child, feed, venue, **settings):
        here = str(Path(__file__).parent.parent)
        environ = os.environ | {"PYTHONPATH": here}
        given = json.dumps({"csrf_token": CANARY} | settings)
        self.process = child(MANAGER, feed, venue.url, given, env=environ)
        self.feeder = int(self.process.stdout.readline())

    def do(self, code):
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def leave(self):
        """Let it end, and return its log."""
        log = self.process.communicate(timeout=20)[1]
        assert self.process.returncode == 0
        return log


@pytest.mark.parametrize("together", [False, True])
def test_the_feeder_of_a_killed_manager_continues_unless_told(
    feed_name, venue, child, together
):
    other = Other(child, feed_name, venue, stop_with_manager=together)
    other.process.kill()
    other.process.wait()
    if together:
        until(lambda: not is_running(other.feeder))
        create(feed_name, 100).close(unlink=True)
        return
    with shmfeed.attach(feed_name) as feed:
        push(venue, 0)
        assert feed.ring(*STREAM).wait(0, timeout=5) == 1
        # The log's reader is gone; what the feeder has to say must not end it.
        venue.send("not JSON")
        push(venue, 1)
        assert feed.ring(*STREAM).wait(1, timeout=5) == 2
    with managing(feed_name, venue, csrf_token=CANARY) as manager:
        manager.start(timeout=20)
        assert pid_of(manager) == other.feeder  # adopted
        assert len(venue.subscriptions) == 1  # and wants what is there already
    until(lambda: not is_running(other.feeder))


def test_two_managers_replace_one_dead_feeder(feed_name, venue, child):
    other = Other(child, feed_name, venue, symbols=["ETHUSDT"])
    with managing(feed_name, venue, csrf_token=CANARY) as manager:
        manager.start(timeout=20)
        with shmfeed.attach(feed_name) as feed:
            both = {STREAM, ("ETHUSDT", "1m")}
            assert set(feed.streams()) == both
            for _ in range(2):
                pid = pid_of(manager)
                os.kill(pid, signal.SIGKILL)
                until(
                    lambda pid=pid: (
                        pid_of(manager) not in (None, pid)
                        and manager.is_connected()
                        and set(feed.streams()) == both
                    )
                )
                pid = pid_of(manager)
                assert other.do('manager.get_status()["pid"]') == pid
            manager.stop()
            until(lambda: feed.streams() == [("ETHUSDT", "1m")])
            assert other.do("manager.is_connected()")
        assert "Traceback" not in other.leave()
        assert not place(feed_name).segment.exists()


FORKING = """
import os, sys
from support.feeding import managing
from shmfeed.manager import get_websocket_manager, WebSocketManager
with managing(sys.argv[1], sys.argv[2], csrf_token=sys.argv[3]) as manager:
    manager.start(timeout=20)
    first = manager.get_status()["pid"]
    known = get_websocket_manager("other")
    manager._lock.acquire()  # by a thread that the child does not have
    pid = os.fork()
    if pid == 0:
        manager.stop()
        assert manager.get_status()["state"] == "disconnected"
        assert not manager.is_connected()
        known.stop()
        sys.exit(0)  # with all that happens at exit
    manager._lock.release()
    assert os.waitpid(pid, 0)[1] == 0
    assert manager.is_connected()
    assert manager.get_status()["pid"] == first
    os.kill(first, 0)
    if os.fork() == 0:  # a child may have a manager of its own
        manager.start(timeout=20)
        assert manager.get_status()["pid"] == first
        manager.stop()
        sys.exit(0)
    assert os.wait()[1] == 0
    assert manager.is_connected()
    manager.update_subscription(symbols=["ETHUSDT"])
print("done")
"""


def test_a_forked_child_disturbs_nothing(feed_name, venue, child):
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    process = child(FORKING, feed_name, venue.url, CANARY, env=environ)
    out, err = process.communicate(timeout=50)
    assert (process.returncode, err) == (0, "")
    assert out.endswith("done\n")


def test_an_orphan_that_gave_up_is_replaced(feed_name, venue, child):
    other = Other(child, feed_name, venue, max_reconnect_attempts=1)
    venue.refuse()
    venue.drop_connections()
    with shmfeed.attach(feed_name) as feed:
        until(lambda: feed.connection()["state"] == "error")
    other.process.kill()
    other.process.wait()
    with Venue(speed=None) as elsewhere, managing(feed_name, elsewhere) as manager:
        manager.start(timeout=20)  # would never be reached by the old one
        assert pid_of(manager) != other.feeder
        assert manager.get_status()["endpoint"] == elsewhere.url
    until(lambda: not is_running(other.feeder))


# The token.


def test_the_token_goes_nowhere_but_to_the_venue(feed_name, secret_venue, caplog):
    venue = secret_venue
    with caplog.at_level(logging.DEBUG):
        with managing(
            feed_name, venue, csrf_token=SECRET, log_level="DEBUG"
        ) as manager:
            manager.start(timeout=20)
            # The venue repeats it where it can: in an error, and in nonsense.
            for text in (
                {"type": "ERROR", "message": f"bad token {SECRET}"},
                {"type": SECRET},
                {"type": "BAR", "symbol": SECRET},
            ):
                venue.send(json.dumps(text))
            venue.send(SECRET)
            until(lambda: manager.get_status()["malformed"] >= 2)
            with pytest.raises(WebSocketSubscriptionError) as caught:
                manager.update_subscription(symbols=["XRP"])
            pid = pid_of(manager)
            told = [
                repr(manager),
                repr(vars(manager)),
                json.dumps(manager.get_status()),
                str(caught.value),
                str(tell(feed_name, "status")),
            ]
            told.append(Path(f"/proc/{pid}/environ").read_bytes().decode())
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    told.append((process / "cmdline").read_bytes().decode("latin-1"))
                except OSError:  # it has ended
                    continue
            told.append(place(feed_name).segment.read_bytes().decode("latin-1"))
            assert any(SECRET in text for text in venue.received)  # the control
    told.append(caplog.text)
    assert "malformed" in caplog.text
    for text in told:
        assert SECRET not in text, re.sub(SECRET, "<token>", text)[:500]


def test_a_refused_token_is_in_no_message(feed_name, caplog):
    def refuse(connection):
        for message in connection:
            told = {"type": "ERROR", "message": f"refused: {message}"}
            connection.send(json.dumps(told))

    from support.loopback import venue as handmade

    with handmade(refuse) as url, caplog.at_level(logging.DEBUG):
        with managing(feed_name, url, csrf_token=CANARY) as manager:
            with pytest.raises(WebSocketSubscriptionError) as caught:
                manager.start(timeout=20)
            assert "refused: " in str(caught.value)
            assert CANARY not in str(caught.value)
    assert CANARY not in caplog.text
