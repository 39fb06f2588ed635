"""The core of this process: the C extension if it was built, else pure Python.

Both have the same names and signatures, and pure Python is the definition. The choice
is made once, at import; SHMFEED_PURE=1 asks for pure Python. All other modules take
the classes from here.
"""

import copyreg
import os
import platform
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from shmfeed import layout
from shmfeed.cutting import read_cut, read_list
from shmfeed.errors import UnsupportedPlatformError
from shmfeed.follower import ReattachingReader
from shmfeed.memory import rows
from shmfeed.memory.futex import futex_load, futex_spin, futex_wait, futex_wait_any
from shmfeed.memory.keeping import kept_bytes, limit_kept
from shmfeed.memory.rows import Rows, Slice
from shmfeed.memory.wakeup import Eventcount, sleep_past, sleep_past_any, spin_past
from shmfeed.memory.words import use_fence
from shmfeed.ringbuf import RingReader, RingWriter
from shmfeed.validation import check_switch

PURE = "SHMFEED_PURE"  # the variable that asks for pure Python
NAME = "shmfeed._ringbuf"
# The names that the extension must have on every system; Linux has more.
_REQUIRED_NAMES = (
    "ReattachingReader",
    "RingReader",
    "RingWriter",
    "Rows",
    "Slice",
    "fence",
    "kept_bytes",
    "limit_kept",
    "read_cut",
    "read_list",
)


def _choose() -> tuple[ModuleType | None, str]:
    if check_switch(PURE, os.environ.get(PURE, "")):
        return None, f"{PURE} asks for it"
    try:
        extension = import_module(NAME)
    except ImportError as error:
        if error.name == NAME and isinstance(error, ModuleNotFoundError):
            return None, "the C core was not built"
        return None, f"the C core cannot be loaded: {error}"
    if not _fits(extension.LAYOUT):
        return None, "the C core was built for another layout"
    if lacking := [name for name in _REQUIRED_NAMES if not hasattr(extension, name)]:
        return None, f"the C core was built from other sources: it lacks {lacking[0]}"
    return extension, ""


def _fits(compiled: dict[str, int]) -> bool:
    # The constants that were compiled in are still those of layout.py.
    here = vars(layout) | {"COLUMNS": len(layout.COLUMNS)}
    return all(here.get(name) == value for name, value in compiled.items())


extension, WHY = _choose()  # None with pure Python, and then the reason

__all__ = [
    "REMEDY",
    "WHY",
    "Eventcount",
    "ReattachingReader",
    "RingReader",
    "RingWriter",
    "Rows",
    "Slice",
    "build",
    "check_memory_order",
    "futex_load",
    "futex_spin",
    "futex_wait",
    "futex_wait_any",
    "kept_bytes",
    "limit_kept",
    "read_cut",
    "read_list",
    "sleep_past",
    "sleep_past_any",
    "spin_past",
]


def _refuse_pickle(_: Slice) -> str:
    raise TypeError(
        "a Slice cannot be pickled or copied by module copy: its rows are in shared"
        " memory and may be written over; pickle rows.copy() or ring.snapshot(n)"
    )


def _as_pure(private: Rows) -> tuple[type[Rows], tuple[object, ...]]:
    # A pickle or copy of C's rows can be loaded where there is no C core.
    return rows.Rows, (private.block, private.first, private.forming)


if not TYPE_CHECKING and extension is not None:
    Rows, Slice, ReattachingReader = (
        extension.Rows,
        extension.Slice,
        extension.ReattachingReader,
    )
    RingReader, RingWriter = extension.RingReader, extension.RingWriter
    read_cut, read_list = extension.read_cut, extension.read_list
    copyreg.pickle(Rows, _as_pure)
    kept_bytes, limit_kept = extension.kept_bytes, extension.limit_kept
    use_fence(extension.fence)
    if hasattr(extension, "Eventcount"):  # on Linux
        Eventcount = extension.Eventcount
        sleep_past, spin_past = extension.sleep_past, extension.spin_past
        sleep_past_any = extension.sleep_past_any
        futex_load, futex_spin = extension.futex_load, extension.futex_spin
        futex_wait, futex_wait_any = extension.futex_wait, extension.futex_wait_any

copyreg.pickle(Slice, _refuse_pickle)

build = "pure Python" if extension is None else "C"
REMEDY = (  # how to get the C core
    f"unset {PURE}"
    if WHY.startswith(PURE)
    else "install a C compiler and Python's headers, then reinstall shmfeed from its"
    " clone or sdist with SHMFEED_BUILD_EXTENSION=yes, which reports what is missing"
)


def check_memory_order() -> None:
    """Raise UnsupportedPlatformError for pure Python on a CPU that reorders memory.

    x86-64 keeps stores in order and loads in order (total store order), which is all
    that the protocol of `ringbuf` needs. Other CPUs need fences, which Python cannot
    express. A 32-bit Python stores a word in halves, on x86-64 too.
    """
    machine = platform.machine().lower()
    if sys.maxsize < 1 << 32:
        machine += " in 32 bits"
    if build != "C" and machine not in ("x86_64", "amd64"):
        raise UnsupportedPlatformError(
            f"live feeds need the C core on this CPU, {machine!r}, but pure Python is"
            f" in use: {WHY}; pure Python has no memory fences, so a reader could see"
            f" torn bars; {REMEDY}"
        )
