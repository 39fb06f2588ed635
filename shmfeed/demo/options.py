"""What a demo is to be."""

import os
from typing import Any, NamedTuple

from shmfeed.bar import Timeframe

SYMBOLS = (
    "BTCUSDT",
    "ETHUSDT",
    "BNBUSDT",
    "SOLUSDT",
    "XRPUSDT",
    "ADAUSDT",
    "DOGEUSDT",
    "LTCUSDT",
)
RESOLUTIONS: tuple[Timeframe, ...] = ("1s", "1m")
SHORTEST, LONGEST = 20, 300  # rows of a read
BURST = 16  # reads between two pauses
MIN_PAUSE = 0.001  # s
CUT_FROM = 10.0  # s; a demo of at least this length loses its connection once

_STRATEGIES_SHARE = 0.5  # of the processors; venue and feeder need some too


class Plan(NamedTuple):
    """The options of a demo, checked."""

    seconds: float
    strategies: int
    symbols: tuple[str, ...]
    seed: int

    @property
    def feed(self) -> str:
        """A feed of this process's own."""
        return f"demo-{os.getpid()}"

    @property
    def cut_at(self) -> float | None:
        """Seconds after which the venue drops the connection; None: never."""
        return self.seconds / 2 if self.seconds >= CUT_FROM else None

    @property
    def rest(self) -> float:
        """How long a strategy pauses for each second of work, in seconds."""
        share = _STRATEGIES_SHARE * processors()
        return max(0.0, self.strategies / share - 1)

    def orders(self) -> list[dict[str, Any]]:
        """What each strategy process is told."""
        return [
            {
                "number": number,
                "feed": self.feed,
                "seed": self.seed,
                "symbols": self.symbols,
                "rest": self.rest,
            }
            for number in range(1, self.strategies + 1)
        ]


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))
