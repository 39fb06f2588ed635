"""What faults do to one frame, and put before and behind it. No memory, no I/O."""

from collections.abc import Callable
from itertools import pairwise

from shmfeed.simulator.faults.odds import Chance
from shmfeed.simulator.frames import Row, payload_of, text_frame

_FINAL, _TEXT, _PING = 0x80, 0x01, 0x89
_NO_FRAME = 0xF0  # reserved bits, all of them
_HUGE = 127  # the length stands in the next 8 bytes


class Shot:
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


def malformed(shot: Shot, chance: Chance) -> None:
    if shot.frame is not None:
        spoilt = chance.random.choice(_BREAKS)(payload_of(shot.frame))
        shot.before.append(text_frame(spoilt))


def garbage(shot: Shot, chance: Chance) -> None:
    size = chance.random.randint(8, 120)
    opcode = chance.random.choice((1, 2))
    shot.before.append(bytes((_FINAL | opcode, size)) + chance.random.randbytes(size))


def noise(shot: Shot, chance: Chance) -> None:
    first = _NO_FRAME | chance.random.randrange(16)
    shot.before.append(bytes((first,)) + chance.random.randbytes(15))


def oversized(shot: Shot, chance: Chance) -> None:
    size = int(chance.fault.argument)
    shot.before.append(bytes((_FINAL | _TEXT, _HUGE)) + size.to_bytes(8))


def truncated(shot: Shot, chance: Chance) -> None:
    if shot.frame is not None:
        payload = payload_of(shot.frame)
        size = len(payload) + chance.random.randint(1, 64)
        shot.frame = bytes((_FINAL | _TEXT, _HUGE)) + size.to_bytes(8) + payload


def fragments(shot: Shot, chance: Chance) -> None:
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


def lost(shot: Shot, chance: Chance) -> None:  # noqa: ARG001  # all effects are alike
    shot.frame = None


def duplicate(shot: Shot, chance: Chance) -> None:  # noqa: ARG001
    if shot.frame is not None:
        shot.after.append(shot.frame)


def cut(shot: Shot, chance: Chance) -> None:  # noqa: ARG001
    shot.last = True


def cut_inside(shot: Shot, chance: Chance) -> None:
    if shot.frame is not None:
        shot.frame = shot.frame[: chance.random.randrange(1, len(shot.frame))]
        shot.after.clear()
        shot.last = True


# Without a memory, in the order in which they are applied.
EFFECTS: dict[str, Callable[[Shot, Chance], None]] = {
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


def off_grid(row: Row, chance: Chance) -> Row:
    shift = chance.random.randint(1, 999)
    return (row[0] + shift, row[1] + shift, *row[2:])


def with_value(row: Row, chance: Chance, value: float) -> Row:
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
