"""Tell the objects of a forked child that they belong to its parent.

A child inherits copies of every lock, thread and writer of its parent, and owns none of
them: its exit must stop, unlink and release nothing.
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

    The registry holds its objects weakly. Thread safety: any thread may call `add`; the
    handler runs in the child's only thread, before any other code.
    """

    def __init__(self) -> None:
        self._living: weakref.WeakSet[T] = weakref.WeakSet()
        after_fork_in_child(self._disown_all)

    def add(self, one: T) -> None:
        self._living.add(one)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._living))

    def _disown_all(self) -> None:
        for one in self:
            one.disown()


def after_fork_in_child(handler: Callable[[], None]) -> None:
    """Call `handler` in each forked child; do nothing where a system cannot fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=handler)
