"""Tell the objects of a forked child that they belong to its parent.

A child inherits copies of its parent's locks, writers and thread objects, and owns none
of them. Its exit must not stop, unlink or release them.
"""

import os
import weakref
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class Disownable(Protocol):
    """An object that can be told that it belongs to the parent of this process."""

    def disown(self) -> None: ...


T = TypeVar("T", bound=Disownable)


class ForkRegistry(Generic[T]):
    """The living objects of one kind, all of which are disowned in a forked child.

    The registry holds its objects weakly.

    Thread safety: any thread may call `add`. The handler runs in the child's only
    thread, before `os.fork` returns.
    """

    def __init__(self) -> None:
        self._living: weakref.WeakSet[T] = weakref.WeakSet()
        after_fork_in_child(self._disown_all)

    def add(self, item: T) -> None:
        self._living.add(item)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._living))

    def _disown_all(self) -> None:
        for item in self:
            item.disown()


def after_fork_in_child(handler: Callable[[], None]) -> None:
    """Call `handler` in each forked child; do nothing where a system cannot fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=handler)
