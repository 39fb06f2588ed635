"""Capacity for a feed's segment: shared memory, the machine's memory, a container."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shmfeed.doctor import cgroup
from shmfeed.doctor.cgroup import MEMORY, PIDS
from shmfeed.doctor.finding import Finding, note, ok, problem
from shmfeed.errors import ShmfeedError
from shmfeed.layout import Geometry, default_guard
from shmfeed.segment import platform
from shmfeed.segment.mapping import open_segment, place
from shmfeed.settings.model import Settings
from shmfeed.text import MIB, counted, mebibytes

_FILES = 4  # a segment, its successor, its lock, its socket
_THREADS = 40  # a feeder's, with 32 control connections
_IN_MEMORY = {"tmpfs", "ramfs"}


class PlannedSegment(NamedTuple):
    """The segment that a feeder would use.

    Attributes:
        feed: The feed's name.
        geometry: Its streams, history and guard.
        new_bytes: The bytes to allocate, 0 where an existing segment can be reused.
    """

    feed: str
    geometry: Geometry
    new_bytes: int

    @property
    def description(self) -> str:
        streams, history, *_ = self.geometry
        reused = "" if self.new_bytes else ", and exists already"
        return (
            f"feed {self.feed!r} takes {mebibytes(self.geometry.needed_bytes)} MiB,"
            f" {counted(streams, 'stream')} of {counted(history, 'bar')}{reused}"
        )


def plan_segment(settings: Settings) -> PlannedSegment:
    """Return the segment that a feeder with these settings would use.

    A feeder reuses an existing segment of the same geometry. It creates any other one
    beside the existing segment, which it then replaces.
    """
    guard = settings.guard or default_guard(settings.history)
    streams, existing = settings.planned_streams, None
    with suppress(ShmfeedError):
        existing = open_segment(place(settings.feed)).geometry
        wanted = len(settings.streams)
        streams = settings.capacity_beside(existing.max_streams, wanted)
    geometry = Geometry(streams, settings.history, guard)
    new_bytes = 0 if existing == geometry else geometry.needed_bytes
    return PlannedSegment(settings.feed, geometry, new_bytes)


def check_capacity(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about the capacity for a feed with these settings.

    Raises:
        UnsupportedPlatformError: This platform has no live feeds.
    """
    platform.check_platform()
    shared = platform.SHARED_MEMORY
    planned, container = plan_segment(settings), cgroup.in_container()
    yield check_mount(shared)
    if not is_read_only(shared):
        yield check_space(shared, planned, container)
        yield check_inodes(shared)
    yield check_memory(planned)
    yield check_processes()


def is_read_only(shared: Path) -> bool:
    """Return True if the file system of shared memory is mounted read-only here."""
    return bool(os.statvfs(shared).f_flag & os.ST_RDONLY)


def check_mount(shared: Path, mounts: Path = Path("/proc/self/mountinfo")) -> Finding:
    """Check that shared memory is in memory, and writable."""
    name = f"mount of {shared}"
    if is_read_only(shared):
        return problem(
            name,
            "is read-only; feeds can be read here, and no feeder can start",
            f"mount -o remount,rw {shared}",
        )
    if not os.access(shared, os.W_OK | os.X_OK):
        mode = stat.S_IMODE(shared.stat().st_mode)
        return problem(
            name,
            f"user {os.geteuid()} cannot write to it; its mode is {mode:04o}",
            f"as root: chmod 1777 {shared}",
        )
    kind = _filesystem_type(shared, mounts)
    if kind is not None and kind not in _IN_MEMORY:
        return note(
            name,
            f"its file system is {kind}, not tmpfs; bars may be written to a disk",
            f"mount -t tmpfs -o mode=1777 tmpfs {shared}",
        )
    return ok(name, f"{kind or 'a directory'}, writable")


