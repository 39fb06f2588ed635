"""What a host may refuse to the maker of a segment, said in words."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from shmfeed.errors import SegmentError, SegmentFullError, ShmfeedError
from shmfeed.layout import Geometry
from shmfeed.memory.segment import Place

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


@contextmanager
def room_for(where: Place, geometry: Geometry) -> Iterator[None]:
    """SegmentFullError for whatever fails because /dev/shm is full, SegmentError for
    whatever else the system refuses."""
    try:
        yield
    except ShmfeedError:
        raise
    except OSError as error:
        shared = where.segment.parent
        room = os.statvfs(shared)
        free = room.f_bavail * room.f_frsize
        # tmpfs says ENOMEM where it has reached the limit of a memory cgroup.
        full = error.errno == errno.ENOMEM and free < geometry.size
        if full or error.errno in _NO_ROOM:
            raise _no_room(where, geometry, error, room) from error
        raise SegmentError(
            f"feed {where.name!r} cannot be held on this host: {error}; nothing was"
            f" changed: look at the rights of {where.directory} and at this process's"
            " limits (ulimit -n, ulimit -v)"
        ) from error


def _no_room(
    where: Place, geometry: Geometry, error: OSError, room: os.statvfs_result
) -> SegmentFullError:
    free = room.f_bavail * room.f_frsize
    files = "" if room.f_favail or not room.f_files else " and cannot hold more files"
    if error.errno == errno.EFBIG:
        files += ", and this process may not make so large a file (ulimit -f)"
    return SegmentFullError(
        error.errno,
        f"{where.segment.parent} has {_mib(free)} MiB free{files}, feed"
        f" {where.name!r} needs {_mib(geometry.size)} MiB for"
        f" {geometry.max_streams} streams of {geometry.history} bars; ask for fewer, or"
        " enlarge it (docker: --shm-size)",
    )


def _mib(size: int) -> str:
    # Of a feed that is smaller than 0.1 MiB it would say that it needs nothing.
    return f"{size / 2**20:.1f}" if size >= 1 << 20 else f"{size / 2**20:.3f}"
