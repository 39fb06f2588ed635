"""Sleep in the kernel until a 32-bit word changes, and wake sleepers.

Linux calls this a futex. The word lies in shared memory. A sleeper only needs to read
it; the kernel finds the sleeper by file and offset, in any process. A waker names bits
and wakes the sleepers whose own bits overlap them. Where there is no futex, a sleeper
polls the word once a millisecond and needs no waker.

This is pure Python, through the C library's `syscall`. The C core has the same
functions.
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
MOST_WORDS = 128  # the kernel's limit for one sleeper

_FUTEX = {"x86_64": 202, "amd64": 202, "aarch64": 98, "arm64": 98}
_FUTEX_WAITV = 449  # on each of these CPUs
_WAIT_BITSET, _WAKE_BITSET = 9, 10  # not PRIVATE: processes share the word
_WORD_SIZE_32 = 2
_CLOCK_MONOTONIC = 1
_ALL_SLEEPERS = 0x7FFFFFFF
_EPERM, _EINTR, _EAGAIN, _ENOSYS, _ETIMEDOUT = 1, 4, 11, 38, 110
_AWAKE = (-_EAGAIN, -_EINTR)  # the word had changed; a signal handler ran

Word = tuple[object, int, int]  # a buffer, an offset in it, the value expected there
Call = Callable[..., int]  # a system call: its result, or minus its errno


def futex_load(buffer: object, offset: int, /) -> int:
    """Return the 32-bit word at byte `offset`. Raise ValueError where none fits."""
    return _word(buffer, offset)[0]  # W1, acquire: pairs with N2


def futex_bump(buffer: object, offset: int, /) -> None:
    """Add 1 to the word. Only one thread of one process may call it.

    Raises ValueError where no 32-bit word fits.
    """
    word = _word(buffer, offset)
    word[0] = (word[0] + 1) & ALL_BITS  # N2, release: pairs with W1


def futex_wait(
    buffer: object, offset: int, expected: int, mask: int, timeout_ns: int, /
) -> bool:
    """Sleep while the word equals `expected`; return False at the timeout, else True.

    True means that the word has another value, that a waker named one of the bits of
    `mask`, or that a signal handler ran. Other threads run meanwhile. The buffer may be
    read-only.

    Raises:
        ValueError: No 32-bit word fits at the offset.
        OSError: The kernel refuses the sleep.
    """
    futex = _futex()
    if futex is None:
        word = _word(buffer, offset)
        return _poll(lambda: word[0] != expected, timeout_ns)
    address, until = _address(buffer, offset), _timespec(timeout_ns)
    return _is_awake(futex(address, _WAIT_BITSET, expected, until, mask))


def futex_wait_any(words: Sequence[Word], timeout_ns: int, /) -> bool:
    """Sleep until one of these words differs from its expected value.

    It is `futex_wait` for several words. Any waker wakes the sleeper, whatever its
    bits. More than MOST_WORDS words are polled once a millisecond, as are all words on
    a kernel older than 5.16.
    """
    waitv = _waitv() if len(words) <= MOST_WORDS else None
    if waitv is None:
        views = [(_word(*word[:2]), word[2]) for word in words]
        return _poll(lambda: any(word[0] != seen for word, seen in views), timeout_ns)
    waiters = b"".join(_waiter(*word) for word in words)
    return _is_awake(waitv(waiters, len(words), _timespec(timeout_ns)))


def futex_spin(words: Sequence[Word], timeout_ns: int, /) -> bool:
    """Look at these words, without sleeping, until one differs from its expected value.

    Return False at the timeout. It uses a whole core meanwhile; other threads run.
    """
    views = [(_word(*word[:2]), word[2]) for word in words]
    deadline = time.monotonic_ns() + timeout_ns
    while not any(word[0] != seen for word, seen in views):
        if time.monotonic_ns() >= deadline:
            return False
    return True


def futex_wake(buffer: object, offset: int, mask: int, /) -> int:
    """Wake the sleepers that wait for one of these bits; return their number."""
    futex, address = _futex(), _address(buffer, offset)
    if futex is None or not mask:
        return 0
    return futex(address, _WAKE_BITSET, _ALL_SLEEPERS, None, mask)


def _word(buffer: object, offset: int) -> memoryview:
    raw = memoryview(buffer).cast("B")  # type: ignore[arg-type] # any buffer
    _check(offset, len(raw))
    return raw[offset : offset + 4].cast("I")


def _address(buffer: object, offset: int) -> int:
    # numpy tells the address of a read-only buffer too; ctypes does not.
    array = np.frombuffer(buffer, np.uint8)  # type: ignore[call-overload] # any buffer
    _check(offset, len(array))
    start: int = array.__array_interface__["data"][0]
    return start + offset


def _check(offset: int, size: int) -> None:
    if offset < 0 or offset % 4 or offset + 4 > size:
        raise ValueError(f"there is no 32-bit word at offset {offset} of {size} bytes")


def _timespec(timeout_ns: int) -> bytes:
    # The kernel's timeout is an absolute CLOCK_MONOTONIC time.
    return struct.pack("=qq", *divmod(time.monotonic_ns() + timeout_ns, 10**9))


def _waiter(buffer: object, offset: int, expected: int) -> bytes:
    return struct.pack("=QQII", expected, _address(buffer, offset), _WORD_SIZE_32, 0)


def _is_awake(result: int) -> bool:
    if result >= 0 or result in _AWAKE:
        return True
    if result == -_ETIMEDOUT:
        return False
    raise OSError(
        -result,
        "the kernel cannot sleep on this word; was the segment's file truncated?"
        " restart the feeder",
    )


def _poll(changed: Callable[[], bool], timeout_ns: int) -> bool:
    deadline = time.monotonic_ns() + timeout_ns
    while not changed():
        left = deadline - time.monotonic_ns()
        if left <= 0:
            return False
        time.sleep(min(POLL_SECONDS, left / 10**9))
    return True


def _system_call(*arguments: str) -> Call:
    c = import_module("ctypes")  # imported late: few processes ever sleep
    syscall = c.CDLL(None, use_errno=True)["syscall"]  # a private function object
    syscall.argtypes = [c.c_long, *(getattr(c, f"c_{name}") for name in arguments)]
    syscall.restype = c.c_long

    def call(*values: object) -> int:
        result: int = syscall(*values)
        return result if result >= 0 else -c.get_errno()

    return call


@cache
def _futex() -> Call | None:
    """Return futex(address, operation, value, timeout, bits); None if unavailable."""
    number = _FUTEX.get(platform.machine().lower())
    if not sys.platform.startswith("linux") or number is None or sys.maxsize < 1 << 32:
        return None
    call = _system_call("void_p", "int", "uint", "char_p", "void_p", "uint")

    def futex(address: int, operation: int, value: int, at: object, mask: int) -> int:
        return call(number, address, operation, value, at, None, mask)

    # A sandbox may refuse the call: try it once, on a private word.
    own = bytearray(4)
    return (
        futex if futex(_address(own, 0), _WAKE_BITSET, 1, None, ALL_BITS) == 0 else None
    )


@cache
def _waitv() -> Call | None:
    """Return futex_waitv(waiters, count, timeout); None if unavailable."""
    if _futex() is None:
        return None
    call = _system_call("char_p", "uint", "uint", "char_p", "int")

    def waitv(waiters: bytes, count: int, at: bytes) -> int:
        return call(_FUTEX_WAITV, waiters, count, 0, at, _CLOCK_MONOTONIC)

    # An old kernel lacks the call and a sandbox may refuse it: try it once, on a word
    # that has another value already.
    own = bytearray(4)
    return waitv if waitv(_waiter(own, 0, 1), 1, _timespec(0)) == -_EAGAIN else None
