"""Whether live feeds can work on this host: its system, then its CPU and the core."""

import os
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

from shmfeed.core import check_memory_order
from shmfeed.errors import UnsupportedPlatformError

Needed = tuple[tuple[ModuleType, tuple[str, ...]], ...]

_NEEDED: Needed = (
    (os, ("O_NOFOLLOW", "O_NONBLOCK", "fchmod", "geteuid", "posix_fallocate")),
    (time, ("CLOCK_BOOTTIME", "clock_gettime_ns", "thread_time_ns")),
)
_MODULES = ("fcntl", "_posixshmem")


def _is_there(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def absent(needed: Needed) -> list[str]:
    """What this system does not have of what is needed, by full names."""
    return [
        f"{owner.__name__}.{name}"
        for owner, names in needed
        for name in names
        if not hasattr(owner, name)
    ]


# Asked once: a system does not change, and attaching is done on the way to a price.
_ABSENT = absent(_NEEDED) + [name for name in _MODULES if not _is_there(name)]


def check(shared_memory: Path) -> None:
    """UnsupportedPlatformError where live feeds cannot work, saying why.

    `shared_memory` is the directory in which segments live.
    """
    missing = _ABSENT if shared_memory.is_dir() else [str(shared_memory), *_ABSENT]
    if missing:
        raise UnsupportedPlatformError(
            "live feeds need POSIX shared memory as Linux has it; not here:"
            f" {', '.join(missing)}; contexts and backtests work without it"
        )
    check_memory_order()
