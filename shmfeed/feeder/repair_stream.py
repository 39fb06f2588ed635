"""A stream that is repaired: its requests under way, and the wait of its newer bars."""

from typing import Literal, NamedTuple

from shmfeed.bar import TIMEFRAMES, Bar, StreamKey, floor, phase_of
from shmfeed.feeder.defects import StreamDefects
from shmfeed.history.interface import HistoryRequest
from shmfeed.memory.holes import HoleRecord

LEAD_MS = 2000  # a bar that closes so soon is asked for too: the clock may be behind

# The kinds of requests; of each kind at most one of a stream is under way.
Kind = Literal["warmup", "reconnect", "defect", "poll"]


class Asked(NamedTuple):
    """A request under way, which the worker hands back with its outcome."""

    key: StreamKey
    kind: Kind
    request: HistoryRequest


class RepairStream:
    """A stream that is repaired."""

    __slots__ = (
        "asked",
        "catch_up_at",
        "defects",
        "failures",
        "held_until",
        "is_carried",
        "next_scan",
        "published",
        "trades",
    )

    def __init__(self, defects: StreamDefects, published: list[HoleRecord]) -> None:
        self.defects = defects
        self.published = published  # holes, as readers see them
        self.asked: dict[Kind, Asked] = {}
        self.next_scan = 0.0
        self.held_until = 0.0  # newer bars wait until then
        self.catch_up_at: float | None = None  # when to ask for what was missed
        self.failures = 0  # of the request for what was missed
        self.is_carried = False
        self.trades = True  # False also if the venue does not know the symbol


def missed_range(
    key: StreamKey, last: Bar, venue_now: int, history: int
) -> HistoryRequest:
    """Return the request for what came after the last closed bar, that one included.

    At most `history` bars are asked for, the newest.
    """
    timeframe, opened = key[1], last.open_time
    phase = phase_of(opened, timeframe)
    newest = max(opened, floor(venue_now + LEAD_MS, timeframe, phase))
    reach = newest - (history - 1) * TIMEFRAMES[timeframe]
    first = floor(reach, timeframe, phase) if reach > opened else opened
    return HistoryRequest(key, first, newest)
