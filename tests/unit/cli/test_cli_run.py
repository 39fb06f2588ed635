"""`shmfeed run`: a feeder in the foreground, from its first line to its exit code."""

import json
import os
import re
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.command_line import end
from support.waiting import until

import shmfeed
from shmfeed.cli.main import main
from shmfeed.segment.mapping import place
from shmfeed.settings import schema
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

TOKEN = "s3cret-token"
STAMP = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


def next_line(process) -> str:
    """Return the next line of the log, without its time."""
    line = process.stderr.readline().rstrip("\n")
    assert STAMP.match(line), line
    return STAMP.sub("", line, count=1)


def await_line(process, part: str) -> str:
    """Return the next line of the log that has this part, without its time."""
    while part not in (line := next_line(process)):
        pass
    return line


@pytest.fixture
def venue():
    with Venue(resolutions=["1s", "1m"], history=5, token=TOKEN) as running:
        yield running


@pytest.fixture
def settings(tmp_path, feed_name, venue) -> Path:
    """Return a file with the settings of a feed from that venue."""
    path = tmp_path / "feed.json"
    values = {"feed": feed_name, "endpoint": venue.url, "csrf_token": TOKEN}
    path.write_text(json.dumps({**values, "symbols": ["BTCUSDT"]}))
    path.chmod(0o600)  # it contains a token
    return path


def test_it_runs_until_sigterm_and_leaves_the_segment(
    command, venue, settings, feed_name
) -> None:
    process = command("run", "--config", settings, "--resolutions", "1s,1m")
    assert process.stdout.readline() == (
        f"feed {feed_name}: pid {process.pid}, from {venue.url},"
        " 2 streams: BTCUSDT x 1s 1m\n"
    )
    started = f"INFO feed {feed_name}: the feeder starts, pid {process.pid}, 2 streams"
    assert next_line(process) == started
    assert next_line(process) == f"INFO feed {feed_name}: connected to {venue.url}"
    with shmfeed.attach(feed_name) as feed:
        assert feed.ring("BTCUSDT", "1m").wait(4, timeout=10) >= 5
        code, output, errors = end(process, signal.SIGTERM)
        assert (code, output) == (0, "")
        ended = f"INFO feed {feed_name}: the feeder has ended, as it was asked to\n"
        assert errors.endswith(ended)
        assert len(errors.splitlines()) == 1
        assert len(feed.ring("BTCUSDT", "1m").view(9)) >= 5
        assert feed.status()["health"] == "dead"
    assert place(feed_name).segment.exists()


def test_unlink_removes_the_segment(command, settings, feed_name) -> None:
    process = command("run", "--config", settings, "--resolutions", "1m", "--unlink")
    await_line(process, "connected to")
    assert end(process, signal.SIGINT)[0] == 0
    assert not place(feed_name).segment.exists()


def test_the_token_is_never_printed(command, venue, settings, feed_name) -> None:
    process = command("run", "--config", settings, "--resolutions", "1m", "--unlink")
    text = process.stderr.readline() + process.stderr.readline()
    command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert TOKEN not in os.fsdecode(command)
    text += "".join(end(process, signal.SIGTERM)[1:])
    assert TOKEN not in text
    assert venue.subscriptions[0]["csrf_token"] == TOKEN  # it was used


def test_a_lost_connection_is_printed_and_the_feeder_stays(
    command, venue, settings, feed_name
) -> None:
    more = "--resolutions", "1m", "--max-reconnect-attempts", "2"
    fast = "--reconnect-delay-base", "0.1", "--unlink"
    process = command("run", "--config", settings, *more, *fast)
    await_line(process, "connected to")
    venue.stop()
    line = await_line(process, "lost")
    assert line.startswith(f"WARNING feed {feed_name}: lost {venue.url}: ")
    line = await_line(process, "the state is error")
    assert line.startswith(f"ERROR feed {feed_name}: could not connect to {venue.url}")
    assert "after 2 attempts: connection refused" in line
    assert process.poll() is None
    with shmfeed.attach(feed_name) as feed:
        assert feed.status()["state"] == "error"
        assert len(feed.ring("BTCUSDT", "1m").view(9)) >= 5
    assert end(process, signal.SIGTERM)[0] == 0


