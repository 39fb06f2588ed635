"""Permissions: the feeds' directory, segments, a configuration file with a token."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from shmfeed.doctor.finding import Finding, ok, problem
from shmfeed.errors import BadArgumentError, SegmentFormatError
from shmfeed.segment.locking import check_lock_file
from shmfeed.segment.mapping import place
from shmfeed.settings import loading as settings_file
from shmfeed.settings.schema import TOKEN


def check_permissions() -> Iterator[Finding]:
    """The feeds' directory and what is in it; UnsupportedPlatformError."""
    directory = place("any").directory
    yield check_directory(directory)
    yield from check_files(directory)


def check_directory(directory: Path) -> Finding:
    """Of lock files and sockets: 0700 and ours, or not there yet."""
    try:
        status = directory.lstat()
    except FileNotFoundError:
        return ok(str(directory), "is not there yet; the first feeder makes it")
    fault = None
    if not stat.S_ISDIR(status.st_mode):
        fault = "is no directory"
    elif status.st_uid != os.geteuid():
        fault = f"belongs to user {status.st_uid}, not to {os.geteuid()}"
    elif stat.S_IMODE(status.st_mode) != 0o700:
        fault = f"has mode {stat.S_IMODE(status.st_mode):04o}, not 0700"
    if fault is None:
        return ok(str(directory), "mode 0700, of this user")
    remedy = "move it away; the next feeder makes it"
    if "mode" in fault:
        remedy = f"chmod 700 {directory}"
    return problem(str(directory), f"{fault}: no feeder starts", remedy)


def check_files(directory: Path) -> Iterator[Finding]:
    """Lock files and sockets of ours that others may touch, or that are others'."""
    try:
        paths = sorted(directory.iterdir())
    except OSError:
        return
    for path in paths:
        try:
            status = path.lstat()
        except OSError:  # gone by now
            continue
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            yield problem(
                str(path),
                f"belongs to user {status.st_uid} with mode {mode:04o}; it is private",
                f"stop the feed's feeder and remove it: rm {path}",
            )
        elif path.suffix == ".lock":
            yield from _refused_lock(path)


def _refused_lock(path: Path) -> Iterator[Finding]:
    try:
        check_lock_file(path)
    except SegmentFormatError as error:
        yield problem(
            str(path),
            f"{str(error).removeprefix(f'{path} ')}: no feeder of this feed starts",
            "look at it, and move or remove it while no feeder of this feed runs",
        )


def check_config(path: Path) -> Finding:
    """A file of settings: whether it can be read, and who may read a token in it."""
    name = f"config file {path}"
    try:
        content = settings_file.read_file(path, warn=False)
        mode = stat.S_IMODE(path.stat().st_mode)
    except BadArgumentError as error:
        return problem(
            name, str(error), "correct it; `shmfeed run --help` lists the settings"
        )
    except OSError as error:
        return problem(name, f"{error.strerror}", "correct its path or its mode")
    if content.get(TOKEN) and mode & 0o077:
        return problem(
            name,
            f"holds a token and its mode is {mode:04o}: others may read it",
            f"chmod 600 {path}",
        )
    return ok(name, f"mode {mode:04o}, {len(content)} settings")
