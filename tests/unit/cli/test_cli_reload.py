"""`shmfeed reload` and SIGHUP: a feeder in the foreground reads its settings again."""

import json
import signal

import pytest
from support.command_line import end
from support.waiting import until

import shmfeed
from shmfeed.cli.main import main
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

TOKEN, NEW = "canary-of-the-token", "canary-of-the-new-token"


class Running:
    """A `shmfeed run`, its settings in a file, and its log in another."""

    def __init__(self, command, feed, venue, folder) -> None:
        self.feed = feed
        self.path = folder / "feed.json"
        self.log = folder / "feeder.log"
        self.values = {
            "feed": feed,
            "endpoint": venue.url,
            "symbols": ["BTCUSDT"],
            "resolutions": ["1m"],
            "csrf_token": TOKEN,
            "log_file": str(self.log),
        }
        self.write()
        self.process = command("run", "--config", self.path, "--unlink")
        self.await_line("connected to")

    def write(self, **changes) -> None:
        self.values |= changes
        self.path.write_text(json.dumps(self.values))
        self.path.chmod(0o600)

    def await_line(self, part: str, log=None) -> None:
        log = log or self.log
        until(lambda: log.exists() and part in log.read_text(), what=part)


@pytest.fixture
def venue():
    with Venue(speed=None, symbols=["BTCUSDT", "ETHUSDT"]) as running:
        yield running


@pytest.fixture
def running(command, feed_name, venue, tmp_path):
    one = Running(command, feed_name, venue, tmp_path)
    yield one
    assert end(one.process, signal.SIGTERM)[0] == 0


def test_a_token_and_symbols(running, venue, feed_name, capsys) -> None:
    running.write(csrf_token=NEW, symbols=["ETHUSDT"], history=50)
    assert main(["reload", "--feed", feed_name]) == 0
    assert capsys.readouterr() == (
        f"feed {feed_name}: symbols, csrf_token changed; history needs a restart\n",
        "",
    )
    until(lambda: venue.subscriptions[-1]["csrf_token"] == NEW)
    assert venue.subscriptions[-1]["symbols"] == ["ETHUSDT"]
    assert main(["reload", "--feed", feed_name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "feed": feed_name,
        "changed": [],
        "fixed": ["history"],
        "summary": "no change; history needs a restart",
    }
    text = running.log.read_text()
    assert "settings reloaded: symbols, csrf_token changed" in text
    assert TOKEN not in text
    assert NEW not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_level": "LOUD"}, "log_level 'LOUD' is not accepted"),
        ({"histroy": 5}, "unknown setting 'histroy'"),
        ({"log_file": "/nowhere/log"}, "log_file '/nowhere/log' cannot be written"),
    ],
)
def test_a_wrong_file_is_exit_1_and_changes_nothing(
    running, venue, feed_name, capsys, changes, message
) -> None:
    running.write(csrf_token=NEW, **changes)
    assert main(["reload", "--feed", feed_name]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"shmfeed: feed {feed_name}: the settings were not")
    assert message in errors
    if "nowhere" not in message:
        assert str(running.path) in errors
    running.await_line("were not reloaded, the old ones stay")
    assert NEW not in errors + running.log.read_text()
    assert [one["csrf_token"] for one in venue.subscriptions] == [TOKEN]


def test_symbols_that_the_venue_refuses_are_one_line(running, feed_name) -> None:
    running.write(symbols=["BTCUSDT", "NOSUCH"], csrf_token=NEW)
    assert main(["reload", "--feed", feed_name]) == 1
    running.write(symbols=["BTCUSDT"])
    assert main(["reload", "--feed", feed_name]) == 0
    lines = running.log.read_text().splitlines()
    (line,) = [one for one in lines if "NOSUCH" in one]
    assert "the settings were not reloaded, the old ones stay: " in line


def test_a_file_that_is_gone(running, feed_name, capsys) -> None:
    running.path.unlink()
    assert main(["reload", "--feed", feed_name]) == 1
    assert "feed.json" in capsys.readouterr().err


def test_no_feeder_is_exit_2(feed_name, capsys) -> None:
    assert main(["reload", "--feed", feed_name]) == 2
    assert f"no feeder of feed {feed_name!r} runs" in capsys.readouterr().err


def test_a_hangup_signal_reloads_and_does_not_end_it(running, feed_name) -> None:
    running.write(log_level="ERROR")
    running.process.send_signal(signal.SIGHUP)
    until(lambda: main(["reload", "--feed", feed_name]) == 0)
    running.write(log_level="INFO")
    running.process.send_signal(signal.SIGHUP)
    running.await_line("settings reloaded: log_level changed")
    with shmfeed.attach(feed_name) as feed:
        assert feed.status()["state"] == "connected"
    running.write(log_level="LOUD")
    running.process.send_signal(signal.SIGHUP)
    running.await_line("the old ones stay: log_level 'LOUD' is not accepted")


def test_a_hangup_signal_opens_the_log_file_again(running, tmp_path) -> None:
    running.log.rename(tmp_path / "old.log")
    running.process.send_signal(signal.SIGHUP)
    running.await_line("settings reloaded: no change")
    other = tmp_path / "other.log"
    running.write(log_file=str(other), log_format="json")
    running.process.send_signal(signal.SIGHUP)
    running.await_line("settings reloaded: log_file, log_format changed", other)
    json.loads(other.read_text().splitlines()[-1])


def test_under_nohup_a_hangup_signal_does_nothing(
    command, venue, feed_name, tmp_path
) -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a child inherits it
    try:
        running = Running(command, feed_name, venue, tmp_path)
    finally:
        signal.signal(signal.SIGHUP, ignored)
    running.write(log_level="DEBUG")
    running.process.send_signal(signal.SIGHUP)
    assert main(["reload", "--feed", feed_name]) == 0  # answered by the same loop
    assert running.log.read_text().count("settings reloaded") == 1
    assert end(running.process, signal.SIGTERM)[0] == 0


def test_control_the_default_of_a_hangup_signal_ends_a_process(child) -> None:
    process = child("import sys; print('up', flush=True); sys.stdin.read()")
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGHUP)
    assert process.wait(10) == -signal.SIGHUP
