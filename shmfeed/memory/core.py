"""Which core serves rings in this process: C where it was built, else pure Python.

Both have the same names and signatures, and pure Python is the definition. Decided
once, at import: SHMFEED_PURE=1 asks for pure Python. Whoever makes or names one of
these classes takes it from here.
"""

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from shmfeed import layout
from shmfeed.arguments import switched_on
from shmfeed.memory.following import Follower
from shmfeed.memory.ringbuf import RingReader
from shmfeed.memory.ringwriter import RingWriter
from shmfeed.memory.rows import Rows, Slice

__all__ = ["WHY", "Follower", "RingReader", "RingWriter", "Rows", "Slice", "build"]

_EXTENSION = "shmfeed.memory._ringbuf"


def _choose() -> tuple[ModuleType | None, str]:
    """The C core, or why there is none."""
    if switched_on("SHMFEED_PURE", os.environ.get("SHMFEED_PURE", "")):
        return None, "SHMFEED_PURE asks for it"
    try:
        extension = import_module(_EXTENSION)
    except ImportError as error:
        if error.name == _EXTENSION:
            return None, "the C core was not built"
        return None, f"the C core cannot be loaded: {error}"
    if not _fits(extension.LAYOUT):
        return None, "the C core was built for another layout"
    if not hasattr(extension, "RingReader"):
        return None, "the C core has no rings yet"
    return extension, ""


def _fits(compiled: dict[str, int]) -> bool:
    here = vars(layout) | {"COLUMNS": len(layout.COLUMNS)}
    return all(here.get(name) == value for name, value in compiled.items())


_extension, WHY = _choose()
build = "C" if _extension is not None else "pure Python"

if not TYPE_CHECKING and _extension is not None:
    Rows, Slice = _extension.Rows, _extension.Slice
    Follower = _extension.Follower
    RingReader, RingWriter = _extension.RingReader, _extension.RingWriter
