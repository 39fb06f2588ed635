"""Time a feeder that gives no sign of life, by its manager's own clock."""

import time
from collections.abc import Callable

_LONGEST_LOOK = 1.0  # s between two looks that count


class StuckTimer:
    """The time since the last sign of life.

    Time counts only while this manager itself runs: of a longer break between two looks
    one second counts. So a suspend of the host makes no feeder look stuck.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Begin again, for another feeder."""
        self._sign: object = None
        self._looked = self._clock()
        self._silent = 0.0

    def look(self, sign: object) -> float:
        """Return the seconds for which the sign of life has not changed."""
        now = self._clock()
        passed, self._looked = now - self._looked, now
        if sign == self._sign:
            self._silent += min(passed, _LONGEST_LOOK)
        else:
            self._sign, self._silent = sign, 0.0
        return self._silent
