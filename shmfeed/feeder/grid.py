"""The grid of one stream: where its bars open.

The grid of `3d` has a phase that the venue chooses for each stream. The stream's rows
tell it, else the first bar that opens at a midnight. A wrong time in that bar must not
fix the grid for ever. So until a row is written, three bars in a row on another phase
replace it. All other grids are known.
"""

from shmfeed.bar import FREE_PHASE, close_time, on_grid, phase_of

PHASE_AFTER = 3  # bars in a row that give a grid without rows another phase


class StreamGrid:
    """The grid of one stream; `newest` is the open_time of its newest bar, or None."""

    def __init__(self, timeframe: str, newest: int | None) -> None:
        self._timeframe = timeframe
        self._phase: int | None = None if timeframe == FREE_PHASE else 0
        if newest is not None:
            self.settle(newest)
        self._other = 0  # phase of the last bars that lie on another grid
        self._others = 0  # the length of that row

    @property
    def phase(self) -> int | None:
        """The grid's phase in ms, None while it is not known."""
        return self._phase

    def end_of(self, opened: int) -> int:
        """Return the end of a bar that opens at `opened`, 0 if it is off the grid."""
        if not on_grid(opened, self._timeframe, self._phase):
            return 0
        self._others = 0
        return close_time(opened, self._timeframe)

    def settle(self, opened: int) -> None:
        """Take the phase of this bar, unless the grid has one."""
        if self._phase is None:
            self._phase = phase_of(opened, self._timeframe)

    def move_to(self, opened: int, has_rows: bool) -> bool:
        """Count a bar off the grid. Return True if the grid has its phase now."""
        if self._timeframe != FREE_PHASE or not on_grid(opened, FREE_PHASE, None):
            return False
        other = phase_of(opened, FREE_PHASE)
        self._others = self._others + 1 if other == self._other else 1
        self._other = other
        if has_rows or self._others < PHASE_AFTER:
            return False
        self._phase, self._others = other, 0
        return True
