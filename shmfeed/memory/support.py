"""Whether live feeds can work on this host: its system, then its CPU."""

import os
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

from shmfeed.errors import UnsupportedPlatformError
from shmfeed.memory.words import check_memory_order

_NEEDED: tuple[tuple[ModuleType, tuple[str, ...]], ...] = (
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


# Asked once: a system does not change, and attaching is done on the way to a price.
_ABSENT = [
    f"{owner.__name__}.{name}"
    for owner, names in _NEEDED
    for name in names
    if not hasattr(owner, name)
] + [name for name in _MODULES if not _is_there(name)]


def check(shared_memory: Path) -> None:
    """UnsupportedPlatformError where live feeds cannot work, saying why.

    `shared_memory` is the directory in which segments live.
    """
    absent = _ABSENT if shared_memory.is_dir() else [str(shared_memory), *_ABSENT]
    if absent:
        raise UnsupportedPlatformError(
            "live feeds need POSIX shared memory as Linux has it; not here:"
            f" {', '.join(absent)}; contexts and backtests work without it"
        )
    check_memory_order()
