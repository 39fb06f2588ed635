"""Terminals, files and pipes in any state, and values as text for them."""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress

import pytest
from support.command_line import append, end

from shmfeed.cli.main import main
from shmfeed.cli.output import format_duration, format_table, format_time
from shmfeed.writer import create

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

COLOR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
COMMAND = (sys.executable, "-W", "error", "-m", "shmfeed")
DISK_FULL = b"shmfeed: standard output cannot be written: No space left on device\n"
CONTROL_CHARACTER = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")


def run_in_shell(redirect, *arguments, **env):
    """Run a command under a shell that redirects; return code, output, errors."""
    env.setdefault("PYTHONUNBUFFERED", None)
    given = {name: text for name, text in env.items() if text is not None}
    base = {name: text for name, text in os.environ.items() if name not in env}
    process = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", *COMMAND, *arguments],
        env=base | given,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return process.returncode, process.stdout, process.stderr


@pytest.fixture
def failing(feed_name):
    """Arguments of a command that fails with exit 2 and a message."""
    return "status", "--feed", f"{feed_name}-none"


@pytest.fixture
def a_feed(cli_ring, feed_name):
    """Arguments of a command that prints."""
    return "status", "--feed", feed_name


class TestBrokenStreams:
    def test_a_full_disk_is_exit_1_and_a_message(self, a_feed) -> None:
        code, _, errors = run_in_shell(">/dev/full", *a_feed)
        assert (code, errors) == (1, DISK_FULL)

    def test_a_full_disk_for_the_help(self) -> None:
        code, _, errors = run_in_shell(">/dev/full", "--help")
        assert code == 1
        assert errors.count(b"\n") == 1
        assert b"No space left on device" in errors

    def test_a_full_disk_without_buffering(self, a_feed) -> None:
        for arguments in (a_feed, ("--help",)):
            code, _, errors = run_in_shell(
                ">/dev/full", *arguments, PYTHONUNBUFFERED="1"
            )
            assert code == 1
            assert errors == DISK_FULL

    @pytest.mark.parametrize("form", ["--csv", "--json"])
    def test_a_full_disk_for_more_than_a_buffer(
        self, cli_ring, feed_name, form
    ) -> None:
        append(cli_ring, *range(10, 110))
        arguments = ("tail", "BTCUSDT", "1m", "-n", "100", form, "--feed", feed_name)
        assert len(run_in_shell("", *arguments)[1]) > 8192
        assert run_in_shell(">/dev/full", *arguments) == (1, b"", DISK_FULL)

    def test_a_full_disk_for_output_and_errors(self, a_feed) -> None:
        assert run_in_shell(">/dev/full 2>/dev/full", *a_feed)[0] == 1

    def test_a_failure_keeps_its_code_without_standard_error(self, failing) -> None:
        assert run_in_shell("2>/dev/full", *failing) == (2, b"", b"")
        assert run_in_shell("2>&-", *failing) == (2, b"", b"")

    def test_a_closed_output_keeps_the_code(self, a_feed, failing) -> None:
        assert run_in_shell(">&-", *a_feed) == (0, b"", b"")
        code, output, errors = run_in_shell(">&- 2>&- <&-", *failing)
        assert (code, output, errors) == (2, b"", b"")

    def test_errors_are_never_printed_on_standard_output(self, failing) -> None:
        assert run_in_shell("2>&-", *failing)[1] == b""

    def test_a_closed_pipe_for_the_help_is_exit_141(self) -> None:
        reads, writes = os.pipe()
        os.close(reads)
        process = subprocess.run(
            [*COMMAND, "run", "--help"],
            stdout=writes,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
        os.close(writes)
        assert (process.returncode, process.stderr) == (141, b"")


class TestEncodings:
    @pytest.mark.parametrize(
        "env",
        [
            {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"},
            {"HOME": None, "TERM": None, "LANG": None, "LC_ALL": "POSIX"},
        ],
    )
    def test_a_character_outside_the_encoding_is_escaped(self, cli_writer, a_feed, env):
        cli_writer.note({"last_error": "café \u2603 \x1b[31mred"})
        code, output, errors = run_in_shell("", *a_feed, **env)
        assert (code, errors) == (0, b"")
        assert b"last error: caf" in output
        assert b"\\x1b[31mred" in output
        assert not CONTROL_CHARACTER.search(output)

    def test_print_without_preparation_fails(self, child) -> None:
        env = os.environ | {"PYTHONIOENCODING": "ascii"}
        process = child("print('\\u2603')", env=env)
        assert "UnicodeEncodeError" in process.communicate(timeout=30)[1]

    def test_a_path_that_is_not_utf_8(self) -> None:
        code, _, errors = run_in_shell("", "run", "--config", b"/nowhere/\xff.yaml")
        assert code == 2
        assert rb"'/nowhere/\udcff.yaml': cannot be read" in errors


class Terminal:
    """A command on its own terminal."""

    def __init__(self, *arguments, **env) -> None:
        self._fd, inner = os.openpty()
        base = {n: t for n, t in os.environ.items() if n not in ("NO_COLOR", "TERM")}
        pipes = {"stdin": inner, "stdout": inner, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([*arguments], env=base | env, **pipes)
        os.close(inner)
        self.seen = b""

    def read_until(self, pattern) -> bytes:
        """Read until the pattern is found or the output ends; return all of it."""
        while not re.search(pattern, self.seen):
            try:
                piece = os.read(self._fd, 1 << 16)
            except OSError:  # the other side is closed
                break
            self.seen += piece
        return self.seen

    def close(self) -> int:
        self.process.send_signal(2)
        self.read_until(rb"$^")
        os.close(self._fd)
        with self.process:
            return self.process.wait(20)


class TestTerminals:
    @pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}])
    def test_watch_clears_a_terminal(self, a_feed, env) -> None:
        terminal = Terminal(*COMMAND, *a_feed, "--watch", TERM="xterm", **env)
        seen = terminal.read_until(rb"BTCUSDT")
        assert seen.startswith(b"\x1b[H\x1b[J")
        assert bool(COLOR.search(seen)) != bool(env)
        assert terminal.close() == 130

    @pytest.mark.parametrize("env", [{"TERM": "dumb"}, {}])
    def test_watch_clears_no_dumb_terminal(self, a_feed, env) -> None:
        terminal = Terminal(*COMMAND, *a_feed, "--watch", **env)
        assert b"\x1b" not in terminal.read_until(rb"BTCUSDT")
        assert terminal.close() == 130

    TABLE = """
import sys
from shmfeed.demo.metrics import DemoMetrics, ReadMetrics
from shmfeed.demo.options import DemoOptions
from shmfeed.demo.runner import choose_screen
screen = choose_screen(DemoOptions(20.0, 2, ("A",), 7), False)
reads = ReadMetrics(1234, 56.0, 78_901, 2, 0, 0, 48_000.0, 320_000.0)
with screen:
    screen.print_line("hello")
    screen.update(DemoMetrics(
        3.0, "connected", "live", 77, 120, 100, 8.0, 70.0, 1, 0, 0.5, 12_000.0, reads,
        ((1, reads),), ()))
print(type(screen).__name__)
"""

    @pytest.mark.parametrize(
        ("env", "name", "colored"),
        [
            ({"TERM": "xterm-256color"}, b"TableScreen", True),
            ({"TERM": "xterm-256color", "NO_COLOR": "1"}, b"TableScreen", False),
            ({"TERM": "dumb"}, b"LineScreen", False),
        ],
    )
    def test_the_table_of_the_demo(self, env, name, colored) -> None:
        terminal = Terminal(sys.executable, "-c", self.TABLE, **env)
        seen = terminal.read_until(rb"Screen")
        assert name in seen
        assert bool(COLOR.search(seen)) == colored
        terminal.close()