def test_a_venue_that_refuses_is_printed(command, venue, settings, monkeypatch) -> None:
    monkeypatch.setenv("WEBSOCKET_CSRF_TOKEN", "wrong")
    more = "--resolutions", "1m", "--max-reconnect-attempts", "1", "--unlink"
    process = command("run", "--config", settings, *more)
    line = await_line(process, "refused the subscription")
    assert line.startswith("ERROR ")
    assert "token" in line
    assert "wrong" not in line
    assert end(process, signal.SIGTERM)[0] == 0


def test_a_feeder_that_gives_up_is_exit_3(command, venue, settings, feed_name) -> None:
    venue.stop()
    fast = "--reconnect-delay-base", "0.05", "--max-reconnect-attempts", "2"
    arguments = "run", "--config", settings, "--resolutions", "1m", *fast
    process = command(*arguments, "--give-up", "true", "--unlink")
    output, errors = process.communicate(timeout=10)
    assert process.returncode == 3
    assert f"feed {feed_name}: pid {process.pid}" in output
    *_, last, end_of_it = errors.splitlines()
    assert "the state is error" in last
    assert "the feeder gave up after 2 attempts in a row" in end_of_it
    assert "connection refused" in end_of_it
    assert not place(feed_name).segment.exists()  # as --unlink asks


def test_a_feeder_of_another_identity_is_refused_or_replaces_the_bars(
    command, venue, settings, feed_name
) -> None:
    run = "run", "--config", settings, "--resolutions", "1m"
    here, other = ("wealthai/binance-testnet/" + one for one in ("127.0.0.1", "b.com"))
    first = command(*run)
    await_line(first, "connected to")
    with shmfeed.attach(feed_name) as feed:
        # The venue has 5 bars at first, and one more when a minute ends.
        assert feed.ring("BTCUSDT", "1m").wait(4, timeout=10) >= 5
        for more in ([], ["--replace"]):  # which ends no feeder
            second = command(*run, "--venue", "b.com", *more)
            errors = second.communicate(timeout=20)[1]
            assert second.returncode == 1
            assert f"process {first.pid} with {here}, and these settings are" in errors
            assert other in errors
        assert end(first, signal.SIGTERM)[0] == 0
        stored = feed.ring("BTCUSDT", "1m").snapshot(9)
        third = command(*run, "--venue", "b.com")
        errors = third.communicate(timeout=20)[1]
        assert third.returncode == 2
        assert f"holds bars of {here}, and these settings are of {other}" in errors
        assert "--replace" in errors
        kept = feed.ring("BTCUSDT", "1m").snapshot(9)
        assert kept.open_time.tolist() == stored.open_time.tolist()
        last = command(*run, "--venue", "b.com", "--replace", "--unlink")
        await_line(last, "connected to")
        assert feed.status()["identity"] == other
        assert feed.ring("BTCUSDT", "1m").wait(4, timeout=10) >= 5  # the venue's own
        assert end(last, signal.SIGTERM)[0] == 0


