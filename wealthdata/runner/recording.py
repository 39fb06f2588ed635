"""decisions.jsonl: the decisions of one run, with the bars that they were made on.

The file has one JSON object a line. The first is the header, each further one a
decision, and the last one, where the run has ended, the close times that it handled.
Each line is written by one call, so that a file that was cut off has whole lines but
for its last one.
"""

from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from wealthdata.decisions import Decision


class RunDescription(NamedTuple):
    """The run that a recording is of.

    Attributes:
        strategies: The paths of the strategies' files.
        symbols: The symbols, in the order asked.
        frequency: The timeframe.
        mode: "live", "replay" or "backtest".
        feed: The feed that is read; None in a backtest.
        source: The file of bars or frames; None live.
    """

    strategies: tuple[str, ...]
    symbols: tuple[str, ...]
    frequency: str
    mode: str
    feed: str | None = None
    source: str | None = None


class Recording:
    """An open recording, a recorder for `decisions.set_recorder`.

    A context manager: entering makes it the recorder of this process, leaving writes
    the last line and closes the file.
    """

    def __init__(self, path: Path, run: RunDescription) -> None:
        self.path = path
        self.run = run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def handled(self, close_time: int) -> None:
        """Note that the strategies have handled all bars of a close time, ms UTC."""

    def note(self, decision: Decision) -> None:
        """Write a decision. Raise OSError if that fails."""

    def close(self) -> None:
        """Write the last line and close the file."""


def open_recording(path: str | Path, run: RunDescription) -> Recording:
    """Create the file of a recording and write its header.

    A file of that name is replaced. Raise BadArgumentError if it cannot be written.
    """
    return Recording(Path(path), run)
