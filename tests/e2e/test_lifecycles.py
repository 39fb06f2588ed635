"""The sequences of docs/lifecycles.md, with real processes."""

import json
import signal
import time

import pytest
from support.command_line import end
from support.waiting import until

import shmfeed
from shmfeed.manager import WebSocketManager
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

# Print once the feed is there, and then a line a closed bar that `wealthdata` reads.
EARLY_STRATEGY = """
import json, sys
import shmfeed, wealthdata
name = sys.argv[1]
print(json.dumps({"started": True}), flush=True)
try:
    wealthdata.get_price("BTCUSDT", count=1, frequency="1s", feed=name)
except shmfeed.NoDataError:
    print(json.dumps({"no_data": True}), flush=True)
with shmfeed.attach(name, timeout=60) as feed:
    ready, missing = wealthdata.wait_bar("BTCUSDT", "1s", timeout=60, feed=name)
    frame = wealthdata.get_price("BTCUSDT", count=3, frequency="1s", feed=name)
    print(json.dumps({"ready": ready, "rows": len(frame)}), flush=True)
"""


@pytest.fixture
def venue():
    with Venue(resolutions=["1s"], history=5) as running:
        yield running


@pytest.fixture
def run(command, feed_name, venue):
    """Start `shmfeed run` of one feed; remove the segment at the end."""

    def start(*more):
        options = "--feed", feed_name, "--endpoint", venue.url, "--symbols", "BTCUSDT"
        return command("run", *options, "--resolutions", "1s", *more)

    yield start
    place(feed_name).segment.unlink(missing_ok=True)


def next_of(process):
    """Return the next line of JSON that a strategy prints."""
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return json.loads(line)


@pytest.mark.timeout(120)
def test_a_strategy_starts_before_the_feeder(run, child, feed_name) -> None:
    strategy = child(EARLY_STRATEGY, feed_name)
    assert next_of(strategy) == {"started": True}
    assert next_of(strategy) == {"no_data": True}
    feeder = run()
    found = next_of(strategy)
    assert found["ready"] == ["BTCUSDT"]
    assert found["rows"] >= 1
    assert strategy.communicate(timeout=20)[1] == ""
    assert end(feeder, signal.SIGTERM)[0] == 0


@pytest.mark.timeout(120)
def test_a_manager_that_launches_nothing_waits_for_a_feeder(
    run, venue, feed_name
) -> None:
    manager = WebSocketManager(feed_name)
    manager.configure(
        symbols=["ETHUSDT"], resolutions=["1s"], endpoint=venue.url, launch="never"
    )
    try:
        with pytest.raises(shmfeed.WebSocketConnectionError, match="launch is 'never'"):
            manager.start(timeout=0.5)
        manager.start(wait=False)
        feeder = run()
        until(manager.is_connected)
        assert manager.get_status()["pid"] == feeder.pid
        with shmfeed.attach(feed_name) as feed:
            until(lambda: ("ETHUSDT", "1s") in feed.streams())
    finally:
        manager.stop()
    assert feeder.poll() is None  # the `run` wants its list
    assert end(feeder, signal.SIGTERM)[0] == 0


@pytest.mark.timeout(120)
def test_a_manager_adopts_the_feeder_that_took_over_from_its_own(
    run, venue, feed_name
) -> None:
    manager = WebSocketManager(feed_name)
    manager.configure(symbols=["ETHUSDT"], resolutions=["1s"], endpoint=venue.url)
    try:
        manager.start(timeout=20)
        first = manager.get_status()["pid"]
        with shmfeed.attach(feed_name) as feed:
            ring = feed.ring("ETHUSDT", "1s")
            following = run("--takeover")  # it wants BTCUSDT for itself
            until(lambda: manager.get_status()["pid"] == following.pid)
            until(manager.is_connected)
            assert first != following.pid
            assert set(feed.streams()) == {("ETHUSDT", "1s"), ("BTCUSDT", "1s")}
            assert ring.wait(ring.count, timeout=20)
            rows = ring.snapshot(100)
            assert set((rows.open_time[1:] - rows.open_time[:-1]).tolist()) == {1000}
            manager.update_subscription(symbols=["SOLUSDT"])
            until(lambda: ("SOLUSDT", "1s") in feed.streams())
    finally:
        manager.stop()
    assert following.poll() is None  # it is a `run` with a list of its own
    assert end(following, signal.SIGTERM)[0] == 0


@pytest.mark.timeout(120)
def test_a_takeover_that_gets_no_connection_leaves_the_feeder(
    run, venue, feed_name
) -> None:
    running = run()
    with shmfeed.attach(feed_name, timeout=20) as feed:
        ring = feed.ring("BTCUSDT", "1s")
        until(lambda: feed.status()["state"] == "connected")
        venue.refuse()
        fast = "--reconnect-delay-base", "0.05", "--max-reconnect-attempts", "2"
        failed = run("--takeover", *fast)
        errors = failed.communicate(timeout=30)[1]
        assert failed.returncode == 1
        assert errors.splitlines()[-1].startswith("shmfeed: could not connect to ")
        assert errors.endswith("; the running feeder goes on\n")
        venue.refuse(False)
        assert ring.wait(ring.count, timeout=20)
        assert feed.status()["pid"] == running.pid
        assert feed.status()["reconnects"] == 0
    assert end(running, signal.SIGTERM)[0] == 0


