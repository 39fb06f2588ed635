"""A feeder on the C core dies after its first store into a ring, its second, .. last.

The feeder's rings come from an extension that counts its stores; the readers and the
next feeder have the plain core. `test_kill_every_store` does the same in pure Python.
"""

import ctypes
import os
import signal
from importlib import import_module
from pathlib import Path

import pytest
from support.compiling import MUTANTS, NATIVE, NEEDS_BUILD, ROOT, built_core, checkout
from support.other_core import load
from test_kill_every_store import (
    PHASES,
    append_two,
    check_aftermath,
    fill,
    opened,
    swap_twice,
    update_twice,
)

import shmfeed.writer
from shmfeed.feed import attach
from shmfeed.segment.mapping import place

pytestmark = NEEDS_BUILD

FLAGS = f"-I{NATIVE} -include fuse.h -D_GNU_SOURCE"
MOST_STORES = 200
# Stores of 8 bytes: intent, 9 columns twice, updated, tick, bars, published; 9 and 1.
APPEND, UPDATE = 1 + 2 * 9 + 3 + 1, 9 + 1


@pytest.fixture(scope="module")
def counting(tmp_path_factory) -> Path:
    """Build the extension with a fuse."""
    return built_core(ROOT, tmp_path_factory.mktemp("counting"), FLAGS)


def die_after(stores, name, act, board, extension):
    load(extension)
    core = import_module("shmfeed._ringbuf")
    shmfeed.writer.RingWriter = core.RingWriter
    burning = ctypes.c_int64.in_dll(ctypes.PyDLL(str(extension)), "ring_fuse")
    writer = opened(name)
    burning.value = stores
    act(name, writer, board)
    burning.value = 0
    os._exit(0)


def die_each_death(nest, name, act, extension, phase="append") -> int:
    """Return the number of stores, after a death at each of them."""
    for stores in range(1, MOST_STORES):
        fill(name)
        board = nest.clear_board()
        with attach(name) as old:
            with nest.fork(die_after, stores, name, act, board, extension) as feeder:
                ended = feeder.wait()
            try:
                check_aftermath(name, PHASES[phase], board, old)
            except BaseException as error:
                error.add_note(f"after a death at store {stores}")
                raise
        if ended == 0:
            return stores - 1
        assert ended == -signal.SIGKILL
    raise AssertionError(f"more than {MOST_STORES} stores")


@pytest.mark.parametrize(
    ("act", "least"), [(append_two, 2 * APPEND), (update_twice, 2 * UPDATE)]
)
def test_a_death_at_each_store_is_survived(
    nest, feed_name, counting, act, least
) -> None:
    assert die_each_death(nest, feed_name, act, counting) >= least


def test_a_death_at_the_last_store_of_a_swap_is_survived(
    nest, feed_name, counting
) -> None:
    # Numpy makes the others; `test_kill_every_store` counts them.
    assert die_each_death(nest, feed_name, swap_twice, counting, "swap") == 2


def test_a_wrong_order_does_not_survive(nest, feed_name, tmp_path) -> None:
    source = checkout(tmp_path, MUTANTS["A1 publishes"])
    wrong = built_core(source, tmp_path, FLAGS)
    with pytest.raises(Exception, match=r".") as caught:
        die_each_death(nest, feed_name, append_two, wrong)
    assert "after a death at store" in caught.value.__notes__[0]
    place(feed_name).segment.unlink(missing_ok=True)
