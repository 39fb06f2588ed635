"""A file that appears when it is whole: written beside its name, then given it."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from shmfeed.errors import BadArgumentError


def check_output(path: str, endings: tuple[str, ...]) -> str:
    """Return the path of a file to write, or raise BadArgumentError.

    Args:
        path: As it was typed.
        endings: Those that the name may have, each with its dot.
    """
    if Path(path).suffix.lower() not in endings:
        raise BadArgumentError(
            f"output {path!r} is not accepted; its name must end in"
            f" {' or '.join(endings)}"
        )
    fault = _fault_of(path)
    if fault:
        raise BadArgumentError(
            f"output {path!r} is not accepted: {fault}; give a file in a directory that"
            " exists and may be written"
        )
    return path


def _fault_of(path: str) -> str:
    """Return why no file can be written under a path, "" if one can."""
    try:
        real = os.path.realpath(path)
        folder = os.path.dirname(real)  # noqa: PTH120
        if not stat.S_ISDIR(os.stat(folder).st_mode):  # noqa: PTH116
            return f"{folder!r} is not a directory"
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"the directory {folder!r} cannot be written by this user"
        mode = os.stat(real).st_mode  # noqa: PTH116
    except FileNotFoundError:
        is_there = os.path.isdir(folder)  # noqa: PTH112
        return "" if is_there else f"there is no directory {folder!r}"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        return f"it is {kind}"
    return "" if os.access(real, os.W_OK) else "the file is read-only"


@contextmanager
def whole_file(path: str) -> Iterator[IO[bytes]]:
    """Yield a stream whose content gets this name when the block ends without error.

    A file of that name, or the one that a link of that name leads to, is replaced then.
    An error or an interrupt leaves it as it was. Raises OSError.
    """
    target = os.path.realpath(path)
    # A name of its own: a killed process of the same pid may have left its file.
    part = Path(target).with_name(f".export-{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(target)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
