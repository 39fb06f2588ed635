"""Changes of the subscription wait until the venue has named the symbols it knows.

A venue that is subscribed by URL acknowledges a misspelt symbol, and sends nothing of
it. So a change with new symbols is asked about first, and fails as a whole if one is
unknown. Without an answer within GATE_SECONDS the change goes on.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from shmfeed.errors import WebSocketSubscriptionError
from shmfeed.feeder.requests import PendingRequest
from shmfeed.feeder.symbol_check import SymbolCheck
from shmfeed.wire.events import Streams

GATE_SECONDS = 3.0

Proceed = Callable[[PendingRequest, Streams], None]


class _Waiting(NamedTuple):
    pending: PendingRequest
    streams: Streams
    symbols: frozenset[str]  # new ones
    until: float


class SymbolGate:
    """The gate of one feed. Only the main loop uses it.

    `proceed` is called with each change that may go on, in the order of the requests.
    """

    def __init__(self, check: SymbolCheck | None, proceed: Proceed) -> None:
        self._check = check
        self._proceed = proceed
        self._waiting: deque[_Waiting] = deque()

    def ask(self, pending: PendingRequest, streams: Streams, now: float) -> None:
        """Let a change go on once its symbols are known."""
        new = frozenset[str]()
        if self._check is not None and self._check.is_told:
            new = frozenset(symbol for symbol, _ in streams) - self._check.known
        if self._check is not None and new:
            self._check.ask_for(new)
        self._waiting.append(_Waiting(pending, streams, new, now + GATE_SECONDS))
        self.tick(now)

    def tick(self, now: float) -> None:
        """Let changes go on, or fail, whose symbols have been answered for."""
        while self._waiting:
            pending, streams, symbols, until = self._waiting[0]
            states = {}
            if self._check is not None:
                states = {symbol: self._check.found(symbol) for symbol in symbols}
            if None in states.values() and now < until:
                return
            self._waiting.popleft()
            unknown = [
                f"{symbol}: {state.text}"
                for symbol, state in sorted(states.items())
                if state is not None and not state.is_known
            ]
            if unknown:
                pending.fail(WebSocketSubscriptionError("; ".join(unknown)))
            else:
                self._proceed(pending, streams)

    def drop(self, manager: str) -> None:
        """Fail the changes of a manager that was stopped."""
        for one in [w for w in self._waiting if w.pending.request.manager == manager]:
            self._waiting.remove(one)
            error = WebSocketSubscriptionError(
                "the manager that asked was stopped; nothing was changed"
            )
            one.pending.fail(error)

    def end(self) -> None:
        """Fail all changes, because the feeder stops."""
        while self._waiting:
            error = WebSocketSubscriptionError("the feeder is stopping; start it again")
            self._waiting.popleft().pending.fail(error)
