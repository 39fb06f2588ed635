"""Map a slot a second time, and put a copy in the place of its pages.

These are the system calls of `keeping`, which tells why and in which order. They go
through ctypes; `csrc/keep.h` is the twin.
"""

import ctypes
import mmap
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shmfeed.layout import COLUMNS, SLOT_HEADER_WORDS, WORD

_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_MAP_FIXED, _MAP_NORESERVE, _MAP_FIXED_NOREPLACE = 0x10, 0x4000, 0x100000
_MAP_ZEROS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
_PROT_NONE = 0
_MADV_DONTNEED, _MADV_NOHUGEPAGE = 4, 15
_FAILED = ctypes.c_void_p(-1).value
_HELD: dict[mmap.mmap, None] = {}  # their addresses are perhaps another mapping's

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Range = tuple[int, int]  # indices of rows in a column, last exclusive


def slot_bytes(capacity: int) -> int:
    """Return the bytes of a slot's header and columns."""
    return (SLOT_HEADER_WORDS + len(COLUMNS) * 2 * capacity) * WORD


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Return the ranges sorted, with those joined that overlap or adjoin."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def touched_bytes(capacity: int, ranges: Sequence[Range]) -> int:
    """Return the bytes of the pages that these joined ranges of each column touch."""
    pages, counted = 0, -1
    for column in range(len(COLUMNS)):
        start = SLOT_HEADER_WORDS + column * 2 * capacity
        for first, last in ranges:
            if first < last:
                end = (start + last - 1) * WORD // mmap.PAGESIZE
                begin = (start + first) * WORD // mmap.PAGESIZE
                pages += end - max(begin, counted + 1) + 1
                counted = end
    return pages * mmap.PAGESIZE


def memory_at(address: int, size: int) -> NDArray[np.uint8]:
    """Return the bytes at an address. The array does not own them."""
    memory: Any = (ctypes.c_char * size).from_address(address)
    return np.frombuffer(memory, np.uint8)


def address_of(pages: mmap.mmap) -> int:
    """Return the address at which a mapping begins."""
    address: int = np.frombuffer(pages, np.uint8).__array_interface__["data"][0]
    return address


def columns_at(address: int, capacity: int) -> FloatArray:
    """Return the columns of the slot at an address. The array does not own them."""
    shape = len(COLUMNS), 2 * capacity
    start = address + SLOT_HEADER_WORDS * WORD
    return memory_at(start, shape[0] * shape[1] * WORD).view(np.float64).reshape(shape)


class PageCalls:
    """The system calls on memory. None, or False, means that the system refuses."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        self._mmap = _function(
            library.mmap, pointer, pointer, size, number, number, number, ctypes.c_long
        )
        self._mremap = _function(
            library.mremap, pointer, pointer, size, size, number, pointer
        )
        self._mprotect = _function(library.mprotect, number, pointer, size, number)
        self._madvise = _function(library.madvise, number, pointer, size, number)
        self._munmap = _function(library.munmap, number, pointer, size)

    def duplicate(self, address: int, size: int) -> mmap.mmap | None:
        """Map the same shared pages a second time, read-only."""
        copy = self.allocate(size)
        if copy is None:
            return None
        # An old size of 0 duplicates a shared mapping; no descriptor is needed.
        flags, own = _MREMAP_MAYMOVE | _MREMAP_FIXED, address_of(copy)
        failed = False
        try:
            failed = self._mremap(address, 0, size, flags, own) == _FAILED
        finally:
            if failed:
                self._fill(own, size)
        if failed or self._mprotect(own, size, mmap.PROT_READ) < 0:
            return None
        return copy

    def allocate(self, size: int) -> mmap.mmap | None:
        """Return zeros that cost no memory until they are written.

        The object owns the addresses from its first moment: an exception that a signal
        handler raises after any step leaves no mapping behind.
        """
        access = mmap.PROT_READ | mmap.PROT_WRITE
        try:
            pages = mmap.mmap(-1, size, flags=_MAP_ZEROS, prot=access)
        except (OSError, ValueError):
            return None
        # A huge page would cost 2 MiB for each column.
        self._madvise(address_of(pages), size, _MADV_NOHUGEPAGE)
        return pages

    def map_file(self, fd: int, size: int) -> mmap.mmap | None:
        """Map a file so that no access is possible; keep no descriptor of it."""
        pages = self.allocate(size)
        if pages is None:
            return None
        flags, own = mmap.MAP_SHARED | _MAP_FIXED, address_of(pages)
        if self._mmap(own, size, _PROT_NONE, flags, fd, 0) == _FAILED:
            self._fill(own, size)
            return None
        return pages

    def move(self, copy: mmap.mmap, size: int, address: int, segment: int) -> bool:
        """Move a copy to this address, read-only: steps K3 and K4."""
        own = address_of(copy)
        if self._mprotect(own, size, mmap.PROT_READ) < 0:
            return False
        flags = _MREMAP_MAYMOVE | _MREMAP_FIXED
        failed = False
        try:
            _HELD[copy] = None  # no handler runs before the next call has ended
            failed = self._mremap(own, size, size, flags, address) == _FAILED
        finally:
            if failed:
                # The kernel may have removed the old pages before it failed.
                self._mremap(segment, 0, size, flags, address)
                del _HELD[copy]
            elif self._fill(own, size):
                del _HELD[copy]
        return not failed

    def _fill(self, address: int, size: int) -> bool:
        # Map something where an object lost its pages, as its end unmaps the addresses.
        # If another thread has mapped them meanwhile, the object must not end.
        flags = _MAP_ZEROS | _MAP_FIXED_NOREPLACE
        found = self._mmap(address, size, mmap.PROT_READ, flags, -1, 0)
        if found not in {address, _FAILED}:  # before Linux 4.17 the address is a hint
            self._munmap(found, size)
        return bool(found == address)

    def empty(self, address: int, size: int) -> None:
        """Give private memory back; it reads as zeros then."""
        # The kernel joins new mappings that adjoin, but none that had pages, and bounds
        # their number.
        flags = _MAP_ZEROS | _MAP_FIXED
        if self._mmap(address, size, mmap.PROT_READ, flags, -1, 0) == _FAILED:
            self._madvise(address, size, _MADV_DONTNEED)


def _function(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype, function.argtypes = result, arguments
    return function


@cache
def page_calls() -> PageCalls | None:
    """Return the system calls, None on a system that lacks one of them."""
    try:
        return PageCalls(ctypes.CDLL(None))
    except (AttributeError, OSError):
        return None
