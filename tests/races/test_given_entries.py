"""Readers of streams whose entries go from stream to stream as fast as it can be done.

A bar's values name its stream. Permitted: bars of the stream that was asked for, and
StreamNotFoundError.
"""

import gc
from collections import Counter

import pytest
from support import cores, forks

from shmfeed.errors import BusyRingError, StreamNotFoundError
from shmfeed.feed import attach
from shmfeed.memory import integrity
from shmfeed.memory.bound_entry import BoundEntry
from shmfeed.segment.stream_check import check_reader
from shmfeed.writer import create

STREAMS = 5
HISTORY, GUARD, MAX_STREAMS = 4, 2, 2
READS = int(3_000 * forks.SCALE)
STOP, READY = 0, 1
MINUTE = 60_000


def bar(stream, number):
    return number * MINUTE, *(stream + 1.0,) * 5


def pass_entries_on(name, board):
    """Carry two of the streams at a time, each for a few bars."""
    with create(name, HISTORY, GUARD, MAX_STREAMS) as writer:
        turn = 0
        while not board[STOP]:
            stream = turn % STREAMS
            ring = writer.add_stream(f"S{stream}", "1m")
            start = ring.reader.count
            for number in range(start, start + 3):
                ring.append(*bar(stream, number), wake=False)
                ring.update_forming(*bar(stream, number + 1))
            writer.tick()
            writer.unsubscribe(f"S{stream}", "1m")
            turn += 1
            board[READY] = turn
        writer.close(unlink=True)


def read_all(ring, stream, tally):
    wanted = stream + 1.0
    try:
        rows = ring.snapshot(HISTORY, include_now=True)
        found = {*rows["close"].tolist()} - {wanted}
        forming = ring.forming()
        if forming is not None:
            found |= {forming.close} - {wanted}
        newest = ring.latest("close")
        found |= {newest} - {wanted} if newest == newest else set()
    except StreamNotFoundError:
        tally["gone"] += 1
        return
    except BusyRingError:
        tally["outrun"] += 1
        return
    tally["wrong"] += bool(found)
    tally["read"] += 1


def bind(feed, stream, core):
    key = f"S{stream}", "1m"
    segment, index = feed.locate(key)
    words, geometry, _ = segment.mapping
    reader = core.RingReader(words, geometry, index)
    return check_reader(reader, key)


def race(name, core, reads, until=lambda tally: False):
    """Return what a reader of all streams met, which binds again at times."""
    board, tally, readers = forks.board(), Counter(), {}
    with forks.Fork(pass_entries_on, name, board) as child:
        forks.wait_until(lambda: board[READY] > STREAMS, 20, "the writer is ready")
        with attach(name) as feed:
            for turn in range(reads):
                stream = turn % STREAMS
                try:
                    if stream not in readers or turn % 3 == 0:
                        readers[stream] = bind(feed, stream, core)
                except (StreamNotFoundError, BusyRingError):
                    tally["absent"] += 1
                    continue
                for _ in range(5):
                    read_all(readers[stream], stream, tally)
                if until(tally):
                    break
        board[STOP] = 1
        child.result()
    readers.clear()
    gc.collect()
    print(dict(tally))
    return tally


@pytest.mark.parametrize("core", cores.EACH, ids=lambda core: core.name)
def test_no_ring_serves_another_stream(feed_name, core):
    tally = race(feed_name, core, READS)
    assert tally["wrong"] == 0
    assert tally["read"] > 0
    assert tally["gone"] > 0


def test_without_the_entry_s_epoch_it_does(feed_name, monkeypatch):
    """The control: readers that do not compare the epoch."""
    monkeypatch.setattr(BoundEntry, "is_carried", property(lambda bound: True))
    monkeypatch.setattr(BoundEntry, "check_carried", lambda bound: None)
    monkeypatch.setattr(integrity, "check_epoch", lambda *_: None)
    tally = race(feed_name, cores.PURE, READS, lambda tally: tally["wrong"])
    assert tally["wrong"] > 0
