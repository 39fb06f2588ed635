"""The parts of intake, writer and worker that repairs use, and their settings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from shmfeed.bar import StreamKey
from shmfeed.core import RingReader
from shmfeed.feeder.row_events import DueBars, Found, HistoryEffect, HistoryUse
from shmfeed.history.interface import HistoryAnswer, HistoryJob, HistoryOutcome
from shmfeed.memory.holes import HoleRecord


class RepairIntake(Protocol):
    """The part of an intake that repairs use."""

    def reader(self, key: StreamKey) -> RingReader: ...
    def venue_now(self, now: float) -> int: ...
    def take_history(
        self, answer: HistoryAnswer, *, how: HistoryUse
    ) -> HistoryEffect: ...
    def drain_found(self) -> Sequence[Found]: ...
    def hold(self, keys: Iterable[StreamKey], until: float) -> None: ...
    def release(self, keys: Iterable[StreamKey]) -> None: ...
    def is_holding(self, key: StreamKey) -> bool: ...
    def due(self, now: float) -> Sequence[DueBars]: ...
    def silences(self) -> Mapping[StreamKey, float]: ...


class HoleMarks(Protocol):
    """The part of a FeedWriter that readers learn of holes and silences by."""

    def holes(self, key: StreamKey) -> list[HoleRecord]: ...
    def set_holes(self, key: StreamKey, holes: Iterable[HoleRecord]) -> None: ...
    def set_compared(self, key: StreamKey, at: float | None) -> None: ...


class JobQueue(Protocol):
    """The part of a HistoryWorker that takes jobs."""

    @property
    def pause(self) -> str: ...
    def ask(self, job: HistoryJob) -> None: ...
    def cancel(self, key: StreamKey) -> None: ...
    def drain(self) -> list[HistoryOutcome]: ...
    def close(self) -> None: ...


class RepairLimits(NamedTuple):
    """The settings that a repair obeys.

    Attributes:
        grace: `repair_grace`, in seconds.
        warmup: The bars of each stream at its start.
        history: The rows of a stream that readers can ask for.
        settle: `rest_settle`, in seconds.
    """

    grace: float
    warmup: int
    history: int
    settle: float = 10.0
