"""Standard output and standard error, whatever state they are in."""

import os
import sys
from contextlib import suppress
from typing import TextIO

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
