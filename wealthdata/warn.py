"""Warnings of this package, shown at the strategy's line that called it."""

import sys
import warnings


class StaleFeedWarning(UserWarning):
    """The bars that were returned are older than allowed; once an outage and stream."""


class MissingBarsWarning(UserWarning):
    """A context's bars end before the ring's begin and were left out; once a stream."""


def warn(message: str, category: type[UserWarning]) -> None:
    level = 2  # warnings.warn skips files by itself from Python 3.12 on
    while True:
        try:
            name = sys._getframe(level).f_globals.get("__name__", "")
        except ValueError:
            break
        if name.partition(".")[0] != "wealthdata":
            break
        level += 1
    warnings.warn(message, category, stacklevel=level + 1)
