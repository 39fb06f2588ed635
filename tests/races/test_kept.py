"""A slice that is `valid` holds the rows that it was made with, whatever happens.

The writer never pauses and laps the ring thousands of times. One thread reads and so
sets aside what is due, while others look at the slices that are held: a look is a
computation over the rows, then `valid`. Permitted: rows as they were written, or a
slice that is not valid.
"""

import random
import sys
import threading
from array import array
from collections import Counter
from pathlib import Path

import pytest
from racing import Track, write_bars
from support import cores, forks, payload
from support.compiling import NEEDS_BUILD, built_core, checkout, loaded_core
from support.mapped_ring import kept_bytes, limited, mapped_ring

from shmfeed.layout import COLUMNS, S_INTENT, S_PUBLISHED, SLOT_HEADER_WORDS
from shmfeed.memory import keeping, pages

HISTORY = 2000
GUARD = 4000  # verbs set slices aside in time
SMALL_GUARD = 2  # the writer overwrites rows while they are set aside
HELD = 8
LARGE = 50_000  # rows whose copy takes milliseconds
LOOKERS = 2
SECONDS = 60
WANTED = int(200 * forks.SCALE)  # looks at rows that the ring has lapped


class Holder:
    """The slices that are held, and the tally of all looks at them."""

    def __init__(self) -> None:
        self.held: list = []
        self.tally: Counter = Counter()
        self.ended = threading.Event()
        self._lock = threading.Lock()

    def look(self, rows, reader) -> None:
        """Look at a slice; drop it once the ring has lapped it and it was looked at."""
        lapped = published(reader) > rows.first + reader.geometry.capacity
        bad = payload.bad_rows(rows)
        valid = rows.valid
        with self._lock:
            if (lapped or not valid) and rows in self.held:
                self.held.remove(rows)
            self.tally["valid and changed"] += valid and bad > 0
            self.tally["kept"] += valid and lapped
            self.tally["lapped"] += not valid
            self.tally["lapped and changed"] += not valid and bad > 0

    def keep_looking(self, reader, seed: int) -> None:
        chance = random.Random(seed)
        while not self.ended.is_set():
            held = list(self.held)
            if held:
                self.look(chance.choice(held), reader)


def published(reader) -> int:
    """Return the count of rows without a verb, which would set slices aside."""
    count: int = reader.words.ints[reader.geometry.slot_word(0) + S_PUBLISHED]
    return count


def race(writes, reads, guard, wanted, stop_at="kept") -> Counter:
    track = Track(HISTORY, guard)
    holder = Holder()
    chance = random.Random(1)
    with track.race(writes, write_bars):
        reader = track.reader(reads)
        threads = [
            threading.Thread(target=holder.keep_looking, args=(reader, seed))
            for seed in range(LOOKERS)
        ]
        for thread in threads:
            thread.start()
        try:
            forks.wait_until(
                lambda: turn(reader, holder, chance, stop_at, wanted), SECONDS, stop_at
            )
        finally:
            holder.ended.set()
            for thread in threads:
                thread.join()
            holder.held.clear()
    print(dict(holder.tally), "counted as lapped:", reader.lapped)
    return holder.tally


def turn(reader, holder: Holder, chance, stop_at: str, wanted: int) -> bool:
    """Read for a while, and hold slices. Return True once enough was seen."""
    for _ in range(20):
        if len(holder.held) < HELD:
            holder.held.append(reader.view(chance.choice((20, 500, HISTORY))))
        assert reader.count
    return holder.tally[stop_at] >= wanted


