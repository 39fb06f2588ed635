"""A terminal as a whole screen, with keys, until the block ends."""

import os
import select
import shutil
import signal
import sys
import time
from types import FrameType
from typing import Any, NoReturn, Self

from shmfeed.cli.output import print_output

try:
    import termios
    import tty
except ImportError:  # a system without terminals: there are no keys
    termios = tty = None  # type: ignore[assignment]

# The other screen, no cursor, no wrapping of long lines; and all of it back.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_SIGNALS = tuple(  # not every platform has both
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_ARROWS = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[5~": "page up"}
_ARROWS |= {b"\x1b[6~": "page down"}


class Screen:
    """A context manager: entering takes the terminal, leaving gives it back.

    It is given back after an error and after SIGTERM too, which ends the process.
    """

    def __init__(self) -> None:
        self._modes: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if termios is not None and sys.stdin.isatty():
            self._modes = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        for number in _SIGNALS:
            self._handlers[number] = signal.signal(number, _end)
        print_output(_ENTER)
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            print_output(_LEAVE)
        finally:
            if self._modes is not None:
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._modes)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    @property
    def lines(self) -> int:
        """The number of lines that fit."""
        return max(4, shutil.get_terminal_size().lines)

    def draw(self, lines: list[str]) -> None:
        """Draw these lines in the place of those before."""
        text = "\n".join(f"{line}{_CLEAR_LINE}" for line in lines[: self.lines - 1])
        print_output(f"{_HOME}{text}{_CLEAR_BELOW}")

    def read_key(self, seconds: float) -> str:
        """Return the key that is pressed within this time, "" for none.

        A letter stands for itself; the others are up, down, page up, page down.
        """
        if self._modes is None:
            time.sleep(seconds)
            return ""
        if not select.select([sys.stdin], [], [], seconds)[0]:
            return ""
        pressed = os.read(sys.stdin.fileno(), 16)
        if not pressed:  # the terminal has gone
            raise KeyboardInterrupt
        return _ARROWS.get(pressed, pressed[:1].decode("ascii", "replace"))


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
