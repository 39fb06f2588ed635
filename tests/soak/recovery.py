"""The recovery of a feed whose feeder was killed: how long it takes, and which phases.

Time that processes were ready to run and had no CPU belongs to the machine. The kernel
counts it for each thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WELL = ("live", "quiet", "closed")


@dataclass
class Recovery:
    """One recovery, from the kill until another feeder serves all streams.

    Attributes:
        began: When the feeder was killed, in time.monotonic().
        killed: The pid of the killed feeder.
        venue: The pid of the venue.
        is_troubled: True if REST, the socket or a cut made trouble meanwhile.
        seconds: Its length, 0.0 until it has ended.
        put_off: Seconds that the new feeder and the venue waited for a CPU.
        phases: Each state and health that a reader saw, and since when, in seconds.
    """

    began: float
    killed: int | None
    venue: int
    is_troubled: bool = False
    seconds: float = 0.0
    put_off: float = 0.0
    phases: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waited = waited(self.venue)

    def look(self, status: Mapping[str, Any], now: float) -> bool:
        """Take a status of the feed; return True if all is well."""
        is_new = status["pid"] not in {None, self.killed}
        seen = f"{status['state']} {status['health']}" if is_new else "no feeder"
        if not self.phases or self.phases[-1][1] != seen:
            self.phases.append((now - self.began, seen))
        is_well = is_new and status["state"] == "connected"
        if not (is_well and status["health"] in WELL):
            return False
        self.seconds = now - self.began
        self.put_off = waited(status["pid"]) + waited(self.venue) - self._waited
        return True

    @property
    def own_seconds(self) -> float:
        """Its length without the time off the CPU."""
        return max(0.0, self.seconds - self.put_off)

    def __str__(self) -> str:
        parts = ", ".join(f"{at:.2f} {seen}" for at, seen in self.phases)
        kind = "among other troubles" if self.is_troubled else "alone"
        return f"{self.seconds:.2f} s, {self.put_off:.2f} off the CPU, {kind}: {parts}"


def waited(pid: int | None) -> float:
    """Return for how many seconds the most delayed thread of a process had no CPU.

    The threads wait at the same time, so the sum would be too much.
    """
    longest = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            spent = (task / "schedstat").read_text().split()[1]
            longest = max(longest, int(spent))
    except OSError:  # it is gone
        return 0.0
    return longest / 1e9
