"""A launched feeder: its settings, its log and its end, also beside a fork."""

import logging
import os
import signal
import sys
from pathlib import Path

import pytest
from support.feeding import (
    is_listening,
    is_running,
    replace_interpreter,
    settings,
    tell,
)
from support.waiting import until

import shmfeed
from shmfeed.errors import (
    BadArgumentError,
    FeedBusyError,
    SegmentFormatError,
    WebSocketConnectionError,
)
from shmfeed.manager.process import FeederProcess, Launcher
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue
from shmfeed.writer import create

NOWHERE = "ws://127.0.0.1:9/market_data"


@pytest.fixture
def launched():
    """Launch feeders, and stop them after the test."""
    started = []

    def launch(*args, **more):
        started.append(FeederProcess(settings(*args, **more), Launcher("m", "m")))
        return started[-1]

    yield launch
    for process in started:
        process.stop(5)


def running(process, feed):
    until(lambda: is_listening(feed) or process.exit_code() is not None)
    assert process.exit_code() is None


def test_a_feeder_has_its_own_session_and_ends_when_asked(feed_name, launched):
    with Venue(speed=None) as venue:
        process = launched(feed_name, venue)
        running(process, feed_name)
        venue.wait_subscribed()
        assert os.getsid(process.pid) == process.pid
        assert tell(feed_name, "stop", unlink=True)["pid"] == process.pid
        assert process.wait(5)
        assert process.exit_code() == 0
        assert "ended with code 0" in str(process.exit_reason())


def test_stop_leaves_the_segment_and_nothing_else(feed_name, launched):
    with Venue(speed=None) as venue:
        process = launched(feed_name, venue)
        venue.wait_subscribed()
        process.stop(5)
        assert process.exit_code() == 0
        with shmfeed.attach(feed_name) as feed:
            assert not feed.alive()  # at once
            assert feed.status()["health"] == "dead"
        assert not place(feed_name).socket.exists()
    create(feed_name, 100).close(unlink=True)


def test_a_feeder_that_ignores_sigterm_is_killed(feed_name, launched):
    with Venue(speed=None) as venue:
        process = launched(feed_name, venue)
        venue.wait_subscribed()
        os.kill(process.pid, signal.SIGSTOP)
        process.stop(0.1)
        assert process.exit_code() == -signal.SIGKILL
        # Its last log line, "connected to ..", is no reason.
        words = f"the feeder (pid {process.pid}) was killed by signal 9"
        assert str(process.exit_reason()) == words
    create(feed_name, 100).close(unlink=True)
    place(feed_name).socket.unlink()


def test_a_feeder_reports_why_it_cannot_start(feed_name, launched):
    with create(feed_name) as writer:
        process = launched(feed_name, NOWHERE)
        assert process.wait(10)
        why = process.exit_reason()
        assert isinstance(why, FeedBusyError)
        assert why.pid == os.getpid()
        assert str(os.getpid()) in str(why)
        writer.close(unlink=True)
    place(feed_name).segment.symlink_to("/dev/null")
    process = launched(feed_name, NOWHERE)
    assert process.wait(10)
    assert isinstance(process.exit_reason(), SegmentFormatError)
    place(feed_name).segment.unlink()
    process = launched(feed_name, NOWHERE, log_file="/nowhere/at/all.log")
    assert process.wait(10)
    assert isinstance(process.exit_reason(), BadArgumentError)
    assert "/nowhere/at/all.log" in str(process.exit_reason())


def test_an_unreported_death_is_reported_with_the_last_log_line(
    feed_name, launched, tmp_path, monkeypatch, caplog
):
    replace_interpreter(
        tmp_path, monkeypatch, "echo starting; echo no memory >&2; exit 3"
    )
    process = launched(feed_name, NOWHERE)
    assert process.wait(10)
    why = process.exit_reason()
    assert isinstance(why, WebSocketConnectionError)
    assert "ended with code 3" in str(why)
    assert "no memory" in caplog.text
    assert "starting" in caplog.text  # not a report, but a line of output


CRASH = """
import ctypes, faulthandler, threading, time
faulthandler.enable()
def wait(depth):
    time.sleep(60) if not depth else wait(depth - 1)
for _ in range(3):
    threading.Thread(target=wait, args=[30], daemon=True).start()
def last_call():
    ctypes.string_at(0)
last_call()
"""


def test_a_crash_is_reported_with_its_cause_and_place(
    feed_name, launched, tmp_path, monkeypatch
):
    (tmp_path / "crash.py").write_text(CRASH)
    command = f"ulimit -c 0; exec {sys.executable} {tmp_path}/crash.py"
    replace_interpreter(tmp_path, monkeypatch, command)
    process = launched(feed_name, NOWHERE)
    assert process.wait(20)
    why = str(process.exit_reason())
    assert f"the feeder (pid {process.pid}) was killed by signal 11: " in why
    assert ": Fatal Python error: Segmentation fault, File " in why
    assert why.endswith("in string_at")


def test_a_child_that_never_reads_does_not_block_the_launch(
    feed_name, launched, tmp_path, monkeypatch
):
    replace_interpreter(tmp_path, monkeypatch, "exit 0")
    process = launched(feed_name, NOWHERE, symbols=[f"S{n}" for n in range(9000)])
    assert process.wait(10)


