"""When faults happen: each has a window of time and a row of random numbers of its own.

The numbers follow from the seed, from what the faults happen to (a connection, by its
number, or the venue), and from the fault's name: whether the n-th frame of a connection
meets a fault does not depend on which other faults there are.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable

from shmfeed.simulator.faults.grammar import Fault


class Chance:
    """One fault, and whether it happens now."""

    def __init__(self, fault: Fault, seed: str) -> None:
        self.fault = fault
        self.random = random.Random(seed)  # noqa: S311  # repeatable, not secret
        self._end = fault.end

    def happens(self, since: float) -> bool:
        """To be asked once for each frame, bar, answer or connection."""
        fault = self.fault
        if not fault.start <= since < self._end:
            return False
        if fault.once:
            self._end = -math.inf
        return fault.rate >= 1.0 or self.random.random() < fault.rate


class Odds:
    """The faults of one connection, or of the venue as a whole, from now on."""

    def __init__(
        self,
        faults: Iterable[Fault],
        seed: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._began = clock()
        self._chances: dict[str, list[Chance]] = {}
        count = Counter[str]()
        for fault in faults:
            count[fault.name] += 1
            chance = Chance(fault, f"{seed} {fault.name} {count[fault.name]}")
            self._chances.setdefault(fault.name, []).append(chance)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._chances)

    @property
    def since(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._began

    def meet(self, name: str) -> Chance | None:
        """The chance of this fault that happens now, if one does."""
        if name not in self._chances:
            return None
        since = self.since
        met = [chance for chance in self._chances[name] if chance.happens(since)]
        return met[0] if met else None

    def moments(self, names: Iterable[str], once: bool = False) -> list[float]:
        """When these begin and end, in seconds from now; what is past is left out."""
        faults = [c.fault for name in names for c in self._chances.get(name, ())]
        faults = [fault for fault in faults if fault.once or not once]
        times = [time for fault in faults for time in (fault.start, fault.end)]
        since = self.since
        return [time - since for time in times if since < time < math.inf]
