"""Permissions of the feeds' directory, its files, a group, and a file with a token."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from shmfeed import accounts
from shmfeed.accounts import OWNER_VARIABLE, group_number, may_give_to
from shmfeed.doctor.finding import Finding, ok, problem
from shmfeed.doctor.session import user_name
from shmfeed.errors import BadArgumentError, SegmentFormatError
from shmfeed.listing import list_feeds
from shmfeed.segment.locking import check_lock_file
from shmfeed.segment.mapping import place
from shmfeed.settings import loading as settings_file
from shmfeed.settings.schema import SECRETS
from shmfeed.text import counted


def check_permissions() -> Iterator[Finding]:
    """Yield the findings about this user's feeds' directory and the files in it.

    Raises:
        UnsupportedPlatformError: This platform has no live feeds.
    """
    directory = place("any").directory
    yield check_directory(directory)
    yield from check_files(directory)


def check_directory(directory: Path) -> Finding:
    """Check that the feeds' directory is private to this user, if it exists."""
    try:
        status = directory.lstat()
    except FileNotFoundError:
        return ok(str(directory), "does not exist yet; the first feeder creates it")
    mode = stat.S_IMODE(status.st_mode)
    remedy = "move it away; the next feeder creates it"
    if not stat.S_ISDIR(status.st_mode):
        fault = "is not a directory"
    elif status.st_uid != os.geteuid():
        fault = f"belongs to user {status.st_uid}, not to {os.geteuid()}"
    elif mode == 0o750:
        group = f"mode 0750, of this user; group {status.st_gid} may look into it"
        return ok(str(directory), group)
    elif mode != 0o700:
        fault, remedy = f"has mode {mode:04o}, not 0700", f"chmod 700 {directory}"
    else:
        return ok(str(directory), "mode 0700, of this user")
    return problem(str(directory), f"{fault}; feeders refuse to start", remedy)


def check_files(directory: Path) -> Iterator[Finding]:
    """Yield a problem for each lock file or socket that is not private to this user."""
    try:
        paths = sorted(directory.iterdir())
    except OSError:
        return
    for path in paths:
        try:
            status = path.lstat()
        except OSError:  # removed since the directory was read
            continue
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid != os.geteuid() or mode & 0o077:
            yield problem(
                str(path),
                f"belongs to user {status.st_uid} and has mode {mode:04o}; only user"
                f" {os.geteuid()} may have access to it",
                f"stop the feed's feeder and remove it: rm {path}",
            )
        elif path.suffix == ".lock":
            yield from _check_lock_file(path)


def _check_lock_file(path: Path) -> Iterator[Finding]:
    try:
        check_lock_file(path)
    except SegmentFormatError as error:
        yield problem(
            str(path),
            f"{str(error).removeprefix(f'{path} ')}; this feed's feeder refuses to"
            " start",
            "inspect it, and move or remove it while no feeder of this feed runs",
        )


def check_group(group: str | None) -> Iterator[Finding]:
    """Check that a feeder of this user may let a group read its feed."""
    if group is None:
        return
    if may_give_to(group_number(group)):
        yield ok("group", f"members of {group} may read the feed, with --owner")
        return
    yield problem(
        "group",
        f"user {os.geteuid()} is no member of group {group}; no feeder starts",
        f"as root: usermod -aG {group} {user_name(os.geteuid())}, and log in again; or"
        " SupplementaryGroups= in the feeder's unit",
    )


def check_owner(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check that this user may read the feeds of the user that SHMFEED_OWNER names."""
    named = environ.get(OWNER_VARIABLE)
    if not named:
        return
    try:
        owner = accounts.check_owner(OWNER_VARIABLE, named)
    except BadArgumentError as error:
        yield problem(OWNER_VARIABLE, str(error), "correct it")
        return
    for row in list_feeds(owner):
        where = f"feed {row['feed']} of user {named}"
        if row["reason"] is None:
            yield ok(where, "this user may read it")
        else:
            yield problem(
                where, row["reason"], "give its feeder a group of this user's"
            )


def check_config_file(path: Path) -> Finding:
    """Check that a config file is well-formed, and private if it contains a secret."""
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
    if any(map(content.get, SECRETS)) and mode & 0o077:
        return problem(
            name,
            f"contains a secret and has mode {mode:04o}; other users can read it",
            f"chmod 600 {path}",
        )
    return ok(name, f"mode {mode:04o}, {counted(len(content), 'setting')}")
