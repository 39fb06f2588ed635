"""Which core serves rings in this process: C where it was built, else pure Python.

Both have the same names and signatures, and pure Python is the definition. Decided
once, at import: SHMFEED_PURE=1 asks for pure Python. Whoever makes or names one of
these classes takes it from here.
"""

import copyreg
import platform
import sys
from typing import TYPE_CHECKING

from shmfeed.errors import UnsupportedPlatformError
from shmfeed.memory import rows
from shmfeed.memory.bell import Bell, sleep_past
from shmfeed.memory.extension import PURE, WHY_NOT, extension
from shmfeed.memory.following import Follower
from shmfeed.memory.futex import futex_load, futex_wait
from shmfeed.memory.ringbuf import RingReader
from shmfeed.memory.ringwriter import RingWriter
from shmfeed.memory.rows import Rows, Slice
from shmfeed.memory.words import order_by

__all__ = [
    "REMEDY",
    "WHY",
    "Bell",
    "Follower",
    "RingReader",
    "RingWriter",
    "Rows",
    "Slice",
    "build",
    "check_memory_order",
    "futex_load",
    "futex_wait",
    "sleep_past",
]


def _as_pure(private: Rows) -> tuple[type[Rows], tuple[object, ...]]:
    """What C's private rows are copied and pickled as: it is everywhere."""
    return rows.Rows, (private.block, private.first, private.forming)


if not TYPE_CHECKING and extension is not None:
    Rows, Slice, Follower = extension.Rows, extension.Slice, extension.Follower
    RingReader, RingWriter = extension.RingReader, extension.RingWriter
    copyreg.pickle(Rows, _as_pure)
    order_by(extension.fence)
    if hasattr(extension, "Bell"):  # on Linux
        Bell, sleep_past = extension.Bell, extension.sleep_past
        futex_load, futex_wait = extension.futex_load, extension.futex_wait

build = "pure Python" if extension is None else "C"
WHY = WHY_NOT  # why it is pure Python; empty where it is not
REMEDY = (  # what makes it C
    f"unset {PURE}"
    if WHY.startswith(PURE)
    else "install a C compiler and Python's headers, then reinstall shmfeed with"
    " SHMFEED_BUILD_EXTENSION=yes, which tells what is missing"
)


def check_memory_order() -> None:
    """Refuse pure Python on a CPU on which plain loads and stores may be reordered.

    x86-64 keeps stores in order and loads in order (total store order), which is all
    that the protocols of `ringbuf` and of `CellPair` need. Others need fences, which C
    has and Python cannot express. A 32-bit Python, on x86-64 too, stores a word in
    halves.
    """
    machine = platform.machine().lower()
    if sys.maxsize < 1 << 32:
        machine += " in 32 bits"
    if build != "C" and machine not in ("x86_64", "amd64"):
        raise UnsupportedPlatformError(
            f"live feeds need the C core on this CPU, {machine!r}, and pure Python"
            f" serves: {WHY}; it has no memory fences, and without them a reader could"
            f" see torn bars; {REMEDY}"
        )
