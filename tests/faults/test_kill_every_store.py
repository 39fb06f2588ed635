"""A feeder that dies at each of its stores and system calls, one after the other.

After each death: a reader that attached before reads on, a new one finds a whole feed
or FeedNotFoundError, the next feeder takes over, and no acknowledged row is lost,
repeated or torn. The feeder is the pure core's, whose stores can be counted;
`test_ring_deaths.py` does the same to the C core. Readers are of the core in use.
"""

import os
import signal
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import fuse
import pytest
from support import cores, forks, payload
from support.waiting import until

import shmfeed.writer
from shmfeed.errors import FeedNotFoundError, StreamNotFoundError
from shmfeed.feed import Feed, attach
from shmfeed.layout import (
    H_BARS,
    READY,
    S_INTENT,
    S_PUBLISHED,
    SLOT_BITS,
    SLOT_HEADER_WORDS,
    WORD,
)
from shmfeed.memory import swap
from shmfeed.segment import creation, enlarging
from shmfeed.segment.mapping import place
from shmfeed.writer import FeedWriter, create

GEOMETRY = 3, 1, 2  # the tightest ring: each append writes over a row
WIDER = 5, 2, 3
ENLARGED = 3, 1, 3
OTHER = "ETHUSDT"
ROWS = 6  # rows of the first stream before the death
MOST_STEPS = 1500

APPENDED, BEGUN = 0, 1


class Phase(NamedTuple):
    """The work of a feeder until it dies: `prepare` unharmed, then `act` with the fuse.

    `keeps` says whether the rows that were there before must be there after; `after`
    is the geometry of its successor; `whole` has the only counts that may be found, or
    nothing. By day only every `stride`-th death is died. `first` is the death of a
    feeder before it: its phase and its step. With `beats` a reader may find the next
    segment only once the heartbeat of the old one is too old.
    """

    prepare: Callable[[str], FeedWriter | None]
    act: Callable[[str, FeedWriter | None, memoryview], None]
    keeps: bool = True
    starts_empty: bool = False
    after: tuple[int, int, int] = GEOMETRY
    stride: int = 1
    whole: tuple[int, ...] = ()
    first: tuple[str, int] | None = None
    beats: bool = False


def nothing(name):
    return None


def opened(name):
    writer = create(name, *GEOMETRY)
    writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
    return writer


def damaged(name):
    """Damage a counter, so that the next feeder recreates the segment."""
    with place(name).segment.open("r+b") as segment:
        segment.seek(H_BARS * WORD)
        segment.write(bytes([0xFF]) * WORD)


def make(name, writer, board):
    create(name, *GEOMETRY)


def make_wider(name, writer, board):
    create(name, *WIDER)


def add(name, writer, board):
    writer.add_stream(OTHER, payload.TIMEFRAME)


def append_two(name, writer, board):
    ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
    for number in (ROWS + 1, ROWS + 2):
        board[BEGUN] = number
        payload.append(ring, number)
        board[APPENDED] = number


def update_twice(name, writer, board):
    ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
    for revision in (5, 6):
        payload.update_forming(ring, ROWS + 1, revision)


def fill_by_word(words, geometry, slot, first, cells):
    """Store the rows of a swap word by word, so that a death can fall between two."""
    at, stride = geometry.slot_word(slot) + SLOT_HEADER_WORDS, 2 * geometry.capacity
    for column, values in enumerate(cells.tolist()):
        for row, value in enumerate(values, first):
            cell = at + column * stride + row % geometry.capacity
            words.ints[cell] = words.ints[cell + geometry.capacity] = value


def swap_twice(name, writer, board):
    swap.fill_rows = fill_by_word
    writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
    for number in (ROWS + 2, ROWS + 4):
        board[BEGUN] = number
        rows = payload.block(range(number - 4, number + 1))
        writer.replace_rows(payload.SYMBOL, payload.TIMEFRAME, rows)
        board[APPENDED] = number


def say(name, writer, board):
    writer.note({"endpoint": "wss://venue", "last_error": None})
    writer.count("messages", 3)
    writer.unsubscribe(payload.SYMBOL, payload.TIMEFRAME)
    writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
    writer.beat()


