"""Ask the venue which symbols it knows and which of them trade, on a thread of its own.

It is asked at a connect, when streams change, and each hour. The main loop takes the
answers as changes: a symbol that the venue does not know, one that does not trade, one
that trades again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection
from typing import NamedTuple

from shmfeed.feeder.defects import retry_delay
from shmfeed.history.interface import HistoryError, HistorySource, SymbolState

log = logging.getLogger(__name__)

HOUR = 3600.0
LEAST_SECONDS = 60.0  # between two answers, though connections come and go
_Answer = dict[str, SymbolState] | HistoryError | None


class SymbolChanged(NamedTuple):
    """A symbol's state at the venue, where it is not what it was before.

    Before the first answer a symbol counts as known and trading.
    """

    symbol: str
    state: SymbolState


class SymbolCheck:
    """The states of a feed's symbols at its venue. Only the main loop uses it.

    `wake` is called on another thread when an answer has come.

    Attributes:
        is_asking: True while an answer is on its way.
    """

    def __init__(self, source: HistorySource, wake: Callable[[], None]) -> None:
        self._source = source
        self._wake = wake
        self._symbols: frozenset[str] = frozenset()
        self._states: dict[str, SymbolState] = {}
        self._candidates: set[str] = set()  # asked for once, before they are wanted
        self._found: dict[str, SymbolState] = {}  # of candidates
        self._answers: deque[tuple[frozenset[str], _Answer]] = deque()
        self.is_asking = False
        self._is_told = True  # the source tells states
        self._next_at = 0.0
        self._answered_at = -HOUR
        self._failures = 0

    def set_symbols(self, symbols: Collection[str]) -> None:
        """Check these symbols from now on, new ones at once."""
        wanted = frozenset(symbols)
        if wanted - self._symbols:
            self._next_at = 0.0
        self._symbols = wanted
        for symbol in self._states.keys() - wanted:
            del self._states[symbol]

    def ask_for(self, symbols: Collection[str]) -> None:
        """Ask once for symbols that may be wanted; `found` has their states then."""
        self._candidates.update(symbols)
        for symbol in symbols:
            self._found.pop(symbol, None)
        self._next_at = 0.0

    def found(self, symbol: str) -> SymbolState | None:
        """Return the state of a symbol that was asked for once, None if none came."""
        return self._found.get(symbol)

    @property
    def is_told(self) -> bool:
        """False if the source tells no states."""
        return self._is_told

    @property
    def known(self) -> frozenset[str]:
        """The symbols that are checked."""
        return self._symbols

    def connected(self, now: float) -> None:
        """Ask again, as a connection has come."""
        self._next_at = min(self._next_at, max(now, self._answered_at + LEAST_SECONDS))

    def tick(self, now: float) -> list[SymbolChanged]:
        """Return the changes since the last call, and ask if it is time to."""
        changes: list[SymbolChanged] = []
        while self._answers:
            changes += self._take(*self._answers.popleft(), now)
        if now >= self._next_at and not self.is_asking:
            self._ask(now)
        return changes

    def _ask(self, now: float) -> None:
        wanted = self._symbols | self._candidates
        if not wanted:
            return
        self.is_asking = True
        thread = threading.Thread(
            target=self._run, args=[wanted], name="shmfeed-symbols", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the limit of threads is reached
            self._wait(now, 0.0)

    def _wait(self, now: float, asked: float) -> None:
        """Ask again later, after `asked` seconds at the earliest."""
        self.is_asking = False
        self._failures += 1
        self._next_at = now + max(asked, retry_delay(self._failures))

    def _run(self, symbols: frozenset[str]) -> None:
        answer: _Answer
        try:
            answer = self._source.symbols(symbols)
        except HistoryError as error:
            answer = error
        except Exception as error:
            log.exception("%s failed", self._source.name)
            answer = HistoryError(f"failed: {error!r}", "away")
        self._answers.append((symbols, answer))
        self._wake()

    def _take(
        self, symbols: frozenset[str], answer: _Answer, now: float
    ) -> list[SymbolChanged]:
        if isinstance(answer, HistoryError):
            self._wait(now, answer.retry_after)
            return []
        self.is_asking = False
        self._failures, self._answered_at = 0, now
        self._is_told = answer is not None
        if answer is None:  # it lists none now, as in a maintenance
            self._candidates -= symbols
            self._next_at = now + HOUR
            return []
        # Symbols that were added meanwhile are asked for at once.
        self._found.update(
            {one: answer[one] for one in self._candidates & answer.keys()}
        )
        self._candidates -= symbols
        lacking = (self._symbols | self._candidates) - symbols
        self._next_at = 0.0 if lacking else now + HOUR
        changes = []
        for symbol in sorted(self._symbols & answer.keys()):
            state, before = answer[symbol], self._states.get(symbol)
            was_good = before is None or (before.is_known and before.trades)
            if state != before and not (was_good and state.is_known and state.trades):
                changes.append(SymbolChanged(symbol, state))
            self._states[symbol] = state
        return changes
