"""The faults of one connection, applied to its bars, replies and states."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from shmfeed.bar import StreamKey
from shmfeed.simulator.faults.injection import (
    FRAME_FAULTS,
    FaultSchedule,
    FrameEdit,
    in_the_future,
    off_grid,
    unquoted_numbers,
    with_event_shift,
    with_larger_volume,
    with_other_close,
    with_value,
)
from shmfeed.simulator.faults.spec import EVEN, ODD, Fault
from shmfeed.simulator.market import STEPS, BarState

Encode = Callable[[StreamKey, Sequence[BarState]], list[bytes]]
EncodeCopy = Callable[[StreamKey, BarState], bytes]
STATES = ("half-open", "mute", "mute-pongs", "trickle")
_GOING_AWAY = 1001  # WebSocket close code
_REMEMBERED = 8  # closed bars of a stream
_OPEN_TIME, _STEP = 0, 8  # of a BarState
_BROKEN_VALUES = {"nan": float("nan"), "infinite": float("inf")}


class Ending(NamedTuple):
    """An end of the connection, with a close frame.

    Attributes:
        after: Seconds from now.
        code: The close code.
        notice: Seconds from an announcement to the close; None without one.
    """

    after: float
    code: int
    notice: float | None


class _StreamPast:
    """The recent frames of one stream."""

    def __init__(self) -> None:
        self.closed: deque[bytes] = deque(maxlen=_REMEMBERED)  # oldest first
        self.held: list[bytes] = []  # a closing frame that `reorder` holds back
        self.bar = -1  # open_time of the bar that `missing` is about
        self.missing = False
        self.newest: bytes | None = None  # the frame that `freeze` repeats


class ConnectionFaults:
    """The faults of one connection, and the frames that they remember.

    Args:
        faults: The faults.
        seed: The venue's seed.
        number: The connection's number, counted from 1.
        encode: The connection's dialect's.
        encode_copy: The same for one state, without a number of its own; None where
            messages have no numbers.
        is_mute: Tells of a stream whether it is mute; None: no stream is.
        is_hole: Tells of a bar whether the venue lacks it; None: it lacks none.

    Attributes:
        ended: The connection is to be cut once every frame returned so far is written.
        delayed: (seconds, frame) to be sent later; the sender takes them out.
    """

    def __init__(
        self,
        faults: Iterable[Fault],
        seed: int,
        number: int,
        encode: Encode,
        encode_copy: EncodeCopy | None = None,
        is_mute: Callable[[StreamKey], bool] | None = None,
        is_hole: Callable[[StreamKey, BarState], bool] | None = None,
    ) -> None:
        self.ended = False
        self.delayed: list[tuple[float, bytes]] = []
        parity = ODD if number % 2 else EVEN
        faults = [one for one in faults if one.choice not in {ODD, EVEN} - {parity}]
        self._schedule = FaultSchedule(faults, f"{seed} {number}")
        self._is_mute, self._is_hole = is_mute, is_hole
        self._encode = encode
        self._encode_copy = encode_copy or (lambda key, one: encode(key, [one])[0])
        self._past: dict[StreamKey, _StreamPast] = {}
        names = self._schedule.names
        self._frame_faults = {n: f for n, f in FRAME_FAULTS.items() if n in names}
        self._broken_values = {n: v for n, v in _BROKEN_VALUES.items() if n in names}

    def frames(self, key: StreamKey, states: Sequence[BarState]) -> list[bytes]:
        """Return the frames to send for these states of one stream."""
        if self._is_mute is not None and self._is_mute(key):
            self._encode(key, states)  # unsent messages have used their numbers
            return []
        skew = self._schedule.due("skew-events")
        if skew is not None:
            states = [with_event_shift(state, skew.fault.argument) for state in states]
        sent: list[bytes] = []
        if self._is_hole is not None:
            states = [one for one in states if not self._is_hole(key, one)]
        for made in states:  # encoded in turn: a fault's frames may take a number
            state = made
            if made[_STEP] == STEPS and self._schedule.due("disagree"):
                state = with_other_close(made)
            (frame,) = self._encode(key, [state])
            sent += self._bar_frames(key, state, frame)
        return sent

    def recorded(self, frame: bytes) -> list[bytes]:
        """Return the frames to send for a recorded frame."""
        return [] if self.ended else self._apply(FrameEdit(frame))

    @property
    def lag(self) -> float:
        """Seconds that bars are late now."""
        trigger = self._schedule.due("lag")
        return trigger.fault.argument if trigger is not None else 0.0

    def states(self) -> dict[str, float]:
        """Return the states that are due now, with their arguments."""
        due = ((name, self._schedule.due(name)) for name in STATES)
        return {name: t.fault.argument for name, t in due if t is not None}

    def state_changes(self) -> list[float]:
        """Return the times at which a state begins or ends, in seconds from now."""
        return self._schedule.times(STATES)

    def cut_times(self) -> list[float]:
        """Return the times of cuts that need no frame, in seconds from now."""
        return self._schedule.times(("cut",), once=True)

    def cut_is_due(self) -> bool:
        """Return True if the connection is to be cut now or already is."""
        self.ended = self.ended or self._schedule.due("cut") is not None
        return self.ended

    def endings(self) -> list["Ending"]:
        """Return the ends that the venue itself gives this connection."""
        announced = [
            Ending(after, _GOING_AWAY, fault.argument)
            for after, fault in self._schedule.pending("going-away")
        ]
        closed = [
            Ending(after, int(fault.argument), None)
            for after, fault in self._schedule.pending("close")
        ]
        return announced + closed

    def replies(self, reply: str) -> list[tuple[float, str]]:
        """Return (seconds to wait, text) to send for the reply to a subscription."""
        if self._schedule.due("ack-never"):
            return []
        if self._schedule.due("ack-wrong"):
            reply = _with_wrong_id(reply)
        late = self._schedule.due("ack-late")
        return [(late.fault.argument if late else 0.0, reply)]

    def _bar_frames(self, key: StreamKey, state: BarState, frame: bytes) -> list[bytes]:
        past = self._past.setdefault(key, _StreamPast())
        if self.ended or self._is_missing(past, state):
            return []
        if past.newest is not None and self._schedule.due("freeze"):
            return [past.newest]
        past.newest = frame
        edit = FrameEdit(frame)
        self._add_broken_copies(key, state, edit)
        closing = state[_STEP] == STEPS
        if closing:
            self._apply_to_closing(key, state, edit)
        if past.closed and self._schedule.due("late"):
            edit.after.append(past.closed[0])
        if closing:
            past.closed.append(frame)
        sent, held = self._apply(edit), past.held
        if closing and self._schedule.due("reorder"):
            past.held = sent
            return held
        past.held = []
        return sent if self.ended else sent + held

    def _is_missing(self, past: _StreamPast, state: BarState) -> bool:
        open_time = int(state[_OPEN_TIME])
        if open_time != past.bar:
            past.bar = open_time
            past.missing = self._schedule.due("gap") is not None
        return past.missing

    def _add_broken_copies(
        self, key: StreamKey, state: BarState, edit: FrameEdit
    ) -> None:
        trigger = self._schedule.due("future")
        if trigger:
            later = in_the_future(key[1], state, trigger.fault.argument)
            edit.before.append(self._encode_copy(key, later))
        trigger = self._schedule.due("off-grid")
        if trigger:
            edit.before.append(self._encode_copy(key, off_grid(state, trigger)))
        for name, value in self._broken_values.items():
            trigger = self._schedule.due(name)
            if trigger:
                frame = self._encode_copy(key, with_value(state, trigger, value))
                unquoted = trigger.random.random() < 0.5
                edit.before.append(unquoted_numbers(frame) if unquoted else frame)

    def _apply_to_closing(
        self, key: StreamKey, state: BarState, edit: FrameEdit
    ) -> None:
        if self._schedule.due("revise"):
            edit.after += self._encode(key, [with_larger_volume(state)])
        late = self._schedule.due("delay")
        if late and edit.frame is not None:
            self.delayed.append((late.fault.argument, edit.frame))
            edit.frame = None
        if self._schedule.due("lost-close"):
            edit.frame = None

    def _apply(self, edit: FrameEdit) -> list[bytes]:
        for name, apply in self._frame_faults.items():
            trigger = self._schedule.due(name)
            if trigger:
                apply(edit, trigger)
        self.ended = edit.ends_connection
        return edit.frames


def _with_wrong_id(reply: str) -> str:
    message = json.loads(reply)
    for name in ("request_id", "id"):
        request_id = message.get(name)
        if name in message:
            whole = isinstance(request_id, int)
            message[name] = request_id + 1_000_000 if whole else f"{request_id}000000"
    return json.dumps(message)
