"""Sleeping in the kernel until a 32-bit word changes, and waking who sleeps on it.

Linux calls this a futex. The word lies in shared memory: a sleeper needs to read it
only, and is found by file and offset, whichever process it is in. A waker names bits,
and wakes those whose own bits meet them. Where there is no futex, a sleeper looks at
the word once a millisecond; nobody need wake it then.

Pure Python, by way of the C library's `syscall`; the C core has the same functions.
"""

import platform
import struct
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module

import numpy as np

ALL_BITS = 0xFFFFFFFF  # all bits
POLL_SECONDS = 0.001
MOST_WORDS = 128  # that the kernel lets one sleeper wait for

_FUTEX = {"x86_64": 202, "amd64": 202, "aarch64": 98, "arm64": 98}
_FUTEX_WAITV = 449  # on each of them
_WAIT_BITSET, _WAKE_BITSET = 9, 10  # not PRIVATE: the word is shared by processes
_WORD_SIZE_32 = 2
_CLOCK_MONOTONIC = 1
_EVERYBODY = 0x7FFFFFFF
_EPERM, _EINTR, _EAGAIN, _ENOSYS, _ETIMEDOUT = 1, 4, 11, 38, 110
_AWAKE = (-_EAGAIN, -_EINTR)  # it had changed already; a signal's handler has run

Word = tuple[object, int, int]  # a buffer, an offset in it, the value expected there
Call = Callable[..., int]  # a system call: its result, or minus its errno


def futex_load(buffer: object, offset: int, /) -> int:
    """The 32-bit word `offset` bytes from the start. ValueError where none can be."""
    return _word(buffer, offset)[0]  # acquire: pairs with futex_bump


def futex_bump(buffer: object, offset: int, /) -> None:
    """Add 1 to the word; one thread of one process does. ValueError as above."""
    word = _word(buffer, offset)
    word[0] = (word[0] + 1) & ALL_BITS  # release: pairs with futex_load


def futex_wait(
    buffer: object, offset: int, expected: int, mask: int, timeout_ns: int, /
) -> bool:
    """Sleep while the word equals `expected`, at most so long: False at the timeout.

    True when it has another value, when it was woken by one of the bits of `mask`, or
    when a signal came whose handler raised nothing. Other threads run meanwhile. The
    buffer may be read-only. ValueError where there can be no such word.
    """
    futex = _futex()
    if futex is None:
        word = _word(buffer, offset)
        return _poll(lambda: word[0] != expected, timeout_ns)
    address, until = _address(buffer, offset), _timespec(timeout_ns)
    return _is_awake(futex(address, _WAIT_BITSET, expected, until, mask))


def futex_wait_any(words: Sequence[Word], timeout_ns: int) -> bool:
    """Sleep while each of these words is as expected; `futex_wait` for several.

    Any waker wakes, whatever its bits. More than MOST_WORDS, or a kernel older than
    5.16: they are looked at once a millisecond.
    """
    waitv = _waitv() if len(words) <= MOST_WORDS else None
    if waitv is None:
        views = [(_word(*word[:2]), word[2]) for word in words]
        return _poll(lambda: any(word[0] != seen for word, seen in views), timeout_ns)
    waiters = b"".join(_waiter(*word) for word in words)
    return _is_awake(waitv(waiters, len(words), _timespec(timeout_ns)))


def futex_wake(buffer: object, offset: int, mask: int, /) -> int:
    """Wake who sleeps on the word with one of these bits; how many they were."""
    futex, address = _futex(), _address(buffer, offset)
    if futex is None or not mask:
        return 0
    return futex(address, _WAKE_BITSET, _EVERYBODY, None, mask)


def _word(buffer: object, offset: int) -> memoryview:
    """The word as a memoryview of one int."""
    raw = memoryview(buffer).cast("B")  # type: ignore[arg-type] # any buffer
    _check(offset, len(raw))
    return raw[offset : offset + 4].cast("I")


def _address(buffer: object, offset: int) -> int:
    # numpy tells it of a read-only buffer too.
    array = np.frombuffer(buffer, np.uint8)  # type: ignore[call-overload] # any buffer
    _check(offset, len(array))
    start: int = array.__array_interface__["data"][0]
    return start + offset


def _check(offset: int, size: int) -> None:
    if offset < 0 or offset % 4 or offset + 4 > size:
        raise ValueError(f"there is no 32-bit word at offset {offset} of {size} bytes")


def _timespec(timeout_ns: int) -> bytes:
    """The moment so far from now, as the kernel wants it."""
    return struct.pack("=qq", *divmod(time.monotonic_ns() + timeout_ns, 10**9))


def _waiter(buffer: object, offset: int, expected: int) -> bytes:
    return struct.pack("=QQII", expected, _address(buffer, offset), _WORD_SIZE_32, 0)


def _is_awake(result: int) -> bool:
    if result >= 0 or result in _AWAKE:
        return True
    if result == -_ETIMEDOUT:
        return False
    raise OSError(-result, "the kernel lets nobody sleep on this word")


def _poll(changed: Callable[[], bool], timeout_ns: int) -> bool:
    deadline = time.monotonic_ns() + timeout_ns
    while not changed():
        left = deadline - time.monotonic_ns()
        if left <= 0:
            return False
        time.sleep(min(POLL_SECONDS, left / 10**9))
    return True


def _system_call(*arguments: str) -> Call:
    """The C library's `syscall` for a number and arguments of these C types."""
    c = import_module("ctypes")  # only now: few processes ever sleep
    syscall = c.CDLL(None, use_errno=True)["syscall"]  # an object of our own
    syscall.argtypes = [c.c_long, *(getattr(c, f"c_{name}") for name in arguments)]
    syscall.restype = c.c_long

    def call(*values: object) -> int:
        result: int = syscall(*values)
        return result if result >= 0 else -c.get_errno()

    return call


@cache
def _futex() -> Call | None:
    """futex(address, operation, value, timeout, bits); None where there is none."""
    number = _FUTEX.get(platform.machine().lower())
    if not sys.platform.startswith("linux") or number is None or sys.maxsize < 1 << 32:
        return None
    call = _system_call("void_p", "int", "uint", "char_p", "void_p", "uint")

    def futex(address: int, operation: int, value: int, at: object, mask: int) -> int:
        return call(number, address, operation, value, at, None, mask)

    # A sandbox may refuse it: asked once, of a word of our own.
    own = bytearray(4)
    return (
        futex if futex(_address(own, 0), _WAKE_BITSET, 1, None, ALL_BITS) == 0 else None
    )


@cache
def _waitv() -> Call | None:
    """futex_waitv(waiters, how many, timeout); None where there is none."""
    if _futex() is None:
        return None
    call = _system_call("char_p", "uint", "uint", "char_p", "int")

    def waitv(waiters: bytes, count: int, at: bytes) -> int:
        return call(_FUTEX_WAITV, waiters, count, 0, at, _CLOCK_MONOTONIC)

    # The kernel knows it, or a sandbox refuses it: asked once, of a word that has
    # another value already.
    own = bytearray(4)
    return waitv if waitv(_waiter(own, 0, 1), 1, _timespec(0)) == -_EAGAIN else None
