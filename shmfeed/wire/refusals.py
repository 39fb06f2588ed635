"""Find the symbols that the venue refuses, and leave them out.

A venue that refuses a subscription at a connect often names the symbol. Then the rest
is requested again without it. Where the venue names none, the symbols are halved until
the refused ones are alone: about 2 log2(n) requests for each of them. A venue that
refuses everything has another reason, such as a bad token; the search ends soon in that
case, and also if the venue accepts the parts and refuses the whole, as one does that
carries only so many streams on a connection. No I/O.
"""

import math
from collections.abc import Iterable, Mapping

from shmfeed.bar import StreamKey
from shmfeed.codecs.refusals import named_symbols
from shmfeed.wire.events import Streams, StreamsRefused

MAX_REQUESTS = 128  # of one search
# Seconds after a search failed in which no other one halves the symbols, and in which
# symbols are not asked for after whose refusal the venue hung up.
PAUSE = 600.0


class RefusalSearch:
    """The requests of one connection until the venue accepts one.

    Attributes:
        asked: The streams of the present request.
        left_out: The streams that the venue refuses, with its words.
        refusal: The venue's words where its last answer was a refusal, else "".
    """

    def __init__(
        self,
        streams: Streams,
        known: Mapping[StreamKey, str] | None = None,
        *,
        may_halve: bool = True,
    ) -> None:
        """`known` are streams that the venue has refused, which are not requested."""
        self.left_out = dict(known or {})
        self.refusal = ""
        self.asked = tuple(key for key in streams if key not in self.left_out)
        self._may_halve = may_halve
        self._accepted: Streams = ()
        self._parts: list[Streams] = []  # to be requested, each alone; the last first
        self._is_halving = False
        self._requests = 1
        self._unnamed = 0
        self._most_unnamed = 3 + math.ceil(math.log2(max(2, len(streams))))

    def refuse(self, message: str, symbol: str = "") -> Streams | None:
        """Take a refusal. Return the streams to request next, or None to give up."""
        self.refusal = message
        if self._is_halving and self.asked == self._accepted:
            return None
        symbols = _symbols(self.asked)
        named = named_symbols(message, symbols, symbol)
        # A message that repeats the whole request names no symbol in particular.
        if named and (len(named) < len(symbols) or len(symbols) == 1):
            rest = self._leave_out(named, message)
            if rest:
                self._parts.append(rest)
        elif len(symbols) == 1 and self._is_halving:
            self._leave_out(symbols, message)
        elif len(symbols) == 1 or not self._halve(symbols):
            return None
        return self._next() if self._requests < MAX_REQUESTS else None

    def accept(self) -> Streams | None:
        """Take an acknowledgement. Return the streams to request next, or None."""
        self.refusal = ""
        if not self._is_halving:
            return None
        if not self._parts and self.asked == self._accepted:
            return None
        self._accepted += self.asked
        self._unnamed = 0
        return self._next()

    def refused(self) -> list[StreamsRefused]:
        """Return an event for each text of the venue, with the streams left out."""
        streams: dict[str, list[StreamKey]] = {}
        for key, message in self.left_out.items():
            streams.setdefault(message, []).append(key)
        return [StreamsRefused(tuple(keys), text) for text, keys in streams.items()]

    def _leave_out(self, symbols: Iterable[str], message: str) -> Streams:
        refused = set(symbols)
        for key in self.asked:
            if key[0] in refused:
                self.left_out[key] = message
        return tuple(key for key in self.asked if key[0] not in refused)

    def _halve(self, symbols: list[str]) -> bool:
        self._unnamed += 1
        if not self._may_halve or self._unnamed > self._most_unnamed:
            return False
        self._is_halving = True
        first = set(symbols[: len(symbols) // 2])
        self._parts.append(tuple(key for key in self.asked if key[0] not in first))
        self._parts.append(tuple(key for key in self.asked if key[0] in first))
        return True

    def _next(self) -> Streams | None:
        self._requests += 1
        if self._parts:
            self.asked = self._parts.pop()
        elif self._accepted and self._accepted != self.asked:
            self.asked = self._accepted  # a request may replace the one before
        else:
            return None
        return self.asked


class RefusalMemory:
    """The refusals that a chain of connections remembers."""

    def __init__(self) -> None:
        self._refused: dict[StreamKey, str] = {}  # not to be asked for yet
        self._refused_until = -math.inf
        self._no_halving_before = -math.inf

    def search(self, streams: Streams, now: float) -> RefusalSearch:
        """Return the search of a new connection for these streams."""
        known = self._refused if now < self._refused_until else {}
        may_halve = now >= self._no_halving_before
        return RefusalSearch(streams, known, may_halve=may_halve)

    def has_learnt(
        self, search: RefusalSearch | None, streams: Streams, now: float
    ) -> bool:
        """Return True if the venue hung up after it had named symbols that it refuses.

        The next connection does without them, and asks for them only after a while.
        """
        if search is None:
            return False
        before = len(self._refused) if now < self._refused_until else 0
        refused = search.left_out
        if len(refused) <= before or not set(streams) - refused.keys():
            return False
        self._refused, self._refused_until = dict(refused), now + PAUSE
        return True

    def failed(self, now: float) -> None:
        """Record that the venue refused everything that a search asked for."""
        self._no_halving_before = now + PAUSE


def _symbols(streams: Streams) -> list[str]:
    return list(dict.fromkeys(symbol for symbol, _ in streams))
