"""Slices that are held through any sequence of bars, reads, swaps, deaths of readers.

Each core reads the same segment. The model knows which slices a reader sets aside, and
which the writer overwrites before: the former are valid and as they were made for good,
the latter are not valid from then on.
"""

import itertools
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from support import cores, payload
from support.mapped_ring import MappedRing, kept_bytes, limited, mapped_ring

from shmfeed.layout import E_WORD, S_EPOCH, SLOT_BITS, SLOT_MASK
from shmfeed.memory import keeping

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="no mremap: nothing is set aside"
)
asked = st.integers(1, 12)
which = st.integers(0, 7)


class Held:
    """A slice or an array of it, its values, and what the model knows of it."""

    def __init__(self, rows: Any, as_array: bool) -> None:
        self.first = rows.first
        self.validity = rows.validity
        self.object = rows.floats[2:, ::-1] if as_array else rows
        self.values = self.read()
        self.kept = False
        self.lapped = False

    def read(self) -> np.ndarray:
        if isinstance(self.object, np.ndarray):
            return self.object.copy()
        return np.array(self.object.copy().floats)


class KeepingModel(RuleBasedStateMachine):
    @initialize(history=st.integers(1, 12), guard=st.integers(0, 8))
    def make(self, history: int, guard: int) -> None:
        self.ring: MappedRing = mapped_ring(history, guard, cores.SERVING)
        self.readers = [self.ring.reader(core) for core in cores.EACH]
        self.held: list[list[Held]] = [[] for _ in self.readers]
        self.bars = 0

    @rule(count=st.integers(1, 30))
    def close(self, count: int) -> None:
        self.bars += count
        self.ring.close(count)
        for held in self._living():
            held.lapped |= self.bars > held.first + self.ring.geometry.capacity

    def _living(self) -> list[Held]:
        return [each for held in self.held for each in held if not each.kept]

    @rule()
    def close_and_read(self) -> None:
        self.close(1)
        for number in range(len(self.readers)):
            self.verb(number)

    @rule(number=which)
    def verb(self, number: int) -> None:
        number %= len(self.readers)
        assert self.readers[number].count == self.bars
        self._set_aside(number)

    def _set_aside(self, number: int, all_of_them: bool = False) -> None:
        geometry = self.ring.geometry
        due = self.bars - geometry.capacity + geometry.guard // 2
        living = [each for each in self.held[number] if not (each.kept or each.lapped)]
        if all_of_them or any(each.first <= due for each in living):
            for each in living:
                each.kept = True

    @rule(number=which, n=asked, as_array=st.booleans())
    def hold(self, number: int, n: int, as_array: bool) -> None:
        number %= len(self.readers)
        self._set_aside(number)
        rows = self.readers[number].view(n)
        assert len(rows) == min(n, self.bars, self.ring.geometry.history)
        assert payload.bad_rows(rows) == 0
        self.held[number].append(Held(rows, as_array))

    @rule(number=which, index=which)
    def drop(self, number: int, index: int) -> None:
        held = self.held[number % len(self.readers)]
        if held:
            del held[index % len(held)]

    @rule(number=which)
    def replace_reader(self, number: int) -> None:
        number %= len(self.readers)
        self.readers[number] = self.ring.reader(cores.EACH[number])
        self._set_aside(number, all_of_them=True)

    @rule()
    def swap(self) -> None:
        """Swap in a copy of the slot; spoil the old one once readers have seen it."""
        ints, geometry = self.ring.words.ints, self.ring.geometry
        entry = geometry.entry_word(0)
        word = ints[entry + E_WORD]
        number, epoch = word & SLOT_MASK, word >> SLOT_BITS
        if number + 1 == geometry.slots:
            return
        size = geometry.slot_words
        old, new = geometry.slot_word(number), geometry.slot_word(number + 1)
        ints[new : new + size] = ints[old : old + size]
        ints[new + S_EPOCH] = epoch + 1
        ints[entry + E_WORD] = (epoch + 1) << SLOT_BITS | (number + 1)
        for reader in range(len(self.readers)):
            assert self.readers[reader].count == self.bars
            self._set_aside(reader, all_of_them=True)
        ints[old : old + size] = memoryview(bytes(8 * size)).cast("q")
        self.ring = self.ring.continued()

    @invariant()
    def what_is_held_is_true(self) -> None:
        for each in itertools.chain(*getattr(self, "held", ())):
            assert each.validity.valid == (each.kept or not each.lapped)
            if each.validity.valid:
                assert (each.read() == each.values).all()

    def teardown(self) -> None:
        if hasattr(self, "held"):
            self.held.clear()
            self.readers.clear()
        assert kept_bytes() == 0


def run(*phases: Phase) -> None:
    chosen = settings(
        stateful_step_count=40,
        max_examples=60,
        phases=phases or (Phase.generate, Phase.shrink),
    )
    run_state_machine_as_test(KeepingModel, settings=chosen)


def test_what_is_held_never_diverges_from_the_model() -> None:
    run()


def test_a_verb_that_sets_nothing_aside_is_found() -> None:
    with limited(0), pytest.raises(AssertionError):
        run(Phase.generate)


def test_rows_that_are_not_copied_are_found(monkeypatch) -> None:
    monkeypatch.setattr(keeping, "joined", lambda ranges: sorted(ranges)[1:])
    with pytest.raises(AssertionError):
        run(Phase.generate)
