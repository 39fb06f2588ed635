"""A line of progress is written over on a terminal, and nowhere else."""

import io
import sys

import pytest

from shmfeed.cli.progress import ProgressLine, progress_bar


class Terminal(io.StringIO):
    """A standard error that says whether it is a terminal."""

    def __init__(self, is_terminal=True, fails=False):
        super().__init__()
        self.is_terminal, self.fails = is_terminal, fails

    def isatty(self):
        return self.is_terminal

    def write(self, text):
        if self.fails:
            raise OSError("gone")
        return super().write(text)


def line_on(monkeypatch, terminal):
    monkeypatch.setattr(sys, "stderr", terminal)
    return ProgressLine()


def test_a_line_covers_the_one_before(monkeypatch):
    monkeypatch.setattr("shmfeed.cli.progress.SHOWN_SECONDS", 0.0)
    terminal = Terminal()
    line = line_on(monkeypatch, terminal)
    line.show(lambda: "warm-up 1")
    line.show(lambda: "done")
    line.clear()
    line.clear()
    assert terminal.getvalue() == "\rwarm-up 1\r\rdone     \r\r    \r"


def test_changes_come_at_a_limited_rate(monkeypatch):
    terminal = Terminal()
    line = line_on(monkeypatch, terminal)
    for number in range(100):
        line.show(lambda number=number: str(number))
    assert terminal.getvalue().count("\r") <= 4


def test_elsewhere_nothing_is_written(monkeypatch):
    terminal = Terminal(is_terminal=False)
    line = line_on(monkeypatch, terminal)
    line.show(lambda: pytest.fail("not asked for"))
    line.clear()
    assert terminal.getvalue() == ""


def test_a_terminal_that_is_gone_ends_nothing(monkeypatch):
    line = line_on(monkeypatch, Terminal(fails=True))
    line.show(lambda: "text")
    assert not line.is_shown
    assert not line_on(monkeypatch, None).is_shown


def test_the_bar():
    assert progress_bar(0, 100) == "[" + "." * 20 + "]"
    assert progress_bar(50, 100) == "[" + "#" * 10 + "." * 10 + "]"
    assert progress_bar(200, 100) == "[" + "#" * 20 + "]"
    assert progress_bar(0, 0) == "[" + "." * 20 + "]"
