"""Triggers that decide when a fault is due, and edits of one frame or one bar state.

Each fault has its own time window and its own sequence of random numbers. The sequence
follows from the seed, from the fault's target (a connection, by its number, or the
venue) and from the fault's name, so other faults do not change which of a connection's
frames a fault hits.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise

from shmfeed.simulator import grid
from shmfeed.simulator.faults.spec import Fault
from shmfeed.simulator.frames import payload_of, text_frame, without_number
from shmfeed.simulator.market import BarState


class FaultTrigger:
    """One fault, its random numbers, and the decision whether it is due."""

    def __init__(self, fault: Fault, seed: str) -> None:
        self.fault = fault
        self.random = random.Random(seed)  # noqa: S311  # repeatable, not secret
        self._end = fault.end

    def is_due(self, since: float) -> bool:
        """Return True if the fault applies to the next target.

        Call it once for each frame, bar, reply or connection.

        Args:
            since: Seconds since the schedule began.
        """
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
        self._triggers: dict[str, list[FaultTrigger]] = {}
        count = Counter[str]()
        for fault in faults:
            count[fault.name] += 1
            trigger = FaultTrigger(fault, f"{seed} {fault.name} {count[fault.name]}")
            self._triggers.setdefault(fault.name, []).append(trigger)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._triggers)

    @property
    def since(self) -> float:
        """Seconds since the schedule began."""
        return self._clock() - self._began

    def due(self, name: str) -> FaultTrigger | None:
        """Return the trigger of this fault if it is due now, else None."""
        if name not in self._triggers:
            return None
        since = self.since
        due = [trigger for trigger in self._triggers[name] if trigger.is_due(since)]
        return due[0] if due else None

    def all_due(self, name: str) -> list[Fault]:
        """Return every fault of this name that is due now."""
        since = self.since
        triggers = self._triggers.get(name, ())
        return [trigger.fault for trigger in triggers if trigger.is_due(since)]

    def pending(self, name: str) -> list[tuple[float, Fault]]:
        """Return (seconds from now, fault) for each of them that is to begin yet."""
        since = self.since
        faults = [trigger.fault for trigger in self._triggers.get(name, ())]
        starts = [(max(0.0, fault.start - since), fault) for fault in faults]
        return [(s, f) for s, f in starts if s or not f.start]

    def times(self, names: Iterable[str], once: bool = False) -> list[float]:
        """Return the future starts and ends of these faults, in seconds from now.

        Args:
            names: Names of faults.
            once: Only faults that occur once.
        """
        faults = [t.fault for name in names for t in self._triggers.get(name, ())]
        faults = [fault for fault in faults if fault.once or not once]
        times = [time for fault in faults for time in (fault.start, fault.end)]
        since = self.since
        return [time - since for time in times if since < time < math.inf]


_FINAL, _TEXT, _PING = 0x80, 0x01, 0x89
_RESERVED_BITS = 0xF0  # all three, and the final bit
_LENGTH_64 = 127  # the length is in the next 8 bytes


class FrameEdit:
    """One frame, and the frames that faults put before and behind it.

    Attributes:
        before: Frames to send first.
        frame: The frame itself; None drops it.
        after: Frames to send behind it.
        ends_connection: The connection is cut behind these frames.
    """

    __slots__ = ("after", "before", "ends_connection", "frame")

    def __init__(self, frame: bytes) -> None:
        self.before: list[bytes] = []
        self.frame: bytes | None = frame
        self.after: list[bytes] = []
        self.ends_connection = False

    @property
    def frames(self) -> list[bytes]:
        """All frames to send, in order."""
        middle = [] if self.frame is None else [self.frame]
        return [*self.before, *middle, *self.after]


def malformed(edit: FrameEdit, trigger: FaultTrigger) -> None:
    if edit.frame is not None:
        damage = trigger.random.choice(_DAMAGES)
        copy = payload_of(without_number(edit.frame))
        edit.before.append(text_frame(damage(copy)))


def garbage(edit: FrameEdit, trigger: FaultTrigger) -> None:
    size = trigger.random.randint(8, 120)
    opcode = trigger.random.choice((1, 2))
    payload = trigger.random.randbytes(size)
    edit.before.append(bytes((_FINAL | opcode, size)) + payload)


def noise(edit: FrameEdit, trigger: FaultTrigger) -> None:
    first = _RESERVED_BITS | trigger.random.randrange(16)
    edit.before.append(bytes((first,)) + trigger.random.randbytes(15))


def oversized(edit: FrameEdit, trigger: FaultTrigger) -> None:
    size = int(trigger.fault.argument)
    edit.before.append(bytes((_FINAL | _TEXT, _LENGTH_64)) + size.to_bytes(8))


def truncated(edit: FrameEdit, trigger: FaultTrigger) -> None:
    if edit.frame is not None:
        payload = payload_of(edit.frame)
        size = len(payload) + trigger.random.randint(1, 64)
        edit.frame = bytes((_FINAL | _TEXT, _LENGTH_64)) + size.to_bytes(8) + payload


def fragments(edit: FrameEdit, trigger: FaultTrigger) -> None:
    """Split the frame into two to four, with a ping behind the first."""
    if edit.frame is None:
        return
    payload = payload_of(edit.frame)
    cuts = sorted(trigger.random.randrange(len(payload) + 1) for _ in range(3))
    cuts = [0, *cuts[: trigger.random.randint(1, 3)], len(payload)]
    pieces = [payload[a:b] for a, b in pairwise(cuts)]
    frames = [b"\x00" + text_frame(piece)[1:] for piece in pieces]
    frames[0] = bytes((_TEXT,)) + frames[0][1:]
    frames[-1] = bytes((_FINAL,)) + frames[-1][1:]
    frames.insert(1, bytes((_PING, 4)) + b"here")
    edit.frame = b"".join(frames)


def lost(edit: FrameEdit, trigger: FaultTrigger) -> None:  # noqa: ARG001  # one signature for all
    edit.frame = None


def duplicate(edit: FrameEdit, trigger: FaultTrigger) -> None:  # noqa: ARG001
    if edit.frame is not None:
        edit.after.append(edit.frame)


def cut(edit: FrameEdit, trigger: FaultTrigger) -> None:  # noqa: ARG001
    edit.ends_connection = True


def cut_inside(edit: FrameEdit, trigger: FaultTrigger) -> None:
    if edit.frame is not None:
        edit.frame = edit.frame[: trigger.random.randrange(1, len(edit.frame))]
        edit.after.clear()
        edit.ends_connection = True


# Faults of any frame that need no memory, in the order in which they are applied.
FRAME_FAULTS: dict[str, Callable[[FrameEdit, FaultTrigger], None]] = {
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


def off_grid(state: BarState, trigger: FaultTrigger) -> BarState:
    shift = trigger.random.randint(1, 999)
    return (state[0] + shift, state[1] + shift, *state[2:])


def in_the_future(timeframe: str, state: BarState, seconds: float) -> BarState:
    """Return the state as that of a bar of the grid that begins later."""
    begin, least = state[0], state[0] + seconds * 1000
    if timeframe != "1M":
        length = grid.length(timeframe)
        begin += math.ceil((least - begin) / length) * length
    while begin < least:
        begin = grid.end(begin, timeframe)
    return (begin, grid.end(begin, timeframe), *state[2:])


def with_value(state: BarState, trigger: FaultTrigger, value: float) -> BarState:
    """Return the state with one of its prices or its volume replaced by `value`."""
    values = [*state[2:7]]
    values[trigger.random.randrange(len(values))] = value
    first, high, low, last, volume = values
    return (*state[:2], first, high, low, last, volume, *state[7:])


def with_other_close(state: BarState) -> BarState:
    """Return the state with another last price, which its high and low allow."""
    high, low, last = state[3:6]
    return (*state[:5], low if last != low else high, *state[6:])


def with_larger_volume(state: BarState) -> BarState:
    """Return the state with twice its volume plus 1, as the volume may be 0.

    Volumes have four decimals, so that a value survives being written as text.
    """
    return (*state[:6], round(state[6] * 2 + 1, 4), *state[7:])


def with_event_shift(state: BarState, seconds: float) -> BarState:
    """Return the state with its event time moved by `seconds`."""
    return (*state[:9], state[9] + int(seconds * 1000))


def unquoted_numbers(frame: bytes) -> bytes:
    """Return the frame with NaN or Infinity unquoted, which is not valid JSON."""
    payload = payload_of(frame)
    for quoted, bare in ((b'"nan"', b"NaN"), (b'"inf"', b"Infinity")):
        payload = payload.replace(quoted, bare)
    return text_frame(payload)


# Half a message, invalid UTF-8, text in place of a number, a negative volume.
_DAMAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda payload: payload[: len(payload) // 2],
    lambda payload: b"\xff" + payload,
    lambda payload: payload.replace(b'"high":"', b'"high":"x').replace(
        b'"h":"', b'"h":"x'
    ),
    lambda payload: payload.replace(b'"volume":"', b'"volume":"-1').replace(
        b'"v":"', b'"v":"-1'
    ),
)
