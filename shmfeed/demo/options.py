"""The options of a demo, and the constants that its processes share."""

import os
from typing import Any, NamedTuple

from shmfeed.bar import Timeframe
from shmfeed.text import counted

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
MIN_ROWS, MAX_ROWS = 20, 300  # of a read
BURST = 16  # reads between two pauses
MIN_PAUSE = 0.001  # s
_MIN_SECONDS_FOR_CUT = 10.0  # a demo of at least this length has its trouble
_STRATEGIES_SHARE = 0.5  # of the CPUs; the venue and the feeder need the rest


class DemoOptions(NamedTuple):
    """The checked options of a demo."""

    seconds: float
    strategies: int
    symbols: tuple[str, ...]
    seed: int
    relay: bool = False

    @property
    def feed(self) -> str:
        """The feed's name, unique to this process."""
        return f"demo-{os.getpid()}"

    @property
    def streams(self) -> str:
        """The feed's streams in words."""
        return f"{counted(len(self.symbols), 'symbol')} x {' '.join(RESOLUTIONS)}"

    @property
    def cut_at(self) -> float | None:
        """Seconds until the trouble of the demo; None for a short demo."""
        return self.seconds / 2 if self.seconds >= _MIN_SECONDS_FOR_CUT else None

    @property
    def trouble(self) -> str:
        """The trouble of the demo, in words."""
        if self.relay:
            return "the leader was killed"
        return "the venue dropped the connection"

    @property
    def pause_ratio(self) -> float:
        """Seconds that a strategy pauses for each second of work."""
        return max(0.0, self.strategies / (_STRATEGIES_SHARE * cpu_count()) - 1)

    def orders(self) -> list[dict[str, Any]]:
        """Return what each strategy process is sent first."""
        return [
            {
                "number": number,
                "feed": self.feed,
                "seed": self.seed,
                "symbols": self.symbols,
                "pause_ratio": self.pause_ratio,
            }
            for number in range(1, self.strategies + 1)
        ]


def cpu_count() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))
