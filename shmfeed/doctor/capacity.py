"""Room for the planned segment: /dev/shm, memory, a container's limits."""

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
from shmfeed.text import MIB, mebibytes

_FILES = 4  # a segment, its successor, its lock, its socket
_THREADS = 40  # a feeder's, with 32 control connections
_IN_MEMORY = {"tmpfs", "ramfs"}


class Plan(NamedTuple):
    """The segment that a feeder with these settings makes; `need` is what is new."""

    feed: str
    geometry: Geometry
    need: int

    @property
    def words(self) -> str:
        streams, history, _ = self.geometry
        new = "" if self.need else ", which is there already"
        size = f"{mebibytes(self.geometry.size)} MiB"
        return (
            f"feed {self.feed!r} takes {size}, {streams} streams of {history} bars{new}"
        )


def plan_of(settings: Settings) -> Plan:
    """What a feeder would ask for: all of it, unless its segment serves as it is.

    One of another size is replaced by one that is made beside it.
    """
    guard = settings.guard or default_guard(settings.history)
    streams, there = settings.planned_streams, None
    with suppress(ShmfeedError):
        there = open_segment(place(settings.feed)).geometry
        wanted = len(settings.streams)
        streams = settings.capacity_beside(there.max_streams, wanted)
    geometry = Geometry(streams, settings.history, guard)
    return Plan(settings.feed, geometry, 0 if there == geometry else geometry.size)


def check_room(settings: Settings) -> Iterator[Finding]:
    """All of this module; UnsupportedPlatformError where feeds have no place."""
    platform.check_platform()
    shared = platform.SHARED_MEMORY
    plan, container = plan_of(settings), cgroup.in_container()
    yield check_mount(shared)
    yield check_space(shared, plan, container)
    yield check_inodes(shared)
    yield check_memory(plan)
    yield check_pids()


def check_mount(shared: Path, mounts: Path = Path("/proc/self/mountinfo")) -> Finding:
    """Whether it is memory, and may be written."""
    name = f"{shared} as it is mounted"
    if os.statvfs(shared).f_flag & os.ST_RDONLY:
        return problem(name, "is read-only", f"mount -o remount,rw {shared}")
    if not os.access(shared, os.W_OK | os.X_OK):
        mode = stat.S_IMODE(shared.stat().st_mode)
        return problem(
            name,
            f"may not be written by user {os.geteuid()}, its mode is {mode:04o}",
            f"as root: chmod 1777 {shared}",
        )
    kind = _filesystem(shared, mounts)
    if kind is not None and kind not in _IN_MEMORY:
        return note(
            name,
            f"is {kind}, which may not be memory: bars would go to a disk",
            f"mount -t tmpfs -o mode=1777 tmpfs {shared}",
        )
    return ok(name, f"{kind or 'a directory'}, writable")


def check_space(shared: Path, plan: Plan, container: bool) -> Finding:
    """Its free bytes against the plan."""
    name, room = f"room in {shared}", os.statvfs(shared)
    free, total = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    if not room.f_blocks:  # a tmpfs without a limit
        return ok(name, f"no limit; {plan.words}")
    found = f"{mebibytes(free)} MiB of {mebibytes(total)} MiB free; {plan.words}"
    if plan.need > free:
        return problem(name, found, _enlarge(shared, total + plan.need, container))
    if plan.need > free // 2:
        remedy = _enlarge(shared, total + plan.need, container)
        return note(name, f"{found}: more than half of it", remedy)
    return ok(name, found)


def _enlarge(shared: Path, size: int, container: bool) -> str:
    megabytes = -(-size // MIB) + 16
    fewer = "lower history or max_streams, run `shmfeed clean`, or "
    if container:
        return (
            f"{fewer}enlarge it: docker run --shm-size={megabytes}m; Kubernetes: an"
            f" emptyDir with medium: Memory at {shared}, sizeLimit {megabytes}Mi"
        )
    return f"{fewer}enlarge it: mount -o remount,size={megabytes}m {shared}"


def check_inodes(shared: Path) -> Finding:
    """Its free inodes."""
    room = os.statvfs(shared)
    if room.f_files and room.f_favail < _FILES:
        return problem(
            f"files in {shared}",
            f"{room.f_favail} more can be made, a feed needs {_FILES}",
            f"remove some, or mount -o remount,nr_inodes={room.f_files * 2} {shared}",
        )
    free = f"{room.f_favail:,} more" if room.f_files else "any number"
    return ok(f"files in {shared}", f"{free} can be made")


def check_memory(
    plan: Plan,
    proc: Path = cgroup.PROC,
    cgroups: Path = cgroup.CGROUPS,
) -> Finding:
    """Memory itself: a page of /dev/shm counts like any other."""
    limit = cgroup.tightest(MEMORY, proc, cgroups)
    free = _available(proc)
    found = "no limit of a container" if limit is None else _limit_words(limit)
    if free is not None:
        found += f"; the machine has {mebibytes(free)} MiB available"
    if limit is not None and plan.need > limit.free:
        return problem(
            "memory",
            f"{found}; {plan.words}, whose pages count",
            f"raise the limit by {mebibytes(plan.need - limit.free)} MiB at least"
            " (docker:"
            " --memory; Kubernetes: resources.limits.memory), or lower history",
        )
    if free is not None and plan.need > free:
        return problem(
            "memory", f"{found}; {plan.words}", "free memory, or lower history"
        )
    return ok("memory", found)


def _limit_words(limit: cgroup.Limit) -> str:
    used, most = mebibytes(limit.used), mebibytes(limit.most)
    return f"{used} MiB of {most} MiB used ({limit.where})"


def check_pids(proc: Path = cgroup.PROC, cgroups: Path = cgroup.CGROUPS) -> Finding:
    """How many processes and threads a container may have."""
    limit = cgroup.tightest(PIDS, proc, cgroups)
    if limit is None:
        return ok("processes", "no limit of a container")
    found = f"{limit.used} of {limit.most} used ({limit.where})"
    if limit.free < _THREADS:
        return problem(
            "processes",
            f"{found}; a feeder may need {_THREADS} threads",
            "raise pids.max (docker: --pids-limit; systemd: TasksMax=)",
        )
    return ok("processes", found)


def _available(proc: Path) -> int | None:
    try:
        lines = (proc / "meminfo").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _filesystem(shared: Path, mounts: Path) -> str | None:
    """The type of the file system that is mounted there, None if that is unknown."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    kinds: dict[str, str] = {}
    for line in lines:
        left, _, right = line.partition(" - ")
        if right and len(left.split()) > 4:
            kinds[left.split()[4]] = right.split()[0]  # the last mount is on top
    for place_of in (shared, *shared.parents):
        if str(place_of) in kinds:
            return kinds[str(place_of)]
    return None
