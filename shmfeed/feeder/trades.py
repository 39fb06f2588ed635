"""The numbers of a stream's trades, where they prove that a bar is whole.

Where the trades of a symbol count up by one, a bar whose last trade is followed by the
first trade of the next traded bar has its final values, though no message says so.
Bars without a trade in between do not matter.
"""

from collections.abc import Iterable

from shmfeed.codecs.interface import BarEvent

_NONE = -1


class TradeNumbers:
    """The trade numbers of one stream. Pure.

    Attributes:
        forming: The last trade of the forming bar that is known, -1 without one.
    """

    __slots__ = ("_closed", "_last", "_rows", "forming")

    def __init__(self) -> None:
        self.forming = _NONE
        self._closed = _NONE  # the last trade of all rows
        self._rows: list[int] = []  # open times of rows that wait for a proof
        self._last = _NONE  # the last trade of those

    def is_whole(self, open_time: int, newer: Iterable[BarEvent]) -> bool:
        """Return True if the forming bar is known to have its final values.

        `newer` are messages about newer bars, oldest bar first. If none of those has a
        trade, a later message may prove it.
        """
        last = self.forming if self.forming != _NONE else self._closed
        if last == _NONE:
            return False
        first = next((one.first_id for one in newer if one.first_id >= 0), _NONE)
        if first == _NONE:
            self._rows.append(open_time)
            self._last = last
            return False
        return first == last + 1

    def close(self) -> None:
        """Let the forming bar become a row."""
        self._closed = max(self._closed, self.forming)
        self.forming = _NONE

    def proven_rows(self, event: BarEvent) -> list[int]:
        """Return the open times of rows that this message proves to be whole."""
        rows = self._rows
        if not rows or event.first_id < 0 or event.open_time <= rows[-1]:
            return []
        self._rows = []
        return rows if event.first_id == self._last + 1 else []
