"""The machine that figures were taken on: they mean nothing without it."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from shmfeed import core

_LIBRARIES = ("numpy", "pandas", "msgspec", "websocket-client")
_RIVALS = ("lmdb", "iceoryx2", "redis")  # those that are installed


def machine() -> dict[str, str]:
    """What it is and how busy it is, in the order in which it is to be read."""
    return {
        "CPU": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "core": core.build,
        **{library: version(library) for library in _LIBRARIES},
        **dict(_installed()),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, in user and kernel, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _installed() -> Iterator[tuple[str, str]]:
    for library in _RIVALS:
        with suppress(PackageNotFoundError):
            yield library, version(library)


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown"
