"""Making a POSIX shared-memory object that outlives its maker."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

with suppress(ImportError):  # where there are none, no feed has a place
    from multiprocessing import resource_tracker, shared_memory

Track = Callable[[Any, str], None]


def make_object(name: str, size: int) -> None:
    """Create the POSIX object at its full size; no resource tracker hears of it.

    The tracker would unlink it when this process dies: a feed outlives its feeder.
    """
    if sys.version_info >= (3, 13):
        shared_memory.SharedMemory(name, create=True, size=size, track=False).close()
        return
    with _untracked("/" + name):
        shared_memory.SharedMemory(name, create=True, size=size).close()


_patching = threading.Lock()


@contextmanager
def _untracked(name: str) -> Iterator[None]:
    """Keep one name from the resource tracker. Registering and taking it back would
    leave a moment in which a kill lets the tracker remove a successor's feed."""
    register, unregister = resource_tracker.register, resource_tracker.unregister

    def but_for(call: Track) -> Track:
        def filtered(what: str, rtype: str) -> None:
            if what != name:
                call(what, rtype)

        return filtered

    with _patching:
        resource_tracker.register = but_for(register)  # type: ignore[assignment]
        resource_tracker.unregister = but_for(unregister)  # type: ignore[assignment]
        try:
            yield
        finally:
            resource_tracker.register = register
            resource_tracker.unregister = unregister
