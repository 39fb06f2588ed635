"""Removing what no feeder holds any more: a feed's segment, and what is beside it.

Of one feed, or of all of this user.
"""

import os
import stat
import struct
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from shmfeed.errors import (
    FeedBusyError,
    SegmentError,
    SegmentFormatError,
)
from shmfeed.layout import H_RETIRED, WORD
from shmfeed.segment.inventory import has_anything, names_here
from shmfeed.segment.locking import identity_of, lock_file, lock_object, make_directory
from shmfeed.segment.mapping import Place, check_ours, not_found, open_checked, place

UNHELD, HELD, FOREIGN, FAILED = "unheld", "held", "foreign", "failed"


class Leftover(NamedTuple):
    """A thing under a feed's name: its size in bytes, and whether it may go.

    `state` is UNHELD where nobody holds it, HELD where a feeder does, FOREIGN where no
    feeder of this user has made it, FAILED where the host refused; `reason` says why
    it has to stay, and is empty where it has not.
    """

    path: Path
    size: int
    state: str = UNHELD
    reason: str = ""


def remove_unheld(where: Place) -> bool:
    """Whether the segment was there, and nobody's, and is gone now.

    With it goes what a killed feeder left beside it; its lock file stays. Its readers
    keep what they have and look for a successor. Raises SegmentFormatError for a file
    that is not ours, which stays, and SegmentError for what the host refuses.
    """
    there = {one.path: one for one in leftovers(where, remove=True)}
    found = there.get(where.segment)
    if found is None or found.state == HELD:
        return False
    if found.state == FOREIGN:
        raise SegmentFormatError(f"{found.path} {found.reason}")
    if found.state == FAILED:
        raise SegmentError(
            f"feed {where.name!r} cannot be removed: it {found.reason}; it is as it was"
        )
    return True


def leftovers(where: Place, remove: bool = False) -> list[Leftover]:
    """What there is under a feed's name; with `remove` what nobody holds is gone.

    That is its segment, an unfinished successor, and its control socket. A feed that
    a feeder holds stays whole, and so does whatever no feeder of this user has made.
    """
    names = where.segment, where.successor, where.socket
    there = [path for path in names if _size(path) is not None]
    if not there:
        return []
    with ExitStack() as locks:
        try:
            if remove:
                make_directory(where.directory)
            if remove or _size(where.lock) is not None:
                locks.callback(lock_file(where).release)
            return _judge(where, there, remove, locks)
        except FeedBusyError as error:
            holder = "another process" if error.pid is None else f"process {error.pid}"
            return _all(there, HELD, f"is held by {holder}")
        except SegmentFormatError as error:
            return _all(there, FOREIGN, f"cannot be locked: {error}")
        except (SegmentError, OSError) as error:
            return _all(there, FAILED, f"cannot be locked: {error}")


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:  # also where the directory is no directory
        return None


def _all(there: list[Path], state: str, reason: str) -> list[Leftover]:
    sizes = ((path, _size(path)) for path in there)
    return [
        Leftover(path, size, state, reason) for path, size in sizes if size is not None
    ]


def _judge(
    where: Place, there: list[Path], remove: bool, locks: ExitStack
) -> list[Leftover]:
    """All of it is judged before anything goes: FeedBusyError leaves it whole."""
    found = []
    for path in there:
        size = _size(path)
        if size is None:  # gone meanwhile, and its name may be another's next
            continue
        found.append(Leftover(path, size, *_objection(where, path, locks)))
    if remove:
        found = [_unlink(one) if one.state == UNHELD else one for one in found]
    return found


def _objection(where: Place, path: Path, locks: ExitStack) -> tuple[str, str]:
    """State and reason; what may go is locked against a feeder from here on."""
    try:
        if path == where.socket:
            _check_socket(path)
        else:
            _lock(where._replace(segment=path), locks)
    except SegmentFormatError as error:
        return FOREIGN, str(error).removeprefix(f"{path} ")
    except SegmentError as error:
        return FAILED, str(error).removeprefix(f"{path} ")
    except OSError as error:
        return FAILED, f"cannot be examined: {error.strerror}"
    return UNHELD, ""


def _check_socket(path: Path) -> None:
    # Only the holder of the lock file makes one, and that is who asks.
    status = path.lstat()
    if not (stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid()):
        raise SegmentFormatError(f"{path} is no socket of this user; move it away")


def _lock(where: Place, locks: ExitStack) -> None:
    fd = open_checked(where, os.O_RDWR)
    locks.callback(os.close, fd)
    ready = check_ours(where, fd)
    # The holder has this lock too, which holds without the lock file.
    locked = lock_object(where, where.segment)
    locks.callback(os.close, locked)
    if identity_of(fd) != identity_of(locked):
        raise FeedBusyError(f"{where.segment} was replaced just now")
    # Nobody reads one that was never ready, and it has no page to say it on.
    if ready and os.fstat(fd).st_size > H_RETIRED * WORD:
        locks.callback(_retire_if_gone, fd)


def _retire_if_gone(fd: int) -> None:
    """Sends readers to look for a successor."""
    if not os.fstat(fd).st_nlink:
        os.pwrite(fd, struct.pack("=q", 1), H_RETIRED * WORD)


def _unlink(one: Leftover) -> Leftover:
    try:
        with suppress(FileNotFoundError):
            one.path.unlink()
    except OSError as error:
        return one._replace(state=FAILED, reason=f"cannot be removed: {error.strerror}")
    return one


_NO_NAME = "bears no feed's name: no feeder has made it; it stays as it is"


def clean_feed(name: str, remove: bool) -> list[Leftover]:
    """What there is of a feed; with `remove` what nobody holds is gone.

    FeedNotFoundError where there is nothing, BadArgumentError for a name that is not
    accepted, UnsupportedPlatformError.
    """
    where = place(name)
    if not has_anything(where):
        raise not_found(where)
    return leftovers(where, remove)


def clean_all(remove: bool) -> list[Leftover]:
    """The same of every feed of this user, and of what only bears our prefix."""
    names = names_here()
    found = [one for name in names.feeds for one in leftovers(place(name), remove)]
    return found + [Leftover(path, 0, FOREIGN, _NO_NAME) for path in names.strangers]
