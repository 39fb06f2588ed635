"""Decide when to ask again for a stream that is mute while others speak.

After three timeframes, at least 10 s, its connection asks the venue for it again. If it
stays mute as long again, it moves to a new connection. Then the two steps follow ever
more rarely, up to six hours apart: a symbol that hardly trades looks the same, and must
not cost connections without end. A stream that speaks again keeps its last distance,
and loses it only after it has spoken steadily. `MuteStreams` does no I/O.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, Protocol

from shmfeed.bar import TIMEFRAMES, StreamKey
from shmfeed.wire.events import Streams

CHECK_SECONDS = 1.0
LEAST_SECONDS = 10.0
MOST_SECONDS = 6 * 3600.0
MOVE_SECONDS = 60.0  # between two moves of any streams
TIMEFRAMES_SILENT = 3
STEADY_LIMITS = 20  # after so many limits without silence a stream counts as new


class MuteAction(NamedTuple):
    """The streams to ask for again, and those to move to a new connection."""

    ask: Streams = ()
    move: Streams = ()


NOTHING = MuteAction()


class _MuteStream:
    """The steps taken for one stream so far."""

    __slots__ = ("asked", "distance", "next_at", "speaks_since")

    def __init__(self, limit: float) -> None:
        self.asked = False  # the next step is the move
        self.distance = limit
        self.next_at = 0.0
        self.speaks_since: float | None = None


class MuteStreams:
    """The mute streams of a feed, and when something is done for each."""

    def __init__(self) -> None:
        self._mute: dict[StreamKey, _MuteStream] = {}
        self._next_check = 0.0
        self._next_move = 0.0

    def is_due(self, now: float) -> bool:
        """Return True if `check` is to be called."""
        return now >= self._next_check

    def check(self, silences: Mapping[StreamKey, float], now: float) -> MuteAction:
        """Return the steps that are due now.

        Args:
            silences: Seconds since the last message of each stream that a connection
                carries; since its acknowledgement, if none has come.
            now: Seconds of a clock that never goes back.
        """
        self._next_check = now + CHECK_SECONDS
        for key in self._mute.keys() - silences.keys():
            del self._mute[key]
        if not _are_speaking(silences):
            return NOTHING
        ask: list[StreamKey] = []
        move: list[StreamKey] = []
        for key, silence in silences.items():
            if silence <= limit_of(key):
                self._speaks(key, now)
            else:
                self._is_mute(key, now, ask, move)
        if move:
            self._next_move = now + MOVE_SECONDS
        return MuteAction(tuple(ask), tuple(move)) if ask or move else NOTHING

    def _is_mute(
        self, key: StreamKey, now: float, ask: list[StreamKey], move: list[StreamKey]
    ) -> None:
        state = self._mute.get(key)
        if state is None:
            state = self._mute[key] = _MuteStream(limit_of(key))
        state.speaks_since = None
        if now < state.next_at:
            return
        if not state.asked:
            ask.append(key)
            state.asked = True
            state.next_at = now + limit_of(key)
        elif now >= self._next_move:
            move.append(key)
            state.asked = False
            state.distance = max(limit_of(key), min(MOST_SECONDS, state.distance * 2))
            state.next_at = now + state.distance

    def _speaks(self, key: StreamKey, now: float) -> None:
        state = self._mute.get(key)
        if state is None:
            return
        if state.speaks_since is None:
            state.speaks_since = now
            if state.asked:  # the repeated request has helped, or was not needed
                state.asked = False
                state.distance = min(MOST_SECONDS, state.distance * 2)
                state.next_at = now + state.distance
        elif now - state.speaks_since > STEADY_LIMITS * limit_of(key):
            del self._mute[key]


def limit_of(key: StreamKey) -> float:
    """Return the seconds of silence after which a stream is mute."""
    return max(LEAST_SECONDS, TIMEFRAMES_SILENT * TIMEFRAMES[key[1]] / 1000)


def _are_speaking(silences: Mapping[StreamKey, float]) -> bool:
    """Return True if a stream has spoken within a timeframe, or the last 10 s."""
    return any(
        silence <= max(LEAST_SECONDS, TIMEFRAMES[timeframe] / 1000)
        for (_, timeframe), silence in silences.items()
    )


class AskingSession(Protocol):
    """The part of a session that asks for streams again."""

    def ask_again(self, streams: Iterable[StreamKey]) -> None: ...
    def move(self, streams: Iterable[StreamKey]) -> None: ...


class SilentIntake(Protocol):
    """The part of the intake that knows how long streams are silent."""

    def silences(self) -> dict[StreamKey, float]: ...
    def explain_silence(self, streams: Iterable[StreamKey], text: str) -> None: ...


def attend_mute(
    mute: MuteStreams,
    session: AskingSession,
    intake: SilentIntake,
    quiet: Collection[StreamKey],
    now: float,
) -> MuteAction:
    """Take the steps that are due now, and return them.

    `quiet` are silent streams of which history has nothing newer either.
    """
    silences = intake.silences()
    if quiet:
        silences = {key: silent for key, silent in silences.items() if key not in quiet}
    ask, move = steps = mute.check(silences, now)
    session.ask_again(ask)
    session.move(move)
    intake.explain_silence(ask, "mute while others speak, asked for again")
    intake.explain_silence(move, "still mute, moved to a new connection")
    return steps