def check_space(shared: Path, planned: PlannedSegment, container: bool) -> Finding:
    """Check that shared memory has space for the segment."""
    name, usage = f"space in {shared}", os.statvfs(shared)
    free, total = usage.f_bavail * usage.f_frsize, usage.f_blocks * usage.f_frsize
    if not usage.f_blocks:  # a tmpfs without a limit
        return ok(name, f"no limit; {planned.description}")
    found = (
        f"{mebibytes(free)} MiB of {mebibytes(total)} MiB free; {planned.description}"
    )
    remedy = _enlarge(shared, total + planned.new_bytes, container)
    if planned.new_bytes > free:
        return problem(name, found, remedy)
    if planned.new_bytes > free // 2:
        return note(name, f"{found}: more than half of the free space", remedy)
    return ok(name, found)


def _enlarge(shared: Path, size: int, container: bool) -> str:
    mib = -(-size // MIB) + 16
    smaller = "lower history or max_streams, run `shmfeed clean`, or "
    if container:
        return (
            f"{smaller}enlarge it: docker run --shm-size={mib}m; Kubernetes: an"
            f" emptyDir with medium: Memory at {shared}, sizeLimit {mib}Mi"
        )
    return f"{smaller}enlarge it: mount -o remount,size={mib}m {shared}"


def check_inodes(shared: Path) -> Finding:
    """Check that shared memory has inodes for a feed's files."""
    name, usage = f"inodes in {shared}", os.statvfs(shared)
    if not usage.f_files:
        return ok(name, "no limit")
    if usage.f_favail < _FILES:
        return problem(
            name,
            f"{usage.f_favail} are free; a feed needs {_FILES}",
            f"remove files, or mount -o remount,nr_inodes={usage.f_files * 2} {shared}",
        )
    return ok(name, f"{usage.f_favail:,} are free")


def check_memory(
    planned: PlannedSegment,
    proc: Path = cgroup.PROC,
    cgroups: Path = cgroup.CGROUPS,
) -> Finding:
    """Check that machine and container have memory for the segment's pages."""
    limit = cgroup.tightest_limit(MEMORY, proc, cgroups)
    available = _available_memory(proc)
    found = "no limit of a container" if limit is None else _describe_limit(limit)
    if available is not None:
        found += f"; the machine has {mebibytes(available)} MiB available"
    if limit is not None and planned.new_bytes > limit.free:
        more = mebibytes(planned.new_bytes - limit.free)
        return problem(
            "memory",
            f"{found}; {planned.description}, which counts towards the limit",
            f"raise the limit by at least {more} MiB (docker: --memory; Kubernetes:"
            " resources.limits.memory), or lower history",
        )
    if available is not None and planned.new_bytes > available:
        return problem(
            "memory", f"{found}; {planned.description}", "free memory, or lower history"
        )
    return ok("memory", found)


def _describe_limit(limit: cgroup.Limit) -> str:
    used, maximum = mebibytes(limit.used), mebibytes(limit.maximum)
    return f"{used} MiB of {maximum} MiB used ({limit.path})"


def check_processes(
    proc: Path = cgroup.PROC, cgroups: Path = cgroup.CGROUPS
) -> Finding:
    """Check that a container allows as many threads as a feeder needs."""
    limit = cgroup.tightest_limit(PIDS, proc, cgroups)
    if limit is None:
        return ok("processes", "no limit of a container")
    found = f"{limit.used} of {limit.maximum} used ({limit.path})"
    if limit.free < _THREADS:
        return problem(
            "processes",
            f"{found}; a feeder may need {_THREADS} threads",
            "raise pids.max (docker: --pids-limit; systemd: TasksMax=)",
        )
    return ok("processes", found)


def _available_memory(proc: Path) -> int | None:
    try:
        lines = (proc / "meminfo").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _filesystem_type(shared: Path, mounts: Path) -> str | None:
    """Return the type of the file system that holds a path, None if it is unknown."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    kinds: dict[str, str] = {}
    for line in lines:
        left, _, right = line.partition(" - ")
        if right and len(left.split()) > 4:
            kinds[left.split()[4]] = right.split()[0]  # the last mount is on top
    for mount_point in (shared, *shared.parents):
        if str(mount_point) in kinds:
            return kinds[str(mount_point)]
    return None
