"""Which core serves rings in this process: C where it was built, else pure Python.

Both have the same names and signatures, and pure Python is the definition. Decided
once, at import: SHMFEED_PURE=1 asks for pure Python. Whoever makes or names one of
these classes takes it from here.

The C extension, where this process uses it: decided once, at import.
"""

import copyreg
import os
import platform
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from shmfeed import layout
from shmfeed.errors import UnsupportedPlatformError
from shmfeed.follower import ReattachingReader
from shmfeed.memory import rows
from shmfeed.memory.futex import futex_load, futex_wait
from shmfeed.memory.rows import Rows, Slice
from shmfeed.memory.wakeup import Eventcount, sleep_past
from shmfeed.memory.words import order_by
from shmfeed.ringbuf import RingReader, RingWriter
from shmfeed.validation import check_switch

PURE = "SHMFEED_PURE"  # the variable that asks for pure Python
NAME = "shmfeed._ringbuf"
# What it must have; what it has on Linux only is not among them.
VERBS = ("ReattachingReader", "RingReader", "RingWriter", "Rows", "Slice", "fence")


def _choose() -> tuple[ModuleType | None, str]:
    """The extension, or why there is none."""
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
    if lacking := [verb for verb in VERBS if not hasattr(extension, verb)]:
        return None, f"the C core was built of other sources: no {lacking[0]} in it"
    return extension, ""


def _fits(compiled: dict[str, int]) -> bool:
    """Whether the layout is still the one whose constants were compiled in."""
    here = vars(layout) | {"COLUMNS": len(layout.COLUMNS)}
    return all(here.get(name) == value for name, value in compiled.items())


extension, WHY_NOT = _choose()
"""None where pure Python serves, and then why."""


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
    "futex_wait",
    "sleep_past",
]


def _as_pure(private: Rows) -> tuple[type[Rows], tuple[object, ...]]:
    """What C's private rows are copied and pickled as: it is everywhere."""
    return rows.Rows, (private.block, private.first, private.forming)


if not TYPE_CHECKING and extension is not None:
    Rows, Slice, ReattachingReader = (
        extension.Rows,
        extension.Slice,
        extension.ReattachingReader,
    )
    RingReader, RingWriter = extension.RingReader, extension.RingWriter
    copyreg.pickle(Rows, _as_pure)
    order_by(extension.fence)
    if hasattr(extension, "Eventcount"):  # on Linux
        Eventcount, sleep_past = extension.Eventcount, extension.sleep_past
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
    that the protocols of `ringbuf` and of `Latch` need. Others need fences, which C
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
