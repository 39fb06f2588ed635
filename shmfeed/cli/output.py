"""Standard output and standard error, whatever state they are in.

Values as a person at a terminal reads them: times, ages, aligned tables.
"""

import os
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TextIO

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING = "-"


def iso(time: int | None) -> str:
    """ms UTC as `2026-01-31T08:00:00Z`; milliseconds only where there are any.

    A number that is in no calendar stays one.
    """
    if time is None:
        return _NOTHING
    try:
        moment = _EPOCH + timedelta(milliseconds=time)
    except OverflowError:
        return f"{time} ms"
    finest = "milliseconds" if time % 1000 else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=finest) + "Z"


def span(seconds: float | None) -> str:
    """A length of time in its two largest units: `0.2 s`, `3m 20s`, `2d 4h`."""
    if seconds is None:
        return _NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s"


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """A line for each row, its columns under each other; those of `right` flush right.

    All rows are equally long.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [justified(row, widths, right) for row in rows]


def justified(
    row: Sequence[str], widths: Sequence[int], right: Collection[int] = ()
) -> str:
    """One such line."""
    cells = [
        cell.rjust(width) if number in right else cell.ljust(width)
        for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


_FULL = "standard output cannot be written: "


def prepare() -> None:
    """All exist, and take every character: one that they have not comes escaped."""
    # Whoever started us may have closed them. Their descriptors are filled, so that
    # no file that is opened later takes their place.
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(name))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def finish() -> None:
    """Write what is buffered; BrokenPipeError, or OSError that says what failed.

    After an error the interpreter's own last flush succeeds.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop(sys.stdout)
        raise
    except OSError as error:
        _drop(sys.stdout)
        raise _unwritten(error) from None


def show(words: str) -> None:
    """Lines on standard output, now; errors as `finish` has them."""
    try:
        print(words, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritten(error) from None


def _unwritten(error: OSError) -> OSError:
    return OSError(_FULL + (error.strerror or str(error)))


def say(words: str) -> None:
    """A line on standard output, if anybody takes it: whoever says it goes on."""
    try:
        print(words, flush=True)
    except OSError:
        _drop(sys.stdout)


def complain(words: str) -> None:
    """A line on standard error, if anybody can read it."""
    try:
        print(f"shmfeed: {words}", file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)


def can_clear() -> bool:
    """Whether standard output is a terminal that obeys cursor controls."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _nowhere(name: str) -> TextIO:
    # As the interpreter makes its own: the descriptor is not closed at the end.
    reads = name == "stdin"
    fd = os.open(os.devnull, os.O_RDONLY if reads else os.O_WRONLY)
    return open(fd, "r" if reads else "w", encoding="utf-8", closefd=False)


def _drop(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
