"""`shmfeed status`: exit codes, the table, JSON, and `--watch`."""

import json
import re

import pytest
from support.command_line import append, end

from shmfeed.cli.main import main
from shmfeed.cli.status import in_words
from shmfeed.segment.mapping import place
from shmfeed.status import status_without_feed

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")


def test_a_live_feed(cli_ring, feed_name, capsys) -> None:
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


def test_a_quiet_feed_is_good_too(cli_writer, feed_name, capsys) -> None:
    cli_writer.add_stream("ETHUSDT", "1h")
    assert main(["status", "--feed", feed_name]) == 0
    assert re.search(r"ETHUSDT +1h +quiet +0 +- +never", capsys.readouterr().out)


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
    assert "no feeder gives a sign of life; last message" in output


def test_no_feed_is_exit_2_and_says_what_to_start(feed_name, capsys) -> None:
    assert main(["status", "--feed", feed_name]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(
        f"shmfeed: there is no feed {feed_name!r} on this host; start it with"
        f" `shmfeed run --feed {feed_name} --symbols .. --resolutions ..`"
    )
    assert errors.count("\n") == 1


def test_the_feeds_that_are_there_are_named(
    cli_ring, feed_name, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("shmfeed.cli.suggestions._MOST_FEEDS", 1 << 20)
    assert main(["status", "--feed", feed_name + "x"]) == 2
    there = capsys.readouterr().err.partition("; feeds that are here: ")[2]
    assert feed_name in there.strip().split(", ")


@pytest.mark.parametrize("words", [["status"], ["tail", "A", "1m"]])
def test_one_that_is_not_ready_is_said_to_be_there(words, feed_name, capsys) -> None:
    place(feed_name).segment.touch(0o600)
    try:
        assert main([*words, "--feed", feed_name]) == 2
    finally:
        place(feed_name).segment.unlink()
    error = capsys.readouterr().err
    assert error.endswith("; what bears its name is not ready, see `shmfeed ls`\n")
    assert "feeds that are here" not in error


def test_the_feed_of_the_environment(cli_ring, feed_name, capsys, monkeypatch) -> None:
    monkeypatch.setenv("SHMFEED_FEED", feed_name)
    assert main(["status"]) == 0
    assert main(["status", "--feed", feed_name + "-other"]) == 2


def test_off_names_no_feed(capsys, monkeypatch) -> None:
    monkeypatch.setenv("SHMFEED_FEED", "off")
    assert main(["status", "--feed", "off"]) == 2  # when it is asked for, it is a name
    assert "'off'" in capsys.readouterr().err
    main(["status"])
    assert "'off'" not in capsys.readouterr().err


def test_watch_goes_on_until_ctrl_c(command, cli_ring, feed_name) -> None:
    process = command("status", "--feed", feed_name, "--watch", "--json")
    assert json.loads(process.stdout.readline())["streams"][0]["count"] == 5
    append(cli_ring, 5)
    while json.loads(process.stdout.readline())["streams"][0]["count"] != 6:
        pass
    assert end(process) == (130, "", "")


@pytest.mark.parametrize("pid", [None, 7])
def test_words_for_a_feed_without_streams(pid) -> None:
    status = {
        **status_without_feed("x"),
        "last_error": "refused",
        "pid": pid,
        "uptime": 200,
    }
    lines = in_words(status).splitlines()
    assert lines[0] == "feed x: dead; disconnected"
    feeder = (
        "no feeder gives a sign of life;" if pid is None else "feeder pid 7, up 3m 20s,"
    )
    assert lines[1] == f"{feeder} no message yet"
    assert lines[3:] == ["last error: refused", "", "no streams"]


def test_a_feeder_that_gave_up_is_said_to_try_no_more() -> None:
    lines = in_words({**status_without_feed("x"), "state": "error"}).splitlines()
    assert lines[3].startswith("it gave up, and tries no more: ")
    assert "gave up" not in in_words(status_without_feed("x"))
