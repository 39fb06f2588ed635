"""Output to standard streams in any state (closed, full), and values as text."""

import os
import select
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TextIO

from shmfeed.text import NO_VALUE, format_ms, printable
from shmfeed.text import format_duration as format_duration  # noqa: PLC0414

_UNWRITABLE = "standard output cannot be written: "


def format_time(time: int | None) -> str:
    """Return ms UTC as `text.format_ms` does, and `-` for None."""
    return NO_VALUE if time is None else format_ms(time)


Painter = Callable[[int, int, str], str]


def format_table(
    rows: Sequence[Sequence[str]],
    right: Collection[int] = (),
    painter: Painter | None = None,
) -> list[str]:
    """Return one line a row, with aligned columns.

    Args:
        rows: The cells of each row; all rows have the same length.
        right: The numbers of the columns to align on the right.
        painter: Is given the numbers of row and column and the aligned cell; returns
            the cell in its colour.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if painter is None:
        return [format_row(row, widths, right) for row in rows]
    lines = []
    for number, row in enumerate(rows):
        cells = _align(row, widths, right)
        cells[-1] = cells[-1].rstrip()
        lines.append("  ".join(painter(number, *cell) for cell in enumerate(cells)))
    return lines


def format_row(
    row: Sequence[str], widths: Sequence[int], right: Collection[int] = ()
) -> str:
    """Return the line of one row whose columns have these widths."""
    return "  ".join(_align(row, widths, right)).rstrip()


def _align(
    row: Sequence[str], widths: Sequence[int], right: Collection[int]
) -> list[str]:
    return [
        cell.rjust(width) if number in right else cell.ljust(width)
        for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def prepare_streams() -> None:
    """Open the standard streams that are closed, and make all accept any character.

    A character that a stream's encoding lacks is written as an escape sequence.
    """
    # A parent may have closed them. Each takes a descriptor again, so that no file
    # that is opened later gets number 0, 1 or 2.
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _open_null(name))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def flush_output() -> None:
    """Write what standard output has buffered.

    After an error the stream is redirected to /dev/null, so that the interpreter's own
    last flush succeeds.

    Raises:
        BrokenPipeError: The program that read the output has ended.
        OSError: The output cannot be written; the message says why.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _redirect_to_null(sys.stdout)
        raise
    except OSError as error:
        _redirect_to_null(sys.stdout)
        raise _unwritable(error) from None


def print_output(text: str) -> None:
    """Print lines on standard output at once; raise as `flush_output` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from None


def _unwritable(error: OSError) -> OSError:
    return OSError(_UNWRITABLE + (error.strerror or str(error)))


def check_reader() -> None:
    """Raise BrokenPipeError if the program that reads standard output has ended."""
    try:
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        events = watched.poll(0)
    except (AttributeError, OSError, ValueError):  # not a file, or a system without it
        return
    if any(event & select.POLLERR for _, event in events):
        _redirect_to_null(sys.stdout)
        raise BrokenPipeError


def print_notice(text: str) -> None:
    """Print a line on standard output; ignore an output that cannot be written."""
    try:
        print(text, flush=True)
    except OSError:
        _redirect_to_null(sys.stdout)


def print_error(text: str) -> None:
    """Print a text as one line on standard error; ignore one that cannot be written."""
    try:
        print(f"shmfeed: {printable(text)}", file=sys.stderr, flush=True)
    except OSError:
        _redirect_to_null(sys.stderr)


def can_clear_screen() -> bool:
    """Return True if standard output is a terminal that obeys cursor controls."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _open_null(name: str) -> TextIO:
    # As the interpreter does for its own streams: the descriptor is never closed.
    reads = name == "stdin"
    fd = os.open(os.devnull, os.O_RDONLY if reads else os.O_WRONLY)
    return open(fd, "r" if reads else "w", encoding="utf-8", closefd=False)


def _redirect_to_null(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
