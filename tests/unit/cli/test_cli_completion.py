"""`shmfeed completion`: the words that fit, and the script of bash in a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shmfeed.cli.completion import complete, split_line
from shmfeed.cli.main import COMMANDS, main

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")


def words_for(line: str) -> list[str]:
    return complete(split_line(line))


@pytest.fixture
def feed(cli_writer, cli_ring, feed_name):
    cli_writer.add_stream("BTCUSDT", "1h")
    cli_writer.add_stream("BTC/USDT:USDT", "5m")
    return feed_name


def test_commands() -> None:
    assert words_for("shmfeed ") == [*COMMANDS, "--help", "--version"]
    assert words_for("shmfeed st") == ["status"]
    assert words_for("shmfeed --v") == ["--version"]
    assert words_for("shmfeed frob ") == []


@pytest.mark.parametrize("name", COMMANDS)
def test_options_of_each_command(name) -> None:
    found = words_for(f"shmfeed {name} --")
    assert "--help" in found
    assert all(word.startswith("--") for word in found)
    if name not in ("completion", "simulate", "demo"):
        assert {"--feed", "--config"} & set(found)


def test_no_hidden_option_is_offered() -> None:
    assert not [one for one in words_for("shmfeed run --") if one.startswith("--no-")]
    assert words_for("shmfeed completion --l") == []


def test_values_of_choices() -> None:
    assert words_for("shmfeed wait --health l") == ["live"]
    assert words_for("shmfeed wait --health=l") == ["--health=live"]
    assert words_for("shmfeed config ") == ["show"]
    assert words_for("shmfeed completion ") == ["bash", "zsh", "fish"]


def test_feeds(feed) -> None:
    assert feed in words_for("shmfeed status --feed ")
    assert words_for(f"shmfeed status --feed={feed}") == [f"--feed={feed}"]


def test_symbols_and_timeframes_of_the_feed(feed) -> None:
    line = f"shmfeed tail --feed {feed} "
    assert words_for(line) == ["BTCUSDT", "BTC/USDT:USDT"]
    assert words_for(line + "BTC/") == ["BTC/USDT:USDT"]
    assert words_for(line + "BTCUSDT ") == ["1m", "1h"]
    assert words_for(line + "BTCUSDT 1m ") == []
    assert words_for(f"shmfeed status --feed {feed} --require BTCU") == ["BTCUSDT"]


def test_the_feed_of_the_environment(feed, monkeypatch) -> None:
    monkeypatch.setenv("SHMFEED_FEED", feed)
    assert words_for("shmfeed plot BTCU") == ["BTCUSDT"]


@pytest.mark.parametrize(
    "line",
    ["", "shmfeed", "shmfeed tail A B C ", 'shmfeed tail "A', "shmfeed -x ", "\x00"],
)
def test_odd_lines_raise_nothing(line) -> None:
    assert isinstance(words_for(line), list)


def test_a_feed_that_is_not_there_offers_nothing(feed_name) -> None:
    assert words_for(f"shmfeed tail --feed {feed_name} ") == []
    assert words_for("shmfeed tail --feed /// ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts(shell, capsys) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"shmfeed completion {shell}" in script
    checker = shutil.which(shell)
    if checker is not None:
        subprocess.run([checker, "-n"], input=script, text=True, check=True)


COMPLETE = """
eval "$(shmfeed completion bash)"
COMP_LINE=$1
COMP_POINT=${#COMP_LINE}
_shmfeed
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("shmfeed rel", ["reload"]),
        ("shmfeed wait --health l", ["live"]),
        ("shmfeed tail --feed {feed} BTCU", ["BTCUSDT"]),
        ("shmfeed tail --feed {feed} BTC/USDT:U", ["USDT"]),
        ("shmfeed status --feed={feed}", ["{feed}"]),
    ],
)
def test_in_bash(line, found, feed, tmp_path) -> None:
    program = tmp_path / "shmfeed"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -W error -m shmfeed "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", line.format(feed=feed)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout.splitlines() == [word.format(feed=feed) for word in found]
    assert process.stderr == ""