@pytest.fixture(autouse=True)
def quick_switches():
    """Let threads take turns often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("core", cores.EACH, ids=str)
@pytest.mark.timeout(600)
def test_a_valid_slice_never_changed(core):
    tally = race(cores.PURE, core, GUARD, WANTED)
    assert tally["valid and changed"] == 0
    assert tally["kept"] >= WANTED


@pytest.mark.parametrize("core", cores.EACH, ids=str)
@pytest.mark.timeout(600)
def test_rows_overwritten_while_they_are_set_aside_are_not_valid(core):
    tally = race(cores.SERVING, core, SMALL_GUARD, WANTED, "lapped and changed")
    assert tally["valid and changed"] == 0


def test_control_without_setting_aside_slices_are_lapped():
    with limited(0):
        tally = race(cores.PURE, cores.SERVING, GUARD, 20, "lapped and changed")
    assert tally["kept"] == 0
    assert tally["valid and changed"] == 0


def judge_before_the_copy(area, segment_area):
    """Set aside with the verdict of before the copy: without K5."""
    with keeping.KEEPING:
        if area.closed or not area.can_keep:
            return False
        area.closed = True
        held = [
            validity
            for validity in list(area.living)
            if segment_area.is_intact(validity.word, validity.first)
        ]
        area.segment_area = segment_area
        if area.living:
            area._move(segment_area.address)
        moved = area.moved
        for validity in list(area.living):
            if moved:
                validity.state = keeping.KEPT if validity in held else keeping.LAPPED
        area.segment_area = None
        return moved


def copy_in_place(self, copy, size, address, segment):
    """Replace the pages by zeros and copy the rows there: without K4's one step."""
    flags = 0x4032  # private, anonymous, fixed, not reserved
    self._mmap(address, size, 3, flags, -1, 0)
    pages.memory_at(address, size)[:] = pages.memory_at(pages.address_of(copy), size)
    return True


MUTANTS = {  # what the mutant of each core lacks
    "K4": (
        "keep.h",
        "mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, slot->header);",
        "mmap(slot->header, size, 3, 0x4032, -1, 0); memcpy(moved, copy, size);",
    ),
    "K5": ("slice.h", "if (slice_is_intact(slice, segment_slot)) {", "if (true) {"),
}


@pytest.fixture(params=["pure", pytest.param("C", marks=NEEDS_BUILD)])
def broken(request, step, monkeypatch, tmp_path) -> cores.Core:
    """Return a core that sets aside without a step."""
    if request.param == "C":
        name, text, other = MUTANTS[step]
        tree = checkout(tmp_path)
        path: Path = tree / "shmfeed/csrc" / name
        source = path.read_text()
        assert source.count(text) == 1
        path.write_text(source.replace(text, other))
        return loaded_core(built_core(tree, tmp_path, ""))
    if step == "K5":
        monkeypatch.setattr(keeping.Area, "set_aside", judge_before_the_copy)
    else:
        monkeypatch.setattr(pages.PageCalls, "move", copy_in_place)
    return cores.PURE


@pytest.mark.parametrize("step", ["K5"])
@pytest.mark.timeout(600)
def test_without_k5_valid_slices_change(broken):
    tally = race(cores.SERVING, broken, SMALL_GUARD, 1, "valid and changed")
    assert tally["valid and changed"] > 0


def looks_at_a_move(core, rounds: int) -> Counter:
    """Add up a large slice in one thread, while another sets it aside."""
    ring = mapped_ring(LARGE, 10, cores.SERVING)
    slot = ring.geometry.slot_word(0)
    columns = slot + SLOT_HEADER_WORDS
    ones = array("d", [1.0]) * (len(COLUMNS) * 2 * ring.geometry.capacity)
    ring.words.floats[columns : columns + len(ones)] = memoryview(ones)
    ring.words.ints[slot + S_PUBLISHED] = ring.words.ints[slot + S_INTENT] = LARGE
    tally: Counter = Counter()
    for _ in range(rounds):
        reader = ring.reader(core)
        values = reader.view(LARGE).values
        started, ended = threading.Event(), threading.Event()

        def look(values=values, started=started, ended=ended) -> None:
            while not ended.is_set():
                tally["looks"] += 1
                tally["wrong"] += bool(values.sum() != values.size)
                started.set()

        thread = threading.Thread(target=look)
        thread.start()
        assert started.wait(20)
        del reader  # sets the slice aside
        ended.set()
        thread.join()
        tally["moved"] += kept_bytes() > 0 or core not in cores.EACH
    print(dict(tally))
    return tally


@pytest.mark.parametrize("core", cores.EACH, ids=str)
def test_to_other_threads_setting_aside_is_one_step(core):
    rounds = int(100 * forks.SCALE)
    tally = looks_at_a_move(core, rounds)
    assert tally["wrong"] == 0
    assert tally["moved"] == rounds


@pytest.mark.parametrize("step", ["K4"])
def test_without_k4_other_threads_see_half_a_copy(broken):
    assert looks_at_a_move(broken, 20)["wrong"] > 0
