"""`shmfeed run --wait`: a feeder that stands by until the feed is free."""

import json
import signal

import pytest
from support.command_line import end
from support.waiting import until

import shmfeed
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture
def run(command, feed_name):
    """Start a feeder of one feed, with more options; remove the segment at the end."""
    with Venue(resolutions=["1s"], history=5) as venue:
        options = "--feed", feed_name, "--endpoint", venue.url, "--symbols", "BTCUSDT"

        def start(*more):
            return command("run", *options, "--resolutions", "1s", *more)

        yield start
    place(feed_name).segment.unlink(missing_ok=True)


def await_line(process, part):
    """Return the next line of the log that has this part."""
    for line in process.stderr:
        if part in line:
            return line
    raise AssertionError(f"the log ended without {part!r}")


def connected_pid(feed):
    """Return the pid of the feeder that serves, None while none does."""
    status = feed.status()
    return status["pid"] if status["state"] == "connected" else None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_takes_the_feed_of_a_feeder_that_ends(run, feed_name, number) -> None:
    first = run()
    await_line(first, "connected to")
    standby = run("--wait")
    line = await_line(standby, "stands by until it is free")
    assert f"feed {feed_name}: process {first.pid} writes it" in line
    with shmfeed.attach(feed_name) as feed:
        ring = feed.ring("BTCUSDT", "1s")
        assert connected_pid(feed) == first.pid
        count = ring.count
        end(first, number)
        await_line(standby, f"feed {feed_name} is free: this feeder takes it")
        until(lambda: connected_pid(feed) == standby.pid)
        assert ring.wait(count, timeout=20)
    assert end(standby, signal.SIGTERM)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_and_leaves_the_feeder(run, feed_name, number) -> None:
    first = run()
    await_line(first, "connected to")
    standby = run("--wait")
    await_line(standby, "stands by")
    standby.send_signal(signal.SIGHUP)  # its settings are read when it starts
    code, _, errors = end(standby, number)
    assert code == 0
    assert f"feed {feed_name}: this feeder no longer stands by" in errors
    assert first.poll() is None
    assert end(first, signal.SIGTERM)[0] == 0


def test_a_free_feed_is_taken_at_once(run, feed_name) -> None:
    process = run("--wait", "--log-format", "json")
    log = json.loads(process.stderr.readline())
    assert log["message"].startswith("the feeder starts")
    assert log["feed"] == feed_name
    assert end(process, signal.SIGTERM)[0] == 0


def test_a_feed_of_another_identity_is_not_waited_for(run, feed_name) -> None:
    first = run()
    await_line(first, "connected to")
    other = run("--wait", "--venue", "b.com")
    _, errors = other.communicate(timeout=20)
    assert other.returncode == 1
    assert "wealthai/binance-testnet/b.com" in errors
    assert end(first, signal.SIGTERM)[0] == 0
