"""A feeder that is killed, cut, muted and lied to, and what an audit then finds."""

import json
import signal
import time

import pytest
from support.command_line import end
from support.waiting import until

import shmfeed
from shmfeed.bar import REVISED
from shmfeed.cli.main import main
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
KEYS = [(symbol, "1s") for symbol in SYMBOLS]
SECOND = 1000
LIES = "lost-close:0.2,duplicate:0.2,late:0.2,reorder:0.2,malformed:0.2,nan:0.2"


@pytest.fixture
def venue():
    with Venue(
        protocol="binance", symbols=SYMBOLS, resolutions=["1s"], seed=7, history=0
    ) as running:
        yield running


class Running:
    """A `shmfeed run` on a venue, which can be killed and started again."""

    def __init__(self, command, feed, venue, folder) -> None:
        self._command, self.feed = command, feed
        self._options = {
            "protocol": "binance",
            "market-type": "spot",
            "endpoint": venue.url,
            "rest-endpoint": venue.rest_url,
            "symbols": ",".join(SYMBOLS),
            "resolutions": "1s",
            "history": 300,
            "warmup": 60,
            "rest-settle": 0.5,
            "repair-grace": 1.0,
            "reconnect-delay-base": 0.05,
            "dials-per-minute": 0,
            "store": folder / "bars.sqlite",
            "log-file": folder / "feeder.log",
            "feed": feed,
        }
        self.start()

    def start(self) -> None:
        options = [f"--{name}={value}" for name, value in self._options.items()]
        self.process = self._command("run", *options)
        until(self.is_live, 20, what="a live feed")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def is_live(self) -> bool:
        try:
            with shmfeed.attach(self.feed) as feed:
                return (
                    feed.status()["health"] == "live"
                    and feed.status()["pid"] == self.process.pid
                )
        except shmfeed.FeedNotFoundError:
            return False


@pytest.fixture
def running(command, feed_name, venue, tmp_path):
    one = Running(command, feed_name, venue, tmp_path)
    yield one
    code, _, _ = end(one.process, signal.SIGTERM)
    assert code == 0


@pytest.fixture
def audit(feed_name, capsys):
    """Run an audit; return its exit code and the streams of its JSON by symbol."""

    def run() -> tuple[int, dict]:
        capsys.readouterr()
        code = main(["audit", "--feed", feed_name, "--json"])
        out = capsys.readouterr().out  # nothing where no feeder answers yet
        streams = json.loads(out)["streams"] if out else []
        return code, {stream["symbol"]: stream for stream in streams}

    return run


def rows_of(feed_name, key):
    with shmfeed.attach(feed_name) as feed:
        ring = feed.ring(*key)
        return ring.snapshot(ring.history)


@pytest.mark.timeout(120)
def test_a_feed_that_was_killed_cut_muted_and_lied_to_audits_clean(
    running, venue, audit, feed_name, capsys
) -> None:
    for faults in LIES, "mute", "rest-away":
        venue.set_faults(faults)
        time.sleep(1.2)  # for a bar or two of each stream
        venue.set_faults("")
        venue.drop_connections()
        running.kill()
        running.start()
    until(lambda: audit()[0] == 0, 30, what="a clean audit")
    assert main(["gaps", "--feed", feed_name]) == 0
    capsys.readouterr()
    _, streams = audit()
    for key in KEYS:
        rows = rows_of(feed_name, key)
        opens = rows.open_time.tolist()
        assert opens == list(range(opens[0], opens[-1] + 1, SECOND))
        truth = venue.truth(*key, opens[0], opens[-1])
        settled = len(truth) - 3
        assert [rows.bar(n)[:7] for n in range(settled)] == [
            bar[:7] for bar in truth[:settled]
        ]
        found = streams[key[0]]
        assert found["compared"] >= settled - 3
        assert found["closed_by"]["history"] > 0
        assert -0.1 < found["lateness_p50"] < 5.0


@pytest.mark.timeout(120)
def test_a_correction_of_the_venue_is_found_and_mended(
    running, venue, audit, feed_name
) -> None:
    """The first audit is the control of the test above: it sees one wrong value."""
    until(lambda: audit()[0] == 0, 30, what="a clean audit")
    rows = rows_of(feed_name, KEYS[0])
    bar = rows.bar(len(rows) - 10)
    venue.correct(*KEYS[0], bar._replace(volume=bar.volume + 1.5))
    code, streams = audit()
    (found,) = streams["BTCUSDT"]["differences"]
    assert (code, streams["ETHUSDT"]["differing"]) == (1, 0)
    assert (found["open_time"], found["field"]) == (bar.open_time, "volume")
    running.kill()
    running.start()  # it compares the rows that are there, as far as warm-up reaches
    until(lambda: audit()[0] == 0, 30, what="a clean audit")
    rows = rows_of(feed_name, KEYS[0])
    (at,) = (rows.open_time == bar.open_time).nonzero()[0]
    assert rows.bar(at).volume == bar.volume + 1.5
    assert rows.bar(at).flags & REVISED
    assert audit()[1]["BTCUSDT"]["revisions"] == 1
