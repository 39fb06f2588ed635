"""Waiting for a closed bar: a short-sleep poll over the rings' counts."""

import time
from collections.abc import Callable

POLL_SECONDS = 0.001


def poll_until(
    done: Callable[[], bool], timeout: float | None, alive: Callable[[], bool]
) -> bool:
    """Whether `done()` came true before the deadline.

    Without a timeout it ends, False, when `alive()` says that nobody writes any more.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while not done():
        if deadline is None:
            if not alive():
                return done()
        elif time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
