"""The catalog entry of a stream, as a reader is bound to it.

The entry outlives every slot that holds the stream's rows, and may be given to another
stream. A reader remembers the entry's epoch, and compares it after each load from the
entry, steps B1 to B3 of `memory.catalog`. A catalog word that has changed is compared
with the epoch before the reader follows it.
"""

from shmfeed.bar import Bar
from shmfeed.layout import (
    E_EPOCH,
    E_FORMING,
    E_UPDATED,
    FORMING_WORDS,
    NO_BAR,
    Geometry,
)
from shmfeed.memory.integrity import (
    check_entry,
    checked_word,
    not_carried,
    retry_budget,
)
from shmfeed.memory.liveness import is_current, live_age
from shmfeed.memory.rows import ROW
from shmfeed.memory.words import Latch, RetryBudget, Words, boot_ns, fence


class BoundEntry:
    """The entry of one stream in one segment, as of one epoch of the entry.

    Args:
        words: The segment. A read-only buffer will do.
        geometry: The segment's sizes.
        index: The stream's entry number.

    Attributes:
        entry: The word at which the entry begins.
        entry_epoch: The entry's epoch when it was bound.

    Raises:
        BadArgumentError: The buffer is too small, or there is no such entry.

    The methods raise StreamNotFoundError once the entry was given to another stream.
    """

    __slots__ = ("_forming", "entry", "entry_epoch", "geometry", "index", "words")

    def __init__(self, words: Words, geometry: Geometry, index: int) -> None:
        self.words = words
        self.geometry = geometry
        self.index = index
        self.entry = check_entry(words, geometry, index)
        self.entry_epoch = words.ints[self.entry + E_EPOCH]
        fence()  # acquire: the entry is read after its epoch
        self._forming = Latch(words, self.entry + E_FORMING, FORMING_WORDS)

    def checked_word(self) -> int:
        """Return the catalog word, step R1.

        Raises SegmentFormatError if it, or the slot that it names, is damaged.
        """
        return checked_word(self.words, self.geometry, self.entry, self.entry_epoch)

    def retry_budget(self, what: str) -> RetryBudget:
        """Return the budget of a read. Once spent, it checks the catalog first."""
        return retry_budget(
            what, self.words, self.geometry, self.entry, self.entry_epoch
        )

    @property
    def is_current(self) -> bool:
        """True if the segment is surely still its feed's, without a system call."""
        return is_current(self.words.ints, boot_ns())

    @property
    def is_carried(self) -> bool:
        """True while the entry is the stream's: it was not given to another one."""
        epoch: int = self.words.ints[self.entry + E_EPOCH]
        return epoch == self.entry_epoch

    def check_carried(self) -> None:
        """Raise StreamNotFoundError if the entry was given to another stream.

        Call it after loading values from the entry.
        """
        fence()  # B2, acquire: pairs with E2, in `Catalog`
        if not self.is_carried:  # B3
            raise not_carried(self.words)

    def live_age(self, most: int, /) -> float | None:
        """Return the seconds since the stream's last update if all is well.

        All is well if the last update is at most `most` ns old and came after the
        stream's connection did, the feeder lives and works, the stream is subscribed,
        none of its bars is held back, and no reason speaks against it. Otherwise return
        None: `shmfeed.health` then finds the reason.
        """
        age = live_age(self.words.ints, self.entry, most, boot_ns())
        # The epoch is loaded last: the values are those of this stream.
        return age if self.is_carried else None

    @property
    def updated(self) -> int:
        """CLOCK_BOOTTIME ns of the stream's last bar or update, 0 before the first."""
        updated: int = self.words.ints[self.entry + E_UPDATED]
        self.check_carried()
        return updated

    def forming_cell(self) -> Bar | None:
        """Return the bar in the latch, which may have closed already, or None."""
        cell = self._forming.read()
        self.check_carried()
        bar = None if cell is None else Bar._make(ROW.unpack(cell))
        return None if bar is None or bar.open_time == NO_BAR else bar