def test_a_takeover_of_another_identity_is_refused(run, feed_name) -> None:
    running = run()
    with shmfeed.attach(feed_name, timeout=20) as feed:
        until(lambda: feed.status()["state"] == "connected")
        other = run("--takeover", "--venue", "b.com")
        errors = other.communicate(timeout=20)[1]
        assert other.returncode == 1
        assert "wealthai/binance-testnet/b.com" in errors
        assert feed.status()["pid"] == running.pid
    assert end(running, signal.SIGTERM)[0] == 0


def test_a_takeover_where_no_feeder_runs_starts_one(run, feed_name) -> None:
    process = run("--takeover")
    assert process.stdout.readline() == (
        f"feed {feed_name}: no feeder runs, so this one starts\n"
    )
    with shmfeed.attach(feed_name, timeout=20) as feed:
        until(lambda: feed.status()["state"] == "connected")
        assert feed.status()["pid"] == process.pid
    assert end(process, signal.SIGTERM)[0] == 0


def test_a_takeover_ends_with_a_signal_while_it_follows(run, venue, feed_name) -> None:
    running = run()
    with shmfeed.attach(feed_name, timeout=20) as feed:
        until(lambda: feed.status()["state"] == "connected")
        venue.refuse()
        following = run("--takeover", "--max-reconnect-attempts", "none")
        while "could not connect" not in following.stderr.readline():
            assert following.poll() is None
        code, _, errors = end(following, signal.SIGTERM)
        assert (code, "Traceback" in errors) == (0, False)
        assert feed.status()["pid"] == running.pid
    assert end(running, signal.SIGTERM)[0] == 0


def run_to_the_end(command, *arguments):
    """Run a command; return its exit code and its output."""
    process = command(*arguments)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output + errors


@pytest.mark.timeout(120)
def test_two_feeds_on_a_host_are_apart_and_end_in_any_order(
    command, venue, feed_name
) -> None:
    names = f"{feed_name}-a", f"{feed_name}-b"
    options = "--endpoint", venue.url, "--symbols", "BTCUSDT", "--resolutions", "1s"
    waits = [
        command("wait", "--feed", name, "--health", "live", "--timeout", "60")
        for name in names
    ]  # before there is a feed
    try:
        feeders = [command("run", "--feed", name, *options) for name in names]
        assert [one.wait(60) for one in waits] == [0, 0]
        listed = run_to_the_end(command, "ls")[1]
        assert all(name in listed for name in names)
        assert end(feeders[0], signal.SIGTERM)[0] == 0
        with shmfeed.attach(names[0]) as ended, shmfeed.attach(names[1]) as feed:
            assert ended.status()["health"] == "dead"
            assert len(ended.ring("BTCUSDT", "1s").view(3)) == 3
            ring = feed.ring("BTCUSDT", "1s")
            assert ring.wait(ring.count, timeout=20)
        status = "status", "--feed", names[0]
        assert run_to_the_end(command, *status)[0] == 1
        clean = "clean", "--force", "--feed", names[0]
        assert run_to_the_end(command, *clean)[0] == 0
        assert run_to_the_end(command, *status)[0] == 2
        assert end(feeders[1], signal.SIGTERM)[0] == 0
    finally:
        for name in names:
            place(name).segment.unlink(missing_ok=True)
            place(name).lock.unlink(missing_ok=True)


@pytest.mark.timeout(120)
def test_wants_of_managers_and_leases_come_along(run, venue, feed_name) -> None:
    running = run()
    manager = WebSocketManager(feed_name)
    manager.configure(
        symbols=["ETHUSDT"], resolutions=["1s"], endpoint=venue.url, launch="never"
    )
    wanted = {(symbol, "1s") for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")}
    try:
        manager.start(timeout=20)
        lease = shmfeed.lease(["SOLUSDT"], ["1s"], feed=feed_name, timeout=20)
        with lease, shmfeed.attach(feed_name) as feed:
            rings = [feed.ring(*key) for key in wanted]
            until(lambda: all(len(ring.view(3)) == 3 for ring in rings))
            following = run("--takeover")
            while running.poll() is None:
                assert wanted <= set(feed.streams())
                time.sleep(0.01)
            until(lambda: manager.get_status()["pid"] == following.pid)
            until(manager.is_connected)
            until(lambda: len(feed.status()["wants"]) == 3)
            for ring in rings:
                assert ring.wait(ring.count, timeout=20)
                opens = ring.snapshot(100).open_time
                assert set((opens[1:] - opens[:-1]).tolist()) == {1000}
            assert wanted == set(feed.streams())
    finally:
        manager.stop()
    assert end(following, signal.SIGTERM)[0] == 0
