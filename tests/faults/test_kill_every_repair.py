"""A feeder that dies at each store of each repair: readers see old rows or new ones.

A repair is an answer of history, or a revision, that an intake puts in force. After
each death a reader that attached before, and a new one, find the rows as they were, or
as they are to be; bars that are appended come in order. A successor that takes the same
history again ends with the same rows, and with the right count of missing bars.
"""

import math
import os
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import fuse
import numpy as np
import pytest
from support import cores, forks
from test_kill_every_store import as_it_is, fill_by_word

from shmfeed.bar import Bar
from shmfeed.codecs.interface import BarEvent
from shmfeed.feed import Feed, attach
from shmfeed.feeder.intake import Intake
from shmfeed.history.interface import HistoryAnswer, HistoryRequest
from shmfeed.layout import SLOT_BITS
from shmfeed.memory import swap
from shmfeed.memory.rows import ROW
from shmfeed.segment.mapping import place
from shmfeed.writer import create

GEOMETRY = 8, 8, 2  # history, guard, streams
KEY = ("BTCUSDT", "1m")
MINUTE = 60_000
MOST_STEPS = 3000
STRIDE = 3  # by day; a prime, so that each kind of store is met

Rows = list[tuple[float, ...]]


def bar(minute, price=None, flags=0):
    price = 100.0 + minute if price is None else price
    opened = start() + minute * MINUTE
    return Bar(opened, opened + MINUTE, *[price] * 4, 1.0, math.nan, flags)


@cache
def start() -> int:
    """Return one time for the whole run, which may last past the hour."""
    return (int(time.time()) // 3600 - 2) * 3600 * 1000


def event(minute, closed=True, price=None):
    price = 100.0 + minute if price is None else price
    return BarEvent(
        *KEY, start() + minute * MINUTE, 0, *[price] * 4, 1.0, closed=closed
    )


def history(intake, *bars, how="repair"):
    cells = [np.frombuffer(ROW.pack(*one)) for one in bars]
    request = HistoryRequest(KEY, bars[0].open_time, bars[-1].open_time)
    block = np.ascontiguousarray(np.array(cells).T)
    answer = HistoryAnswer(request, block, True, "REST of the venue", 0, 0.0)
    return intake.take_history(answer, how=how)


class Repair(NamedTuple):
    """A repair: messages that were there before, and what the feeder then takes."""

    before: list[BarEvent]
    act: Callable[[Intake], object]
    appends: bool = False


def fill_hole(intake):
    history(intake, bar(2), bar(3))


def fill_a_part(intake):
    history(intake, bar(3))


def prepend(intake):
    history(intake, bar(0), bar(1))


def correct(intake):
    history(intake, bar(1, 9.0), bar(2))


def revise(intake):
    intake.take([event(1, price=9.0)])


def follow_history(intake):
    intake.take([event(4), event(5)])
    history(intake, bar(2), bar(3))


def first_rows(intake):
    intake.take([event(4)])  # it waits for its history
    history(intake, *[bar(minute) for minute in range(4)], how="warmup")


def poll(intake):
    history(intake, bar(2), bar(3), how="poll")


HOLE = [event(0), event(1), event(4), event(5)]
REPAIRS = {
    "a hole is filled": Repair(HOLE, fill_hole),
    "a part of a hole is filled": Repair(HOLE, fill_a_part),
    "longer history": Repair([event(2), event(3)], prepend),
    "a row is corrected": Repair([event(1), event(2), event(3)], correct),
    "a row is revised": Repair([event(1), event(2), event(3)], revise),
    "bars wait for history": Repair([event(0), event(1)], follow_history, True),
    "first rows": Repair([], first_rows),
    "polled rows": Repair([event(0), event(1)], poll, True),
}


def opened(name):
    """Return a writer of the feed and its intake."""
    writer = create(name, *GEOMETRY)
    # Bars that are hours old close at once; a hole is not waited for.
    intake = Intake(writer, 0.0, True, history=True, repair_grace=60.0)
    intake.set_streams([KEY])
    intake.hold([KEY], math.inf)
    intake.connected()
    return writer, intake


def prepare(name, repair):
    writer = create(name, *GEOMETRY)
    intake = Intake(writer, 0.0, True)
    intake.set_streams([KEY])
    intake.take(repair.before)
    intake.tick()
    writer.close()


def rows_of(feed: Feed) -> Rows:
    ring = feed.ring(*KEY)
    rows = ring.view(ring.history)
    found = [rows.bar(row) for row in range(len(rows))]
    assert rows.valid
    return [(*one[:7], one.flags) for one in found]  # money is NaN


def finish(name, repair) -> Rows:
    """Take the repair as a successor does; return the rows, and leave nothing."""
    writer, intake = opened(name)
    repair.act(intake)
    with attach(name) as feed:
        rows = rows_of(feed)
        times = [row[0] for row in rows]
        missing = (times[-1] - times[0]) // MINUTE + 1 - len(times)
        status = feed.status()
        assert status["streams"][0]["gaps"] == missing
    writer.close(unlink=True)
    return rows


def die_at(step, name, repair, adapt, begun):
    """Die there; `begun` is the time of the test's own events."""
    globals()["start"] = lambda: begun
    cores.all_purely()  # its stores can be counted
    swap.fill_rows = fill_by_word
    burning = fuse.burn_at_each_step()
    adapt()
    _, intake = opened(name)
    burning.light(step)
    repair.act(intake)
    burning.light(0)
    os._exit(0)


def run_to_each_death(nest, name, repair, adapt=as_it_is) -> int:
    """Die at each `STRIDE`-th step of a repair. Return about how many it has."""
    prepare(name, repair)
    whole = finish(name, repair)

    def live(step):
        prepare(name, repair)
        with attach(name) as old:
            before = rows_of(old)
            with nest.fork(die_at, step, name, repair, adapt, start()) as feeder:
                ended = feeder.wait()
            with attach(name) as new:
                for feed in (old, new):
                    check(rows_of(feed), before, whole, repair.appends)
            assert finish(name, repair) == whole
        return ended

    return fuse.run_to_each_death(live, MOST_STEPS, STRIDE if forks.SCALE <= 1 else 1)


def check(found: Rows, before: Rows, whole: Rows, appends: bool) -> None:
    if appends:
        assert len(before) <= len(found)
        assert found == whole[: len(found)]
    else:
        assert found in (before, whole)


@pytest.mark.parametrize("repair", REPAIRS.values(), ids=REPAIRS.keys())
def test_readers_see_the_old_rows_or_the_new(nest, feed_name, repair):
    assert run_to_each_death(nest, feed_name, repair) > 40


def enter_first():
    """Store the catalog word before the rows: a mutant."""
    build_rows = swap.build_rows

    def build_late(words, geometry, slot, epoch, last, cells):
        entry = geometry.entry_word(0)
        at = geometry.slot_word(slot)
        words.ints[at] = epoch
        words.ints[entry] = epoch << SLOT_BITS | slot
        build_rows(words, geometry, slot, epoch, last, cells)

    swap.build_rows = build_late


def test_control_a_wrong_order_is_found(nest, feed_name):
    with pytest.raises(BaseException, match=r".") as caught:
        run_to_each_death(nest, feed_name, REPAIRS["a hole is filled"], enter_first)
    assert "after a death at step" in caught.value.__notes__[0]
    place(feed_name).segment.unlink(missing_ok=True)
