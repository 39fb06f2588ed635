"""Facts about the machine and its load, printed with every result."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from shmfeed import core

_LIBRARIES = ("numpy", "pandas", "msgspec", "websocket-client")
_RIVALS = ("lmdb", "iceoryx2", "redis")  # shown where they are installed

_PROCESS_CLOCK = 2  # CPUCLOCK_SCHED, as clock_getcpuclockid(3) makes it


def describe_machine() -> dict[str, str]:
    """Return facts about hardware, software and load, in display order."""
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
    """Return the CPU time of a process so far, user and system, all threads."""
    # The kernel's clock of a process has nanoseconds, /proc/PID/stat hundredths.
    return time.clock_gettime(~pid << 3 | _PROCESS_CLOCK)


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
