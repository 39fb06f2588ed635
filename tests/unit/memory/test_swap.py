"""The swap on a bytearray: the rows that it puts in place, and what it refuses."""

import random
import signal
import time
from typing import NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from support.ring_on_bytes import HOUR, STREAM, bench, prices

from shmfeed.errors import BadArgumentError, SegmentFullError
from shmfeed.layout import (
    E_WORD,
    S_BASE,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    SLOT_BITS,
    SLOT_HEADER_WORDS,
    SLOT_MASK,
    TIME_LIMIT,
    Geometry,
)
from shmfeed.memory import swap
from shmfeed.memory.catalog import Catalog
from shmfeed.memory.slots import SlotPool

pytestmark = pytest.mark.usefixtures("each_core")

HISTORY, GUARD = 5, 2


def block(numbers, mark=0.0):
    """Return rows of these bar numbers; `mark` is their money."""
    cells = np.zeros((9, len(numbers)))
    times = cells.view(np.int64)
    times[0] = np.array(numbers, np.int64) * HOUR
    times[1] = times[0] + HOUR
    for column, number in enumerate(numbers):
        cells[2:7, column] = prices(number)
    cells[7] = mark
    return cells


def replace(ring, rows, timeframe=STREAM[1], enter_slot=None):
    enter_slot = enter_slot or ring.writer._enter_slot
    return swap.replace_rows(ring.catalog, 0, rows, timeframe, enter_slot)


def word_of(ring) -> int:
    return ring.words.ints[ring.geometry.entry_word(0) + E_WORD]


class Held(NamedTuple):
    """A slice, and the rows that it had when it was taken."""

    rows: object
    block: np.ndarray


def hold(ring, n=HISTORY) -> Held:
    view = ring.reader.view(n)
    return Held(view, view.copy().block)


def same(one, other) -> bool:
    return one.tobytes() == other.tobytes()


