"""What goes wrong on one connection: it remembers the bars that have passed."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from shmfeed.bar import StreamKey
from shmfeed.simulator.faults.injection import (
    EFFECTS,
    FaultSchedule,
    FrameEdit,
    bare_numbers,
    off_grid,
    told_at,
    with_value,
    with_volume,
)
from shmfeed.simulator.faults.spec import Fault
from shmfeed.simulator.frames import Row
from shmfeed.simulator.market import STEPS

Encode = Callable[[StreamKey, Sequence[Row]], list[bytes]]
STATES = ("half-open", "mute", "mute-pongs", "trickle")
_REMEMBERED = 8  # closed bars of a stream
_OPEN_TIME, _STEP = 0, 8  # of a row
_BROKEN_VALUES = {"nan": float("nan"), "infinite": float("inf")}


class _Past:
    """What a stream has sent: closed bars, the last oldest; the frame held back."""

    def __init__(self) -> None:
        self.closed: deque[bytes] = deque(maxlen=_REMEMBERED)
        self.held: list[bytes] = []
        self.bar = -1  # open_time of the bar that `missing` is about
        self.missing = False


class ConnectionFaults:
    """The faults of one connection, by its number; `encode` is its dialect's.

    `ended`: it is to be cut once all that was made has been written. `delayed`: frames
    to be sent later, with the seconds; whoever sends takes them.
    """

    def __init__(
        self, faults: Iterable[Fault], seed: int, number: int, encode: Encode
    ) -> None:
        self.ended = False
        self.delayed: list[tuple[float, bytes]] = []
        self._odds = FaultSchedule(faults, f"{seed} {number}")
        self._encode = encode
        self._past: dict[StreamKey, _Past] = {}
        names = self._odds.names
        self._effects = {n: act for n, act in EFFECTS.items() if n in names}
        self._broken = {n: v for n, v in _BROKEN_VALUES.items() if n in names}

    def frames(self, stream: StreamKey, rows: Sequence[Row]) -> list[bytes]:
        """What is sent in place of these rows of one stream."""
        skew = self._odds.meet("skew-events")
        if skew is not None:
            rows = [told_at(row, skew.fault.argument) for row in rows]
        sent: list[bytes] = []
        for row, frame in zip(rows, self._encode(stream, rows), strict=True):
            sent += self._row(stream, row, frame)
        return sent

    def recorded(self, frame: bytes) -> list[bytes]:
        """What is sent in place of a recorded frame."""
        return [] if self.ended else self._fire(FrameEdit(frame))

    def states(self) -> dict[str, float]:
        """The states that it is in now, with their arguments."""
        met = ((name, self._odds.meet(name)) for name in STATES)
        return {name: c.fault.argument for name, c in met if c is not None}

    def changes(self) -> list[float]:
        """When its states change, in seconds from now."""
        return self._odds.moments(STATES)

    def cut_at(self) -> list[float]:
        """When it is cut whether there are frames or not, in seconds from now."""
        return self._odds.moments(("cut",), once=True)

    def cuts_now(self) -> bool:
        self.ended = self.ended or self._odds.meet("cut") is not None
        return self.ended

    def answers(self, reply: str) -> list[tuple[float, str]]:
        """What is said in place of a subscription's answer, and how many s later."""
        if self._odds.meet("ack-never"):
            return []
        if self._odds.meet("ack-wrong"):
            reply = _of_another(reply)
        late = self._odds.meet("ack-late")
        return [(late.fault.argument if late else 0.0, reply)]

    def _row(self, stream: StreamKey, row: Row, frame: bytes) -> list[bytes]:
        past = self._past.setdefault(stream, _Past())
        if self.ended or self._is_missing(past, row):
            return []
        shot = FrameEdit(frame)
        self._spoil_values(stream, row, shot)
        closing = row[_STEP] == STEPS
        if closing:
            self._close(stream, row, shot)
        if past.closed and self._odds.meet("late"):
            shot.after.append(past.closed[0])
        if closing:
            past.closed.append(frame)
        sent, held = self._fire(shot), past.held
        if closing and self._odds.meet("reorder"):
            past.held = sent
            return held
        past.held = []
        return sent if self.ended else sent + held

    def _is_missing(self, past: _Past, row: Row) -> bool:
        opened = int(row[_OPEN_TIME])
        if opened != past.bar:
            past.bar = opened
            past.missing = self._odds.meet("gap") is not None
        return past.missing

    def _spoil_values(self, stream: StreamKey, row: Row, shot: FrameEdit) -> None:
        chance = self._odds.meet("off-grid")
        if chance:
            shot.before += self._encode(stream, [off_grid(row, chance)])
        for name, value in self._broken.items():
            chance = self._odds.meet(name)
            if chance:
                (frame,) = self._encode(stream, [with_value(row, chance, value)])
                bare = chance.random.random() < 0.5
                shot.before.append(bare_numbers(frame) if bare else frame)

    def _close(self, stream: StreamKey, row: Row, shot: FrameEdit) -> None:
        """What happens to frames that close a bar only."""
        if self._odds.meet("revise"):
            shot.after += self._encode(stream, [with_volume(row)])
        late = self._odds.meet("delay")
        if late and shot.frame is not None:
            self.delayed.append((late.fault.argument, shot.frame))
            shot.frame = None
        if self._odds.meet("lost-close"):
            shot.frame = None

    def _fire(self, shot: FrameEdit) -> list[bytes]:
        for name, act in self._effects.items():
            chance = self._odds.meet(name)
            if chance:
                act(shot, chance)
        self.ended = shot.last
        return shot.frames


def _of_another(reply: str) -> str:
    """The answer with the id of a request that nobody made."""
    message = json.loads(reply)
    for name in ("request_id", "id"):
        number = message.get(name)
        if name in message:
            whole = isinstance(number, int)
            message[name] = number + 1_000_000 if whole else f"{number}000000"
    return json.dumps(message)
