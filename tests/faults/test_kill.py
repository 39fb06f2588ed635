"""A feeder killed at any moment: readers work on, no closed bar is lost or repeated.

Permitted for a reader's call: whole rows, or BusyRingError within its limit. Permitted
for the ring after a kill: the rows that append had returned for, or one more.
"""

import os
import random
import signal
import time
from collections import Counter

import pytest
from support import cores, forks, payload
from support.slow_writer import WordByWord

from shmfeed.errors import BusyRingError, SegmentFormatError
from shmfeed.feed import Feed, attach
from shmfeed.layout import S_INTENT, S_PUBLISHED, SLOT_HEADER_WORDS
from shmfeed.writer import create

GEOMETRY = 200, 16, 2
KILLS = int(1000 * forks.SCALE)
LONGEST_LIFE = 0.004  # seconds between the first append and the kill
CALL_NS = 60_000_000  # CPU time of one call: a busy read ends after 10 ms
STUCK_SECONDS = 2.0  # wall time, beside other work: no call blocks
DEAD_SECONDS = 2.5

STOP, LIVES, BEGUN, APPENDED = range(4)


class Slow(WordByWord):
    """The words of a writer that spends most of its time inside a row."""

    def pause(self, word: int) -> None:
        if word > self._slot + SLOT_HEADER_WORDS:
            for _ in range(500):
                pass


def write_until_killed(name, board):
    """Announce each bar before and after its append; both outlive the kill.

    Most lives are pure Python's and store their rows word by word: they are inside an
    append most of their time.
    """
    is_slow = board[LIVES] % 8 != 0
    if is_slow:
        cores.write_purely()
    writer = create(name, *GEOMETRY)
    assert writer.reused
    ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
    if is_slow:
        ring._ints = Slow(ring)
    number = ring.reader.count
    board[LIVES] += 1
    while True:
        number += 1
        board[BEGUN] = number
        for revision in range(number % 3):
            payload.update_forming(ring, number, revision)
        payload.append(ring, number)
        board[APPENDED] = number


def read_every_verb(name, board, seed, pause):
    """Call every verb on one Feed while its feeders are killed."""
    chance = random.Random(seed)
    tally: Counter = Counter()
    with attach(name) as feed:
        ring = feed.ring(payload.SYMBOL, payload.TIMEFRAME)
        verbs = [look, copy, ask, lambda ring, n, tally: feed.status()]
        newest = 0
        while not board[STOP]:
            verb = chance.choice(verbs)
            begun, cpu = time.monotonic(), time.thread_time_ns()
            try:
                verb(ring, chance.choice((1, 20, 200)), tally)
            except BusyRingError:
                tally["busy"] += 1
            tally["calls"] += 1
            tally["longest ns"] = max(tally["longest ns"], time.thread_time_ns() - cpu)
            tally["stuck"] += time.monotonic() - begun > STUCK_SECONDS
            tally["went back"] += ring.count < newest
            newest = ring.count
            time.sleep(pause)
        tally["newest"] = newest
    return tally


def look(ring, n, tally):
    rows = ring.view(n)
    bad = payload.bad_rows(rows)
    if rows.valid:
        tally["rows"] += len(rows)
        tally["bad"] += bad


def copy(ring, n, tally):
    rows = ring.snapshot(n, include_now=True)
    tally["rows"] += len(rows)
    tally["bad"] += payload.bad_rows(rows)


def ask(ring, n, tally):
    bar = ring.forming()
    tally["bad"] += bar is not None and not payload.is_whole_forming(bar)
    tally["bad"] += ring.latest("volume") % 5 != 0
    tally["bad"] += not payload.is_whole(ring._current_reader().last_closed())


