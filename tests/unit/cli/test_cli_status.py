"""`shmfeed status`: exit codes, the table, JSON, and `--watch`."""

import json
import os
import re
import time

import pytest
from support.command_line import append, end

from shmfeed.accounts import user_name
from shmfeed.cli.colours import has_colours
from shmfeed.cli.main import main
from shmfeed.cli.status import format_status
from shmfeed.errors import SegmentFormatError
from shmfeed.memory.words import boot_ns
from shmfeed.segment.mapping import place
from shmfeed.status import status_without_feed

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")


def test_a_live_feed_is_exit_0(cli_ring, feed_name, capsys) -> None:
    assert main(["status", "--feed", feed_name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        rf"feed {feed_name}: live; connected since \S+Z \(\d\.\d s\)", lines[0]
    )
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
    assert feed_name in names.strip().partition(";")[0].split(", ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_feed_of_this_name_is_named(feed_name, capsys) -> None:
    segment = place(feed_name, 1).segment
    segment.touch(0o600)
    try:
        assert main(["status", "--feed", feed_name]) == 2
        assert "other users" not in capsys.readouterr().err  # forged
        os.chown(segment, 1, 1)
        assert main(["status", "--feed", feed_name]) == 2
        told = f"; other users have feeds: {user_name(1)} ({feed_name}); choose the"
        assert told in capsys.readouterr().err
    finally:
        segment.unlink()


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


def colours_of(text: str, word: str) -> set[str]:
    """Return the codes of the colours in which a word is printed."""
    return set(re.findall(rf"\x1b\[(\d+)m{word} *\x1b\[0m", text))


def with_stream(**changes) -> dict:
    stream = {
        "symbol": "A",
        "timeframe": "1m",
        "health": "live",
        "why": "",
        "count": 1,
        "last_close_time": None,
        "age": 1.0,
        "gaps": 0,
    }
    stream |= changes
    status = {**status_without_feed("x"), "streams": [stream], "pid": 1, "uptime": 1}
    return {**status, "health": stream["health"], "state": "connected"}


@pytest.mark.parametrize(
    ("health", "code"),
    [("live", "32"), ("quiet", "36"), ("waiting", "33"), ("stale", "31")],
)
def test_a_health_has_a_colour(health, code) -> None:
    lines = format_status(with_stream(health=health), True).splitlines()
    assert colours_of(lines[0], health) == {code}
    assert colours_of(lines[-1], health) == {code}


@pytest.mark.parametrize(
    ("age", "code"), [(None, "2"), (61.0, "32"), (70.0, "33"), (1e6, "31")]
)
def test_an_age_has_a_colour_by_the_timeframe(age, code) -> None:
    text = format_status(with_stream(age=age), True)
    assert colours_of(text, r" *(?:never|[0-9a-z. ]+ ago)") == {code}


def test_colours_change_no_column() -> None:
    status = with_stream(health="stale", why="silent", gaps=3)
    plain = format_status(status, False)
    assert re.sub(r"\x1b\[\d+m", "", format_status(status, True)) == plain
    assert "\x1b" not in plain


def test_a_pipe_has_no_colours(cli_ring, feed_name, capsys) -> None:
    main(["status", "--feed", feed_name])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_a_terminal_has_colours_unless_it_refuses(
    variables, coloured, monkeypatch
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert has_colours() is coloured


def test_since_when_the_state_is_what_it_is() -> None:
    since = time.time_ns() // 1_000_000 - 200_500
    line = format_status({**with_stream(), "state_since": since}, False).splitlines()[0]
    assert re.fullmatch(r"feed x: live; connected since \S+Z \(3m 2\ds\)", line)


def test_each_process_that_wants_streams_is_a_line() -> None:
    wants = {
        "manager trader 7": {
            "kind": "manager",
            "name": "trader\n",
            "pid": 7,
            "ends_in": None,
            "count": 2,
            "symbols": ["A", "B"],
            "resolutions": ["1m"],
        },
        "lease s.py 8": {
            "kind": "lease",
            "name": "s.py",
            "pid": 8,
            "ends_in": 8.0,
            "count": 40,
            "symbols": [f"S{n}" for n in range(20)],
            "resolutions": ["1m", "1h"],
        },
    }
    lines = format_status({**with_stream(), "wants": wants}, False).splitlines()
    assert lines[3] == "wanted by manager trader\\n, pid 7: 2 streams A,B 1m"
    assert lines[4] == (
        "wanted by lease s.py, pid 8, has ended; kept for 8.0 s: 40"
        " streams S0,S1,S2,S3,S4,S5,S6,S7,.. (20) 1m,1h"
    )
    run = {"kind": "run", "name": "r", "pid": 0, "ends_in": None, "count": 1}
    lines = format_status({**with_stream(), "wants": {"run r 0": run}}, False)
    assert lines.splitlines()[3] == "wanted by run r: 1 stream"  # no room for names
    many = {f"lease {n}": wants["lease s.py 8"] for n in range(30)}
    text = format_status({**with_stream(), "wants": many}, False)
    assert text.count("wanted by ") == 20
    assert "and 10 more processes want streams" in text


class TestAlive:
    def test_it_is_exit_0_whatever_the_data(
        self, cli_writer, feed_name, capsys
    ) -> None:
        cli_writer.add_stream("ETHUSDT", "1h")
        assert main(["status", "--feed", feed_name]) == 1
        assert main(["status", "--feed", feed_name, "--alive"]) == 0
        assert "waiting" in capsys.readouterr().out

    def test_a_feeder_in_error_lives(self, cli_writer, feed_name, capsys) -> None:
        cli_writer.set_state("error")
        assert main(["status", "--feed", feed_name, "--alive", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["state"] == "error"

    def test_a_dead_feeder_is_exit_1(self, cli_ring, cli_writer, feed_name) -> None:
        cli_writer.close()
        assert main(["status", "--feed", feed_name, "--alive"]) == 1

    def test_no_feed_is_exit_2(self, feed_name, capsys) -> None:
        assert main(["status", "--feed", feed_name, "--alive"]) == 2

    def test_damaged_rows_do_not_have_a_feeder_killed(
        self, cli_ring, feed_name, capsys, monkeypatch
    ) -> None:
        def fail(*_: object) -> None:
            raise SegmentFormatError("damaged")

        monkeypatch.setattr("shmfeed.feed.feed_status", fail)
        assert main(["status", "--feed", feed_name]) == 1
        assert main(["status", "--feed", feed_name, "--alive"]) == 0
        assert capsys.readouterr().err == "shmfeed: damaged\n" * 2

    def test_it_judges_no_stream(self, feed_name, capsys) -> None:
        arguments = ["status", "--alive", "--require", "A", "--feed", feed_name]
        assert main(arguments) == 2
        assert "--alive judges no stream" in capsys.readouterr().err


class TestRequire:
    @pytest.fixture
    def status(self, cli_ring, cli_writer, feed_name, capsys):
        """Run it on a feed whose BTCUSDT is live and whose ETHUSDT is waiting."""
        cli_writer.add_stream("ETHUSDT", "1h")

        def run(*symbols: str) -> tuple[int, str]:
            options = [word for name in symbols for word in ("--require", name)]
            return main(["status", "--feed", feed_name, *options]), (
                capsys.readouterr().err
            )

        return run

    def test_the_named_streams_are_judged(self, status) -> None:
        assert status() == (1, "")
        assert status("BTCUSDT") == (0, "")
        code, errors = status("BTCUSDT", "ETHUSDT")
        assert code == 1
        assert "ETHUSDT 1h is waiting (no bar yet, subscribed " in errors

    def test_each_timeframe_of_a_symbol_counts(self, status, cli_writer) -> None:
        cli_writer.add_stream("BTCUSDT", "1h")
        code, errors = status("BTCUSDT")
        assert code == 1
        assert "BTCUSDT 1h is waiting" in errors

    def test_a_symbol_that_is_not_subscribed(self, status) -> None:
        code, errors = status("btcusdt")
        assert code == 1
        assert "btcusdt is not subscribed; did you mean BTCUSDT?" in errors

    def test_a_closed_stream_is_not_good_enough(self, status, cli_writer) -> None:
        cli_writer.explain(("BTCUSDT", "1m"), "closed", "no trades since May")
        code, errors = status("BTCUSDT")
        assert code == 1
        assert "BTCUSDT 1m is closed (no trades since May)" in errors

    def test_a_dead_feeder(self, status, cli_writer) -> None:
        cli_writer.close()
        assert status("BTCUSDT")[0] == 1

    def test_a_text_that_is_no_symbol(self, status) -> None:
        code, errors = status("BTC USDT")
        assert code == 2
        assert "symbol 'BTC USDT' is not accepted" in errors
