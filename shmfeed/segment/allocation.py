"""Creation of the shared-memory object, and the errors of a host that refuses it."""

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shmfeed.errors import SegmentError, SegmentFullError, ShmfeedError
from shmfeed.layout import WORD, Geometry
from shmfeed.segment.mapping import Place
from shmfeed.text import MIB, counted, mebibytes

with suppress(ImportError):  # check_platform refuses such a system
    from multiprocessing import resource_tracker, shared_memory

Track = Callable[[Any, str], None]


def create_object(name: str, size: int) -> None:
    """Create the POSIX object at its full size, unknown to the resource tracker.

    The tracker would unlink it when this process dies, but a feed outlives its feeder.
    """
    if sys.version_info >= (3, 13):
        shared_memory.SharedMemory(name, create=True, size=size, track=False).close()
        return
    with _untracked("/" + name):
        shared_memory.SharedMemory(name, create=True, size=size).close()


_patching = threading.Lock()


@contextmanager
def _untracked(name: str) -> Iterator[None]:
    # Between registering a name and unregistering it, a kill would let the tracker
    # unlink the segment of the next feeder.
    register, unregister = resource_tracker.register, resource_tracker.unregister

    def except_name(call: Track) -> Track:
        def filtered(what: str, rtype: str) -> None:
            if what != name:
                call(what, rtype)

        return filtered

    with _patching:
        resource_tracker.register = except_name(register)  # type: ignore[assignment]
        resource_tracker.unregister = except_name(unregister)  # type: ignore[assignment]
        try:
            yield
        finally:
            resource_tracker.register = register
            resource_tracker.unregister = unregister


def reserve(fd: int, start: int, size: int) -> None:
    """Reserve the pages of `size` bytes from byte `start` of an open file.

    A store into reserved pages never raises SIGBUS. Pages that are reserved already
    keep their content. Nothing is reserved if the file system has not that much left.
    After another error the pieces before it stay reserved.

    Raises:
        OSError: As `posix_fallocate` does: ENOSPC, and on tmpfs ENOMEM at the limit of
            a memory cgroup.
    """
    _check_free(fd, start, size)
    # A signal makes tmpfs undo its whole call, and Python then repeats it: under a
    # periodic signal a large call might never end. A piece ends between two signals.
    for at in range(start, start + size, _PIECE_BYTES):
        os.posix_fallocate(fd, at, min(_PIECE_BYTES, start + size - at))


def check_size(directory: Path, size: int) -> None:
    """Raise OSError, ENOSPC, if the file system can never hold a file of this size."""
    filesystem = os.statvfs(directory)
    if 0 < filesystem.f_blocks * filesystem.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _check_free(fd: int, start: int, size: int) -> None:
    # Piece by piece, a request that cannot succeed would first take all that is left,
    # and the host could run out of memory.
    filesystem = os.fstatvfs(fd)
    if not filesystem.f_blocks:  # a tmpfs without a limit
        return
    # Some of the file's own pages may be among those asked for. Those before `start`
    # are not: a file is reserved in ascending order.
    needed = size - max(0, os.fstat(fd).st_blocks * 512 - start)
    if needed > filesystem.f_bavail * filesystem.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_PIECE_BYTES = MIB
_DISK_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


@contextmanager
def allocation_errors(
    where: Place, geometry: Geometry, *, more_streams: int = 0
) -> Iterator[None]:
    """Turn an OSError into SegmentFullError if /dev/shm is full, else SegmentError.

    With `more_streams` the memory is for so many new streams of a segment that exists.
    """
    try:
        yield
    except ShmfeedError:
        raise
    except OSError as error:
        shared = where.segment.parent
        filesystem = os.statvfs(shared)
        free = filesystem.f_bavail * filesystem.f_frsize
        # tmpfs fails with ENOMEM at the limit of a memory cgroup.
        full = error.errno == errno.ENOMEM and free < geometry.needed_bytes
        if full or error.errno in _DISK_FULL:
            needed = _need_of(more_streams, geometry)
            raise _segment_full(where, needed, error, filesystem) from error
        raise SegmentError(
            f"feed {where.name!r} cannot be created or locked on this host: {error};"
            f" nothing was changed; check the permissions of {where.directory} and this"
            " process's limits (ulimit -n, ulimit -v)"
        ) from error


def _segment_full(
    where: Place, needed: str, error: OSError, filesystem: os.statvfs_result
) -> SegmentFullError:
    free = filesystem.f_bavail * filesystem.f_frsize
    no_inodes = filesystem.f_files and not filesystem.f_favail
    files = " and cannot hold more files" if no_inodes else ""
    if error.errno == errno.EFBIG:
        files += ", and this process may not make so large a file (ulimit -f)"
    return SegmentFullError(
        error.errno,
        f"{where.segment.parent} has {mebibytes(free)} MiB free{files}, feed"
        f" {where.name!r} needs {needed}; ask for fewer, or enlarge it (docker:"
        " --shm-size)",
    )


def _need_of(more_streams: int, geometry: Geometry) -> str:
    size = more_streams * geometry.slot_words * WORD
    streams = "another stream" if more_streams == 1 else f"{more_streams} more streams"
    if not more_streams:
        size, streams = geometry.needed_bytes, counted(geometry.max_streams, "stream")
    bars = counted(geometry.history, "bar")
    return f"{mebibytes(size)} MiB for {streams} of {bars}"