def check_ring(feed: Feed, board, tally: Counter) -> None:
    """Check after a kill that each appended bar is there once, and at most one more."""
    ring = feed.ring(payload.SYMBOL, payload.TIMEFRAME)
    reader = ring._current_reader()
    appended, begun, count = board[APPENDED], board[BEGUN], reader.count
    assert appended <= count <= begun, (appended, count, begun)
    rows = reader.snapshot(GEOMETRY[0])
    assert payload.bad_rows(rows) == 0
    assert rows.last == count
    words, at = cores.slot_of(ring)
    tally["mid-append"] += words[at + S_INTENT] != words[at + S_PUBLISHED]
    tally["one more"] += count > appended


@pytest.fixture
def feed(feed_name):
    with create(feed_name, *GEOMETRY) as writer:
        payload.append(writer.add_stream(payload.SYMBOL, payload.TIMEFRAME), 1)
    with attach(feed_name) as feed:
        yield feed
    create(feed_name, *GEOMETRY).close(unlink=True)


@pytest.mark.timeout(max(600, KILLS))
def test_kill_at_random_moments(nest, feed, seed):
    chance = random.Random(seed)
    board = nest.clear_board()
    kills: Counter = Counter()
    with (
        forks.Fork(read_every_verb, feed.name, board, seed + 1, 0) as first,
        forks.Fork(read_every_verb, feed.name, board, seed + 2, 0.001) as second,
    ):
        for life in range(1, KILLS + 1):
            with nest.fork(write_until_killed, feed.name, board) as writer:
                forks.wait_until(lambda now=life: board[LIVES] == now, 10, "a life")
                time.sleep(chance.uniform(0, LONGEST_LIFE))
                writer.kill()
                assert writer.wait() == -signal.SIGKILL
            check_ring(feed, board, kills)
        killed = time.monotonic()
        count = feed.ring(payload.SYMBOL, payload.TIMEFRAME).count
        check_it_is_called_dead(feed, killed)
        board[STOP] = 1
        readers = [first.result(), second.result()]
    print(f"seed {seed}: {KILLS} kills, {dict(kills)}, {count} bars; {readers}")
    for tally in readers:
        assert tally["rows"] > 0
        assert tally.get("bad", 0) == tally["stuck"] == tally["went back"] == 0
        assert tally["longest ns"] < CALL_NS
        assert tally["newest"] == count  # the last life's too, on the same Feed
    # The control: the kills did hit appends, which readers then never saw. One word
    # that is odd while a row is written would have been left odd by each of them.
    assert kills["mid-append"] > KILLS / 2


def check_it_is_called_dead(feed: Feed, killed: float) -> None:
    forks.wait_until(
        lambda: feed.status()["health"] == "dead",
        killed + DEAD_SECONDS - time.monotonic(),
        "the state says dead",
    )
    status = feed.status()
    assert status["state"] == "disconnected"
    assert status["pid"] is None
    assert [row["health"] for row in status["streams"]] == ["dead"]


def append_ten(name, successor):
    cores.write_purely()  # the mutants use its internals
    ring = create(name, *GEOMETRY).add_stream(payload.SYMBOL, payload.TIMEFRAME)
    number = successor(ring)
    for _ in range(10):
        number += 1
        payload.append(ring, number)
    os.kill(os.getpid(), signal.SIGKILL)


def goes_on(ring):
    return ring.reader.count


def repeat_last_bar(ring):
    """Append the predecessor's last bar again: a mutant."""
    ring._last_open -= payload.STEP
    return ring.reader.count - 1


def skip_one_bar(ring):
    """Leave a bar out: a mutant."""
    return ring.reader.count + 1


@pytest.mark.parametrize(
    ("successor", "right"),
    [(goes_on, True), (repeat_last_bar, False), (skip_one_bar, False)],
)
def test_a_lost_or_repeated_bar_is_seen(feed, successor, right):
    board = forks.board()
    for life in (goes_on, successor):
        with forks.Fork(append_ten, feed.name, life) as writer:
            assert writer.wait() == -signal.SIGKILL
    board[APPENDED] = board[BEGUN] = 21
    if right:
        check_ring(feed, board, Counter())
    else:
        # A repeated bar is refused when a reader is bound.
        with pytest.raises((AssertionError, SegmentFormatError)):
            check_ring(feed, board, Counter())
