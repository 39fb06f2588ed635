"""`shmfeed run`: a feeder in the foreground, from its first line to its exit code."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
from support.command_line import end
from support.waiting import until

import shmfeed
from shmfeed.cli.main import main
from shmfeed.cli.run import StatePrinter
from shmfeed.segment.mapping import place
from shmfeed.settings import schema
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

TOKEN = "s3cret-token"


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
    assert process.stderr.readline() == f"shmfeed: connected to {venue.url}\n"
    with shmfeed.attach(feed_name) as feed:
        assert feed.ring("BTCUSDT", "1m").wait(4, timeout=10) == 5
        assert end(process, signal.SIGTERM) == (0, "", "")
        assert len(feed.ring("BTCUSDT", "1m").view(9)) == 5
        assert feed.status()["health"] == "dead"
    assert place(feed_name).segment.exists()


def test_unlink_removes_the_segment(command, settings, feed_name) -> None:
    process = command("run", "--config", settings, "--resolutions", "1m", "--unlink")
    assert "connected" in process.stderr.readline()
    assert end(process, signal.SIGINT)[0] == 0
    assert not place(feed_name).segment.exists()


def test_the_token_is_never_printed(command, venue, settings, feed_name) -> None:
    process = command("run", "--config", settings, "--resolutions", "1m", "--unlink")
    text = process.stderr.readline()
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
    assert "connected" in process.stderr.readline()
    venue.stop()
    text = ""
    while "stopped reconnecting" not in text:
        text += process.stderr.readline()
    assert "after 2 attempts: connection refused" in text
    assert "the feeder stopped reconnecting after 2 failed attempts in a row" in text
    assert "with --max-reconnect-attempts none" in text
    assert process.poll() is None
    with shmfeed.attach(feed_name) as feed:
        assert feed.status()["state"] == "error"
        assert len(feed.ring("BTCUSDT", "1m").view(9)) == 5
    assert end(process, signal.SIGTERM)[0] == 0


def test_a_venue_that_refuses_is_printed(command, venue, settings, monkeypatch) -> None:
    monkeypatch.setenv("WEBSOCKET_CSRF_TOKEN", "wrong")
    more = "--resolutions", "1m", "--max-reconnect-attempts", "1", "--unlink"
    process = command("run", "--config", settings, *more)
    text = process.stderr.readline()
    assert "token" in text
    assert "wrong" not in text
    assert "stopped reconnecting after 1 failed attempts" in process.stderr.readline()
    assert end(process, signal.SIGTERM)[0] == 0


def test_a_second_feeder_names_the_holder_of_the_feed(
    command, settings, feed_name
) -> None:
    arguments = "run", "--config", settings, "--resolutions", "1m", "--unlink"
    first = command(*arguments)
    assert "connected" in first.stderr.readline()
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


def test_every_setting_but_the_token_is_an_option(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    for option in schema.OPTIONS:
        assert f"--{option.setting.replace('_', '-')}" in text
    assert "--csrf-token" not in text


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
    assert "connected" in process.stderr.readline()
    place(feed_name).segment.unlink()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 4
    assert "was removed or replaced" in errors


def test_log_lines_have_a_time_and_a_level(command, settings, feed_name) -> None:
    arguments = "run", "--config", settings, "--resolutions", "1m", "--unlink"
    process = command(*arguments, "--log-level", "INFO")
    stamp = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO shmfeed\.[a-z.]+: feed "
    while not re.match(stamp, line := process.stderr.readline()):
        assert line.startswith(("shmfeed: ", "20"))
    assert end(process, signal.SIGTERM)[0] == 0


def test_an_unchanged_state_is_printed_once(feed_name, capsys) -> None:
    with shmfeed.create(feed_name, max_streams=1) as writer:
        writer.note({"endpoint": "ws://x", "attempts": 1, "last_error": "lost"})
        with StatePrinter(feed_name) as printer:
            for _ in range(3):
                printer.print_change()
        writer.close(unlink=True)
    assert capsys.readouterr().err.splitlines() == [
        "shmfeed: lost",
        "shmfeed: connected to ws://x",
    ]
