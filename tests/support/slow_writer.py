"""Words that a pure writer stores one after the other, so that a row takes long."""

from typing import Any

from shmfeed.ringbuf import RingWriter


class WordByWord:
    """In the place of a pure writer's words: `ring._ints = WordByWord(ring)`."""

    def __init__(self, ring: RingWriter) -> None:
        self._ints, self._slot = ring._ints, ring._slot

    def __getitem__(self, word: int) -> int:
        return self._ints[word]

    def __setitem__(self, place: int | slice, value: Any) -> None:
        if isinstance(place, slice):  # a row's words
            words, values = range(*place.indices(len(self._ints))), value.tolist()
        else:
            words, values = (place,), (value,)
        for word, one in zip(words, values, strict=True):
            self.pause(word)
            self.store(word, one)

    def pause(self, word: int) -> None:
        """Let other processes run before a store, or not."""

    def store(self, word: int, value: int) -> None:
        self._ints[word] = value
