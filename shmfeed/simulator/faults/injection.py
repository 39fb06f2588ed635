"""When faults happen: each has a window of time and a row of random numbers of its own.

The numbers follow from the seed, from what the faults happen to (a connection, by its
number, or the venue), and from the fault's name: whether the n-th frame of a connection
meets a fault does not depend on which other faults there are.

What faults do to one frame, and put before and behind it. No memory, no I/O.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise

from shmfeed.simulator.faults.spec import Fault
from shmfeed.simulator.frames import Row, payload_of, text_frame


class FaultTrigger:
    """One fault, and whether it happens now."""

    def __init__(self, fault: Fault, seed: str) -> None:
        self.fault = fault
        self.random = random.Random(seed)  # noqa: S311  # repeatable, not secret
        self._end = fault.end

    def happens(self, since: float) -> bool:
        """To be asked once for each frame, bar, answer or connection."""
        fault = self.fault
        if not fault.start <= since < self._end:
            return False
        if fault.once:
            self._end = -math.inf
        return fault.rate >= 1.0 or self.random.random() < fault.rate


class FaultSchedule:
    """The faults of one connection, or of the venue as a whole, from now on."""

    def __init__(
        self,
        faults: Iterable[Fault],
        seed: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._began = clock()
        self._chances: dict[str, list[FaultTrigger]] = {}
        count = Counter[str]()
        for fault in faults:
            count[fault.name] += 1
            chance = FaultTrigger(fault, f"{seed} {fault.name} {count[fault.name]}")
            self._chances.setdefault(fault.name, []).append(chance)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._chances)

    @property
    def since(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._began

    def meet(self, name: str) -> FaultTrigger | None:
        """The chance of this fault that happens now, if one does."""
        if name not in self._chances:
            return None
        since = self.since
        met = [chance for chance in self._chances[name] if chance.happens(since)]
        return met[0] if met else None

    def moments(self, names: Iterable[str], once: bool = False) -> list[float]:
        """When these begin and end, in seconds from now; what is past is left out."""
        faults = [c.fault for name in names for c in self._chances.get(name, ())]
        faults = [fault for fault in faults if fault.once or not once]
        times = [time for fault in faults for time in (fault.start, fault.end)]
        since = self.since
        return [time - since for time in times if since < time < math.inf]


_FINAL, _TEXT, _PING = 0x80, 0x01, 0x89
_NO_FRAME = 0xF0  # reserved bits, all of them
_HUGE = 127  # the length stands in the next 8 bytes


class FrameEdit:
    """One frame on its way; None when it is not sent. `last`: the connection ends."""

    __slots__ = ("after", "before", "frame", "last")

    def __init__(self, frame: bytes) -> None:
        self.before: list[bytes] = []
        self.frame: bytes | None = frame
        self.after: list[bytes] = []
        self.last = False

    @property
    def frames(self) -> list[bytes]:
        """All that is sent, in order."""
        middle = [] if self.frame is None else [self.frame]
        return [*self.before, *middle, *self.after]


def malformed(shot: FrameEdit, chance: FaultTrigger) -> None:
    if shot.frame is not None:
        spoilt = chance.random.choice(_BREAKS)(payload_of(shot.frame))
        shot.before.append(text_frame(spoilt))


def garbage(shot: FrameEdit, chance: FaultTrigger) -> None:
    size = chance.random.randint(8, 120)
    opcode = chance.random.choice((1, 2))
    shot.before.append(bytes((_FINAL | opcode, size)) + chance.random.randbytes(size))


def noise(shot: FrameEdit, chance: FaultTrigger) -> None:
    first = _NO_FRAME | chance.random.randrange(16)
    shot.before.append(bytes((first,)) + chance.random.randbytes(15))


def oversized(shot: FrameEdit, chance: FaultTrigger) -> None:
    size = int(chance.fault.argument)
    shot.before.append(bytes((_FINAL | _TEXT, _HUGE)) + size.to_bytes(8))


def truncated(shot: FrameEdit, chance: FaultTrigger) -> None:
    if shot.frame is not None:
        payload = payload_of(shot.frame)
        size = len(payload) + chance.random.randint(1, 64)
        shot.frame = bytes((_FINAL | _TEXT, _HUGE)) + size.to_bytes(8) + payload


def fragments(shot: FrameEdit, chance: FaultTrigger) -> None:
    """Two to four pieces, a ping behind the first."""
    if shot.frame is None:
        return
    payload = payload_of(shot.frame)
    cuts = sorted(chance.random.randrange(len(payload) + 1) for _ in range(3))
    cuts = [0, *cuts[: chance.random.randint(1, 3)], len(payload)]
    pieces = [payload[a:b] for a, b in pairwise(cuts)]
    frames = [b"\x00" + text_frame(piece)[1:] for piece in pieces]
    frames[0] = bytes((_TEXT,)) + frames[0][1:]
    frames[-1] = bytes((_FINAL,)) + frames[-1][1:]
    frames.insert(1, bytes((_PING, 4)) + b"here")
    shot.frame = b"".join(frames)


def lost(shot: FrameEdit, chance: FaultTrigger) -> None:  # noqa: ARG001  # all effects are alike
    shot.frame = None


def duplicate(shot: FrameEdit, chance: FaultTrigger) -> None:  # noqa: ARG001
    if shot.frame is not None:
        shot.after.append(shot.frame)


def cut(shot: FrameEdit, chance: FaultTrigger) -> None:  # noqa: ARG001
    shot.last = True


def cut_inside(shot: FrameEdit, chance: FaultTrigger) -> None:
    if shot.frame is not None:
        shot.frame = shot.frame[: chance.random.randrange(1, len(shot.frame))]
        shot.after.clear()
        shot.last = True


# Without a memory, in the order in which they are applied.
EFFECTS: dict[str, Callable[[FrameEdit, FaultTrigger], None]] = {
    "malformed": malformed,
    "garbage": garbage,
    "noise": noise,
    "oversized": oversized,
    "lost": lost,
    "duplicate": duplicate,
    "fragments": fragments,
    "truncated": truncated,
    "cut-inside": cut_inside,
    "cut": cut,
}


def off_grid(row: Row, chance: FaultTrigger) -> Row:
    shift = chance.random.randint(1, 999)
    return (row[0] + shift, row[1] + shift, *row[2:])


def with_value(row: Row, chance: FaultTrigger, value: float) -> Row:
    """The bar with this in place of one of its prices or its volume."""
    values = [*row[2:7]]
    values[chance.random.randrange(len(values))] = value
    first, high, low, last, volume = values
    return (*row[:2], first, high, low, last, volume, *row[7:])


def with_volume(row: Row) -> Row:
    """The same bar with twice its volume, and something on top: never the same."""
    return (*row[:6], row[6] * 2 + 1, *row[7:])


def told_at(row: Row, shift: float) -> Row:
    """The bar as told so many seconds later, or before."""
    return (*row[:9], row[9] + int(shift * 1000))


def bare_numbers(frame: bytes) -> bytes:
    """The frame with its NaN or infinity as Python's json writes it: no JSON."""
    payload = payload_of(frame)
    for quoted, bare in ((b'"nan"', b"NaN"), (b'"inf"', b"Infinity")):
        payload = payload.replace(quoted, bare)
    return text_frame(payload)


# Half a message, no UTF-8, no number, an impossible volume.
_BREAKS: tuple[Callable[[bytes], bytes], ...] = (
    lambda payload: payload[: len(payload) // 2],
    lambda payload: b"\xff" + payload,
    lambda payload: payload.replace(b'"high":"', b'"high":"x').replace(
        b'"h":"', b'"h":"x'
    ),
    lambda payload: payload.replace(b'"volume":"', b'"volume":"-1').replace(
        b'"v":"', b'"v":"-1'
    ),
)
