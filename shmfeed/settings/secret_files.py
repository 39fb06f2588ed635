"""Files that hold one secret, read whole, and never quoted in a message."""

import errno
import logging
import os
import stat
from collections import deque

from shmfeed.errors import BadArgumentError
from shmfeed.settings.kinds import check_path, check_secret

MAX_BYTES = 4096
_ATTEMPTS = 3  # to read a file that is being written
_log = logging.getLogger(__name__)
_warned: set[str] = set()  # paths
_KEPT = 3  # secrets of one file: the present one, and those before
_known: dict[str, deque[str]] = {}  # the secrets read, by path


class _UnstableFileError(Exception):
    """A file that was written while it was read."""


def check_secret_file(name: str, value: object) -> str:
    """Return the absolute path of a file that holds a secret now.

    Raises:
        BadArgumentError: It cannot be read, or holds no secret.
        ValueError: The value is no path.
    """
    path = absolute_path(value)
    read_secret(name, path)
    return path


def absolute_path(value: object) -> str:
    """Return a path that no change of the working directory affects.

    Raises:
        ValueError: The value is no path.
    """
    path = check_path(value)
    if path is None:
        raise ValueError
    return os.path.abspath(path)  # noqa: PTH100  Path would resolve nothing more


def read_secret(name: str, path: str) -> str:
    """Return the secret in a file, without the line break at its end.

    A file that others may read is warned of once.

    Raises:
        BadArgumentError: The message names the setting `name`, the path and what is
            wrong, and nothing of the contents.
    """
    data, mode = read_file(name, path, MAX_BYTES)
    text = data.decode("utf-8-sig", "replace").rstrip("\r\n")
    if not text:
        raise BadArgumentError(f"{name} {path!r} is empty")
    if "\ufffd" in text:
        raise BadArgumentError(f"{name} {path!r} is not UTF-8 text")
    try:
        check_secret(text)
    except (TypeError, ValueError):
        raise BadArgumentError(
            f"{name} {path!r} is not one line of printable characters without space"
            " around it"
        ) from None
    warn_if_others_read(name, path, mode)
    remember_secret(path, text)
    return text


def remember_secret(origin: str, secret: str) -> None:
    """Have every redaction of this process mask a secret, and the ones before it."""
    kept = _known.setdefault(origin, deque(maxlen=_KEPT))
    if secret not in kept:
        kept.append(secret)


def known_secrets() -> set[str]:
    """Return the secrets that this process has read, with the last ones of a file."""
    return {secret for kept in _known.values() for secret in kept}


def read_file(name: str, path: str, most: int) -> tuple[bytes, int]:
    """Return the bytes of a regular file, as of one instant, and its mode.

    Raises:
        BadArgumentError: It cannot be read, is larger than `most` bytes, or changes
            each time it is read.
    """
    for _ in range(_ATTEMPTS):
        try:
            data, mode = _read_once(path, most)
        except _UnstableFileError:
            continue
        except OSError as error:
            reason = error.strerror or error
            raise BadArgumentError(
                f"{name} {path!r} cannot be read: {reason}"
            ) from None
        if data is None:
            raise BadArgumentError(f"{name} {path!r} is not a regular file")
        if len(data) > most:
            raise BadArgumentError(f"{name} {path!r} is larger than {most} bytes")
        return data, mode
    raise BadArgumentError(f"{name} {path!r} changes while it is read")


def warn_if_others_read(name: str, path: str, mode: int) -> None:
    """Log a warning, once, for a file with a secret that other users may read."""
    if mode & 0o077 and path not in _warned:
        _warned.add(path)
        _log.warning(
            "%s %s has mode %o: others may read it; chmod 600 it",
            name,
            path,
            stat.S_IMODE(mode),
        )


def _read_once(path: str, most: int) -> tuple[bytes | None, int]:
    """Return up to a byte more than `most`, and the mode; None if it is not regular."""
    # Without O_NONBLOCK open() of a named pipe waits for its writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)
    try:
        before = os.fstat(descriptor)
        if stat.S_ISDIR(before.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(before.st_mode):
            return None, before.st_mode
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    is_whole = len(data) > most or len(data) == before.st_size
    if before.st_mtime_ns != after.st_mtime_ns or not is_whole:
        raise _UnstableFileError
    return data, before.st_mode
