"""The readers' half of the protocol as a model, beside `model_writer`.

Each `read_..` function runs every read of its kind in every execution beside the
writer, and counts the reads that were accepted, those that were refused, and the
accepted ones that were wrong. A correct protocol has no wrong ones.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from model_writer import CAPACITY, HISTORY, CatalogWord, Writer, cell_words, row_word
from weak_memory import AtMost, Found, Loads, every_end


class View(NamedTuple):
    """The values that a reader finds in steps R1 and R2."""

    stream: str
    word: CatalogWord
    published: int
    base: int
    epoch: int  # the catalog word's, unless that rule is left out

    @property
    def slot(self) -> str:
        return self.word[1]

    @property
    def rows(self) -> range:
        return range(max(self.published - HISTORY, self.base), self.published)


def views(writer: Writer, stream: str) -> Iterator[View]:
    """Yield each combination that a reader may find."""
    values = writer.thread.values
    for word in values(stream):
        epoch, slot = word
        asked = "S4 epoch in the word" in writer.without
        epochs = values(f"{slot}.epoch") if asked else [epoch]
        found = product(values(f"{slot}.published"), values(f"{slot}.base"), epochs)
        yield from (View(stream, word, *each) for each in found)


class Reader(Loads):
    """A reader that leaves out the rules that its writer leaves out."""

    def __init__(self, writer: Writer) -> None:
        super().__init__(writer.in_order)
        self.without = writer.without

    def _acquire(self, rule: str) -> None:
        if rule not in self.without:
            self.acquire()

    def _fence(self, rule: str) -> None:
        if rule not in self.without:
            self.fence()

    def begin_view(self, view: View) -> None:
        """Find the window, steps R1 and R2."""
        self.load(view.stream, view.word)
        self._acquire("R1 acquire")
        if "S4 epoch in the word" in self.without:
            self.load(f"{view.slot}.epoch", view.epoch)
            self.acquire()
        self.load(f"{view.slot}.published", view.published)
        self._acquire("R2 acquire")
        self.load(f"{view.slot}.base", view.base)

    def end_view(self, view: View) -> None:
        """Check that the window held, steps R4 and R5."""
        self._fence("R4 fence")
        if "R5 intent" not in self.without:
            limit = AtMost(view.rows.start + CAPACITY)
            self.load(f"{view.slot}.intent", limit, refuses=True)
            self._acquire("R5 epoch after intent")
        if "R5 epoch" not in self.without:
            self.load(f"{view.slot}.epoch", view.epoch, refuses=True)

    def begin_latch(self, counter: int) -> None:
        """Load the counter, step F1."""
        self.load("counter", counter)
        self._acquire("F1 acquire")

    def end_latch(self, counter: int) -> None:
        """Load the counter again, steps F3 and F4."""
        self._fence("F3 fence")
        if "F4 reload" not in self.without:
            self.load("counter", counter, refuses=True)


def read_rows(writer: Writer, stream: str) -> Found:
    """Read each row of a view, step R3 between R2 and R4."""
    found = Found()
    for view in views(writer, stream):
        for number in view.rows:
            reader = Reader(writer)
            reader.begin_view(view)
            reader.load(row_word(view.slot, number))
            reader.end_view(view)
            right = {(row,) for row in writer.whole((view.word, number))}
            found = found.plus(every_end(writer.thread, reader), right)
    return found


def read_latch(writer: Writer) -> Found:
    """Read the forming bar, step F2 between F1 and F3."""
    found = Found()
    for counter in filter(None, writer.thread.values("counter")):
        reader = Reader(writer)
        reader.begin_latch(counter)
        for word in cell_words(counter):
            reader.load(word)
        reader.end_latch(counter)
        right = {(bar, bar) for bar in writer.whole(counter)}
        found = found.plus(every_end(writer.thread, reader), right)
    return found


def read_together(writer: Writer) -> Found:
    """Read X's forming bar and then its rows.

    A read is wrong if a bar is missing between the two or is found in both. The other
    functions check that each is whole.
    """
    found = Found()
    counters = list(filter(None, writer.thread.values("counter")))
    for counter, view in product(counters, list(views(writer, "X"))):
        reader = Reader(writer)
        if "forming first" in writer.without:
            reader.begin_view(view)
            reader.end_view(view)
        reader.begin_latch(counter)
        reader.end_latch(counter)
        if "forming first" not in writer.without:
            reader.begin_view(view)
            reader.end_view(view)
        right = _without_hole(writer, counter, view)
        found = found.plus(every_end(writer.thread, reader), right)
    return found


def _without_hole(writer: Writer, counter: int, view: View) -> set[tuple[()]]:
    (forming,) = writer.whole(counter)
    # A forming bar that is not newer than the last closed row does not exist.
    old = (
        forming.number < view.published
        and "an old forming bar is dropped" not in writer.without
    )
    return {()} if old or forming.number == view.published else set()


def read_counts(writer: Writer, stream: str) -> Found:
    """Read a count: the catalog word, published, and last the slot's epoch."""
    found = Found()
    for word in writer.thread.values(stream):
        epoch, slot = word
        reader = Reader(writer)
        reader.load(stream, word)
        reader.acquire()
        reader.load(f"{slot}.published")
        reader.acquire()
        if "R5 epoch" not in writer.without:
            reader.load(f"{slot}.epoch", epoch, refuses=True)
        counted = {(number + 1,) for number in writer.numbers(word)}
        found = found.plus(every_end(writer.thread, reader), counted)
    return found


class _Sound(NamedTuple):
    """The values that a check of a sound slot may find while its writer writes."""

    epoch: int
    ahead: int  # rows by which intent may be ahead of published

    def __contains__(self, found: object) -> bool:
        published, intent, last, base, epoch = found
        ordered = base <= published <= intent <= last + self.ahead
        return ordered and epoch == self.epoch


def read_verdicts(writer: Writer, stream: str, ahead: int) -> Found:
    """Check a slot for damage: the catalog word, the slot's words, and the word again.

    The check counts only if the catalog word is the same. A wrong one is a false alarm.
    """
    found = Found()
    for word in writer.thread.values(stream):
        epoch, slot = word
        reader = Reader(writer)
        reader.load(stream, word)
        for name in ("published", "intent", "published", "base", "epoch"):
            reader.acquire()
            reader.load(f"{slot}.{name}")
        reader.acquire()
        reader.load(stream, word, refuses=True)
        sound = _Sound(epoch, ahead)
        found = found.plus(every_end(writer.thread, reader), sound)
    return found
