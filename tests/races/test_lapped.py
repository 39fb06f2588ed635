"""`valid` is False for each slice that was written over, and for no other.

Each answer is bracketed by the writer's own words: the slice was surely overwritten
before the question, or surely untouched after the answer. Permitted in between: either.

Nothing is set aside here: a slice ends as one does in a process that neither reads nor
waits in time. `test_kept.py` races the setting aside.
"""

from collections import Counter, deque

import pytest
from racing import Track, write_bars
from support import cores, forks, payload
from support.mapped_ring import limited

from shmfeed.layout import S_EPOCH, S_INTENT

WANTED = int(10_000 * forks.SCALE)
HISTORY, GUARD = 64, 16
HELD = 32  # views held at once: the oldest are lapped, the newest are not


def judge(track: Track, ring, view, tally: Counter) -> None:
    """Ask a view between two loads of the writer's own words."""
    last_kept = view.first + track.geometry.capacity
    lapped_before = ring.count > last_kept
    bad = payload.bad_rows(view) > 0
    valid = view.valid
    touched_after = track.words.ints[track.slot + S_INTENT] > last_kept
    truth = "lapped" if lapped_before else "between" if touched_after else "whole"
    tally[truth, valid] += 1
    tally[truth, "changed"] += bad


@pytest.mark.parametrize(("writes", "reads"), cores.PAIRS, ids=str)
@pytest.mark.timeout(600)
def test_each_lapped_view_is_reported_and_no_other(writes, reads):
    track = Track(HISTORY, GUARD)
    tally: Counter = Counter()
    held: deque = deque()
    with track.race(writes, write_bars), limited(0):
        ring = track.reader(reads)
        turn = 0
        while min(tally["lapped", False], tally["whole", True]) < WANTED:
            turn += 1
            held.append(ring.view(1 + turn % HISTORY))
            judge(track, ring, held[-1], tally)
            if len(held) > HELD:
                judge(track, ring, held.popleft(), tally)
    print(dict(tally))
    assert tally["lapped", True] == 0
    assert tally["whole", False] == 0
    assert tally["whole", "changed"] == 0
    # The control: a reader that does not ask `valid` uses changed rows.
    assert tally["lapped", "changed"] > WANTED / 2


@pytest.mark.parametrize(("writes", "reads"), cores.PAIRS, ids=str)
def test_the_first_row_overwritten_ends_a_slice(writes, reads):
    track = Track(HISTORY, GUARD)
    ring = track.writer(writes)
    for number in range(1, HISTORY + 1):
        payload.append(ring, number)
    reader = track.reader(reads)
    view = reader.view(HISTORY)
    for number in range(HISTORY + 1, HISTORY + GUARD + 1):
        payload.append(ring, number)
        assert view.valid
    assert payload.bad_rows(view) == 0
    assert payload.bad_rows(view.copy()) == 0
    payload.append(ring, HISTORY + GUARD + 1)
    assert not view.valid
    assert payload.bad_rows(view) == 1


@pytest.mark.parametrize(("writes", "reads"), cores.PAIRS, ids=str)
def test_a_reused_slot_ends_its_slices(writes, reads):
    track = Track(HISTORY, GUARD)
    payload.append(track.writer(writes), 1)
    reader = track.reader(reads)
    view = reader.view(1)
    assert view.valid
    track.words.ints[track.slot + S_EPOCH] += 1  # step S1 of a reuse
    assert not view.valid
