"""Memory and process limits of control groups (cgroups), version 1 and 2."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # cgroup v1 writes nearly 2**63 where nothing is limited
_MAX_DIGITS = 20  # no number of bytes has more
_CONTAINER_WORDS = ("docker", "kubepods", "containerd", "libpod", "lxc", "crio")


class Limit(NamedTuple):
    """A limit and its use, in bytes or processes.

    Attributes:
        maximum: The limit.
        used: The part of it that is used.
        path: The file that holds the limit.
    """

    maximum: int
    used: int
    path: Path

    @property
    def free(self) -> int:
        return max(0, self.maximum - self.used)


class ControllerFiles(NamedTuple):
    """The file names of one controller, by cgroup version.

    Attributes:
        controller: The controller's name.
        maximum: The file that holds the limit.
        used: The file that holds its use.
        reclaimable: The key in memory.stat of the part that the kernel can reclaim.
    """

    controller: str
    maximum: dict[int, str]
    used: dict[int, str]
    reclaimable: dict[int, str]


MEMORY = ControllerFiles(
    "memory",
    {1: "memory.limit_in_bytes", 2: "memory.max"},
    {1: "memory.usage_in_bytes", 2: "memory.current"},
    {1: "total_inactive_file", 2: "inactive_file"},
)
PIDS = ControllerFiles(
    "pids", {1: "pids.max", 2: "pids.max"}, {1: "pids.current", 2: "pids.current"}, {}
)


def tightest_limit(
    files: ControllerFiles, proc: Path = PROC, cgroups: Path = CGROUPS
) -> Limit | None:
    """Return the limit with the least left, of this process's group and its parents.

    Return None where nothing is limited or no limit can be read.
    """
    limits = [
        limit
        for version, directory in _groups(files, proc, cgroups)
        if (limit := _read_limit(files, version, directory)) is not None
    ]
    return min(limits, key=lambda limit: limit.free, default=None)


def in_container(proc: Path = PROC, root: Path = Path("/")) -> bool:
    """Return True if this process seems to run in a container.

    It is a guess, good enough to word a remedy.
    """
    if any((root / name).exists() for name in (".dockerenv", "run/.containerenv")):
        return True
    groups = _read_text(proc / "self/cgroup") or ""
    return any(word in groups for word in _CONTAINER_WORDS)


def _groups(
    files: ControllerFiles, proc: Path, cgroups: Path
) -> Iterator[tuple[int, Path]]:
    """Yield version and directory of each group of this process, innermost first."""
    for line in (_read_text(proc / "self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            version, top = 2, cgroups
        elif files.controller in controllers.split(","):
            version, top = 1, cgroups / controllers
            top = top if top.is_dir() else cgroups / files.controller
        else:
            continue
        # In a container the path may be the host's, which is not mounted here.
        inner = top / path.lstrip("/")
        while inner != top and top in inner.parents:
            yield version, inner
            inner = inner.parent
        yield version, top


def _read_limit(files: ControllerFiles, version: int, directory: Path) -> Limit | None:
    path = directory / files.maximum[version]
    maximum, used = _read_number(path), _read_number(directory / files.used[version])
    if maximum is None or used is None or maximum >= _UNLIMITED:
        return None
    if version in files.reclaimable:
        used -= _read_reclaimable(directory, files.reclaimable[version])
    return Limit(maximum, max(0, used), path)


def _read_reclaimable(directory: Path, key: str) -> int:
    for line in (_read_text(directory / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdigit():
            return int(value)
    return 0


def _read_number(path: Path) -> int | None:
    text = (_read_text(path) or "").strip()[:_MAX_DIGITS]
    # The text is `max` where nothing is limited.
    return int(text) if text.isascii() and text.isdigit() else None


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return None
