"""Children of a test that run as other users of the host; root alone can be them.

The interpreter may lie where other users cannot read it, so all
modules are loaded before a child starts.
"""

import importlib
import os
import pkgutil
from collections.abc import Callable
from typing import Any

from support import forks

# Users of no program here, and of no other process of the tests.
_FIRST = 20_000 + os.getpid() % 4_000 * 10
FEEDER, READER, STRANGER, GROUP, OTHER_GROUP = range(_FIRST, _FIRST + 5)
_PACKAGES = ("shmfeed", "shmfeed.cli", "wealthdata")


def load_modules() -> None:
    """Load what a child needs after it can read no file of the interpreter."""
    importlib.import_module("encodings.idna")
    for package in _PACKAGES:
        path = importlib.import_module(package).__path__
        for found in pkgutil.iter_modules(path, f"{package}."):
            if not found.name.endswith(("__main__", "testing")):
                importlib.import_module(found.name)


def as_user(
    uid: int, groups: list[int], work: Callable[..., object], *arguments: object
) -> forks.Fork:
    """Start `work(*arguments)` in a child of this user, in these groups beside its own.

    The child is a context manager, as forks.Fork is.
    """

    def drop_and_work(*arguments: object) -> object:
        os.setgroups(groups)
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        return work(*arguments)

    load_modules()
    return forks.Fork(drop_and_work, *arguments)


def result_as(
    uid: int, groups: list[int], work: Callable[..., object], *arguments: object
) -> Any:
    """Return what `work(*arguments)` returns in such a child."""
    with as_user(uid, groups, work, *arguments) as child:
        return child.result()
