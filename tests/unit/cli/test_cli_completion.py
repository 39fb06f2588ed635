"""`shmfeed completion`: the words that fit, and the scripts in real shells."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.users import FEEDER, GROUP, as_user

from shmfeed.cli.completion import complete, split_line
from shmfeed.cli.main import COMMANDS, main
from shmfeed.writer import create

pytest_plugins = ["support.command_process", "support.users_fixture"]
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


# Each prints the words that the shell would offer for the line $1 or $argv[1].
IN_BASH = """
eval "$(shmfeed completion bash)"
COMP_LINE=$1
COMP_POINT=${#COMP_LINE}
_shmfeed
printf '%s\\n' "${COMPREPLY[@]}"
"""
IN_ZSH = """
autoload -U compinit
compinit -D -u
eval "$(shmfeed completion zsh)"
compadd() { print -rl -- "${(@P)2}" }
_files() { print files }
words=(${(z)1})
[[ $1 == *' ' ]] && words+=('')
CURRENT=$#words
$_comps[shmfeed]
"""
IN_FISH = """
shmfeed completion fish | source
complete -C "$argv[1]"
"""
RUNS = {
    "bash": ["bash", "-c", IN_BASH, "bash"],
    "zsh": ["zsh", "-f", "-c", IN_ZSH, "zsh"],
    "fish": ["fish", "--no-config", "-c", IN_FISH],
}


@pytest.fixture
def offered(feed, tmp_path):
    """Return the words that a real shell offers for a line."""
    program = tmp_path / "shmfeed"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -W error -m shmfeed "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }

    def run(shell: str, line: str) -> list[str]:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        process = subprocess.run(
            [*RUNS[shell], line.format(feed=feed)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[3],
        )
        assert process.stderr == ""
        return [word.replace(feed, "{feed}") for word in process.stdout.splitlines()]

    return run


@pytest.mark.parametrize("shell", RUNS)
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("shmfeed rel", ["reload"]),
        ("shmfeed wait --health l", ["live"]),
        ("shmfeed tail --feed {feed} BTCU", ["BTCUSDT"]),
    ],
)
def test_in_each_shell(shell, line, found, offered) -> None:
    assert offered(shell, line) == found


@pytest.mark.parametrize(
    ("shell", "line", "found"),
    [
        ("bash", "shmfeed tail --feed {feed} BTC/USDT:U", ["USDT"]),
        ("zsh", "shmfeed tail --feed {feed} BTC/USDT:U", ["BTC/USDT:USDT"]),
        ("fish", "shmfeed tail --feed {feed} BTC/USDT:U", ["BTC/USDT:USDT"]),
        ("bash", "shmfeed status --feed={feed}", ["{feed}"]),
        ("zsh", "shmfeed status --feed={feed}", ["--feed={feed}"]),
        ("fish", "shmfeed status --feed={feed}", ["--feed={feed}"]),
        ("zsh", "shmfeed frob ", ["files"]),
    ],
)
def test_words_with_marks_that_a_shell_treats_apart(
    shell, line, found, offered
) -> None:
    assert offered(shell, line) == found


@pytest.mark.usefixtures("other_users")
class TestTheFeedsOfAnotherUser:
    @pytest.fixture
    def other(self, feed_name) -> Iterator[str]:
        """Return a feed of the user FEEDER, which alone can read it, and root."""

        def make() -> None:
            with create(feed_name, 16, 16, 1, group=str(GROUP)) as writer:
                writer.add_stream("OTHER", "1m")

        with as_user(FEEDER, [GROUP], make) as feeder:
            feeder.result()
        return feed_name

    def test_they_are_offered_with_their_symbols(self, other) -> None:
        line = f"shmfeed tail --owner {FEEDER} --feed "
        assert words_for(line) == [other]
        assert words_for(f"{line}{other} ") == ["OTHER"]
        assert words_for(f"shmfeed tail --feed {other} ") == []  # of this user
        assert words_for(f"shmfeed tail --owner no-such-user --feed {other} ") == []

    def test_by_the_environment(self, other, monkeypatch) -> None:
        monkeypatch.setenv("SHMFEED_OWNER", str(FEEDER))
        assert words_for(f"shmfeed tail --feed {other} ") == ["OTHER"]

    def test_the_owners(self, other) -> None:
        assert str(FEEDER) in words_for("shmfeed status --owner ")