class TestRows:
    def test_they_replace_the_stream_in_one_step(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(*range(4))
        old = hold(ring)
        rows = block([0, 1, 2, 3], mark=7.0)
        assert replace(ring, rows) == 4
        assert same(ring.reader.snapshot(9).block, rows)
        assert ring.reader.last_closed().money == 7.0
        assert old.rows.valid
        assert same(old.rows.copy().block, old.block)
        assert ring.woken == [0, 0, 0, 0]  # by the appends alone

    def test_a_filled_gap_raises_the_count(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(0, 1, 4)
        epoch = ring.reader.epoch
        assert replace(ring, block([0, 1, 2, 3, 4])) == 5
        assert ring.reader.count == 5
        assert ring.reader.epoch > epoch
        assert ring.reader.view(9).first == 0

    def test_no_view_reaches_below_the_first_row(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(*range(20))
        assert replace(ring, block([18, 19])) == 20
        view = ring.reader.view(HISTORY)
        assert (view.first, view.last) == (18, 20)
        ring.close(20)
        assert len(ring.reader.view(HISTORY)) == 3

    def test_rows_beyond_history_are_cut_at_the_old_end(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(10)
        assert replace(ring, block(range(3, 11))) == 5
        assert ring.reader.view(99).open_time.tolist() == [
            number * HOUR for number in range(6, 11)
        ]

    def test_newer_rows_are_rows_too(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(0)
        assert replace(ring, block([0, 1, 2])) == 3
        with pytest.raises(BadArgumentError, match="not newer"):
            ring.close(2)
        ring.close(3)
        assert ring.reader.count == 4

    def test_a_stream_without_rows_may_be_given_some(self) -> None:
        ring = bench(HISTORY, GUARD, base=30)
        assert replace(ring, block([7, 8])) == 32
        assert ring.reader.view(9).first == 30

    def test_what_the_entry_holds_survives(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(0, 1)
        ring.writer.update_forming(2 * HOUR, *prices(2), 1.0)
        start = ring.geometry.entry_word(0)
        rest = slice(start + E_WORD + 1, ring.geometry.entry_word(1))
        before = ring.words.ints[rest].tolist()
        forming = ring.reader.forming()
        assert forming is not None
        replace(ring, block([0, 1], mark=1.0))
        assert ring.words.ints[rest].tolist() == before
        assert ring.reader.forming() == forming

    def test_a_row_that_a_dead_writer_began_does_not_count(self) -> None:
        ring = bench(2, 1)
        ring.close(0, 1, 2)
        at = ring.geometry.slot_word(word_of(ring) & SLOT_MASK)
        ring.words.ints[at + S_INTENT] = 4  # and row 0 is half row 3
        ring.words.ints[at + SLOT_HEADER_WORDS] = 3 * HOUR
        assert replace(ring, block([1, 2], mark=1.0)) == 3
        ring.close(3)
        assert ring.reader.count == 4

    def test_months_close_at_their_own_length(self) -> None:
        ring = bench(HISTORY, GUARD, key=("A", "1M"))
        ring.writer.append(0, *prices(0))
        ring.writer.append(2678400000, *prices(1))
        rows = ring.reader.snapshot(2).block
        assert replace(ring, rows, "1M") == 2
        rows.view(np.int64)[1, 1] += 86_400_000
        with pytest.raises(BadArgumentError, match=r"row 1 of rows .* those of 1M"):
            replace(ring, rows, "1M")

    def test_the_caller_may_change_its_array_afterwards(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(0, 1)
        rows = block([0, 1])
        replace(ring, rows)
        rows[:] = 0
        assert ring.reader.view(2).open_time.tolist() == [0, HOUR]

    def test_any_layout_of_the_array_will_do(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(0, 1, 2)
        rows = np.asfortranarray(block([0, 1, 2], mark=3.0))
        wide = np.zeros((18, 3))
        wide[::2] = rows
        for given_rows in (rows, wide[::2]):
            replace(ring, given_rows)
            assert same(ring.reader.snapshot(3).block, np.ascontiguousarray(rows))


class TestSlots:
    def test_the_slot_retired_longest_ago_is_taken(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(0)
        slots = []
        for _ in range(3 * ring.geometry.slots):
            replace(ring, block([0]))
            slots.append(word_of(ring) & SLOT_MASK)
        turn = [*range(1, ring.geometry.slots), 0]
        assert slots == turn * 3

    def test_a_slice_ends_when_its_slot_is_reused(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(0, 1)
        old = hold(ring)
        for _ in range(ring.geometry.slots - 1):
            replace(ring, block([0, 1], mark=2.0))
            assert old.rows.valid
            assert same(old.rows.copy().block, old.block)
        replace(ring, block([0, 1], mark=2.0))
        assert not old.rows.valid

    def test_epochs_grow_and_are_those_of_the_slots(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(0)
        epochs = []
        for _ in range(20):
            replace(ring, block([0]))
            word = word_of(ring)
            at = ring.geometry.slot_word(word & SLOT_MASK)
            assert ring.words.ints[at + S_EPOCH] == word >> SLOT_BITS
            epochs.append(word >> SLOT_BITS)
        assert epochs == sorted(set(epochs))

    def test_a_successor_knows_the_order_of_retirement(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(0)
        for _ in range(ring.geometry.slots + 2):
            replace(ring, block([0]))
        slot, epoch = Catalog(ring.words, ring.geometry, 1).free_slot()
        assert (slot, epoch) == ring.catalog.free_slot()
        assert slot == 3

    def test_without_a_free_slot_nothing_is_stored(self, monkeypatch) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(0)
        monkeypatch.setattr(Geometry, "slots", property(lambda sizes: 1))
        before = ring.words.raw.tobytes()
        with pytest.raises(SegmentFullError, match=r"has 1 slot, and each holds"):
            replace(ring, block([0]))
        assert ring.words.raw.tobytes() == before


def _with_time(column, row, time_):
    rows = block([0, 1, 2])
    rows.view(np.int64)[column, row] = time_
    return rows


MALFORMED = {
    "no array": ([[1.0]], "rows is"),
    "a text": ("rows", "rows is 'rows'"),
    "ints": (block([0, 1, 2]).view(np.int64), r"rows is int64 of shape \(9, 3\)"),
    "float32": (block([0, 1, 2]).astype(np.float32), "rows is float32"),
    "six columns": (block([0, 1, 2])[:6], r"float64 of shape \(6, 3\)"),
    "a column": (block([0])[:, 0], r"of shape \(9,\)"),
    "three dimensions": (block([0])[None], r"of shape \(1, 9, 1\)"),
    "no rows": (block([]), r"of shape \(9, 0\)"),
    "a row twice": (block([0, 1, 1, 2]), "row 2 of rows opens at 3600000"),
    "an older row": (block([0, 2, 1, 3]), "row 2 of rows opens at 3600000"),
    "a negative time": (_with_time(0, 0, -1), "row 0 of rows opens at -1"),
    "year 9999": (_with_time(0, 2, TIME_LIMIT), "row 2 of rows opens at"),
    "the end of int64": (_with_time(0, 2, (1 << 63) - 1), "row 2 of rows opens at"),
    "another close": (_with_time(1, 1, 5), "row 1 of rows .* closes at 5; .* 1h"),
    "floats for times": (np.ones((9, 3)), "row 0 of rows opens at 46071824188"),
    "an old end": (block([0, 1]), "rows end at open_time 3600000; .*, 7200000"),
}


@pytest.mark.parametrize(("rows", "said"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_rows_are_refused_and_nothing_is_stored(rows, said) -> None:
    ring = bench(HISTORY, GUARD)
    ring.close(0, 1, 2)
    before = ring.words.raw.tobytes()
    with pytest.raises(BadArgumentError, match=said):
        replace(ring, rows)
    assert ring.words.raw.tobytes() == before
    ring.close(3)
    assert ring.reader.count == 4


class TestReentry:
    """A signal handler may append while rows are replaced; no bar is lost."""

    @pytest.mark.parametrize("call", ["build_rows", "fence", "fill_rows", "_rows_of"])
    def test_a_bar_that_closes_meanwhile_refuses_the_swap(
        self, monkeypatch, call
    ) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(0, 1)
        original, left = getattr(swap, call), [2]

        def append_first(*arguments):
            found = original(*arguments)
            if left:
                ring.close(left.pop())
            return found

        monkeypatch.setattr(swap, call, append_first)
        with pytest.raises(BadArgumentError, match="they must reach"):
            replace(ring, block([0, 1], mark=1.0))
        assert ring.reader.count == 3
        assert ring.reader.view(9).open_time.tolist() == [0, HOUR, 2 * HOUR]
        ring.close(3)
        assert ring.reader.count == 4

    @pytest.mark.parametrize("takes", [True, False])
    def test_an_interrupt_leaves_no_slot_free_that_is_in_use(
        self, monkeypatch, takes
    ) -> None:
        """The control: a pool that takes a slot after the entry names it."""
        if not takes:
            monkeypatch.setattr(SlotPool, "take", lambda pool, slot: None)
        ring = bench(HISTORY, GUARD)
        ring.close(0, 1)

        def enter(*arguments):
            assert ring.writer._enter_slot(*arguments)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            replace(ring, block([0, 1], mark=1.0), enter_slot=enter)
        used, kept = word_of(ring) & SLOT_MASK, hold(ring)
        replace(ring, block([0, 1], mark=2.0))
        assert (word_of(ring) & SLOT_MASK != used) == takes
        assert kept.rows.valid or not takes
        assert ring.reader.last_closed().money == 2.0

    def test_no_bar_of_a_signal_handler_is_lost(self) -> None:
        ring = bench(64, 16)
        ring.close(0)
        closed, chance = [0], random.Random(5)

        def append(number, frame):
            ring.close(len(closed))
            closed.append(number)
            pause = chance.uniform(0.00005, 0.001)
            signal.setitimer(signal.ITIMER_REAL, pause)

        previous = signal.signal(signal.SIGALRM, append)
        signal.setitimer(signal.ITIMER_REAL, 0.0001)
        try:
            swapped = refused = 0
            deadline = time.thread_time() + 5
            while (swapped < 30 or refused < 3) and time.thread_time() < deadline:
                rows = ring.reader.snapshot(64)
                try:
                    replace(ring, rows.block)
                    swapped += 1
                except BadArgumentError:
                    refused += 1
                assert ring.reader.count >= rows.last
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        print(len(closed), "bars,", swapped, "swaps,", refused, "refused")
        assert swapped >= 30
        newest = ring.reader.last_closed().open_time // HOUR
        assert newest == len(closed) - 1
        rows = ring.reader.view(64)
        assert np.diff(rows.open_time).tolist() == [HOUR] * (len(rows) - 1)

    def test_a_writer_that_does_not_look_loses_bars(self) -> None:
        """The control: S4 without the comparison of the row number."""
        ring = bench(HISTORY, GUARD)
        ring.close(0, 1)

        def enter(before, word, row, last_open):
            ring.close(2)
            return ring.writer._enter_slot(before + 1, word, row, last_open)

        replace(ring, block([0, 1]), enter_slot=enter)
        assert ring.reader.view(9).open_time.tolist() == [0, HOUR]


class TestModel:
    @given(st.data())
    def test_rows_are_those_of_a_list(self, data) -> None:
        """Append, replace and hold slices in any order, beside a plain list."""
        history = data.draw(st.integers(1, 6))
        ring = bench(history, data.draw(st.integers(1, 4)))
        model, count, newest, held = [], 0, -1, []
        for step in range(data.draw(st.integers(1, 25))):
            if data.draw(st.booleans()):
                newest += data.draw(st.integers(1, 3))
                ring.close(newest)
                model, count = [*model, (newest, None)][-history:], count + 1
            else:
                last = max(newest, 0) + data.draw(st.integers(0, 2))
                others = data.draw(st.sets(st.integers(0, last), max_size=9))
                numbers = sorted(others | {last})
                known = _known(ring)
                rows = block(numbers, mark=float(step))
                assert replace(ring, rows) >= count
                kept = numbers[-history:]
                count += len(set(kept) - known)
                model, newest = [(n, float(step)) for n in kept], last
            held.append(hold(ring, history))
            found = ring.reader.snapshot(history)
            money = [None if np.isnan(m) else m for m in found["money"].tolist()]
            opens = (found.open_time // HOUR).tolist()
            assert list(zip(opens, money, strict=True)) == model
            assert ring.reader.count == found.last == count
            assert found["close"].tolist() == [prices(n)[3] for n in opens]
            assert all(same(h.rows.copy().block, h.block) for h in held if h.rows.valid)
            _check_slot(ring)


def _known(ring) -> set[int]:
    # All bars whose rows are still in the slot, those beyond `history` too.
    slot = word_of(ring) & SLOT_MASK
    rows, _ = swap._rows_of(ring.words, ring.geometry, slot)
    opens = rows[0]
    return set((opens // HOUR).tolist())


def _check_slot(ring) -> None:
    at = ring.geometry.slot_word(word_of(ring) & SLOT_MASK)
    ints = ring.words.ints
    base, intent = ints[at + S_BASE], ints[at + S_INTENT]
    assert 0 <= base <= ints[at + S_PUBLISHED] == intent
