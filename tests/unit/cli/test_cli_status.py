"""`shmfeed status`: exit codes, the table, JSON, and `--watch`."""

import json
import re

import pytest
from support.command_line import append, end

from shmfeed.cli.main import main
from shmfeed.cli.status import format_status
from shmfeed.memory.words import boot_ns
from shmfeed.segment.mapping import place
from shmfeed.status import status_without_feed

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")


def test_a_live_feed_is_exit_0(cli_ring, feed_name, capsys) -> None:
    assert main(["status", "--feed", feed_name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"feed {feed_name}: live; connected"
    assert re.fullmatch(
        r"feeder pid \d+, up 0\.\d s, last message 0\.\d s ago", lines[1]
    )
    assert lines[2].startswith("0 messages, ")
    assert lines[4].split() == (
        ["SYMBOL", "TIMEFRAME", "HEALTH", "BARS", "LAST", "CLOSE", "UPDATED", "GAPS"]
    )
    assert re.fullmatch(
        r"BTCUSDT +1m +live +5 +2024-01-01T00:05:00Z +0\.\d s ago +0", lines[5]
    )


def test_a_waiting_feed_is_exit_1_and_says_why(cli_writer, feed_name, capsys) -> None:
    cli_writer.add_stream("ETHUSDT", "1h")
    assert main(["status", "--feed", feed_name]) == 1
    output = capsys.readouterr().out
    assert re.search(
        r"ETHUSDT +1h +waiting +0 +- +never +0  no bar yet, subscribed \d\.\d s ago\n",
        output,
    )
    assert output.splitlines()[4].endswith("GAPS  WHY")


def test_words_of_a_venue_are_escaped(cli_ring, cli_writer, feed_name, capsys) -> None:
    cli_writer.explain(("BTCUSDT", "1m"), "dropped", "all 3 messages: \x1b[2J")
    assert main(["status", "--feed", feed_name]) == 1
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "stale" in output
    assert "all 3 messages: \\x1b[2J" in output


def test_clock_offset_next_attempt_and_seldom_counters_are_shown(
    cli_ring, cli_writer, feed_name, capsys
) -> None:
    cli_writer.set_clock_offset(-2500)
    cli_writer.set_next_attempt(boot_ns() / 1e9 + 60)
    cli_writer.count("missed", 3)
    assert main(["status", "--feed", feed_name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r", next attempt in \d\d\.\d s, clock offset -2\.500 s$", lines[1])
    assert lines[2].endswith("0 ignored, 3 missed")


def test_json_is_the_status(cli_ring, feed_name, capsys) -> None:
    assert main(["status", "--feed", feed_name, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert set(status_without_feed(None)) <= set(status)
    assert [row["count"] for row in status["streams"]] == [5]


def test_a_dead_feed_is_exit_1(cli_ring, cli_writer, feed_name, capsys) -> None:
    cli_writer.close()
    assert main(["status", "--feed", feed_name]) == 1
    output = capsys.readouterr().out
    assert f"feed {feed_name}: dead; disconnected" in output
    assert "no feeder sends a heartbeat; last message" in output


def test_an_unknown_feed_is_exit_2_and_suggests_a_command(feed_name, capsys) -> None:
    assert main(["status", "--feed", feed_name]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(
        f"shmfeed: there is no feed {feed_name!r} on this host; start it with"
        f" `shmfeed run --feed {feed_name} --symbols .. --resolutions ..`"
    )
    assert errors.count("\n") == 1


def test_the_feeds_of_this_user_are_named(
    cli_ring, feed_name, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("shmfeed.cli.suggestions._MAX_FEEDS", 1 << 20)
    assert main(["status", "--feed", feed_name + "x"]) == 2
    names = capsys.readouterr().err.partition("; the feeds of this user are: ")[2]
    assert feed_name in names.strip().split(", ")


@pytest.mark.parametrize("arguments", [["status"], ["tail", "A", "1m"]])
def test_a_segment_that_is_not_ready_is_reported(arguments, feed_name, capsys) -> None:
    place(feed_name).segment.touch(0o600)
    try:
        assert main([*arguments, "--feed", feed_name]) == 2
    finally:
        place(feed_name).segment.unlink()
    error = capsys.readouterr().err
    assert error.endswith("; its segment exists but is not ready, see `shmfeed ls`\n")
    assert "the feeds of this user" not in error


def test_the_environment_names_the_feed(
    cli_ring, feed_name, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("SHMFEED_FEED", feed_name)
    assert main(["status"]) == 0
    assert main(["status", "--feed", feed_name + "-other"]) == 2


def test_off_in_the_environment_names_no_feed(capsys, monkeypatch) -> None:
    monkeypatch.setenv("SHMFEED_FEED", "off")
    assert main(["status", "--feed", "off"]) == 2  # as an option it is a name
    assert "'off'" in capsys.readouterr().err
    main(["status"])
    assert "'off'" not in capsys.readouterr().err


def test_watch_continues_until_ctrl_c(command, cli_ring, feed_name) -> None:
    process = command("status", "--feed", feed_name, "--watch", "--json")
    assert json.loads(process.stdout.readline())["streams"][0]["count"] == 5
    append(cli_ring, 5)
    while json.loads(process.stdout.readline())["streams"][0]["count"] != 6:
        pass
    assert end(process) == (130, "", "")


@pytest.mark.parametrize("pid", [None, 7])
def test_a_feed_without_streams(pid) -> None:
    status = {
        **status_without_feed("x"),
        "last_error": "refused",
        "pid": pid,
        "uptime": 200,
    }
    lines = format_status(status).splitlines()
    assert lines[0] == "feed x: dead; disconnected"
    feeder = (
        "no feeder sends a heartbeat;" if pid is None else "feeder pid 7, up 3m 20s,"
    )
    assert lines[1] == f"{feeder} no message yet"
    assert lines[3:] == ["last error: refused", "", "no streams"]


def test_a_feeder_in_error_is_said_to_have_stopped_reconnecting() -> None:
    lines = format_status({**status_without_feed("x"), "state": "error"}).splitlines()
    assert lines[3].startswith("the feeder goes on trying, unless give_up is set")
    assert "goes on trying" not in format_status(status_without_feed("x"))
