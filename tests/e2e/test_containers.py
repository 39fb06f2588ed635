"""A feeder and a strategy in PID namespaces of their own, as in two containers.

They share one user and one /dev/shm, as the files of deploy/ give them. A pid of one
means nothing in the other.
"""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.waiting import until

import shmfeed
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

COMMAND = (sys.executable, "-m", "shmfeed")
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
STRATEGY = """
import os, sys, wealthdata
assert os.getpid() == 1
ready, missing = wealthdata.wait_bar("BTCUSDT", "1s", timeout=30, feed=sys.argv[1])
frame = wealthdata.get_price("BTCUSDT", count=1, frequency="1s", feed=sys.argv[1])
print(ready, len(frame), frame.attrs["shmfeed"].health)
"""


def contained(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CONTAINER, *command], capture_output=True, text=True, check=False, timeout=60
    )


def probe(feed: str, *options: str) -> int:
    return contained(*COMMAND, "status", "--feed", feed, *options).returncode


@pytest.fixture
def containers() -> None:
    try:
        found = contained("true")
    except OSError as error:
        pytest.skip(f"this host has no unshare: {error}")
    if found.returncode:
        pytest.skip(f"this host permits no PID namespace: {found.stderr}")


@pytest.fixture
def feeder(containers, feed_name, venue) -> Iterator[subprocess.Popen[bytes]]:
    options = ["--feed", feed_name, "--endpoint", venue.url, "--symbols", "BTCUSDT"]
    options += ["--resolutions", "1s", "--max-reconnect-attempts", "1"]
    with subprocess.Popen(
        [*CONTAINER, *COMMAND, "run", *options], stdout=subprocess.DEVNULL
    ) as process:
        yield process
        process.kill()  # and with it, its namespace


@pytest.fixture
def venue() -> Iterator[Venue]:
    with Venue(resolutions=["1s"]) as running:
        yield running


def test_a_strategy_reads_from_another_container(feeder, feed_name) -> None:
    shmfeed.attach(feed_name, timeout=30).close()
    done = contained(sys.executable, "-c", STRATEGY, feed_name)
    assert (done.stdout, done.stderr) == ("['BTCUSDT'] 1 live\n", "")


def test_probes_tell_alive_from_ready(feeder, feed_name, venue) -> None:
    with shmfeed.attach(feed_name, timeout=30) as feed:
        until(lambda: feed.status()["health"] == "live", what="a live feed")
        assert probe(feed_name, "--alive") == 0
        venue.__exit__(None, None, None)
        until(lambda: feed.status()["state"] == "error", what="the state error")
        assert probe(feed_name) == 1  # not ready
        assert probe(feed_name, "--alive") == 0  # and not to be restarted
        feeder.kill()
        until(lambda: not feed.alive(), what="the end of the heartbeat")
        assert probe(feed_name, "--alive") == 1
