"""The numbers that a venue gives its messages: lost, repeated and late ones.

A number counts up by one with each message, over the connection or by stream. Which of
the two it is can be learnt: the two predict different numbers as soon as messages of
two streams alternate, and the messages vote for one of them. It is decided when three
messages of one stream have come and all votes agree, or one side leads by three; at 50
messages of one stream the majority decides. Whatever wins must have predicted most of
the numbers; if nothing has at 50 messages, nothing is checked. While only one stream
has spoken, the two predict the same, and its numbers are checked already.

Numbers begin again with each connection; how they count stays as learnt.
"""

from collections import Counter, OrderedDict
from typing import Literal, NamedTuple

from shmfeed.bar import StreamKey

Mode = Literal["auto", "connection", "stream", "off"]

# Verdicts about a number.
FRESH = 0  # newer than all before; messages before it may be lost
REPEATED = -1  # the number has come before
OLDER = -2  # the number was missing, and comes late

LEARN_AFTER = 3  # messages of one stream
LEARN_AT_MOST = 50
RESTART_AFTER = 50  # older numbers in a row, each one more: the venue counts again
_CLEAR_LEAD = 3  # votes
_MOST_HOLES = 256  # that are remembered of one count
_MOST_CONNECTIONS = 32
_MOST_STREAMS = 20_000  # a venue may name any
_MOST_MISSING = 1 << 32  # that one break counts: a larger one is a wrong number
_NONE = -1  # before the first number


class Break(NamedTuple):
    """Messages that were lost: `missing` of the stream `key`, None for all streams.

    `is_early` is True if they were lost before it was known how the numbers count.
    """

    key: StreamKey | None
    missing: int
    is_early: bool = False


class Count:
    """One count of numbers."""

    __slots__ = ("_first", "_holes", "_last_older", "_older", "expected")

    def __init__(self) -> None:
        self.expected = _NONE
        self._first = _NONE
        self._holes: list[tuple[int, int]] = []  # missing numbers, [first, end)
        self._last_older = _NONE
        self._older = 0  # in a row, each one more than the one before

    def take(self, number: int) -> int:
        """Return a verdict; a positive one is FRESH, and how many are missing."""
        expected = self.expected
        self.expected = number + 1
        if number == expected:
            self._older = 0
            return FRESH
        if expected == _NONE:
            self._first = number
            return FRESH
        if number > expected:
            self._older = 0
            self._holes.append((expected, number))
            del self._holes[:-_MOST_HOLES]
            return min(number - expected, _MOST_MISSING)
        self.expected = expected
        return self._take_older(number)

    def _take_older(self, number: int) -> int:
        self._older = self._older + 1 if number == self._last_older + 1 else 1
        self._last_older = number
        if self._older >= RESTART_AFTER:
            self.expected, self._first, self._older = number + 1, number, 0
            self._holes.clear()
            return FRESH
        if number < self._first:
            self._holes.append((number + 1, self._first))
            self._first = number
            return OLDER
        for place, (first, end) in enumerate(self._holes):
            if first <= number < end:
                parts = [(first, number), (number + 1, end)]
                self._holes[place : place + 1] = [
                    one for one in parts if one[0] < one[1]
                ]
                return OLDER
        return REPEATED


class _Counts:
    """The counts of one connection: one over all streams, and one for each."""

    def __init__(self) -> None:
        self.over_all = Count()
        self.of_streams: dict[StreamKey, Count] = {}

    def of(self, key: StreamKey) -> Count:
        count = self.of_streams.get(key)
        if count is None:
            count = self.of_streams[key] = Count()
        return count


