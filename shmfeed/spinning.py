"""The plan of a waiter that spins: sleep, then look around the instant of the next bar.

A *look* loads words of the segment without sleeping until one changes. A sleeper runs
some tens of microseconds after a bar has closed; a look sees the bar within about two
microseconds, but uses a core. Bars arrive at instants that repeat: a venue closes a bar
at an instant of the timeframe's grid, and sends it after a steady delay. So a waiter
that may spin sleeps until shortly before the next such instant, looks for as long as
its budget allows, and sleeps again.

`Arrivals` learns these instants from the bars that a ring has waited for, as phases of
the boot clock within one timeframe. It needs no wall clock, and no grid: a replay has
the phases of its own clock. Bars without a steady phase, such as those of a simulated
feed that runs faster than the clock, have no window and are waited for asleep.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from shmfeed.bar import duration
from shmfeed.errors import BadArgumentError
from shmfeed.memory.words import boot_ns
from shmfeed.text import repr_short
from shmfeed.validation import check_seconds

MOST_SPIN = 1.0  # seconds
# The longest single look, for each ring: many take longer to check. Between two looks
# the waiter checks for signals, a dead feeder and another segment. That also keeps its
# Python code in the CPU's caches for the bar that ends a look.
SLICE_NS = 20_000
_LEAD_NS = 150_000  # how much later than asked a sleep may end
_KEPT = 8  # arrivals


def check_spin(value: Any) -> float:
    """Return how long a waiter may spin, in seconds."""
    seconds = check_seconds("spin", value)
    if seconds > MOST_SPIN:
        raise BadArgumentError(
            f"spin is {repr_short(value)}; it must be at most {MOST_SPIN:g} s"
        )
    return seconds


class Window(NamedTuple):
    """A span of the boot clock in which a bar is expected, ns, the end exclusive."""

    start: int
    end: int


class Arrivals:
    """The times at which a stream's last bars arrived, and when the next is expected.

    It also holds how long waiters have spun in the current timeframe. Times are those
    of the boot clock, in ns.

    Attributes:
        newest: An arrival that is yet to be noted, 0 once it is. A waiter that
            has a bar leaves the time here and returns: to note it at once would keep
            the caller waiting for some microseconds.

    Args:
        timeframe: Of the stream.

    Thread safety: threads that wait for one ring share it; at worst one of them spins
    at another time.
    """

    __slots__ = ("_seen", "_spent", "_spent_in", "_window", "newest", "period")

    def __init__(self, timeframe: str) -> None:
        self.period = duration(timeframe) * 1_000_000
        self._seen: deque[int] = deque(maxlen=_KEPT)
        self._window: Window | None = None
        self._spent_in = self._spent = self.newest = 0

    def note(self, at: int) -> None:
        """Record that a bar arrived."""
        self._seen.append(at)
        self._window = None

    def window(self, now: int, length: int) -> Window | None:
        """Return the next span of this length in which a bar is expected.

        It ends after `now`, and begins at least half a timeframe after the last
        arrival. None before the first arrival, and if they have no steady phase.
        """
        if self.newest:
            self.note(self.newest)
            self.newest = 0
        window = self._window
        if window is None or window.end <= now or window.end - window.start != length:
            window = self._window = self._next_window(now, length)
        return window

    def _next_window(self, now: int, length: int) -> Window | None:
        if not self._seen:
            return None
        last, period = self._seen[-1], self.period
        half = period // 2
        offset = _best_offset(
            sorted((at - last + half) % period - half for at in tuple(self._seen)),
            length,
        )
        if offset is None:
            return None
        earliest = max(now - length + 1, last + half)
        start = last + offset
        start -= (start - earliest) // period * period
        return Window(start, start + length)

    def left(self, now: int, length: int) -> int:
        """Return how much of `length` may still be spun in this timeframe, ns."""
        if now // self.period != self._spent_in:
            return length
        return max(0, length - self._spent)

    def spend(self, now: int, spun: int) -> None:
        """Record that a waiter has spun."""
        number = now // self.period
        self._spent = spun + (self._spent if number == self._spent_in else 0)
        self._spent_in = number


def _best_offset(distances: Sequence[int], length: int) -> int | None:
    """Return the start of the span that covers most of these sorted distances.

    What it covers lies in its middle. None if it covers less than half of them. Of two
    spans the one that covers distance 0, the last arrival, is better.
    """
    best, low, high = (0, False), 0, 0
    for number, begin in enumerate(distances):
        end = number + sum(at - begin <= length for at in distances[number:])
        covered = end - number, begin <= 0 <= distances[end - 1]
        if covered > best:
            best, low, high = covered, begin, distances[end - 1]
    return (low + high - length) // 2 if 2 * best[0] >= len(distances) else None


class Spinner:
    """The plan of one call that waits: when it spins, and for how long.

    It spins for at most `spin` seconds in each shortest timeframe of the rings, however
    many rings there are.

    Args:
        arrivals: Of the rings waited for, at least one.
        spin: Seconds, above 0.
        budget: The arrivals in which the time spun is counted; by default those with
            the shortest timeframe. Calls that share it share the budget.

    Attributes:
        has_planned: False until `plan` is called: a bar that is there before that
            arrived at an unknown time.
    """

    __slots__ = ("_length", "_shortest", "_slice", "arrivals", "has_planned")

    def __init__(
        self,
        arrivals: Sequence[Arrivals],
        spin: float,
        budget: Arrivals | None = None,
    ) -> None:
        self.arrivals = arrivals
        self.has_planned = False
        self._shortest = budget or min(arrivals, key=lambda each: each.period)
        self._length = max(1, int(spin * 1e9))
        self._slice = SLICE_NS * len(arrivals)

    def plan(self, rest_ns: int) -> tuple[bool, int]:
        """Return True if the waiter shall look, False if sleep, and for how many ns.

        Args:
            rest_ns: The longest time to look or sleep, at least 1.
        """
        self.has_planned = True
        now = boot_ns()
        left = self._shortest.left(now, self._length)
        windows = (each.window(now, self._length) for each in self.arrivals)
        starts = [each for each in windows if each is not None]
        if not left or not starts:
            return False, rest_ns
        window = min(starts)
        if window.start - now > _LEAD_NS:
            return False, min(rest_ns, window.start - now - _LEAD_NS)
        # The whole look is spent in advance, so that a bar that ends it finds no more
        # work here.
        look_ns = min(rest_ns, left, window.end - now, self._slice)
        self._shortest.spend(now, look_ns)
        return True, look_ns


def make_spinner(arrivals: Sequence[Arrivals], spin: float) -> Spinner | None:
    """Return the spinner of a call that waits, None if it shall only sleep.

    Raises BadArgumentError if `spin` is not accepted.
    """
    return Spinner(arrivals, spin) if check_spin(spin) and arrivals else None