def copy_in_one_step(old, source, new, target, count):
    """Copy words of a segment that no other process can find yet."""
    new.ints[target] = old.ints[source]
    found = old._bytes[source * WORD : (source + count) * WORD]
    new._bytes[target * WORD : (target + count) * WORD] = found


def enlarge(name, writer, board):
    enlarging._copy = copy_in_one_step
    writer.enlarge(ENLARGED[2])
    append_two(name, writer, board)


def leave(name, writer, board):
    writer.close()


def leave_nothing(name, writer, board):
    writer.close(unlink=True)


PHASES = {
    "creation": Phase(nothing, make, starts_empty=True),
    "adoption": Phase(nothing, make),
    "add_stream": Phase(opened, add),
    "append": Phase(opened, append_two),
    "update_forming": Phase(opened, update_twice),
    "swap": Phase(opened, swap_twice, whole=(ROWS, ROWS + 2, ROWS + 4)),
    "status": Phase(opened, say, stride=4),
    "close": Phase(opened, leave),
    "close and unlink": Phase(opened, leave_nothing, keeps=False),
    "enlarging": Phase(opened, enlarge, after=ENLARGED, stride=5, beats=True),
    "enlarging, and back": Phase(opened, enlarge, stride=11, beats=True),
    "re-creation": Phase(nothing, make_wider, after=WIDER, stride=7),
    "re-creation, and back": Phase(nothing, make_wider, stride=11),
    "rebuilding what is damaged": Phase(damaged, make, stride=11),
    # Recovery that is killed while it recovers from a death inside each of these.
    "recovery of nothing": Phase(
        nothing, make, starts_empty=True, first=("creation", 30)
    ),
    "recovery of a row": Phase(nothing, make, first=("append", 15)),
    "recovery of a swap": Phase(nothing, make, first=("swap", 40)),
    "recovery of a stream": Phase(nothing, make, first=("add_stream", 100)),
    "recovery of a creation": Phase(nothing, make, first=("re-creation", 300)),
}


def die_at(step, name, phase, board, adapt):
    cores.all_purely()  # its stores can be counted
    burning = fuse.burn_at_each_step()
    adapt()
    writer = phase.prepare(name)
    burning.light(step)
    phase.act(name, writer, board)
    burning.light(0)
    os._exit(0)  # its own exit is not one of the steps


def fill(name):
    with create(name, *GEOMETRY) as writer:
        ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
        for number in range(1, ROWS + 1):
            payload.append(ring, number)
        payload.update_forming(ring, ROWS + 1, 4)


def check_feed(feed: Feed, least: int, most: int) -> None:
    """Check that all rows are whole, and the first stream's count."""
    assert least <= check_ring(feed, payload.SYMBOL) <= most
    assert check_ring(feed, OTHER) == 0
    assert len(feed.status()["streams"]) == len(feed.streams())


def check_ring(feed: Feed, symbol: str) -> int:
    """Return how many rows the stream has had, 0 if there is no such stream."""
    try:
        ring = feed.ring(symbol, payload.TIMEFRAME)
    except StreamNotFoundError:
        assert (symbol, payload.TIMEFRAME) not in feed.streams()
        return 0
    for rows in (ring.view(ring.history), ring.snapshot(99, include_now=True)):
        assert payload.bad_rows(rows) == 0
        assert rows.valid
    bar = ring.forming()
    assert bar is None or payload.is_whole_forming(bar)
    if bar is not None and ring.count == ROWS:
        assert bar.flags % payload.REVISIONS in (4, 5, 6)
    ring.latest("close")
    return ring.count


