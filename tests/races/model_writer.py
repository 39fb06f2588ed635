"""The writer's half of the protocol as a model: append, forming update, swap, adoption.

With `model_reader` this is the specification of `shmfeed.ringbuf`; the steps have the
numbers of that module's docstring. The model runs on the small machine of
`weak_memory`, which reorders whatever the protocol does not order. A test leaves out
one rule by its name, such as "A2 fence", and the model must then find a wrong read: a
rule without which nothing goes wrong would not be needed.

There are two streams, X and Y, and three slots, A, B and C. A swap takes the slot that
is free, so slots change hands as soon as they can. One word stands for a whole row: the
columns and their second copies are stored between the same two orderings, so a reader
that can find one of them wrong can find this word wrong.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import product
from typing import NamedTuple

from weak_memory import Memory, Stores, Value

HISTORY, CAPACITY = 2, 3  # a view has two rows, and one row of guard
STREAMS, SLOTS = "XY", "ABC"
COUNTERS = "epoch", "intent", "published", "base"

CatalogWord = tuple[int, str]  # slot epoch, slot
LeftOut = Collection[str]  # names of rules
NONE: LeftOut = ()


class Row(NamedTuple):
    """The value of a closed row or a forming bar; each is written once."""

    stream: str
    number: int
    written: str


class Truth(NamedTuple):
    """A value that readers may accept once this step is done.

    The key is a catalog word and a row number, or the latch's counter.
    """

    step: int
    key: object
    value: Row


def segment(x: int = 5, y: int = 2, counter: int = 2) -> Memory:
    """Return the first memory: X has `x` rows in slot A, Y has `y` in B, C is free."""
    memory: Memory = {"X": (1, "A"), "Y": (2, "B"), "counter": counter}
    memory |= {f"{slot}.{word}": 0 for slot, word in product(SLOTS, COUNTERS)}
    for stream, slot, epoch, rows in [("X", "A", 1, x), ("Y", "B", 2, y)]:
        memory |= {f"{slot}.epoch": epoch}
        memory |= dict.fromkeys([f"{slot}.intent", f"{slot}.published"], rows)
        for number in range(max(0, rows - CAPACITY), rows):
            memory[row_word(slot, number)] = Row(stream, number, "before")
    for older in (1, 0):
        bar = Row("X", x, f"before, {counter - older}")
        memory |= dict.fromkeys(cell_words(counter - older), bar)
    return memory


def row_word(slot: str, number: int) -> str:
    return f"{slot}.row{number % CAPACITY}"


def cell_words(counter: int) -> tuple[str, str]:
    return f"cell{counter % 2}a", f"cell{counter % 2}b"


class Writer:
    """The one writer: its stores so far, and the values that readers may accept.

    `without` names the rules that it and its readers leave out. `in_order` is True for
    x86-64, which keeps stores in order and loads in order.
    """

    def __init__(
        self,
        memory: Memory,
        without: LeftOut = NONE,
        in_order: bool = False,
        name: str = "first",
        truths: Iterable[Truth] | None = None,
    ) -> None:
        self.without = without
        self.in_order = in_order
        self.name = name
        self.thread = Stores(memory, in_order)
        self.now = dict(memory)  # memory as the writer's own loads find it
        self.truths = list(_true_at_first(memory) if truths is None else truths)
        self._epochs = 0

    def _store(self, word: str, value: Value) -> None:
        self.thread.store(word, value)
        self.now[word] = value

    def _release(self, word: str, value: Value, rule: str) -> None:
        if rule not in self.without:
            self.thread.release(word, value)
        else:
            self.thread.store(word, value)
        self.now[word] = value

    def _fence(self, rule: str) -> None:
        if rule not in self.without:
            self.thread.fence()

    def _is_true(self, key: object, value: Row) -> None:
        self.truths.append(Truth(len(self.thread) - 1, key, value))

    def append(self, stream: str) -> None:
        """Append row n, steps A1 to A4."""
        word = self.now[stream]
        slot = word[1]
        number = self.now[f"{slot}.published"]
        row = Row(stream, number, self.name)
        if "A1 intent" not in self.without:
            self._store(f"{slot}.intent", number + 1)
        self._fence("A2 fence")
        self._store(row_word(slot, number), row)
        self._release(f"{slot}.published", number + 1, "A4 release")
        self._is_true((word, number), row)

    def swap(self, stream: str, kept: int = HISTORY, inserted: int = 0) -> None:
        """Give a stream new rows in the free slot, steps S1 to S4.

        The new rows are the newest `kept` of the old and the `inserted` ones.
        """
        old, slot, epoch = self.now[stream][1], self._free_slot(), self._epoch()
        count = self.now[f"{old}.published"] + inserted
        if "S3 count does not fall" in self.without:
            count = max(1, count - 1)
        rows = [
            Row(stream, number, f"{self.name}, epoch {epoch}")
            for number in range(max(0, count - kept), count)
        ]
        self._release(f"{slot}.epoch", epoch, "S1 release")
        self._fence("S2 fence")
        for row in rows:
            self._store(row_word(slot, row.number), row)
        if "S3 base" not in self.without:
            self._store(f"{slot}.base", rows[0].number)
        if "S3 intent" not in self.without:
            self._store(f"{slot}.intent", count)
        self._store(f"{slot}.published", count)
        self._release(stream, (epoch, slot), "S4 release")
        for row in rows:
            self._is_true(((epoch, slot), row.number), row)

    def _free_slot(self) -> str:
        if self._breaks("named slots are in use"):
            return self.now["X"][1]
        used = {self.now[stream][1] for stream in STREAMS}
        return next(slot for slot in SLOTS if slot not in used)

    def _epoch(self) -> int:
        # Above all epochs that slots ever had.
        if self._breaks("epochs grow"):
            self._epochs += 1
            return self._epochs
        return 1 + max(self.now[f"{slot}.epoch"] for slot in SLOTS)

    def _breaks(self, rule: str) -> bool:
        # Rules of adoption are broken by successors alone.
        return rule in self.without and self.name != "first"

    def update(self) -> None:
        """Replace the forming bar that follows X's rows, steps U1 to U3."""
        counter = self.now["counter"] + 1
        number = self.now[f"{self.now['X'][1]}.published"]
        bar = Row("X", number, f"{self.name}, {len(self.thread)}")
        if "U2 other cell" in self.without:
            counter += 1
        self._fence("U1 fence")
        for word in cell_words(counter):
            self._store(word, bar)
        self._release("counter", counter, "U3 release")
        self._is_true(counter, bar)

    def killed(self, done: Collection[int], name: str = "no one") -> "Writer":
        """Return what is left of the writer if it was killed with these steps done."""
        truths = [
            truth._replace(step=-1)
            for truth in self.truths
            if truth.step < 0 or truth.step in done
        ]
        found = Writer(self.thread.memory, self.without, self.in_order, name, truths)
        found.thread = self.thread.killed(done)
        found.now = found.thread.left()
        return found

    def at_rest(self) -> "Writer":
        """Return the writer with all its stores in memory, at rest."""
        return Writer(self.now, self.without, self.in_order, self.name, self.truths)

    def succeeded(self, done: Collection[int], name: str) -> "Writer":
        """Return the successor that adopts what was left: it resets no count."""
        successor = self.killed(done, name)
        for stream in STREAMS:
            slot = successor.now[stream][1]
            intent, published = f"{slot}.intent", f"{slot}.published"
            if "intent is kept" in self.without:
                successor._store(intent, successor.now[published])
            if "published is kept" in self.without:
                successor._store(published, successor.now[intent])
        if "counter is kept" in self.without:
            successor._store("counter", 0)
        successor.thread.fence()
        return successor

    def whole(self, key: object) -> set[Value]:
        """Return the values that readers may accept under a key."""
        return {truth.value for truth in self.truths if truth.key == key}

    def numbers(self, word: CatalogWord) -> set[int]:
        """Return the numbers of the rows published under a catalog word."""
        rows = [truth.key for truth in self.truths if isinstance(truth.key, tuple)]
        return {number for where, number in rows if where == word}


def _true_at_first(memory: Memory) -> Iterator[Truth]:
    for epoch, slot in (memory[stream] for stream in STREAMS):
        base, published = memory[f"{slot}.base"], memory[f"{slot}.published"]
        for number in range(max(base, published - CAPACITY), published):
            row = memory[row_word(slot, number)]
            yield Truth(-1, ((epoch, slot), number), row)
    counter = memory["counter"]
    yield Truth(-1, counter, memory[cell_words(counter)[0]])
