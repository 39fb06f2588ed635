"""Making a POSIX shared-memory object that outlives its maker.

What a host may refuse to the maker of a segment, said in words.
"""

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from shmfeed.errors import SegmentError, SegmentFullError, ShmfeedError
from shmfeed.layout import Geometry
from shmfeed.segment.mapping import Place

with suppress(ImportError):  # where there are none, no feed has a place
    from multiprocessing import resource_tracker, shared_memory

Track = Callable[[Any, str], None]


def make_object(name: str, size: int) -> None:
    """Create the POSIX object at its full size; no resource tracker hears of it.

    The tracker would unlink it when this process dies: a feed outlives its feeder.
    """
    if sys.version_info >= (3, 13):
        shared_memory.SharedMemory(name, create=True, size=size, track=False).close()
        return
    with _untracked("/" + name):
        shared_memory.SharedMemory(name, create=True, size=size).close()


_patching = threading.Lock()


@contextmanager
def _untracked(name: str) -> Iterator[None]:
    """Keep one name from the resource tracker. Registering and taking it back would
    leave a moment in which a kill lets the tracker remove a successor's feed."""
    register, unregister = resource_tracker.register, resource_tracker.unregister

    def but_for(call: Track) -> Track:
        def filtered(what: str, rtype: str) -> None:
            if what != name:
                call(what, rtype)

        return filtered

    with _patching:
        resource_tracker.register = but_for(register)  # type: ignore[assignment]
        resource_tracker.unregister = but_for(unregister)  # type: ignore[assignment]
        try:
            yield
        finally:
            resource_tracker.register = register
            resource_tracker.unregister = unregister


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
