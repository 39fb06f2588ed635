"""Faults of the venue's bars: what the socket sends of them, and what REST finally has.

A bar's fault follows from the seed, the fault's name, the stream and the open time, so
each connection and each request sees the same one. Pure functions of these; no clock.
"""

import hashlib
import math
from collections.abc import Sequence

from shmfeed.bar import StreamKey
from shmfeed.simulator.faults.injection import with_larger_volume, with_other_close
from shmfeed.simulator.faults.spec import Fault
from shmfeed.simulator.market import BarState

_RANGE = 1 << 64
FINALLY = math.inf  # the time at which every correction has been made


class BarFaults:
    """The faults of one venue's bars.

    Args:
        faults: The venue's faults.
        seed: The venue's seed.
        began: The venue's time at which the faults began, ms UTC.
        speed: Venue seconds per wall second.
    """

    def __init__(
        self,
        faults: Sequence[Fault] = (),
        seed: int = 0,
        began: int = 0,
        speed: float = 1.0,
    ) -> None:
        self._seed, self._began, self._speed = seed, began, speed
        self._by_name: dict[str, list[Fault]] = {}
        for fault in faults:
            self._by_name.setdefault(fault.name, []).append(fault)

    @property
    def has_holes(self) -> bool:
        """True if the socket lacks bars."""
        return "hole" in self._by_name

    def is_hole(self, key: StreamKey, state: BarState) -> bool:
        """Return True if the venue never has this bar."""
        return self._due("hole", key, state) is not None

    def halted(self, now: int) -> set[str]:
        """Return the symbols that do not trade at `now`."""
        halts = self._by_name.get("halt", ())
        return {fault.text for fault in halts if self._is_within(fault, now)}

    def kept(
        self, key: StreamKey, states: Sequence[BarState], now: float
    ) -> list[BarState]:
        """Return those of these bars that REST has at `now`, with its values."""
        if not self._by_name:
            return list(states)
        held = (state for state in states if not self._lacks(key, state))
        return [self._corrected(key, state, now) for state in held]

    def _lacks(self, key: StreamKey, state: BarState) -> bool:
        if self.is_hole(key, state) or self._due("rest-lacks", key, state):
            return True
        halts = self._by_name.get("halt", ())
        return any(
            fault.text == key[0] and self._is_within(fault, state[0]) for fault in halts
        )

    def _corrected(self, key: StreamKey, state: BarState, now: float) -> BarState:
        end = state[1]
        fault = self._due("rest-corrects", key, state) if end <= now else None
        if fault is None or now < end + fault.argument * 1000 * self._speed:
            return state
        return with_larger_volume(with_other_close(state))

    def _due(self, name: str, key: StreamKey, state: BarState) -> Fault | None:
        for fault in self._by_name.get(name, ()):
            if not self._is_within(fault, state[1]):
                continue
            if fault.rate >= 1.0 or self._share(name, key, state[0]) < fault.rate:
                return fault
        return None

    def _is_within(self, fault: Fault, time: int) -> bool:
        if not fault.start and fault.end == math.inf and fault.name != "halt":
            return True
        return fault.start <= (time - self._began) / 1000 / self._speed < fault.end

    def _share(self, name: str, key: StreamKey, open_time: int) -> float:
        text = f"{self._seed} {name} {key[0]} {key[1]} {open_time}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest) / _RANGE
