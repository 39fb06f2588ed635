"""A local venue: it makes or replays market data and serves it on loopback."""

from typing import TYPE_CHECKING, Any

from shmfeed.simulator.market import STEPS, bar, expected, verify

if TYPE_CHECKING:
    from shmfeed.simulator.venue import Venue

__all__ = ["STEPS", "Venue", "bar", "expected", "verify"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: a process that only checks values needs no asyncio.
    if name != "Venue":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from shmfeed.simulator.venue import Venue  # noqa: PLC0415  # see above

    globals()[name] = Venue
    return Venue
