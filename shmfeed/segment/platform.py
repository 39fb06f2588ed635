"""Check that live feeds work on this host: its operating system, its CPU, the core."""

import os
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

from shmfeed.core import check_memory_order
from shmfeed.errors import UnsupportedPlatformError

SHARED_MEMORY = Path("/dev/shm")

Needed = tuple[tuple[ModuleType, tuple[str, ...]], ...]

_NEEDED: Needed = (
    (os, ("O_NOFOLLOW", "O_NONBLOCK", "fchmod", "geteuid", "posix_fallocate")),
    (time, ("CLOCK_BOOTTIME", "clock_gettime_ns", "thread_time_ns")),
)
_MODULES = ("fcntl", "_posixshmem")


def _can_import(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def absent(needed: Needed) -> list[str]:
    """Return the full names of the attributes that this system's modules lack."""
    return [
        f"{owner.__name__}.{name}"
        for owner, names in needed
        for name in names
        if not hasattr(owner, name)
    ]


# Computed once: a system does not change, and a strategy attaches before it reads.
_ABSENT = absent(_NEEDED) + [name for name in _MODULES if not _can_import(name)]


def check_platform() -> None:
    """Raise UnsupportedPlatformError, with the reason, if live feeds cannot work."""
    missing = _ABSENT if SHARED_MEMORY.is_dir() else [str(SHARED_MEMORY), *_ABSENT]
    if missing:
        raise UnsupportedPlatformError(
            "live feeds need POSIX shared memory as Linux has it; this host lacks:"
            f" {', '.join(missing)}; contexts and backtests work without it"
        )
    check_memory_order()
