"""The sequences of docs/lifecycles.md, with real processes."""

import json
import signal

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
