"""Two feeders never write one feed, however they try.

The test looks at their stores, not at their locks: each holder signs a shared board,
and watches that no other process signs it, or the segment, while it holds the feed.
Permitted for the others: FeedBusyError.
"""

import fcntl
import os
import random
import signal
import time

import pytest
from support import forks, payload

from shmfeed.errors import FeedBusyError, FeedLostError
from shmfeed.feed import attach
from shmfeed.layout import H_WRITER_EPOCH, H_WRITER_PID
from shmfeed.segment.mapping import place
from shmfeed.writer import FeedWriter, create

GEOMETRY = 16, 4, 2
RIVALS = 16
ROUNDS = int(40 * forks.SCALE)
KILLS = 12
TAKEOVER_SECONDS = 1.0  # below two beats: no rival waited for a missed one

STOP, ROUND, LEAVE, HOLDER, COMMAND, LOST = range(6)
FIRST_RIVAL = 16
DONE, UNLINK = 1, 2


def become_writer(name: str) -> FeedWriter | None:
    try:
        return create(name, *GEOMETRY)
    except FeedBusyError:
        return None


def intruders(writer: FeedWriter, board, leave) -> int:
    """Return the number of foreign signatures while this writer held the feed."""
    ints = writer._words.ints
    me, epoch = os.getpid(), ints[H_WRITER_EPOCH]
    board[HOLDER] = me
    found = 0
    while True:
        last = leave()
        mine = board[HOLDER] == me == ints[H_WRITER_PID]
        found += not (mine and ints[H_WRITER_EPOCH] == epoch)
        if last or found:
            return found
        time.sleep(0.0002)


def race_in_rounds(name, board, tried, adapt=lambda: None):
    """Try to become the writer once a round; the winner stays until all have tried."""
    adapt()
    wins = found = current = 0
    while True:
        forks.wait_until(lambda now=current: board[ROUND] != now, 20, "the next round")
        current = board[ROUND]
        if current < 0:
            return {"wins": wins, "intruders": found}
        writer = become_writer(name)
        if writer is None:
            board[tried] = current
            continue
        wins += 1

        def leave(now=current):
            board[tried] = now  # only after the board was signed
            return board[LEAVE] == now

        found += intruders(writer, board, leave)
        writer.close(unlink=current % 3 == 0)
        board[HOLDER] = 0


def run_rounds(name, board, rounds, adapt=lambda: None):
    places = range(FIRST_RIVAL, FIRST_RIVAL + RIVALS)
    rivals = [forks.Fork(race_in_rounds, name, board, at, adapt) for at in places]
    try:
        for number in range(1, rounds + 1):
            board[ROUND] = number
            everyone = lambda now=number: all(board[at] == now for at in places)  # noqa: E731
            forks.wait_until(everyone, 20, f"all tried in round {number}")
            board[LEAVE] = number
            forks.wait_until(lambda: not board[HOLDER], 5, "the holder left")
        board[ROUND] = -1
        return [rival.result() for rival in rivals]
    finally:
        for rival in rivals:
            rival.__exit__(None, None, None)


def test_each_round_has_one_winner(feed_name):
    results = run_rounds(feed_name, forks.board(), ROUNDS)
    create(feed_name, *GEOMETRY).close(unlink=True)
    print(ROUNDS, "rounds of", RIVALS)
    assert sum(result["intruders"] for result in results) == 0
    assert sum(result["wins"] for result in results) == ROUNDS


def test_without_locks_the_board_shows_two(feed_name):
    def no_locks():
        fcntl.flock = lambda fd, how: None
        FeedWriter.beat = lambda writer: None  # it would find out

    create(feed_name, *GEOMETRY).close()  # each rival finds a whole segment
    results = run_rounds(feed_name, forks.board(), 1, no_locks)
    assert sum(result["wins"] for result in results) > 1
    assert sum(result["intruders"] for result in results) > 0
    create(feed_name, *GEOMETRY).close(unlink=True)


def take_over_again_and_again(name, board, seed):
    chance = random.Random(seed)
    found = 0
    while not board[STOP]:
        writer = become_writer(name)
        if writer is None:
            time.sleep(chance.uniform(0.001, 0.01))
            continue
        found += intruders(writer, board, lambda: board[STOP])
        writer.close()
    return found


