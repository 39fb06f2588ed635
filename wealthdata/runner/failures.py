"""An exception of a strategy in words: the file, the line, and the traceback."""

import sys
import traceback
from contextlib import suppress
from pathlib import Path

from shmfeed.text import one_line

_RUNNER = str(Path(__file__).parent)


def describe_error(error: BaseException, file: str, name: str) -> str:
    """Return `ma.py line 3: ZeroDivisionError: division by zero`.

    The line is the last one in the strategy's `file`, which is called `name`.
    """
    line = line_in(error, file)
    place = name if line is None else f"{name} line {line}"
    text = one_line(str(error), 300)
    kind = type(error).__name__
    return f"{place}: {kind}: {text}" if text else f"{place}: {kind}"


def line_in(error: BaseException, file: str) -> int | None:
    """Return the line of a file at which an exception passed last, None without one."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == file
    ]
    return lines[-1] if lines else None


def print_trace(error: BaseException) -> None:
    """Print the traceback of a strategy's exception, without the runner's own lines."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_RUNNER):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    with suppress(OSError):  # standard error may be closed
        print("".join(lines), end="", file=sys.stderr, flush=True)
