"""`shmfeed gaps` beside a real feeder: what it lists, and what it has the feeder do."""

import json
import signal
import time

import pytest
from support.command_line import end
from support.waiting import until

import shmfeed
from shmfeed.cli.main import main
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

KEY = ("BTCUSDT", "1s")


@pytest.fixture
def venue():
    with Venue(
        protocol="wealthai", symbols=["BTCUSDT"], resolutions=["1s"], history=0
    ) as running:
        yield running


@pytest.fixture
def start(command, feed_name, venue):
    """Start a feeder without a source of history, and wait until it has a new row."""
    started = []

    def run():
        options = {
            "endpoint": venue.url,
            "symbols": "BTCUSDT",
            "resolutions": "1s",
            "close-grace": 0.2,
            "repair-grace": 0.2,
            "feed": feed_name,
        }
        lines = [f"--{name}={value}" for name, value in options.items()]
        before = time.time() * 1000
        started.append(command("run", *lines))
        until(lambda: newest(feed_name) > before, what="a row")
        return started[-1]

    yield run
    code, _, _ = end(started[-1], signal.SIGTERM)
    main(["clean", "--force", "--feed", feed_name])
    assert code == 0


def newest(feed_name):
    try:
        with shmfeed.attach(feed_name) as feed:
            rows = feed.ring(*KEY).snapshot(1)
    except (shmfeed.FeedNotFoundError, shmfeed.StreamNotFoundError):
        return 0
    return int(rows.open_time[0]) if len(rows) else 0


@pytest.fixture
def gaps(feed_name, capsys):
    """Run the command; return its exit code and the holes of its JSON."""

    def run(*arguments):
        capsys.readouterr()
        code = main(["gaps", *arguments, "--feed", feed_name, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.mark.timeout(60)
def test_a_hole_is_given_up_accepted_and_stays_accepted(start, gaps) -> None:
    feeder = start()
    assert gaps() == (0, [])
    end(feeder, signal.SIGKILL)
    time.sleep(2.1)  # for a bar that no feeder takes
    feeder = start()
    until(lambda: gaps()[1][0]["state"] == "given_up", what="no open hole")
    code, (hole,) = gaps()
    assert code == 1
    assert hole["missing"] == 1 + (hole["last"] - hole["first"]) // 1000 >= 1
    assert hole["reason"] == "there is no source of history"
    code, (accepted,) = gaps("--accept")
    assert (code, accepted["state"]) == (0, "none_at_venue")
    end(feeder, signal.SIGKILL)
    start()
    assert gaps()[1][0] == accepted