@pytest.mark.parametrize(
    "arguments", [["status"], ["ls"], ["tail", "BTCUSDT", "1m"], ["doctor"], ["--help"]]
)
def test_a_pipe_gets_no_control_characters(
    arguments, cli_ring, feed_name, capsysbinary, monkeypatch
) -> None:
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.setenv(name, "1")
    feed = [] if arguments[0].startswith("-") else ["--feed", feed_name]
    with suppress(SystemExit):
        main([*arguments, *feed])
    output = capsysbinary.readouterr().out
    assert output
    assert not CONTROL_CHARACTER.search(output)


def test_watch_survives_the_recreation_of_the_feed(
    command, cli_writer, cli_ring, feed_name
) -> None:
    process = command("status", "--feed", feed_name, "--watch", "--json")
    lines = map(json.loads, iter(process.stdout.readline, ""))
    assert next(lines)["health"] == "live"
    cli_writer.close(unlink=True)
    assert "dead" in {next(lines)["health"] for _ in range(3)}
    with create(feed_name, history=50, max_streams=8) as successor:
        append(successor.add_stream("ETHUSDT", "1m"), 0)
        while next(lines)["symbols"] != ["ETHUSDT"]:
            successor.beat()
        successor.close(unlink=True)
    assert end(process) == (130, *end(process)[1:2], "")


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (None, "-"),
        (0, "1970-01-01T00:00:00Z"),
        (1_704_067_200_000, "2024-01-01T00:00:00Z"),
        (1_704_067_200_007, "2024-01-01T00:00:00.007Z"),
        (4_102_444_799_000, "2099-12-31T23:59:59Z"),
    ],
)
def test_a_time_is_iso_8601(time, text) -> None:
    assert format_time(time) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (60, "1m 0s"),
        (3599.9, "59m 59s"),
        (3600, "1h 0m"),
        (86_399, "23h 59m"),
        (200_000, "2d 7h"),
    ],
)
def test_a_duration_has_two_units(seconds, text) -> None:
    assert format_duration(seconds) == text


def test_the_columns_of_a_table_are_aligned() -> None:
    rows = [("NAME", "N"), ("a", "1,000"), ("bcdef", "7")]
    assert format_table(rows, right={1}) == [
        "NAME       N",
        "a      1,000",
        "bcdef      7",
    ]
    assert format_table(rows)[2] == "bcdef  7"
