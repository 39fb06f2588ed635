"""The name of a process in the status: its command, short and without secrets."""

import sys

import pytest

from shmfeed.process_name import NAME_CHARACTERS, process_name


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["bot.py", "--account", "A"], "bot.py --account A"),
        (["bot.py", "--token", "s3cret", "-v"], "bot.py --token *** -v"),
        (["bot.py", "--csrf_token=s3cret"], "bot.py --csrf_token=***"),
        (["bot.py", "--api-key", "s3cret"], "bot.py --api-key ***"),
        (["bot.py", "ws://me:s3cret@host/x"], "bot.py ws://***@host/x"),
        (["bot.py", "a\nb\x1b[31m"], "bot.py a b?[31m"),
        ([], "python"),
    ],
)
def test_a_command(monkeypatch, words, name):
    monkeypatch.setattr(sys, "argv", words)
    assert process_name() == name


def test_the_code_of_a_command_is_its_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "import bot"])
    assert process_name() == "-c import bot"


def test_a_long_command_keeps_its_end(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bot.py", "x" * 500, "--account", "A"])
    name = process_name()
    assert len(name) == NAME_CHARACTERS
    assert name.startswith("bot.py")
    assert name.endswith("--account A")
