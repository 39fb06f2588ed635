"""The limits that a container or a service sets: control groups, version 1 and 2."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 says nearly 2**63 for no limit
_DIGITS = 20  # more are no number of bytes
_SIGNS = ("docker", "kubepods", "containerd", "libpod", "lxc", "crio")


class Limit(NamedTuple):
    """A limit and what is used of it, in bytes or processes; `where` is its file."""

    most: int
    used: int
    where: Path

    @property
    def free(self) -> int:
        return max(0, self.most - self.used)


class Names(NamedTuple):
    """The files of a controller, by version."""

    controller: str
    most: dict[int, str]
    used: dict[int, str]
    reclaimable: dict[int, str]  # the key in memory.stat of what can be given back


MEMORY = Names(
    "memory",
    {1: "memory.limit_in_bytes", 2: "memory.max"},
    {1: "memory.usage_in_bytes", 2: "memory.current"},
    {1: "total_inactive_file", 2: "inactive_file"},
)
PIDS = Names(
    "pids", {1: "pids.max", 2: "pids.max"}, {1: "pids.current", 2: "pids.current"}, {}
)


def tightest(names: Names, proc: Path = PROC, cgroups: Path = CGROUPS) -> Limit | None:
    """The limit that leaves least, of this process's group and those above it.

    None where nothing is limited, or nothing can be read.
    """
    limits = [
        limit
        for version, directory in _groups(names, proc, cgroups)
        if (limit := _limit(names, version, directory)) is not None
    ]
    return min(limits, key=lambda limit: limit.free, default=None)


def in_container(proc: Path = PROC, root: Path = Path("/")) -> bool:
    """Whether this looks like a container, for the words of a remedy."""
    if any((root / name).exists() for name in (".dockerenv", "run/.containerenv")):
        return True
    groups = _text(proc / "self/cgroup") or ""
    return any(sign in groups for sign in _SIGNS)


def _groups(names: Names, proc: Path, cgroups: Path) -> Iterator[tuple[int, Path]]:
    """Version and directory of each group that this process is in, innermost first."""
    for line in (_text(proc / "self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            version, top = 2, cgroups
        elif names.controller in controllers.split(","):
            version, top = 1, cgroups / controllers
            top = top if top.is_dir() else cgroups / names.controller
        else:
            continue
        # In a container the path may be the host's, which is not mounted here.
        inner = top / path.lstrip("/")
        while inner != top and top in inner.parents:
            yield version, inner
            inner = inner.parent
        yield version, top


def _limit(names: Names, version: int, directory: Path) -> Limit | None:
    where = directory / names.most[version]
    most, used = _number(where), _number(directory / names.used[version])
    if most is None or used is None or most >= _UNLIMITED:
        return None
    if version in names.reclaimable:
        used -= _reclaimable(directory, names.reclaimable[version])
    return Limit(most, max(0, used), where)


def _reclaimable(directory: Path, key: str) -> int:
    for line in (_text(directory / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdigit():
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    text = (_text(path) or "").strip()[:_DIGITS]
    return int(text) if text.isascii() and text.isdigit() else None  # `max` is none


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return None
