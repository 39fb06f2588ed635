"""Terminals, files and pipes that commands write to, whatever state they are in."""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress

import pytest
from support.command_line import append, end

from shmfeed.cli.main import main
from shmfeed.text import printable, shorten
from shmfeed.writer import create

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

COLOUR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
COMMAND = (sys.executable, "-W", "error", "-m", "shmfeed")
FULL = b"shmfeed: standard output cannot be written: No space left on device\n"
CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")


def shell(redirect, *words, **env):
    """The command under a shell that redirects: exit code, output, errors."""
    env.setdefault("PYTHONUNBUFFERED", None)
    given = {name: text for name, text in env.items() if text is not None}
    base = {name: text for name, text in os.environ.items() if name not in env}
    process = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", *COMMAND, *words],
        env=base | given,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return process.returncode, process.stdout, process.stderr


@pytest.fixture
def no_feed(feed_name):
    """Words that fail with exit 2 and a sentence."""
    return "status", "--feed", f"{feed_name}-none"


@pytest.fixture
def a_feed(cli_ring, feed_name):
    """Words that print."""
    return "status", "--feed", feed_name


class TestBrokenStreams:
    def test_a_full_disk_is_said(self, a_feed) -> None:
        code, _, errors = shell(">/dev/full", *a_feed)
        assert (code, errors) == (1, FULL)

    def test_also_of_the_help(self) -> None:
        code, _, errors = shell(">/dev/full", "--help")
        assert code == 1
        assert errors.count(b"\n") == 1
        assert b"No space left on device" in errors

    def test_also_unbuffered(self, a_feed) -> None:
        for words in (a_feed, ("--help",)):
            code, _, errors = shell(">/dev/full", *words, PYTHONUNBUFFERED="1")
            assert code == 1
            assert errors == FULL

    @pytest.mark.parametrize("form", ["--csv", "--json"])
    def test_also_of_more_than_a_buffer(self, cli_ring, feed_name, form) -> None:
        append(cli_ring, *range(10, 110))
        words = ("tail", "BTCUSDT", "1m", "-n", "100", form, "--feed", feed_name)
        assert len(shell("", *words)[1]) > 8192
        assert shell(">/dev/full", *words) == (1, b"", FULL)

    def test_nobody_hears_that_it_is_full(self, a_feed) -> None:
        assert shell(">/dev/full 2>/dev/full", *a_feed)[0] == 1

    def test_a_mistake_keeps_its_code_where_nobody_hears_it(self, no_feed) -> None:
        assert shell("2>/dev/full", *no_feed) == (2, b"", b"")
        assert shell("2>&-", *no_feed) == (2, b"", b"")

    def test_closed_output_keeps_the_code(self, a_feed, no_feed) -> None:
        assert shell(">&-", *a_feed) == (0, b"", b"")
        code, output, errors = shell(">&- 2>&- <&-", *no_feed)
        assert (code, output, errors) == (2, b"", b"")

    def test_a_closed_error_stream_s_words_are_not_output(self, no_feed) -> None:
        assert shell("2>&-", *no_feed)[1] == b""

    def test_a_reader_of_the_help_may_go(self) -> None:
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
    def test_what_a_terminal_has_not_comes_escaped(self, cli_writer, a_feed, env):
        cli_writer.note({"last_error": "café \u2603 \x1b[31mred"})
        code, output, errors = shell("", *a_feed, **env)
        assert (code, errors) == (0, b"")
        assert b"last error: caf" in output
        assert b"\\x1b[31mred" in output
        assert not CONTROL.search(output)

    def test_the_control_fails_without_it(self, child) -> None:
        env = os.environ | {"PYTHONIOENCODING": "ascii"}
        process = child("print('\\u2603')", env=env)
        assert "UnicodeEncodeError" in process.communicate(timeout=30)[1]

    def test_names_that_are_no_text(self) -> None:
        code, _, errors = shell("", "run", "--config", b"/nowhere/\xff.yaml")
        assert code == 2
        assert rb"'/nowhere/\udcff.yaml': cannot be read" in errors


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *words, **env) -> None:
        self._fd, inner = os.openpty()
        base = {n: t for n, t in os.environ.items() if n not in ("NO_COLOR", "TERM")}
        pipes = {"stdin": inner, "stdout": inner, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([*words], env=base | env, **pipes)
        os.close(inner)
        self.seen = b""

    def until(self, pattern) -> bytes:
        """Read until the pattern has come, or all has."""
        while not re.search(pattern, self.seen):
            try:
                piece = os.read(self._fd, 1 << 16)
            except OSError:  # the other side is closed
                break
            self.seen += piece
        return self.seen

    def close(self) -> int:
        self.process.send_signal(2)
        self.until(rb"$^")
        os.close(self._fd)
        with self.process:
            return self.process.wait(20)


class TestTerminals:
    def test_watch_clears_a_terminal_and_ends_clean(self, a_feed) -> None:
        terminal = Terminal(*COMMAND, *a_feed, "--watch", TERM="xterm")
        seen = terminal.until(rb"BTCUSDT")
        assert seen.startswith(b"\x1b[H\x1b[J")
        assert not COLOUR.search(seen)
        assert terminal.close() == 130

    @pytest.mark.parametrize("env", [{"TERM": "dumb"}, {}])
    def test_but_not_one_that_cannot(self, a_feed, env) -> None:
        terminal = Terminal(*COMMAND, *a_feed, "--watch", **env)
        assert b"\x1b" not in terminal.until(rb"BTCUSDT")
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
        ("env", "name", "coloured"),
        [
            ({"TERM": "xterm-256color"}, b"TableScreen", True),
            ({"TERM": "xterm-256color", "NO_COLOR": "1"}, b"TableScreen", False),
            ({"TERM": "dumb"}, b"LineScreen", False),
        ],
    )
    def test_the_demo_s_table(self, env, name, coloured) -> None:
        terminal = Terminal(sys.executable, "-c", self.TABLE, **env)
        seen = terminal.until(rb"Screen")
        assert name in seen
        assert bool(COLOUR.search(seen)) == coloured
        terminal.close()


@pytest.mark.parametrize(
    "words", [["status"], ["ls"], ["tail", "BTCUSDT", "1m"], ["doctor"], ["--help"]]
)
def test_no_control_characters_where_there_is_no_terminal(
    words, cli_ring, feed_name, capsysbinary, monkeypatch
) -> None:
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.setenv(name, "1")
    feed = [] if words[0].startswith("-") else ["--feed", feed_name]
    with suppress(SystemExit):
        main([*words, *feed])
    output = capsysbinary.readouterr().out
    assert output
    assert not CONTROL.search(output)


def test_watch_outlives_the_feed(command, cli_writer, cli_ring, feed_name) -> None:
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


def test_words_from_outside() -> None:
    assert printable("a\tb\x1b[0m\u2028\udcff\u00e9") == r"a\tb\x1b[0m\u2028\udcffé"
    assert shorten("x" * 600) == "x" * 600
    assert len(shorten("x" * 10_000)) < 620
