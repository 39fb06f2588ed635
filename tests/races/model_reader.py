"""What readers do, step by step, and all that they may find beside a writer.

Each `read_..` asks for every read of its kind in every execution, and says how many
were accepted, how many refused, and how many of the accepted wrong.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from model_writer import CAPACITY, HISTORY, CatalogWord, Writer, cell_words, row_word
from weak_memory import AtMost, Found, Loads, every_end


class View(NamedTuple):
    """What a reader finds when it begins."""

    stream: str
    word: CatalogWord
    published: int
    base: int
    epoch: int  # the word's, but for a reader that asks the slot for it

    @property
    def slot(self) -> str:
        return self.word[1]

    @property
    def rows(self) -> range:
        return range(max(self.published - HISTORY, self.base), self.published)


def views(writer: Writer, stream: str) -> Iterator[View]:
    """All that a reader may find."""
    values = writer.thread.values
    for word in values(stream):
        epoch, slot = word
        asked = "epoch in the catalog word" in writer.without
        epochs = values(f"{slot}.epoch") if asked else [epoch]
        found = product(values(f"{slot}.published"), values(f"{slot}.base"), epochs)
        yield from (View(stream, word, *each) for each in found)


class Reader(Loads):
    """Keeps the rules that its writer keeps."""

    def __init__(self, writer: Writer) -> None:
        super().__init__(writer.kept)
        self.without = writer.without

    def _acquire(self, rule: str) -> None:
        if rule not in self.without:
            self.acquire()

    def _fence(self, rule: str) -> None:
        if rule not in self.without:
            self.fence()

    def begin_view(self, view: View) -> None:
        """(1) Acquire-load the catalog word, then published; the slot's base."""
        self.load(view.stream, view.word)
        self._acquire("acquire of the catalog word")
        if "epoch in the catalog word" in self.without:
            self.load(f"{view.slot}.epoch", view.epoch)
            self.acquire()
        self.load(f"{view.slot}.published", view.published)
        self._acquire("acquire of published")
        self.load(f"{view.slot}.base", view.base)

    def end_view(self, view: View) -> None:
        """(3) Fence; load intent and, last, the slot's epoch."""
        self._fence("fence before intent")
        if "intent is looked at" not in self.without:
            limit = AtMost(view.rows.start + CAPACITY)
            self.load(f"{view.slot}.intent", limit, refuses=True)
            self._acquire("epoch after intent")
        if "epoch is looked at" not in self.without:
            self.load(f"{view.slot}.epoch", view.epoch, refuses=True)

    def begin_cell(self, counter: int) -> None:
        """(1) Acquire-load the counter."""
        self.load("counter", counter)
        self._acquire("acquire of the counter")

    def end_cell(self, counter: int) -> None:
        """(3) Fence; (4) load the counter, equal or again."""
        self._fence("fence before the second look")
        if "second look" not in self.without:
            self.load("counter", counter, refuses=True)


def read_rows(writer: Writer, stream: str) -> Found:
    """One row of a view: (2) it is used between the view's beginning and its end."""
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


def read_cells(writer: Writer) -> Found:
    """The forming bar: (2) its cell is copied between the two looks."""
    found = Found()
    for counter in filter(None, writer.thread.values("counter")):
        reader = Reader(writer)
        reader.begin_cell(counter)
        for word in cell_words(counter):
            reader.load(word)
        reader.end_cell(counter)
        right = {(bar, bar) for bar in writer.whole(counter)}
        found = found.plus(every_end(writer.thread, reader), right)
    return found


def read_together(writer: Writer) -> Found:
    """X's forming bar and then its rows: no bar is missing between them, none is there
    twice. That each is whole by itself is for the others to say."""
    found = Found()
    counters = list(filter(None, writer.thread.values("counter")))
    for counter, view in product(counters, list(views(writer, "X"))):
        reader = Reader(writer)
        if "forming first" in writer.without:
            reader.begin_view(view)
            reader.end_view(view)
        reader.begin_cell(counter)
        reader.end_cell(counter)
        if "forming first" not in writer.without:
            reader.begin_view(view)
            reader.end_view(view)
        right = _without_hole(writer, counter, view)
        found = found.plus(every_end(writer.thread, reader), right)
    return found


def _without_hole(writer: Writer, counter: int, view: View) -> set[tuple[()]]:
    (forming,) = writer.whole(counter)
    # The reader's rule: one that is not newer than the last closed row does not exist.
    old = forming.number < view.published and "the newer counts" not in writer.without
    return {()} if old or forming.number == view.published else set()


def read_counts(writer: Writer, stream: str) -> Found:
    """A count: acquire-load the catalog word, then published; last the slot's epoch."""
    found = Found()
    for word in writer.thread.values(stream):
        epoch, slot = word
        reader = Reader(writer)
        reader.load(stream, word)
        reader.acquire()
        reader.load(f"{slot}.published")
        reader.acquire()
        if "epoch is looked at" not in writer.without:
            reader.load(f"{slot}.epoch", epoch, refuses=True)
        counted = {(number + 1,) for number in writer.numbers(word)}
        found = found.plus(every_end(writer.thread, reader), counted)
    return found


class _Sound(NamedTuple):
    """What a look at a sound slot may find while its writer writes."""

    epoch: int
    ahead: int  # how many rows intent may be ahead of published

    def __contains__(self, found: object) -> bool:
        published, intent, last, base, epoch = found
        ordered = base <= published <= intent <= last + self.ahead
        return ordered and epoch == self.epoch


def read_verdicts(writer: Writer, stream: str, ahead: int) -> Found:
    """A look for damage: the catalog word, what is in its slot, and the word again,
    which must still be the same. A wrong one is a false alarm."""
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
