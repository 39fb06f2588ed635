"""`shmfeed top`: one sample, and the whole screen with its keys."""

import json
import os
import re
import select
import signal
import subprocess
import termios
from itertools import count

import pytest
from support.command_line import append

from shmfeed.cli.main import main

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

QUICK = ("--interval", "0.1")


@pytest.fixture
def top(feed_name, cli_ring, cli_writer, capsys):
    """Run it once on this test's feed; return exit code, output and errors."""
    cli_writer.add_stream("ETHUSDT", "1h")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["top", "--feed", feed_name, *QUICK, *arguments])
        return code, *capsys.readouterr()

    return run


def test_without_a_terminal_one_sample_is_printed(top, feed_name) -> None:
    code, output, errors = top()
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert re.fullmatch(r"\S+Z 1 feed, 2 streams, 0\.0 messages/s", lines[0])
    assert lines[1].startswith(
        f"{feed_name}: waiting, connected, 0.0 messages/s, venue"
    )
    assert lines[3].split()[:5] == ["FEED", "SYMBOL", "TIMEFRAME", "HEALTH", "RATE/S"]
    assert lines[4].split()[1:4] == ["BTCUSDT", "1m", "live"]
    assert "no bar yet" in lines[5]


def test_sorted_and_limited(top) -> None:
    output = top("--sort", "health", "-n", "1", "--once")[1]
    assert "ETHUSDT" in output
    assert "BTCUSDT" not in output


def test_json(top, feed_name) -> None:
    found = json.loads(top("--json")[1])
    assert [row["feed"] for row in found["feeds"]] == [feed_name]
    assert {row["symbol"]: row["bars"] for row in found["streams"]} == {
        "BTCUSDT": 5,
        "ETHUSDT": 0,
    }
    assert found["feeds"][0]["venue"] is None


def test_bars_that_close_meanwhile(command, cli_ring, feed_name) -> None:
    process = command("top", "--feed", feed_name, "--json", "--interval", "3")
    for number in count(5):
        append(cli_ring, number)
        try:
            process.wait(0.1)
            break
        except subprocess.TimeoutExpired:
            continue
    (row,) = json.loads(process.communicate(timeout=30)[0])["streams"]
    assert row["rate"] > 0
    assert row["late"] >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--interval", "soon"], "--interval is 'soon'"),
        (["--interval", "-1"], "--interval is -1.0"),
        (["-n", "0"], "-n is 0"),
    ],
)
def test_values_that_are_refused(top, arguments, message, feed_name, capsys) -> None:
    assert main(["top", "--feed", feed_name, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_no_feed_of_that_name_is_exit_2(feed_name, capsys) -> None:
    assert main(["top", "--feed", feed_name, "--once"]) == 2
    assert f"there is no feed {feed_name!r}" in capsys.readouterr().err


def test_the_feed_of_another_user(top, monkeypatch) -> None:
    monkeypatch.setenv("SHMFEED_OWNER", str(os.geteuid()))
    assert top("--once")[0] == 0
    other = os.geteuid() + 1
    monkeypatch.setenv("SHMFEED_OWNER", str(other))
    assert top("--once")[0] == 2
    assert f"user {other} has no feed" in top("--once")[2]


class Terminal:
    """`shmfeed top` on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        from support.command_process import COMMAND

        self.fd, self._inner = os.openpty()
        self.modes = termios.tcgetattr(self._inner)
        env = os.environ | {"TERM": "xterm", "LINES": "9", "COLUMNS": "100"}
        pipes = dict.fromkeys(("stdin", "stdout"), self._inner)
        self.process = subprocess.Popen(
            [*COMMAND, "top", *arguments], env=env, stderr=subprocess.PIPE, **pipes
        )
        self.seen = b""

    def read_until(self, pattern: bytes) -> bytes:
        """Read on until the pattern is found; return what was read for it."""
        seen = b""
        while not re.search(pattern, seen):
            assert select.select([self.fd], [], [], 60)[0], (pattern, seen)
            seen += os.read(self.fd, 1 << 16)
        return seen

    def press(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def end(self) -> int:
        """Wait for its end; check that the terminal is as it was."""
        self.read_until(rb"\x1b\[\?1049l")  # it has left the screen
        code = self.process.wait(60)
        assert termios.tcgetattr(self._inner) == self.modes
        assert self.process.stderr.read() == b""
        return code

    def close(self) -> None:
        self.process.kill()
        with self.process:
            pass
        for fd in (self.fd, self._inner):
            os.close(fd)


@pytest.fixture
def terminal(feed_name, cli_ring, cli_writer):
    """Start it on a feed with streams A0 .. A4 that have no bars, and BTCUSDT."""
    for number in range(5):
        cli_writer.add_stream(f"A{number}", "1h")
    started = Terminal("--feed", feed_name, *QUICK)
    started.read_until(rb"A0 ")
    yield started
    started.close()


def test_keys_sort_and_q_ends(terminal) -> None:
    terminal.press(b"n")
    seen = terminal.read_until(rb"by name;[\s\S]*A0 [\s\S]*A1 ")
    assert b"\x1b[H" in seen
    terminal.press(b"n")
    terminal.read_until(rb"by name reversed;[\s\S]*BTCUSDT[\s\S]*A4 ")
    terminal.press(b"\x1b[B")
    terminal.read_until(rb"WHY\S*\x1b\[K\s+\S+ +A4 ")  # the first row has gone
    terminal.press(b"q")
    assert terminal.end() == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_gives_the_terminal_back(terminal, number, code) -> None:
    terminal.process.send_signal(number)
    assert terminal.end() == code