def test_a_second_feeder_names_the_holder_of_the_feed(
    command, settings, feed_name
) -> None:
    arguments = "run", "--config", settings, "--resolutions", "1m", "--unlink"
    first = command(*arguments)
    await_line(first, "connected to")
    second = command(*arguments)
    output, errors = second.communicate(timeout=10)
    assert (second.returncode, output) == (1, "")
    assert errors.startswith(f"shmfeed: feed {feed_name!r} is written by process ")
    assert f" {first.pid};" in errors
    assert end(first, signal.SIGTERM)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no streams to subscribe; give --symbols and --resolutions"),
        (["--symbols", "A"], "no streams to subscribe"),
        (["--history", "x"], "history 'x' is not accepted"),
        (["--history", "0"], "(from --history)"),
        (["--feed", "a/b"], "'a/b' is not accepted"),
        (["--endpoint", "ws://example.com"], "would send plain text"),
        (["--config", "/nowhere/feed.yaml"], "/nowhere/feed.yaml"),
    ],
)
def test_refused_settings_are_exit_2(arguments, message, capsys) -> None:
    assert main(["run", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("shmfeed: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_every_setting_but_the_secrets_is_an_option(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    for option in schema.OPTIONS:
        assert f"--{option.setting.replace('_', '-')}" in text
    assert "--csrf-token " not in text
    assert "--headers" not in text


def test_an_impossible_log_file_is_one_line_of_error(command, settings) -> None:
    arguments = "run", "--config", settings, "--resolutions", "1m"
    process = command(*arguments, "--log-file", "/nowhere/log")
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, output) == (2, "")
    assert errors.startswith("shmfeed: ")
    assert "/nowhere/log" in errors
    assert errors.count("\n") == 1


def test_it_runs_although_its_output_cannot_be_written(
    command, settings, feed_name
) -> None:
    arguments = "run", "--config", settings, "--resolutions", "1m", "--unlink"
    with Path("/dev/full").open("w") as full:
        process = command(*arguments, stdout=full, stderr=full)
        with shmfeed.attach(feed_name, timeout=10) as feed:
            until(lambda: feed.status()["state"] == "connected")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0


def test_a_feed_that_is_removed_is_exit_4(command, settings, feed_name) -> None:
    process = command("run", "--config", settings, "--resolutions", "1m")
    await_line(process, "connected to")
    place(feed_name).segment.unlink()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 4
    assert "was removed or replaced" in errors


def test_a_log_file_has_the_lines_and_the_terminal_the_start_and_what_is_wrong(
    command, venue, settings, feed_name, tmp_path, monkeypatch
) -> None:
    log = tmp_path / "feeder.log"
    more = "--resolutions", "1m", "--max-reconnect-attempts", "none", "--unlink"
    monkeypatch.setenv("WEBSOCKET_ENDPOINTS", "ws://127.0.0.1:1")  # misspelt
    process = command("run", "--config", settings, *more, "--log-file", log)
    assert f"feed {feed_name}: pid {process.pid}" in process.stdout.readline()
    until(lambda: log.exists() and "connected to" in log.read_text())
    line = process.stderr.readline()
    assert "WARNING" in line
    assert "WEBSOCKET_ENDPOINTS is not a setting" in line
    assert line in log.read_text()
    venue.stop()
    line = process.stderr.readline()  # the next one there
    assert "WARNING" in line
    assert "lost" in line
    until(lambda: line in log.read_text())
    assert end(process, signal.SIGTERM)[0] == 0


def test_json_lines(command, venue, settings, feed_name) -> None:
    arguments = "run", "--config", settings, "--resolutions", "1m", "--unlink"
    process = command(*arguments, "--log-format", "json")
    assert json.loads(process.stderr.readline())["feed"] == feed_name  # the start
    line = json.loads(process.stderr.readline())
    moment = datetime.fromisoformat(line.pop("time"))
    assert abs(moment - datetime.now(UTC)) < timedelta(seconds=20)
    assert line == {
        "level": "INFO",
        "logger": "shmfeed.feeder.journal",
        "feed": feed_name,
        "message": f"connected to {venue.url}",
        "event": "connected",
        "endpoint": venue.url,
        "away": None,
        "omitted": 0,
    }
    assert end(process, signal.SIGTERM)[0] == 0


STOPPED_EARLY = """
import os, sys
from shmfeed.cli import run
from shmfeed.cli.main import main

class Feeder(run.Feeder):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        os.kill(os.getpid(), int(sys.argv[1]))

run.Feeder = Feeder
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_start_stops_the_feeder(
    child, settings, feed_name, number
) -> None:
    arguments = "run", "--config", settings, "--resolutions", "1m"
    process = child(STOPPED_EARLY, str(int(number)), *arguments)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, "as it was asked to" in errors) == (0, True)
    with shmfeed.attach(feed_name) as feed:
        assert feed.status()["health"] == "dead"
    place(feed_name).segment.unlink()
