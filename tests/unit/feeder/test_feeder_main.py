"""The feeder as a child process, without a manager: input, signals, output."""

import json
import os
import signal
import subprocess
import sys
import time

import msgspec
import pytest
from support.feeding import STREAM, push, settings
from support.waiting import until

import shmfeed
from shmfeed.feeder.main import run
from shmfeed.segment.mapping import place
from shmfeed.settings import model
from shmfeed.simulator import Venue
from shmfeed.writer import create


@pytest.fixture
def spawn():
    """Start it with this first line of input; the pipes stay with the test."""
    started = []

    def spawn(line: bytes):
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "shmfeed.feeder.main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        process.stdin.write(line)
        process.stdin.flush()
        return process

    yield spawn
    for process in started:
        process.kill()
        process.communicate()


def order(feed, venue, **more):
    given = msgspec.Raw(model.to_json(settings(feed, venue, **more)))
    what = {"manager": "m", "pid": os.getpid(), "settings": given}
    return msgspec.json.encode(what) + b"\n"


def answer(process):
    return json.loads(process.stdout.readline())


def test_the_process_reports_its_start_and_a_signal_ends_it_and_keeps_the_data(
    feed_name, spawn
):
    with Venue(speed=None) as venue:
        for number in (signal.SIGTERM, signal.SIGINT):
            process = spawn(order(feed_name, venue))
            assert answer(process) == {"v": 1, "id": 0, "ok": True, "pid": process.pid}
            venue.wait_connections(1)
            with shmfeed.attach(feed_name) as feed:
                until(lambda: feed.status()["state"] == "connected")
                ring = feed.ring(*STREAM)
                before = ring.count
                push(venue, before)
                assert ring.wait(before, timeout=5)
                process.send_signal(number)
                assert process.wait(5) == 0
                assert feed.status()["health"] == "dead"  # at once
                assert feed.status()["state"] == "disconnected"
                assert len(ring.view(10)) == before + 1
            assert b"WARNING" not in process.stderr.read()
            assert not place(feed_name).socket.exists()
            venue.wait_connections(0)
    create(feed_name, 100).close(unlink=True)


def test_the_only_output_is_the_error_that_stopped_the_start(feed_name, spawn):
    with create(feed_name) as writer:
        process = spawn(order(feed_name, "ws://127.0.0.1:9/"))
        told = answer(process)
        assert (told["ok"], told["error"], told["pid"]) == (
            False,
            "FeedBusyError",
            os.getpid(),
        )
        assert process.wait(5) == 1
        assert process.stderr.read() == b""
        writer.close(unlink=True)


@pytest.mark.parametrize("line", [b"", b'{"manager": "m", "pi'])
def test_a_manager_that_ended_too_early_leaves_no_message(spawn, line):
    process = spawn(line)
    process.stdin.close()
    assert process.wait(10) == 1
    assert process.stderr.read() == b""
    process.stdin = None


def test_invalid_settings_are_refused(spawn):
    line = b'{"manager": "m", "pid": 1, "settings": {"histroy": 5}}\n'
    process = spawn(line)
    told = answer(process)
    assert told["error"] == "BadArgumentError"
    assert "histroy" in told["message"]
    assert process.wait(5) == 1


def test_an_unread_log_does_not_block_the_feeder(feed_name, spawn):
    with Venue(speed=None) as venue:
        process = spawn(order(feed_name, venue, log_level="DEBUG"))
        answer(process)
        venue.wait_subscribed()
        # The pipe is full, as if the feeder had logged for a long time.
        log = os.open(f"/proc/{process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(log, b"x" * 4096)
        os.close(log)
        venue.send("not JSON")  # is warned of
        push(venue, 0)
        with shmfeed.attach(feed_name) as feed:
            assert feed.ring(*STREAM).wait(0, timeout=5)
            assert feed.status()["malformed"] == 1
        process.terminate()
        assert process.wait(5) == 0
    create(feed_name, 100).close(unlink=True)


def test_a_removed_feed_is_logged(feed_name, spawn):
    with Venue(speed=None) as venue:
        process = spawn(order(feed_name, venue))
        answer(process)
        venue.wait_subscribed()
        place(feed_name).segment.unlink()
        assert process.wait(5) == 4
        assert b"removed or replaced" in process.stderr.read()


def test_blocked_signals_are_not_inherited_for_good(feed_name, spawn):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        with Venue(speed=None) as venue:
            process = spawn(order(feed_name, venue))
            answer(process)
            process.terminate()
            assert process.wait(5) == 0
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    create(feed_name, 100).close(unlink=True)


def test_a_feeder_that_follows_its_manager_ends_quickly(feed_name, spawn):
    with Venue(speed=None) as venue:
        process = spawn(order(feed_name, venue, stop_with_manager=True))
        answer(process)
        venue.wait_subscribed()
        begun = time.monotonic()
        process.terminate()
        assert process.wait(5) == 0  # not aborted by a thread that reads
        assert time.monotonic() - begun < 3
        assert b"WARNING" not in process.stderr.read()
    create(feed_name, 100).close(unlink=True)


def test_an_unexpected_error_is_a_line_of_the_log(caplog):
    class Broken:
        def run(self):
            raise ZeroDivisionError

    assert run(Broken()) == 1
    assert "the feeder failed, and its bars stay readable" in caplog.text
    assert "ZeroDivisionError" in caplog.text
