"""What a feeder does to memory, step by step: append, swap, forming update, adoption.

With `model_reader` it is the specification of `shmfeed.memory`, for the small machine
of `weak_memory`. Both can be told to leave out a rule by its name: the model then has
to find what goes wrong.

Two streams, X and Y, in three slots, A, B and C: what is swapped goes to the one that
is free, so that a slot changes hands as soon as it can. One word stands for a row:
its fields, and their second copies, are stored between the same fences, and a reader
that may find one of them wrong may find this one wrong.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import product
from typing import NamedTuple

from weak_memory import Memory, Stores, Value

HISTORY, CAPACITY = 2, 3  # two rows may be read while the writer is at the next
STREAMS, SLOTS = "XY", "ABC"
COUNTERS = "epoch", "intent", "published", "base"

CatalogWord = tuple[int, str]  # slot epoch, slot
ConnectPolicy = Collection[str]  # those that are left out
NONE: ConnectPolicy = ()


class Row(NamedTuple):
    """A value that nobody writes twice; a forming bar too."""

    stream: str
    number: int
    written: str


class Truth(NamedTuple):
    """What can be read since a step: under a catalog word and a row's number, or under
    a cell counter."""

    step: int
    key: object
    value: Row


def segment(x: int = 5, y: int = 2, counter: int = 2) -> Memory:
    """X has rows up to `x` in slot A, Y rows up to `y` in B; C is free."""
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
    """The one writer: what it has stored so far, and what has become readable.

    `kept`: on x86-64, where stores keep their order and loads theirs.
    """

    def __init__(
        self,
        memory: Memory,
        without: ConnectPolicy = NONE,
        kept: bool = False,
        name: str = "first",
        truths: Iterable[Truth] | None = None,
    ) -> None:
        self.without = without
        self.kept = kept
        self.name = name
        self.thread = Stores(memory, kept)
        self.now = dict(memory)  # as its own loads find it
        self.truths = list(_true_at_first(memory) if truths is None else truths)
        self._anew = 0

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
        """Row n: (1) intent; (2) fence; (3) the row; (4) release-store published."""
        word = self.now[stream]
        slot = word[1]
        number = self.now[f"{slot}.published"]
        row = Row(stream, number, self.name)
        if "intent" not in self.without:
            self._store(f"{slot}.intent", number + 1)
        self._fence("fence after intent")
        self._store(row_word(slot, number), row)
        self._release(f"{slot}.published", number + 1, "release of published")
        self._is_true((word, number), row)

    def swap(self, stream: str, kept: int = HISTORY, inserted: int = 0) -> None:
        """New rows in the free slot: (1) release-store its epoch; (2) fence; (3) the
        rows and the slot's words; (4) release-store the catalog word.

        It keeps the newest `kept` rows, counting those `inserted`.
        """
        old, slot, epoch = self.now[stream][1], self._free_slot(), self._epoch()
        count = self.now[f"{old}.published"] + inserted
        if "the count does not fall" in self.without:
            count = max(1, count - 1)
        rows = [
            Row(stream, number, f"{self.name}, epoch {epoch}")
            for number in range(max(0, count - kept), count)
        ]
        self._release(f"{slot}.epoch", epoch, "release of the epoch")
        self._fence("fence after the epoch")
        for row in rows:
            self._store(row_word(slot, row.number), row)
        if "base of the new rows" not in self.without:
            self._store(f"{slot}.base", rows[0].number)
        if "intent of the new rows" not in self.without:
            self._store(f"{slot}.intent", count)
        self._store(f"{slot}.published", count)
        self._release(stream, (epoch, slot), "release of the catalog word")
        for row in rows:
            self._is_true(((epoch, slot), row.number), row)

    def _free_slot(self) -> str:
        """The slot that no entry names."""
        if self._breaks("a named slot is in use"):
            return self.now["X"][1]
        used = {self.now[stream][1] for stream in STREAMS}
        return next(slot for slot in SLOTS if slot not in used)

    def _epoch(self) -> int:
        """Above all epochs that slots have had."""
        if self._breaks("epochs go on"):
            self._anew += 1
            return self._anew
        return 1 + max(self.now[f"{slot}.epoch"] for slot in SLOTS)

    def _breaks(self, rule: str) -> bool:
        """Whether it is a successor that breaks a rule of adoption."""
        return rule in self.without and self.name != "first"

    def update(self) -> None:
        """The forming bar that follows X's rows: (1) fence; (2) fill the cell that
        nobody reads; (3) release-store the counter."""
        counter = self.now["counter"] + 1
        number = self.now[f"{self.now['X'][1]}.published"]
        bar = Row("X", number, f"{self.name}, {len(self.thread)}")
        if "the other cell" in self.without:
            counter += 1
        self._fence("fence before filling")
        for word in cell_words(counter):
            self._store(word, bar)
        self._release("counter", counter, "release of the counter")
        self._is_true(counter, bar)

    def killed(self, done: Collection[int], name: str = "nobody") -> "Writer":
        """Who comes upon what it left, if it was killed when these steps were done."""
        truths = [
            truth._replace(step=-1)
            for truth in self.truths
            if truth.step < 0 or truth.step in done
        ]
        found = Writer(self.thread.memory, self.without, self.kept, name, truths)
        found.thread = self.thread.killed(done)
        found.now = found.thread.left()
        return found

    def at_rest(self) -> "Writer":
        """The same, when all is in memory that was stored and nobody writes."""
        return Writer(self.now, self.without, self.kept, self.name, self.truths)

    def succeeded(self, done: Collection[int], name: str) -> "Writer":
        """Its successor, which goes on with what it finds and resets nothing."""
        successor = self.killed(done, name)
        for stream in STREAMS:
            slot = successor.now[stream][1]
            intent, published = f"{slot}.intent", f"{slot}.published"
            if "intent stays" in self.without:
                successor._store(intent, successor.now[published])
            if "published stays" in self.without:
                successor._store(published, successor.now[intent])
        if "the cell counter stays" in self.without:
            successor._store("counter", 0)
        successor.thread.fence()
        return successor

    def whole(self, key: object) -> set[Value]:
        """What may be read under a key."""
        return {truth.value for truth in self.truths if truth.key == key}

    def numbers(self, word: CatalogWord) -> set[int]:
        """The rows that became readable under a catalog word."""
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
