"""Waiting for another process: a condition, never a fixed sleep."""

import time
from collections.abc import Callable

POLL = 0.01


def until(true: Callable[[], object], timeout: float = 20.0, what: str = "") -> None:
    """Return as soon as `true()` is true. Fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or true}")
        time.sleep(POLL)