def test_a_killed_holder_is_followed_at_once(feed_name, seed):
    board = forks.board()
    rivals = [
        forks.Fork(take_over_again_and_again, feed_name, board, seed + number)
        for number in range(RIVALS)
    ]
    waits = []
    try:
        forks.wait_until(lambda: board[HOLDER], 5, "the first holder")
        for _ in range(KILLS):
            holder = board[HOLDER]
            next(rival for rival in rivals if rival.pid == holder).kill()
            killed = time.monotonic()
            forks.wait_until(
                lambda dead=holder: board[HOLDER] != dead, 5, "a successor"
            )
            waits.append(time.monotonic() - killed)
        board[STOP] = 1
        left = [rival for rival in rivals if rival.status is None]
        assert [rival.result() for rival in left] == [0] * (RIVALS - KILLS)
    finally:
        for rival in rivals:
            rival.__exit__(None, None, None)
    with create(feed_name, *GEOMETRY) as writer:
        assert writer.reused
        assert writer._words.ints[H_WRITER_EPOCH] >= KILLS + 2
        writer.close(unlink=True)
    print(f"seed {seed}: {KILLS} kills, the longest wait {max(waits):.3f} s")
    assert max(waits) < TAKEOVER_SECONDS


def hold(name, board):
    """Hold a feed until a command comes; then beat once and close."""
    writer = create(name, *GEOMETRY)
    ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
    payload.append(ring, 1)
    board[HOLDER] = os.getpid()
    forks.wait_until(lambda: board[COMMAND], 20, "a command")
    try:
        writer.beat()
    except FeedLostError:
        board[LOST] = 1
        # A writer that ignores the error stores nothing.
        with pytest.raises(FeedLostError, match="has stopped"):
            payload.append(ring, 2)
    else:
        payload.append(ring, 2)
    writer.close(unlink=board[COMMAND] == UNLINK)


@pytest.fixture
def board():
    return forks.board()


@pytest.fixture
def holder(feed_name, board):
    with forks.Fork(hold, feed_name, board) as child:
        forks.wait_until(lambda: board[HOLDER], 10, "the holder")
        yield child
    create(feed_name, *GEOMETRY).close(unlink=True)


def test_a_removed_lock_file_lets_no_one_in(feed_name, board, holder):
    place(feed_name).lock.unlink()
    for _ in range(2):
        with pytest.raises(FeedBusyError, match=str(holder.pid)) as caught:
            create(feed_name, *GEOMETRY)
        assert caught.value.pid == holder.pid
    board[COMMAND] = DONE
    holder.result()
    assert board[LOST]  # its own beat found out


def test_a_removed_segment_is_not_recreated_beside_its_holder(feed_name, board, holder):
    place(feed_name).segment.unlink()
    with pytest.raises(FeedBusyError):
        create(feed_name, *GEOMETRY)
    board[COMMAND] = DONE
    holder.result()
    assert board[LOST]


@pytest.mark.parametrize("command", [DONE, UNLINK])
def test_with_both_removed_the_first_holder_harms_nothing(
    feed_name, board, holder, command
):
    place(feed_name).lock.unlink()
    place(feed_name).segment.unlink()
    with create(feed_name, *GEOMETRY) as writer:
        ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
        payload.append(ring, 1)
        board[COMMAND] = command
        holder.result()
        assert board[LOST]
        writer.beat()  # segment and lock still bear their names
        with attach(feed_name) as feed:
            assert feed.ring(payload.SYMBOL, payload.TIMEFRAME).count == 1


def hold_and_fork(name, board):
    writer = create(name, *GEOMETRY)
    ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
    if os.fork():
        signal.pause()
    board[HOLDER] = (
        os.getpid()
    )  # signed late: a forked child takes a moment to disown the feed
    forks.wait_until(lambda: board[COMMAND], 20, "a command")
    try:
        payload.append(ring, 1)
    except FeedLostError:
        board[LOST] = 1
    writer.close(unlink=True)
    board[STOP] = 1
    os._exit(0)


def test_a_forked_child_of_a_dead_holder_holds_nothing(feed_name, board):
    with forks.Fork(hold_and_fork, feed_name, board) as parent:
        forks.wait_until(lambda: board[HOLDER], 10, "the holder")
        parent.kill()
    with create(feed_name, *GEOMETRY) as writer:
        assert writer.reused
        board[COMMAND] = DONE
        forks.wait_until(lambda: board[STOP], 10, "the forked child goes")
        assert board[LOST]
        writer.beat()
        with attach(feed_name) as feed:
            assert feed.ring(payload.SYMBOL, payload.TIMEFRAME).count == 0
        writer.close(unlink=True)


def test_a_stopped_holder_keeps_its_feed(feed_name, board, holder):
    holder.signal(signal.SIGSTOP)
    with pytest.raises(FeedBusyError) as caught:
        create(feed_name, *GEOMETRY)
    assert caught.value.pid == holder.pid
    with attach(feed_name) as feed:
        ring = feed.ring(payload.SYMBOL, payload.TIMEFRAME)
        assert payload.bad_rows(ring.view(4)) == 0
        holder.signal(signal.SIGCONT)
        board[COMMAND] = DONE
        holder.result()
        assert not board[LOST]
        assert ring.count == 2
