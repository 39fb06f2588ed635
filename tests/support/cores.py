"""The core of a test's rings, where the test looks into one or races two.

Both cores serve one segment together: a test that tells a writer the time, counts its
stores or puts a mutant in its place has the writer pure, and readers as they are.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import shmfeed.capacity
import shmfeed.feed
import shmfeed.health
import shmfeed.status
import shmfeed.writer
from shmfeed import core, ringbuf
from shmfeed.feed import Ring
from shmfeed.layout import E_WORD, SLOT_MASK
from shmfeed.memory import wakeup
from shmfeed.segment import enlarging, recovery

Set = Callable[[Any, str, Any], None]


class Core(NamedTuple):
    """The classes of one core."""

    name: str
    RingReader: Any
    RingWriter: Any

    def __str__(self) -> str:
        return self.name


PURE = Core("pure", ringbuf.RingReader, ringbuf.RingWriter)
SERVING = Core(core.build, core.RingReader, core.RingWriter)  # the one of this process
EACH = [PURE, *([SERVING] if core.build == "C" else [])]
PAIRS = list(itertools.product(EACH, EACH))  # the writer's core, the reader's core


class _Chosen:
    core = SERVING


def choose(wanted: Core) -> None:
    """Choose the core of rings on plain buffers from here on."""
    _Chosen.core = wanted


def chosen() -> Core:
    return _Chosen.core


_WRITING = (shmfeed.writer,)
_READING = (shmfeed.status, enlarging, recovery)


def write_purely(put: Set = setattr) -> None:
    """Let the pure core write rings from here on; `put` is a setattr."""
    for module in _WRITING:
        put(module, "RingWriter", ringbuf.RingWriter)


def all_purely(put: Set = setattr) -> None:
    """Let the pure core also read for a writer, and notify."""
    write_purely(put)
    for module in (shmfeed.writer, shmfeed.capacity):
        put(module, "Eventcount", wakeup.Eventcount)
    for module in _READING:
        put(module, "RingReader", ringbuf.RingReader)


def prices_from_python(put: Set) -> None:
    """Let Python serve the usual call of get_price, which reads past a ring's verbs."""
    from wealthdata import api, price_table

    put(api, "_usual_read", price_table.NoTable().read)


def tell_time(put: Set, clock: Callable[[], int]) -> None:
    """Let readers take this for the boot clock.

    The C core reads the machine's clock; the questions that need it are asked of Python
    first: is the segment current, is the stream live.
    """
    prices_from_python(put)
    for module in (shmfeed.feed, shmfeed.health, shmfeed.status):
        put(module, "boot_ns", clock)
    put(shmfeed.feed, "ring_status", shmfeed.health.stream_status)
    for verb in ("view", "snapshot", "latest", "forming", "_current_reader"):
        put(Ring, verb, _looking_first(getattr(Ring, verb)))
    for name in ("count", "epoch"):
        put(Ring, name, property(_looking_first(getattr(Ring, name).__get__)))


def _looking_first(verb: Callable[..., Any]) -> Callable[..., Any]:
    def look_and_read(ring: Ring, *arguments: Any, **options: Any) -> Any:
        ring._feed.current()  # detaches a reader whose segment is not current
        return verb(ring, *arguments, **options)

    return look_and_read


def slot_of(ring: Ring) -> tuple[memoryview, int]:
    """Return the words of a ring's segment, and the word at which its slot begins."""
    reader = ring._current_reader()
    ints = reader.words.ints
    return ints, reader.geometry.slot_word(ints[reader.entry + E_WORD] & SLOT_MASK)


class Told:
    """Rows whose `valid` is given by the test."""

    def __init__(self, rows: Any, answers: Iterable[bool]) -> None:
        self._rows = rows
        self._answers = iter(answers)

    @property
    def valid(self) -> bool:
        return next(self._answers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    def __len__(self) -> int:
        return len(self._rows)


def tell_valid(put: Set, answers: Iterable[bool]) -> None:
    """Let each slice of a ring answer `valid` by these answers, in their order."""
    prices_from_python(put)
    view, left = Ring.view, iter(answers)
    put(Ring, "view", lambda ring, n: Told(view(ring, n), left))
