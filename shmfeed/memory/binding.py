"""Bind a reader to the slot that it reads from, and set aside what it leaves.

A signal handler may raise in the middle of each step. A step that an exception ends is
taken back, unless the slices are set aside already, and the next verb tries again.
"""

from shmfeed.layout import SLOT_MASK, Geometry
from shmfeed.memory.keeping import KEEPING, Area, Tally, Validity
from shmfeed.memory.words import Words


class SlotBinding:
    """The slot that a reader reads from: `pair` is the catalog word and the area.

    The area is the segment's own memory until the first slice is made.
    """

    __slots__ = ("_geometry", "_words", "pair", "tally")

    def __init__(self, words: Words, geometry: Geometry, word: int) -> None:
        self._words = words
        self._geometry = geometry
        self.tally = Tally()
        # Set by one assignment: another thread sees the old pair or the new one.
        self.pair: tuple[int, Area] = word, self._segment_area(word)

    def move(self, word: int) -> tuple[int, Area]:
        """Use the slot that `word` names; set the old one's living slices aside."""
        with KEEPING:
            old = self.pair
            if old[0] != word:
                self._change(word, old)
            return self.pair

    def leave(self) -> None:
        """Set aside what lives: the stream has no rows that this reader may read."""
        with KEEPING:
            word, area = self.pair
            if area.living:
                self._change(word, (word, area))

    def slice_of(
        self, area: Area, word: int, first: int, last: int
    ) -> tuple[Area, Validity] | None:
        """Return the area and the validity of a new slice, None if the read must retry.

        Maps the slot by itself for its first slice. The slice joins the area once it
        exists, as its end takes it out again.
        """
        if not area.can_keep and self._words.mapped and not area.living:
            with KEEPING:
                if self.pair[1] is not area:
                    return None
                alone = area.map_alone()
                if alone is not None:
                    self.pair = word, alone
                    area = alone
        return area, Validity(area, word, first, last)

    def keep(self, area: Area, count: int) -> None:
        """Set slices aside if need be: the published `count` has reached `area.due`."""
        with KEEPING:
            word, current = self.pair
            if current is not area or area.update_due() > count:
                return
            segment_area = self._segment_area(word)
            try:
                self.pair = word, segment_area  # K1
                if not area.set_aside(segment_area):
                    area.reopen()
                    self.pair = word, area
            except BaseException:  # a signal handler's
                self._return_to(word, area)
                raise

    def _change(self, word: int, old: tuple[int, Area]) -> None:
        new = self._segment_area(word)
        try:
            self.pair = word, new
            self._leave_slot(*old)
        except BaseException:  # a signal handler's
            self._return_to(*old)
            raise

    def _return_to(self, word: int, area: Area) -> None:
        # The next verb tries again.
        if not area.moved:
            area.closed, area.due = False, 0
            self.pair = word, area

    def _segment_area(self, word: int) -> Area:
        geometry = self._geometry
        at = geometry.slot_word(word & SLOT_MASK)
        capacity, guard = geometry.capacity, geometry.guard
        return Area(self._words, at, capacity, guard, self.tally)

    def _leave_slot(self, word: int, area: Area) -> None:
        if area.living:
            try:
                area.update_due()
            finally:
                area.set_aside(self._segment_area(word))

    def __del__(self) -> None:
        if hasattr(self, "pair"):  # the constructor may have failed
            self._leave_slot(*self.pair)