def check_aftermath(name: str, phase: Phase, board: memoryview, old: Feed | None):
    before = 0 if phase.starts_empty or not phase.keeps else ROWS
    least, most = max(before, board[APPENDED]), max(ROWS, board[BEGUN])
    if old is not None:
        check_feed(old, max(ROWS, board[APPENDED]), most)
    with suppress(FeedNotFoundError), attach(name) as feed:
        check_feed(feed, least, most)
    with create(name, *phase.after) as writer:
        ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
        count = ring.reader.count
        assert least <= count <= most
        assert count in (phase.whole or [count])
        payload.append(ring, count + 1)
        other = writer.add_stream(OTHER, payload.TIMEFRAME)
        payload.append(other, 1)
        with attach(name) as new:
            for feed in (new, old or new):
                if phase.beats:
                    ring = feed.ring(payload.SYMBOL, payload.TIMEFRAME)
                    until(lambda ring=ring: ring.count == count + 1)
                rows = feed.ring(payload.SYMBOL, payload.TIMEFRAME).view(99)
                assert payload.bad_rows(rows) == 0
                assert rows.last == count + 1
                assert check_ring(feed, OTHER) == 1
        writer.close(unlink=True)
    where = place(name)
    left = [path.name for path in Path("/dev/shm").glob(f"{where.object_name}*")]
    assert left == []


def as_it_is():
    """Change nothing."""


def run_to_each_death(nest, name, phase, adapt=as_it_is) -> int:
    """Die at each `stride`-th step of a phase. Return about how many steps it has."""

    def live(step):
        if not phase.starts_empty:
            fill(name)
        board = nest.clear_board()
        if phase.first is not None:
            earlier, at = PHASES[phase.first[0]], phase.first[1]
            with nest.fork(die_at, at, name, earlier, board, adapt) as feeder:
                assert feeder.wait() == -signal.SIGKILL
        with nullcontext() if phase.starts_empty else attach(name) as old:
            with nest.fork(die_at, step, name, phase, board, adapt) as feeder:
                ended = feeder.wait()
            check_aftermath(name, phase, board, old)
        return ended

    return fuse.run_to_each_death(
        live, MOST_STEPS, phase.stride if forks.SCALE <= 1 else 1
    )


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES.keys())
def test_the_feed_survives_a_death_at_each_step(nest, feed_name, phase):
    steps = run_to_each_death(nest, feed_name, phase)
    print(steps, "steps")
    assert steps >= 5


def enter_first():
    """Store the catalog word before the rows: a mutant."""
    replace_rows, build_rows = swap.replace_rows, swap.build_rows

    def replace_early(catalog, index, rows, timeframe, enter_slot):
        def enter_and_build(words, geometry, slot, epoch, last, cells):
            count = words.ints[geometry.slot_word(0) + S_PUBLISHED]
            words.ints[geometry.slot_word(slot)] = epoch
            enter_slot(count, epoch << SLOT_BITS | slot, count, 0)
            build_rows(words, geometry, slot, epoch, last, cells)

        swap.build_rows = enter_and_build
        return replace_rows(catalog, index, rows, timeframe, lambda *_: True)

    shmfeed.writer.replace_rows = replace_early


def publish_first():
    """Publish a row before it is written: a mutant."""
    store = fuse.FusedView.__setitem__

    def store_early(view, key, value):
        store(view, key, value)
        if key in intents:
            store(view, key - S_INTENT + S_PUBLISHED, value)

    make_ring = FeedWriter.add_stream
    intents = set()

    def add_stream(writer, *names):
        ring = make_ring(writer, *names)
        intents.add(ring._slot + S_INTENT)
        return ring

    FeedWriter.add_stream = add_stream
    fuse.FusedView.__setitem__ = store_early


def ready_first():
    """Store the ready word before the header: a mutant."""
    create_object = creation.create_object

    def create_ready_object(name, size):
        create_object(name, size)
        with Path("/dev/shm", name).open("r+b") as segment:
            segment.write(READY.to_bytes(8, "little"))

    creation.create_object = create_ready_object


@pytest.mark.parametrize(
    ("phase", "mutant"),
    [("append", publish_first), ("creation", ready_first), ("swap", enter_first)],
)
def test_a_wrong_order_is_found(nest, feed_name, phase, mutant):
    with pytest.raises(Exception, match=r".") as caught:
        run_to_each_death(nest, feed_name, PHASES[phase], mutant)
    assert "after a death at step" in caught.value.__notes__[0]
    place(feed_name).segment.unlink(missing_ok=True)
