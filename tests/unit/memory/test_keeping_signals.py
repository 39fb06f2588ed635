"""A signal handler may raise inside a verb, and no slice is lost by it.

CPython runs handlers after a call, at the start of a function and when a loop repeats.
A trace raises at each such point of one verb, in turn. An end of a slice is left out:
Python drops what is raised there. In the C core a handler runs between the verbs.
"""

import dis
import gc
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from support import cores, payload
from support.mapped_ring import MappedRing, kept_bytes, mapped_ring

from shmfeed.errors import StreamNotFoundError
from shmfeed.layout import E_EPOCH, E_WORD, S_EPOCH, SLOT_BITS
from shmfeed.memory import keeping

HISTORY, GUARD = 8, 8
PLACES = ("/shmfeed/memory/", "/shmfeed/ringbuf.py")
DROPPED = {"__del__", "_forget"}
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="no mremap: rows cannot be set aside"
)


class AlarmError(Exception):
    """The exception of the handler."""


@cache
def points(code: CodeType) -> frozenset[int]:
    """Return the offsets in a function before which a handler may run."""
    found, may = set(), False
    for step in dis.get_instructions(code):
        if may:
            found.add(step.offset)
        may = step.opname.startswith(("CALL", "RESUME", "JUMP_BACKWARD"))
    return frozenset(found)


class Raiser:
    """A trace that raises at one point, the one after `left` others."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if not any(place in frame.f_code.co_filename for place in PLACES):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and frame.f_lasti in points(frame.f_code):
            self.left -= not is_dropped(frame)
            if self.left < 0:
                raise AlarmError
        return self


def is_dropped(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name in DROPPED:
            return True
        frame = frame.f_back
    return False


def is_cut_short(verb: Callable[[], object], left: int) -> bool:
    """Call a verb and raise in it. Return False if it has fewer points."""
    sys.settrace(Raiser(left))
    try:
        verb()
    except AlarmError:
        return True
    except StreamNotFoundError:
        return False
    finally:
        sys.settrace(None)
    return False


def mappings() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())


def due(ring: MappedRing) -> None:
    ring.close(GUARD // 2)


def gone(ring: MappedRing) -> None:
    at = ring.geometry.entry_word(0)
    ring.words.ints[at + E_EPOCH] += 1
    ring.words.ints[at + E_WORD] += 1 << SLOT_BITS


def overwrite(ring: MappedRing, reader: Any, change: object) -> None:
    """Call a verb, and overwrite the slot."""
    if change is gone:
        with pytest.raises(StreamNotFoundError):
            reader.view(1)
        ring.words.ints[ring.geometry.slot_word(0) + S_EPOCH] += 1
        return
    for _ in range(3 * (HISTORY + GUARD)):
        assert reader.count
        ring.close(1)
    assert reader.view(HISTORY).valid


@pytest.mark.parametrize("change", [due, gone])
def test_a_verb_that_an_exception_ends(change, monkeypatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    left, rings = 0, []
    gc.collect()
    before = mappings()
    while True:
        ring = mapped_ring(HISTORY, GUARD, cores.SERVING)
        rings.append(ring)
        ring.close(HISTORY)
        reader = ring.reader(cores.PURE)
        held = reader.view(HISTORY)
        change(ring)
        if not is_cut_short(lambda reader=reader: reader.view(2), left):
            break
        overwrite(ring, reader, change)
        assert held.valid, left
        assert payload.bad_rows(held) == 0, left
        assert (reader.lapped, reader.lost) == (0, 0), left
        left += 1
    assert left > 60
    del reader, held
    rings.clear()
    del ring
    gc.collect()
    assert kept_bytes() == keeping.kept_bytes() == 0
    assert mappings() - before < 10  # a result of mmap may be lost, see PageCalls
    assert not said
