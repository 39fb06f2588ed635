"""A fuse: a process dies at the n-th of its stores and system calls.

`burn_at_each_step` puts one before every 8-byte store that a writer makes, and before
every call that creates, sizes, locks, maps or removes a file. For a forked child only:
the replaced functions are not restored.
"""

import _posixshmem
import fcntl
import mmap
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import numpy as np

from shmfeed.layout import WORD
from shmfeed.memory import wakeup
from shmfeed.memory.words import Words
from shmfeed.segment import creation, mapping

_CALLS = (
    (os, "open close unlink mkdir chmod fchmod rename link pwrite ftruncate"),
    (os, "posix_fallocate replace"),
    (fcntl, "flock"),
    (_posixshmem, "shm_open shm_unlink"),
)


class Fuse:
    """Counts steps from `light(n)` on; the n-th kills the process instead."""

    def __init__(self) -> None:
        self._left = 0

    def light(self, steps: int) -> None:
        self._left = steps

    def burn(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class FusedView:
    """A memoryview of words or bytes; each word stored into it burns the fuse."""

    def __init__(self, view: memoryview, fuse: Fuse) -> None:
        self._view = view
        self._fuse = fuse

    def __getitem__(self, key: int | slice) -> Any:
        found = self._view[key]
        return FusedView(found, self._fuse) if isinstance(key, slice) else found

    def __setitem__(self, key: int | slice, value: Any) -> None:
        if not isinstance(key, slice):
            self._fuse.burn()
            self._view[key] = value
            return
        places, source = range(*key.indices(len(self._view))), bytes(value)
        step = WORD // self._view.itemsize
        assert len(places) * self._view.itemsize == len(source)
        for word, at in enumerate(places[::step]):
            self._fuse.burn()
            piece = memoryview(source[word * WORD : (word + 1) * WORD])
            self._view[at : at + step] = piece.cast(self._view.format)

    @property
    def readonly(self) -> bool:
        return self._view.readonly

    def __bytes__(self) -> bytes:
        return self._view.tobytes()

    def __len__(self) -> int:
        return len(self._view)

    def cast(self, code: str) -> "FusedView":
        return FusedView(self._view.cast(code), self._fuse)

    def tolist(self) -> list:
        return self._view.tolist()


class FusedWords(Words):
    """Words whose stores burn the fuse."""

    def __init__(self, fuse: Fuse, buffer: object, *name: str) -> None:
        super().__init__(buffer, *name)
        self._bytes = self.raw
        self.raw = FusedView(self.raw, fuse)
        self.ints = FusedView(self.ints, fuse)
        self.floats = FusedView(self.floats, fuse)

    def columns(self, word: int, shape: tuple[int, int]) -> np.ndarray:
        count = shape[0] * shape[1]
        flat = np.frombuffer(self._bytes, np.float64, count, word * WORD)
        return flat.reshape(shape)


def burn_at_each_step() -> Fuse:
    """Return a fuse, not lit, that is in every store and system call from now on."""
    fuse = Fuse()

    def burning(call: Callable[..., Any]) -> Callable[..., Any]:
        def burn_and_call(*arguments: Any, **options: Any) -> Any:
            fuse.burn()
            return call(*arguments, **options)

        return burn_and_call

    for module, names in _CALLS:
        for name in names.split():
            setattr(module, name, burning(getattr(module, name)))
    mmap.mmap = _burning_mmap(fuse)
    creation.Words = mapping.Words = partial(FusedWords, fuse)
    for name in ("futex_bump", "futex_wake"):
        setattr(wakeup, name, burning(_on_bytes(getattr(wakeup, name))))
    return fuse


def _burning_mmap(fuse: Fuse) -> type[mmap.mmap]:
    class BurningMmap(mmap.mmap):
        """A type still: a buffer's owner is asked whether it is a mapping."""

        def __new__(cls, *arguments: Any, **options: Any) -> Self:
            fuse.burn()
            return super().__new__(cls, *arguments, **options)

    return BurningMmap


def _on_bytes(call: Callable[..., Any]) -> Callable[..., Any]:
    """Let the eventcount's store and system call take the underlying buffer."""
    return lambda fused, *arguments: call(fused._view, *arguments)


def run_to_each_death(live: Callable[[int], int], most: int, stride: int = 1) -> int:
    """Die at each `stride`-th step. Return about how many steps there are.

    `live` runs a process that dies at a step, checks what it leaves, and returns how
    the process has ended: 0 once there is no such step.
    """
    for step in range(1, most, stride):
        try:
            ended = live(step)
        except BaseException as error:
            error.add_note(f"after a death at step {step}")
            raise
        if ended == 0:
            return step - 1
        assert ended == -signal.SIGKILL
    raise AssertionError(f"more than {most} steps")
