"""Sleeping until one of several bells is rung; `bell` tells the protocol."""

import time
from collections.abc import Sequence

from shmfeed.memory.bell import AT
from shmfeed.memory.core import futex_load, futex_wait
from shmfeed.memory.futex import futex_wait_any
from shmfeed.memory.words import Words

Heard = tuple[Words, int, int]  # a segment, its bell's count, the bits listened for


def heard(words: Words) -> int:
    """How often a bell was rung so far, modulo 2**32: before the counts are read."""
    return futex_load(words.raw, AT)


def sleep(listening: Sequence[Heard], timeout_ns: int) -> bool:
    """Sleep until one of these bells has been rung since it was heard.

    False at the timeout, else True; it may be True without a cause.
    """
    if not listening:
        time.sleep(timeout_ns / 10**9)
        return False
    if len(listening) == 1:
        words, count, bits = listening[0]
        return futex_wait(words.raw, AT, count, bits, timeout_ns)
    waited = [(words.raw, AT, count) for words, count, _ in listening]
    return futex_wait_any(waited, timeout_ns)