def test_log_lines_keep_their_level(feed_name, launched, tmp_path, monkeypatch, caplog):
    json_line = '{"time":"2026","level":"ERROR","message":"INFO"}'
    lines = f"2026 ERROR x: bad\n2026 INFO x: fine\n{json_line}\nTraceback\n"
    lines += "y" * 200_000
    (tmp_path / "lines").write_text(lines)
    replace_interpreter(tmp_path, monkeypatch, f"cat {tmp_path}/lines >&2")
    with caplog.at_level(logging.DEBUG, "shmfeed.feeder"):
        process = launched(feed_name, NOWHERE)
        assert process.wait(10)
        process.close()
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told[:4] == [
        ("ERROR", "2026 ERROR x: bad"),
        ("INFO", "2026 INFO x: fine"),
        ("ERROR", json_line),
        ("WARNING", "Traceback"),
    ]
    assert sum(len(text) for _, text in told[4:]) == 200_000


def test_settings_do_not_reach_the_childs_environment(feed_name, launched, monkeypatch):
    monkeypatch.setenv("WEBSOCKET_CSRF_TOKEN", "canary-of-the-environment")
    monkeypatch.setenv("SHMFEED_FEED", "another")
    monkeypatch.setenv("UNTOUCHED", "yes")
    with Venue(speed=None) as venue:
        process = launched(feed_name, venue)
        venue.wait_subscribed()
        environ = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"canary" not in environ
        assert b"SHMFEED_FEED" not in environ
        assert b"UNTOUCHED=yes" in environ
        tell(feed_name, "stop", unlink=True)
        assert process.wait(5)


MANAGER = """
import os, sys, time
from shmfeed.settings import loading
from shmfeed.manager.process import FeederProcess, Launcher
settings = loading.load({"feed": sys.argv[1], "symbols": ["BTCUSDT"],
    "resolutions": ["1m"], "endpoint": sys.argv[2], "history": 100,
    "stop_with_manager": sys.argv[3] == "stop"}, {})
process = FeederProcess(settings, Launcher("m", "m"))
print(process.pid, flush=True)
input()
if sys.argv[4] == "fork":
    if os.fork() == 0:
        print(len(os.listdir("/proc/self/fd")), flush=True)
        input()
        sys.exit(7)
    print(os.wait()[1], flush=True)
"""


def manager(child, feed, venue, *words):
    process = child(MANAGER, feed, venue.url, *words)
    pid = int(process.stdout.readline())
    venue.wait_subscribed()
    return process, pid


def test_a_feeder_outlives_its_launcher(feed_name, child):
    with Venue(speed=None) as venue:
        process, pid = manager(child, feed_name, venue, "go on", "-")
        _, err = process.communicate("\n", timeout=20)
        assert (process.returncode, err) == (0, "")
        assert tell(feed_name, "status")["pid"] == pid
        with shmfeed.attach(feed_name) as feed:
            assert feed.alive()
        tell(feed_name, "stop", unlink=True)
        until(lambda: not is_running(pid))


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_stop_with_manager_ends_the_feeder(feed_name, child, how):
    with Venue(speed=None) as venue:
        process, pid = manager(child, feed_name, venue, "stop", "-")
        assert is_running(pid)
        if how == "kill":
            process.kill()
        else:
            assert process.communicate("\n", timeout=20)[1] == ""
        until(lambda: not is_running(pid), what="the end of the feeder")
        assert place(feed_name).segment.exists()
    create(feed_name, 100).close(unlink=True)


def test_stop_with_manager_spares_a_feeder_of_other_managers(feed_name, child):
    with Venue(speed=None) as venue:
        process, pid = manager(child, feed_name, venue, "stop", "-")
        with shmfeed.attach(feed_name) as feed:
            until(lambda: feed.status()["state"] == "connected")
            tell(
                feed_name,
                "subscribe",
                manager="other",
                pid=os.getpid(),
                symbols=["ETHUSDT"],
                resolutions=["1m"],
            )
            process.kill()
            until(lambda: feed.streams() == [("ETHUSDT", "1m")])
            assert feed.alive()
        assert tell(feed_name, "release", manager="other", unlink=True)["stopping"]
        until(lambda: not is_running(pid))


def test_a_forked_child_holds_no_pipe_of_the_feeder(feed_name, child):
    with Venue(speed=None) as venue:
        process, pid = manager(child, feed_name, venue, "stop", "fork")
        process.stdin.write("\n")
        process.stdin.flush()
        assert int(process.stdout.readline()) <= 4  # the three, and the listing's own
        # The one that launched it is killed; its forked child does not stand for it.
        process.kill()
        until(lambda: not is_running(pid), what="the end of the feeder")
    create(feed_name, 100).close(unlink=True)


def test_the_exit_of_a_forked_child_disturbs_nothing(feed_name, child):
    with Venue(speed=None) as venue:
        process, pid = manager(child, feed_name, venue, "stop", "fork")
        process.stdin.write("\n\n")
        process.stdin.flush()
        process.stdout.readline()
        assert int(process.stdout.readline()) == 7 << 8  # it left without a crash
        assert process.stderr.read() == ""
        until(lambda: not is_running(pid))  # and its parent has ended since
    create(feed_name, 100).close(unlink=True)
