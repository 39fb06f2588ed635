"""Faults of single streams and symbols, over all connections of the venue."""

import functools
from collections.abc import Callable, Iterable

from shmfeed.bar import TIMEFRAMES, StreamKey
from shmfeed.simulator.faults.injection import FaultSchedule
from shmfeed.simulator.faults.spec import ASKED, MOVED, Fault

_ANY = "*"
MUTING = ("mute-stream", "refuse-later", "halt")


class StreamFaults:
    """The streams that are mute, and the symbols that the venue refuses.

    Args:
        faults: The venue's own faults.
    """

    def __init__(self, faults: FaultSchedule) -> None:
        self._faults = faults
        self._muted_on: dict[tuple[Fault, StreamKey], int] = {}  # a connection's number
        self._healed: set[tuple[Fault, StreamKey]] = set()

    def muted_on(self, number: int) -> Callable[[StreamKey], bool] | None:
        """Return `is_mute` for one connection; None if no fault mutes a stream."""
        if self._faults.names.isdisjoint(MUTING):
            return None
        return functools.partial(self.is_mute, number)

    def is_mute(self, number: int, key: StreamKey) -> bool:
        """Return True if connection `number` gets nothing about this stream now."""
        faults = self._faults
        silent = faults.all_due("refuse-later") + faults.all_due("halt")
        if any(_is_of(fault, key) for fault in silent):
            return True
        for fault in self._faults.all_due("mute-stream"):
            if not _is_of(fault, key) or (fault, key) in self._healed:
                continue
            first = self._muted_on.setdefault((fault, key), number)
            if fault.choice != MOVED or first == number:
                return True
        return False

    def take_request(self, keys: Iterable[StreamKey]) -> None:
        """Let those of the mute streams speak that heal when they are asked for."""
        asked = set(keys)
        for fault, key in self._muted_on:
            if fault.choice == ASKED and key in asked:
                self._healed.add((fault, key))

    def refused(self, symbols: Iterable[str]) -> list[str]:
        """Return those of these symbols that the venue refuses now."""
        words = {fault.text for fault in self._faults.all_due("refuse-symbol")}
        return [symbol for symbol in symbols if symbol in words]

    def refused_later(self, keys: Iterable[StreamKey]) -> list[str]:
        """Return the symbols that an error follows after their acknowledgement."""
        faults = self._faults.all_due("refuse-later")
        symbols = [key[0] for key in keys if any(_is_of(one, key) for one in faults)]
        return list(dict.fromkeys(symbols))


def _is_of(fault: Fault, key: StreamKey) -> bool:
    symbol, _, timeframe = fault.text.rpartition("/")
    if timeframe not in TIMEFRAMES:
        return fault.text in (_ANY, key[0])
    return symbol in (_ANY, key[0]) and timeframe == key[1]
