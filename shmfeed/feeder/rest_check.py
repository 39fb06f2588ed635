"""The check of a venue's REST service beside its socket: `run --check`."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from shmfeed.bar import Bar, StreamKey
from shmfeed.feeder.bar_check import same_values
from shmfeed.history.interface import HistoryError, HistorySource
from shmfeed.history.rest_source import BinanceSource
from shmfeed.text import plain

TRIES = 3  # REST may be a moment behind the socket
PAUSE = 1.0  # s
MOST_STREAMS = 100  # that are compared, so that a look is cheap


class FirstBar(NamedTuple):
    """A bar that the socket gave, and whether it had closed."""

    bar: Bar
    is_closed: bool


class RestFindings:
    """The findings about a REST service.

    Attributes:
        name: The source's name.
        streams: For each stream that was compared "" if REST has the same bar, else
            the difference.
        symbols: For each symbol that is unknown or does not trade the venue's words.
        errors: The errors of the service, each once.
        weight: The weight used in this minute, by the venue's count, and its limit.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.streams: dict[StreamKey, str] = {}
        self.symbols: dict[str, str] = {}
        self.errors: list[str] = []
        self.weight = (0, 0)

    @property
    def is_good(self) -> bool:
        """True if REST answered, and has the bars that the socket gave."""
        return not (self.errors or self.symbols or any(self.streams.values()))


@contextmanager
def closing_source(source: HistorySource | None) -> Iterator[BinanceSource | None]:
    """Yield a source if it is the venue's own REST service, and close it."""
    try:
        yield source if isinstance(source, BinanceSource) and source.is_own else None
    finally:
        if source is not None:
            source.close()


def check_rest(
    source: BinanceSource,
    symbols: Collection[str],
    bars: Mapping[StreamKey, FirstBar],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> RestFindings:
    """Ask about symbols, and compare the bars that the socket gave with REST's."""
    found = RestFindings(source.name)
    left = dict(list(bars.items())[:MOST_STREAMS])
    try:
        _ask_symbols(source, found, symbols)
        for tried in range(TRIES):
            if tried:
                sleep(PAUSE)
            for key, first in list(left.items()):
                found.streams[key] = difference(first, source.bar_at(key, first.bar[0]))
                if not found.streams[key]:
                    del left[key]
            if not left:
                break
    except HistoryError as error:
        found.errors.append(str(error))
    found.weight = source.weight
    return found


def difference(first: FirstBar, there: Bar | None) -> str:
    """Return how REST's bar differs from the socket's, "" if it does not."""
    bar = first.bar
    if there is None:
        return "REST lacks the bar"
    if first.is_closed:
        return "" if same_values(bar, there) else _values(bar, there)
    # It was forming then, and may have grown.
    has_grown = (
        there.open == bar.open
        and there.high >= bar.high
        and there.low <= bar.low
        and there.volume >= bar.volume
    )
    return "" if has_grown else _values(bar, there)


def _values(bar: Bar, there: Bar) -> str:
    pairs = (
        f"{name} {plain(getattr(bar, name))} against {plain(getattr(there, name))}"
        for name in ("open", "high", "low", "close", "volume")
        if getattr(bar, name) != getattr(there, name)
    )
    return f"REST differs: {', '.join(pairs)}"


def _ask_symbols(
    source: BinanceSource, found: RestFindings, symbols: Collection[str]
) -> None:
    states = source.symbols(symbols) or {}
    for symbol, state in states.items():
        if not (state.is_known and state.trades):
            found.symbols[symbol] = state.text
