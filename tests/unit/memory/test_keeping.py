"""Rows that slices cover outlive the ring's own memory, on both cores."""

import ctypes
import gc
import mmap
import os
import resource
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support import cores, forks, payload
from support.mapped_ring import MappedRing, kept_bytes, limited, mapped_ring
from support.ring_on_bytes import bench, prices

from shmfeed.errors import BadArgumentError, StreamNotFoundError
from shmfeed.layout import (
    E_EPOCH,
    E_WORD,
    H_TAKEN,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    SLOT_BITS,
    SLOT_HEADER_WORDS,
    Geometry,
)
from shmfeed.memory import keeping, pages
from shmfeed.memory.words import Words

HISTORY, GUARD = 100, 40
CAPACITY = HISTORY + GUARD
PAGE = mmap.PAGESIZE
linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="no mremap: rows cannot be set aside"
)
pytestmark = [linux, pytest.mark.parametrize("core", cores.EACH, ids=str)]


@pytest.fixture
def ring() -> MappedRing:
    gc.collect()  # a test that failed as it should may have left slices
    assert kept_bytes() == 0
    return mapped_ring(HISTORY, GUARD, cores.SERVING)


def is_mapped(address: int) -> bool:
    """Return True if the page at an address belongs to this process."""
    byte = (ctypes.c_ubyte * 1)()
    library = ctypes.CDLL(None, use_errno=True)
    page = ctypes.c_void_p(address // PAGE * PAGE)
    return library.mincore(page, ctypes.c_size_t(1), byte) == 0


def mappings() -> list[str]:
    return Path("/proc/self/maps").read_text().splitlines()


def address_of(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


class TestSettingAside:
    def test_rows_stay_as_they_were(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        held = reader.view(20)
        values, closes = held.values, held.close_time
        wanted = held.copy()
        for _ in range(3 * CAPACITY):
            ring.close(1)
            assert reader.count
        assert held.valid
        assert payload.bad_rows(held) == 0
        assert (values == wanted.values).all()
        assert (closes == wanted.close_time).all()
        assert reader.lapped == reader.lost == 0
        assert not values.flags.writeable

    def test_control_without_a_verb_they_change(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        held = reader.view(20)
        ring.close(2 * CAPACITY)
        assert not held.valid
        assert payload.bad_rows(held) == 20
        assert reader.count
        assert not held.valid
        assert (reader.lapped, reader.lost) == (1, 1)
        assert kept_bytes() == 0

    @pytest.mark.parametrize(
        "verb",
        [
            lambda reader: reader.view(1),
            lambda reader: reader.snapshot(1),
            lambda reader: reader.latest("close"),
            lambda reader: reader.forming(),
            lambda reader: reader.count,
            lambda reader: reader.last_closed(),
        ],
        ids=["view", "snapshot", "latest", "forming", "count", "last_closed"],
    )
    def test_each_verb_sets_aside_once_half_of_the_guard_is_used(
        self, ring, core, verb
    ) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        held = reader.view(HISTORY)
        ring.close(GUARD // 2 - 1)
        verb(reader)
        assert kept_bytes() == 0
        ring.close(1)
        verb(reader)
        assert kept_bytes() > 0
        ring.close(CAPACITY)
        assert held.valid
        assert payload.bad_rows(held) == 0

    @pytest.mark.parametrize("guard", [0, 1, 2, 3, 4])
    def test_a_small_guard(self, core, guard) -> None:
        ring = mapped_ring(8, guard, cores.SERVING)
        ring.close(8)
        reader = ring.reader(core)
        held = []
        for _ in range(40):
            held.append((reader.view(8), reader.snapshot(8)))
            ring.close(1)
            if guard:
                assert reader.count
                assert all(rows.valid for rows, _ in held)
        if guard:
            assert all((a.values == b.values).all() for a, b in held)

    def test_rows_that_wrap_and_rows_that_overlap(self, ring, core) -> None:
        reader = ring.reader(core)
        held = []
        for turn in range(4 * CAPACITY):
            ring.close(1)
            if turn % 7 == 0:
                held.append(reader.view(1 + turn % HISTORY))
        assert all(rows.valid and payload.bad_rows(rows) == 0 for rows in held)
        del held[::2]
        gc.collect()
        assert all(rows.valid and payload.bad_rows(rows) == 0 for rows in held)

    def test_a_slice_costs_the_pages_that_its_columns_lie_in(self, core) -> None:
        ring = mapped_ring(50_000, 5_000, cores.SERVING)
        ring.close(1000)
        reader = ring.reader(core)
        values = reader.view(20).values
        address = address_of(values)
        del reader
        assert 9 * PAGE <= kept_bytes() <= 18 * PAGE
        assert resident(address) <= 2 * kept_bytes()
        del values
        assert kept_bytes() == 0

    def test_arrays_made_without_a_copy_keep_the_rows(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        part = reader.view(20).values[3, 5:7][::-1]
        wanted = part.tolist()
        for _ in range(CAPACITY):
            ring.close(1)
            assert reader.count
        assert part.tolist() == wanted
        assert kept_bytes() > 0
        del part
        assert kept_bytes() == 0

    def test_a_slice_is_not_copied_twice(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        held = reader.view(20)
        ring.close(100)
        assert reader.count
        bytes_ = kept_bytes()
        for _ in range(3 * CAPACITY):
            ring.close(1)
            assert reader.count
        assert kept_bytes() == bytes_
        assert held.valid

    def test_an_empty_slice(self, ring, core) -> None:
        reader = ring.reader(core)
        held = reader.view(5)
        ring.close(3 * CAPACITY)
        assert reader.count
        assert len(held) == 0
        assert held.values.shape == (5, 0)


class TestValid:
    def test_the_first_row_overwritten_ends_a_slice(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        held = reader.view(HISTORY)
        ring.close(GUARD)
        assert held.valid
        assert held.validity.valid
        ring.close(1)
        assert not held.valid
        assert not held.validity.valid

    def test_a_slice_that_was_overwritten_stays_invalid_and_changes_no_more(
        self, ring, core
    ) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        old = reader.view(HISTORY)
        ring.close(GUARD + 5)
        new = reader.view(HISTORY)
        assert reader.lost == 1
        ring.close(GUARD // 2)
        assert reader.count  # sets the new one aside, and the old one with it
        before = old.values.tolist()
        ring.close(CAPACITY)
        assert old.values.tolist() == before
        assert not old.valid
        assert new.valid
        assert payload.bad_rows(new) == 0
        assert payload.bad_rows(old) == GUARD // 2 + 5

    def test_validity_outlives_the_rows_and_does_not_hold_them(
        self, ring, core
    ) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        validities = []
        for lapse in (False, True):
            held = reader.view(HISTORY)
            validities.append(held.validity)
            assert held.validity.valid
            ring.close(2 * CAPACITY if lapse else 1)
            del held
            ring.close(2 * CAPACITY)
            assert reader.count
        assert [each.valid for each in validities] == [True, False]
        assert kept_bytes() == 0
        assert (reader.lapped, reader.lost) == (1, 0)

    def test_a_slot_of_another_epoch(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        held = reader.view(20)
        slot = ring.geometry.slot_word(0)
        ring.words.ints[slot + S_EPOCH] += 1  # step S1 of a reuse
        assert not held.valid

    def test_a_swap_sets_aside(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        held = reader.view(20)
        ints, geometry = ring.words.ints, ring.geometry
        old, new = geometry.slot_word(0), geometry.slot_word(1)
        size = geometry.slot_words
        ints[new : new + size] = ints[old : old + size]
        ints[new + S_EPOCH] += 1
        ints[H_TAKEN] = 2
        entry = geometry.entry_word(0)
        ints[entry + E_WORD] = (ints[new + S_EPOCH] << SLOT_BITS) | 1
        assert reader.count == HISTORY
        # The old slot is reused, and its rows are overwritten.
        ints[old + S_EPOCH] += 2
        ints[old + SLOT_HEADER_WORDS : old + 100] = memoryview(
            bytes(8 * (100 - SLOT_HEADER_WORDS))
        ).cast("q")
        assert held.valid
        assert payload.bad_rows(held) == 0

    def test_an_entry_given_to_another_stream_sets_aside(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        held = reader.view(20)
        at = ring.geometry.entry_word(0)
        ring.words.ints[at + E_EPOCH] += 1
        ring.words.ints[at + E_WORD] += 1 << SLOT_BITS
        for _ in range(2):
            with pytest.raises(StreamNotFoundError):
                reader.view(1)
            assert kept_bytes() > 0
        slot = ring.geometry.slot_word(0)
        ring.words.ints[slot + S_EPOCH] += 1
        ring.words.ints[slot + SLOT_HEADER_WORDS : slot + 2000] = memoryview(
            bytes(8 * (2000 - SLOT_HEADER_WORDS))
        ).cast("q")
        assert held.valid
        assert payload.bad_rows(held) == 0
        del held
        assert kept_bytes() == 0


class TestTheSegment:
    def test_no_slice_holds_it(self, core) -> None:
        ring = mapped_ring(HISTORY, GUARD, cores.SERVING)
        ring.close(HISTORY)
        reader = ring.reader(core)
        segment = ring.words.address
        held = reader.view(20)
        del reader, ring
        gc.collect()
        assert not is_mapped(segment)
        assert held.valid
        assert payload.bad_rows(held) == 0
        own = address_of(held.values)
        assert is_mapped(own)
        del held
        assert not is_mapped(own)

    def test_garbage_with_cycles(self, ring, core) -> None:
        ring.close(HISTORY)
        seen = []

        class Last:
            def __del__(self) -> None:
                seen.append(float(self.values.sum()))  # type: ignore[attr-defined]

        for _ in range(8):  # each collects the garbage of the whole process
            reader = ring.reader(core)
            node = Last()
            node.values = reader.view(20).values  # type: ignore[attr-defined]
            node.all = [node, reader, reader.view(5)]  # type: ignore[attr-defined]
            del node, reader
            gc.collect()
        assert len(seen) == 8
        assert len(set(seen)) == 1
        assert kept_bytes() == 0

    def test_a_slot_is_mapped_again_after_each_setting_aside(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        addresses = set()
        held = []
        for _ in range(5):
            held.append(reader.view(20))
            addresses.add(address_of(held[-1].values) // (64 * PAGE))
            ring.close(HISTORY)
            assert reader.count
        maps = len(mappings())
        held.clear()
        assert len(mappings()) < maps


class TestWhereNothingCanBeKept:
    def test_a_plain_buffer(self, core) -> None:
        ring = bench(20, 6, core=core)
        ring.close(*range(20))
        held = ring.reader.view(5)
        assert held.values.T.tolist() == [list(prices(n)) for n in range(15, 20)]
        ring.close(*range(20, 40))
        assert ring.reader.count == 40
        assert held.valid
        ring.close(*range(40, 42))
        assert not held.valid
        assert ring.reader.lost == 0
        assert ring.reader.count
        assert (ring.reader.lapped, ring.reader.lost) == (1, 1)
        assert kept_bytes() == 0

    def test_a_slot_that_is_not_on_a_page(self, core) -> None:
        geometry = Geometry(1, HISTORY, GUARD)
        memory = mmap.mmap(-1, geometry.size + PAGE)
        ring = mapped_ring(HISTORY, GUARD, cores.SERVING)
        ring.close(HISTORY)
        memory[8 : geometry.size + 8] = bytes(ring.words.raw)
        words = Words(memoryview(memory)[8 : geometry.size + 8])
        assert words.mapped
        reader = core.RingReader(words, geometry, 0)
        held = reader.view(20)
        assert held.valid
        assert payload.bad_rows(held) == 0
        del reader
        assert kept_bytes() == 0
        assert payload.bad_rows(held) == 0

    def test_the_limit_0_keeps_nothing(self, ring, core) -> None:
        with limited(0):
            ring.close(HISTORY)
            reader = ring.reader(core)
            held = reader.view(20)
            ring.close(CAPACITY - 25)
            assert reader.count
            assert held.valid
            ring.close(CAPACITY)
            assert not held.valid
            assert kept_bytes() == 0
            assert reader.count
            assert reader.lost == 1
            assert not held.valid

    @pytest.mark.timeout(60)
    def test_a_limit_of_address_space(self, ring, core) -> None:
        def work() -> list[object]:
            large = mapped_ring(200_000, 1000, cores.SERVING)
            large.close(50)
            reader = large.reader(core)
            held = reader.view(20)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
            resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20),) * 2)
            before = held.values.tolist()
            del reader  # nothing can be allocated for the rows
            later = large.reader(core)
            second = later.view(20)  # nor can the slot be mapped again
            return [
                kept_bytes(),
                held.valid,
                held.values.tolist() == before,
                second.valid,
                second.values.tolist() == before,
                large.close(10) is None and later.count,
            ]

        with forks.Fork(work) as child:
            assert child.result() == [0, True, True, True, True, 60]

    @pytest.mark.timeout(60)
    def test_a_slot_is_mapped_once_the_limit_is_raised(self, ring, core) -> None:
        def shared() -> int:
            # Allocators map private memory meanwhile.
            return sum(line.split()[1].endswith("s") for line in mappings())

        def work() -> list[object]:
            large = mapped_ring(200_000, 1000, cores.SERVING)
            large.close(50)
            reader = large.reader(core)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
            _, most = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), most))
            before = shared()
            reader.view(20)
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            held = reader.view(20)
            return [shared() - before, held.valid]

        with forks.Fork(work) as child:
            assert child.result() == [1, True]

    def test_a_move_that_fails_leaves_the_rows(self, core, monkeypatch) -> None:
        if core is not cores.PURE:
            pytest.skip("it changes the pure core")
        calls = pages.page_calls()
        assert calls is not None
        ring = mapped_ring(HISTORY, GUARD, cores.SERVING)
        ring.close(HISTORY)
        reader = ring.reader(core)
        held = reader.view(20)
        ring.close(100)
        monkeypatch.setattr(pages.PageCalls, "allocate", lambda self, size: None)
        assert reader.count
        assert held.valid
        monkeypatch.undo()
        ring.close(CAPACITY)
        assert reader.count
        assert not held.valid
        assert reader.lost == 1


class TestTheLimit:
    def test_the_oldest_rows_go_first(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        held = []
        with limited(3 * 18 * PAGE):
            for _ in range(20):
                held.append(reader.view(5))
                ring.close(CAPACITY - 20)
                assert reader.count
                assert kept_bytes() <= 3 * 18 * PAGE
            valid = [rows.valid for rows in held]
            assert valid == sorted(valid)
            assert 1 <= sum(valid) < 20
            for rows in held:
                if rows.valid:
                    assert payload.bad_rows(rows) == 0
                else:
                    assert (rows.values == 0).all()
            assert reader.lost == reader.lapped == 20 - sum(valid)

    def test_rows_given_up_need_few_mappings(self, ring, core) -> None:
        def set_aside() -> int:
            # Rows set aside are read-only, private and of no file; an allocator's
            # memory can be written.
            fields = [line.split() for line in mappings()]
            return sum(one[1] == "r--p" and len(one) == 5 for one in fields)

        ring.close(HISTORY)
        reader = ring.reader(core)
        held, before = [], set_aside()
        with limited(3 * 18 * PAGE):
            for _ in range(60):
                held.append(reader.view(5))
                ring.close(CAPACITY - 20)
                assert reader.count
            # One each would be 60; only neighbours are joined.
            assert set_aside() - before < 45
            assert held[-1].valid
            assert not held[0].valid

    @pytest.mark.timeout(120)
    def test_areas_leave_half_of_the_mappings(self, core, monkeypatch) -> None:
        if core is cores.PURE:  # the C core, which is quicker, shows the real number
            monkeypatch.setattr(keeping, "MOST_AREAS", 3_000)
        ring = mapped_ring(1, 1, cores.SERVING)
        reader = ring.reader(core)
        held, before = [], len(mappings())
        for _ in range(keeping.MOST_AREAS + 500):
            ring.close(1)
            held.append(reader.view(1))
        assert len(mappings()) - before < keeping.MOST_AREAS + 100
        valid = [rows.valid for rows in held]
        assert valid == sorted(valid)
        assert keeping.MOST_AREAS <= sum(valid) < keeping.MOST_AREAS + 10
        assert reader.lost == len(held) - sum(valid)

    def test_a_lower_limit_holds_at_once(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        held = reader.view(20)
        ring.close(110)
        assert reader.count
        assert kept_bytes() > 0
        with limited(PAGE):
            assert kept_bytes() == 0
            assert not held.valid

    def test_the_variable(self, core, monkeypatch) -> None:
        monkeypatch.delenv("SHMFEED_KEEP_MB", raising=False)
        assert keeping.keep_limit() == 256 << 20
        for text, limit in [("", 256), (" 7 ", 7), ("0", 0)]:
            monkeypatch.setenv("SHMFEED_KEEP_MB", text)
            assert keeping.keep_limit() == limit << 20
        for text in ("-1", "1.5", "many", "1e3", "9" * 10, "\u0663"):
            monkeypatch.setenv("SHMFEED_KEEP_MB", text)
            with pytest.raises(BadArgumentError, match="must be a whole number of MiB"):
                keeping.keep_limit()


class TestProcessesAndThreads:
    @pytest.mark.parametrize("copy", ["snapshot", "copy"])
    def test_other_threads_run_during_a_large_copy(self, core, copy) -> None:
        if core is cores.PURE:
            pytest.skip("numpy copies there")
        rows = 300_000
        ring = mapped_ring(rows, 10, core)
        slot = ring.geometry.slot_word(0)
        ring.words.ints[slot + S_PUBLISHED] = rows
        ring.words.ints[slot + S_INTENT] = rows
        reader = ring.reader(core)
        turns, ended = [0], threading.Event()
        # From here on no thread is made to let another one run.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)

        def run() -> None:
            while not ended.is_set():
                turns[0] += 1
                time.sleep(0)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            seen = []
            for n in (rows, 1000):  # the second one is the control
                held = reader.view(n)
                before = turns[0]
                found = reader.snapshot(n) if copy == "snapshot" else held.copy()
                seen.append(turns[0] - before)
                assert len(found) == n
        finally:
            ended.set()
            sys.setswitchinterval(interval)
            thread.join()
        assert seen[0] > 0
        assert seen[1] == 0

    def test_a_child_keeps_by_itself(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        held, other = reader.view(20), reader.view(50)
        wanted = held.values.tolist()

        def work() -> list[object]:
            before = [held.valid, kept_bytes()]
            forks.wait_until(lambda: reader.count > 170, 20, "the bars close")
            return [*before, held.valid, held.values.tolist() == wanted, kept_bytes()]

        with forks.Fork(work) as child:
            for _ in range(80):
                ring.close(1)
                threading.Event().wait(0.001)
            result = child.result()
        assert result[:4] == [True, 0, True, True]
        assert result[4] > 0
        assert kept_bytes() == 0  # the child's pages are the child's
        assert reader.count
        assert kept_bytes() > 0
        assert held.valid
        assert other.valid
        assert held.values.tolist() == wanted

    def test_what_a_parent_kept_is_the_childs_too(self, ring, core) -> None:
        ring.close(HISTORY)
        reader = ring.reader(core)
        held = reader.view(20)
        ring.close(110)
        assert reader.count

        def work() -> list[object]:
            ring.close(CAPACITY)
            return [held.valid, payload.bad_rows(held), kept_bytes() > 0]

        with forks.Fork(work) as child:
            assert child.result() == [True, 0, True]
        assert os.getpid()
        assert held.valid


def resident(address: int) -> int:
    """Return the bytes of memory that the mapping at an address takes."""
    found = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0]:
            begin, end = (int(part, 16) for part in words[0].split("-"))
            found = begin <= address < end
        elif found and words[0] == "Rss:":
            return int(words[1]) * 1024
    raise AssertionError(f"nothing is mapped at {address:#x}")