class _ModeLearner:
    """The way in which numbers count, learnt from messages."""

    def __init__(self) -> None:
        self._votes = {"connection": 0, "stream": 0}
        self._seen: Counter[StreamKey] = Counter()
        self._compared = 0  # numbers for which there was a prediction
        self._forward = 0  # those of them that count on, not older ones
        self._fits: dict[str, int] = {"connection": 0, "stream": 0}  # predicted ones
        self._early: dict[str, list[Break]] = {"connection": [], "stream": []}

    @property
    def most_seen(self) -> int:
        return max(self._seen.values(), default=0)

    @property
    def is_alone(self) -> bool:
        """True while one stream has spoken, and its numbers mostly fit."""
        return len(self._seen) == 1 and self._is_likely("stream")

    def take(self, counts: _Counts, key: StreamKey, number: int) -> int:
        """Learn from a number. Return the verdict of the stream's own count."""
        count = counts.of(key)
        fits_all = number == counts.over_all.expected
        fits_stream = number == count.expected
        if count.expected != _NONE:
            self._compared += 1
            self._forward += number >= count.expected
            self._fits["connection"] += fits_all
            self._fits["stream"] += fits_stream
            if fits_all != fits_stream:
                self._votes["connection" if fits_all else "stream"] += 1
        if len(self._seen) == 1 and key not in self._seen:
            self._seen = Counter(dict.fromkeys(self._seen, 1))  # it begins only now
        self._seen[key] += 1
        missing = counts.over_all.take(number)
        if missing > 0:
            self._early["connection"].append(Break(None, missing, True))
        verdict = count.take(number)
        if verdict > 0:
            self._early["stream"].append(Break(key, verdict, True))
        return verdict

    def decide(self) -> Mode:
        """Return `auto` while it is not decided, `off` if the numbers fit nothing."""
        seen = self.most_seen
        if len(self._seen) > _MOST_STREAMS:
            return "off"
        if seen < LEARN_AFTER:
            return "auto"
        mine, others = self._votes["connection"], self._votes["stream"]
        lead = mine - others
        is_clear = (mine > 0) != (others > 0) or abs(lead) >= _CLEAR_LEAD
        winner: Mode = "connection" if lead > 0 else "stream"
        is_decided = lead and (is_clear or seen >= LEARN_AT_MOST)
        if is_decided and self._is_likely(winner, seen < LEARN_AT_MOST):
            return winner
        if seen < LEARN_AT_MOST or self.is_alone:
            return "auto"
        return "off"

    def _is_likely(self, mode: str, is_early: bool = False) -> bool:
        # A number after a loss fits neither, and a repeated message does not count up.
        # A number that stays the same over many updates numbers no messages.
        fits = self._fits[mode]
        least = 3 * self._forward if is_early else 2 * self._forward
        return 4 * fits >= least and 4 * fits >= self._compared

    def forget_breaks(self) -> None:
        """Drop the breaks so far: they are counted already."""
        for breaks in self._early.values():
            breaks.clear()

    def early_breaks(self, mode: Mode) -> list[Break]:
        return self._early.get(mode, [])


class SequenceCheck:
    """The check of a feed's numbers, over all its connections. Pure.

    Attributes:
        mode: The scope of the numbers; `auto` while it is being learnt, `off` if no
            number is checked.
        breaks: Breaks that the caller has not taken yet. The one that a message
            revealed comes before the message.
    """

    def __init__(self, mode: Mode = "auto") -> None:
        self.mode: Mode = mode
        self.breaks: list[Break] = []
        self._counts: OrderedDict[int, _Counts] = OrderedDict()
        self._carriers: dict[StreamKey, int] = {}  # by the last number
        self._learner = _ModeLearner()
        self._connection = -1  # of the last number
        self._current = _Counts()

    def take(self, connection: int, key: StreamKey, number: int) -> int:
        """Return the verdict about a message's number: FRESH, REPEATED or OLDER."""
        if self.mode == "off":
            return FRESH
        if connection != self._connection:
            self._enter(connection)
        if key in self._carriers or len(self._carriers) < _MOST_STREAMS:
            self._carriers[key] = connection
        counts = self._current
        if self.mode == "auto":
            return self._learn(counts, key, number)
        if self.mode == "connection":
            verdict = counts.over_all.take(number)
            if verdict > 0:
                self.breaks.append(Break(None, verdict))
        else:
            verdict = counts.of(key).take(number)
            if verdict > 0:
                self.breaks.append(Break(key, verdict))
        return min(verdict, FRESH)

    def may_carry(self, connection: int, key: StreamKey) -> bool:
        """Return True if the connection may carry the stream.

        It does not, if the stream's last number came over another one.
        """
        return self._carriers.get(key, connection) == connection

    def _enter(self, connection: int) -> None:
        self._connection = connection
        self._current = self._counts.setdefault(connection, _Counts())
        self._counts.move_to_end(connection)
        if len(self._counts) > _MOST_CONNECTIONS:
            self._counts.popitem(last=False)

    def _learn(self, counts: _Counts, key: StreamKey, number: int) -> int:
        learner = self._learner
        verdict = learner.take(counts, key, number)
        if learner.is_alone:
            if learner.most_seen < LEARN_AFTER:
                return FRESH
            self.breaks += learner.early_breaks("stream")
            learner.forget_breaks()
            if verdict > 0:
                self.breaks[-1] = Break(key, verdict)
            return min(verdict, FRESH)
        self.mode = learner.decide()
        if self.mode != "auto":
            self.breaks += learner.early_breaks(self.mode)
            self._learner = _ModeLearner()
        return FRESH
