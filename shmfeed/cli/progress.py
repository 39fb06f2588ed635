"""Progress on standard error: one line that is written over, on a terminal alone."""

import sys
import time
from collections.abc import Callable

SHOWN_SECONDS = 0.2  # between two changes of the line
_BAR_WIDTH = 20


class ProgressLine:
    """A line of progress on a terminal; without a terminal, nothing is written."""

    def __init__(self) -> None:
        self.is_shown = _is_terminal()
        self._next = 0.0
        self._width = 0

    def show(self, text: Callable[[], str]) -> None:
        """Write the text over the line, unless it was changed just now."""
        if self.is_shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + SHOWN_SECONDS
            self._write(text())

    def clear(self) -> None:
        """Remove the line."""
        if self._width:
            self._write("")

    def _write(self, text: str) -> None:
        # The cursor goes back to the beginning, so that a line of the log covers it.
        try:
            sys.stderr.write(f"\r{text.ljust(self._width)}\r")
            sys.stderr.flush()
        except (OSError, ValueError):
            self.is_shown = False
        self._width = len(text)


def progress_bar(done: float, total: float) -> str:
    """Return a bar of characters, filled as far as `done` is of `total`."""
    filled = round(_BAR_WIDTH * min(1.0, done / max(1, total)))
    return f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}]"


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # closed, or none
        return False
