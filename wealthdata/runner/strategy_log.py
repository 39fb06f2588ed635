"""The `log` of a strategy: lines on standard output, with the strategy's time."""

import sys
import traceback
from collections.abc import Callable

from shmfeed.cli.output import print_output
from shmfeed.validation import check_choice

_LEVELS = ("debug", "info", "warning", "error")
_KINDS = ("strategy", "order", "history", "system")  # JoinQuant's


class StrategyLog:
    """JoinQuant's `log`. A message may have %-values, or be several values.

    Args:
        stamp: Returns the strategy's time as a text.
        label: The name of the strategy, where a run has several.
    """

    def __init__(self, stamp: Callable[[], str], label: str = "") -> None:
        self._stamp = stamp
        self._label = f"{label}: " if label else ""
        self._level = 0

    def debug(self, message: object, *values: object) -> None:
        """Print a line of level DEBUG."""
        self._print(0, message, values)

    def info(self, message: object, *values: object) -> None:
        """Print a line of level INFO."""
        self._print(1, message, values)

    def warning(self, message: object, *values: object) -> None:
        """Print a line of level WARNING."""
        self._print(2, message, values)

    warn = warning

    def error(self, message: object, *values: object) -> None:
        """Print a line of level ERROR."""
        self._print(3, message, values)

    def exception(self, message: object, *values: object) -> None:
        """Print a line of level ERROR, and the traceback of the current exception."""
        self._print(3, message, values)
        if sys.exc_info()[0] is not None:
            print_output(traceback.format_exc().rstrip("\n"))

    def set_level(self, name: str, level: str) -> None:
        """Set the lowest level that is printed.

        Args:
            name: "strategy"; "order", "history" and "system" are JoinQuant's, and have
                no lines here.
            level: "debug", "info", "warning" or "error".

        Raises:
            BadArgumentError: An argument is not accepted.
        """
        check_choice("name of set_level", name, _KINDS)
        word = "warning" if level == "warn" else level
        check_choice("level of set_level", word, _LEVELS)
        if name == "strategy":
            self._level = _LEVELS.index(word)

    def _print(self, level: int, message: object, values: tuple[object, ...]) -> None:
        if level < self._level:
            return
        text = _text_of(message, values)
        name = _LEVELS[level].upper()
        print_output(f"{self._stamp()} - {name} - {self._label}{text}")


def _text_of(message: object, values: tuple[object, ...]) -> str:
    if not values:
        return str(message)
    if isinstance(message, str) and "%" in message:
        try:
            return message % values
        except (TypeError, ValueError):
            pass  # the values of a message that only looks so
    return " ".join(map(str, (message, *values)))
