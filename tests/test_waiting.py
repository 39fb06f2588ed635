"""Waiting until something is done, a deadline passes, or nobody writes any more."""

import time
from collections.abc import Callable

import pytest

from shmfeed.memory.waiting import poll_until


def after(calls: int) -> Callable[[], bool]:
    """True from this many calls on."""
    left = iter(range(calls))
    return lambda: next(left, None) is None


def never() -> bool:
    return False


def always() -> bool:
    return True


def unasked() -> bool:
    raise AssertionError("asked without need")


@pytest.mark.parametrize("timeout", [None, 0, 5])
def test_done_already(timeout: float | None) -> None:
    start = time.monotonic()
    assert poll_until(always, timeout, unasked)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("timeout", [None, 5])
def test_done_later(timeout: float | None) -> None:
    assert poll_until(after(3), timeout, always)


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_the_deadline(timeout: float) -> None:
    start = time.monotonic()
    assert not poll_until(never, timeout, unasked)
    assert timeout <= time.monotonic() - start < timeout + 1


def test_nobody_writes_any_more() -> None:
    assert not poll_until(never, None, never)
    dies = after(3)
    assert not poll_until(never, None, lambda: not dies())


def test_done_by_the_last_thing_that_was_written() -> None:
    assert poll_until(after(1), None, never)
