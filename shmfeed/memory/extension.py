"""The C extension, where this process uses it: decided once, at import."""

import os
from importlib import import_module
from types import ModuleType

from shmfeed import layout
from shmfeed.arguments import switched_on

PURE = "SHMFEED_PURE"  # the variable that asks for pure Python
NAME = "shmfeed.memory._ringbuf"
# What it must have; what it has on Linux only is not among them.
VERBS = ("Follower", "RingReader", "RingWriter", "Rows", "Slice", "fence")


def _choose() -> tuple[ModuleType | None, str]:
    """The extension, or why there is none."""
    if switched_on(PURE, os.environ.get(PURE, "")):
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
