"""The streams that a strategy can read: those of its feed, and those of its context."""

import difflib
import weakref
from collections.abc import Iterable
from typing import NamedTuple

from shmfeed.bar import StreamKey, Timeframe, duration
from shmfeed.errors import NoDataError, StreamNotFoundError
from wealthdata.attachment import AttachedFeed, no_data_error
from wealthdata.bar_history import BarHistory
from wealthdata.contexts_in_force import registered
from wealthdata.rollup import divides
from wealthdata.securities import Security
from wealthdata.sources import current_views, open_sources, strategy_time

Missing = StreamNotFoundError | NoDataError


class Listing(NamedTuple):
    """Streams and their symbols, each once, and the timeframes of each symbol.

    The timeframes of a symbol are listed from the shortest on.
    """

    streams: tuple[StreamKey, ...]
    symbols: tuple[str, ...]
    timeframes: dict[str, list[Timeframe]]


def _list(streams: Iterable[StreamKey], symbols: Iterable[str] = ()) -> Listing:
    """Return the listing of these streams, and of symbols without known streams."""
    unique = tuple(dict.fromkeys(streams))
    timeframes: dict[str, list[Timeframe]] = {}
    for symbol, timeframe in unique:
        timeframes.setdefault(symbol, []).append(timeframe)
    for each in timeframes.values():
        each.sort(key=duration)
    return Listing(unique, tuple(dict.fromkeys((*timeframes, *symbols))), timeframes)


# The listing of each feed, and the catalog that it was made of.
_listed: weakref.WeakKeyDictionary[AttachedFeed, tuple[object, Listing]] = (
    weakref.WeakKeyDictionary()
)


def _list_feed(feed: AttachedFeed) -> Listing:
    """Return the listing of a feed's subscribed streams, made once a catalog."""
    feed.check()
    known = feed.known_streams()
    found = _listed.get(feed)
    if found is None or found[0] is not known:
        found = _listed[feed] = known, _list(known[2])
    return found[1]


class Carried(NamedTuple):
    """The sources of a read, with their streams and symbols.

    A history function cannot list its streams; a data adapter names its symbols, a
    foreign context nothing.

    Attributes:
        feed: The feed; None in a backtest, or if the host has none.
        history: The bars of the context or the data adapter, or None.
        now: The strategy's time in ms UTC; None if no context sets it.
        streams: The known streams, the feed's first, each once.
        symbols: Their symbols, and those of a data adapter, each once.
        timeframes: The timeframes of each symbol with a known stream, shortest first.
    """

    feed: AttachedFeed | None
    history: BarHistory | None
    now: int | None
    streams: tuple[StreamKey, ...]
    symbols: tuple[str, ...]
    timeframes: dict[str, list[Timeframe]]

    @property
    def is_complete(self) -> bool:
        """False if a history function may have further symbols."""
        return self.history is None or self.history.streams() is not None

    def symbols_at(self, timeframe: Timeframe) -> list[str]:
        """Return the symbols that can be read at this timeframe, rolled up or not."""
        readable = {
            symbol
            for symbol, carried in self.streams
            if carried == timeframe or divides(carried, timeframe)
        }
        unlisted = set(self.symbols).difference(symbol for symbol, _ in self.streams)
        return [s for s in self.symbols if s in readable or s in unlisted]

    def describe(self) -> str:
        """Return the place that lists the symbols, in words."""
        return "the context" if self.feed is None else f"feed {self.feed.name!r}"


def carried(named: str | None = None) -> Carried:
    """Return what can be read now; `named` is the feed that the call names.

    Raise NoDataError if there is neither a feed nor a context with bars.
    """
    views, history = current_views()
    sources = open_sources(views, history, named)
    feed, history = sources.feed, sources.history
    if feed is None and history is None:
        raise no_data_error("no context with bars is set", named)
    listing = _list(()) if feed is None else _list_feed(feed)
    listed = [] if history is None else history.streams()
    if listed:
        listing = _list((*listing.streams, *listed))
    elif listed is None and registered.adapter is not None:
        listing = _list(listing.streams, registered.adapter.get_all_symbols())
    return Carried(feed, history, strategy_time(views), *listing)


_MOST_SHOWN = 20
_LONGEST = 64


def list_of(symbols: Iterable[str]) -> str:
    """Return the symbols as text; the first 20 of many, and how many more."""
    names = list(symbols)
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return (" ".join(names[:_MOST_SHOWN]) or "no symbol") + more


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the known word nearest to `word`, or no text."""
    hint = did_you_mean(word, known)
    return hint and f"; {hint}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean X?` for the known word nearest to `word`, or no text."""
    words = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word[:_LONGEST].lower(), list(words), 1)
    return f"did you mean {words[near[0]]}?" if near else ""


def name_nearest(error: Missing, security: Security, named: str | None) -> Missing:
    """Return the error of a read with the symbol that is nearest to an unknown one."""
    if not isinstance(error, StreamNotFoundError):
        return error  # there is no feed, which the error says
    hint = hint_of(security.symbol, security.feed or named)
    return StreamNotFoundError(f"{error}; {hint}") if hint else error


def name_unknown(symbols: Iterable[str], named: str | None) -> str:
    """Return the symbols that a feed does not carry as text, each with the nearest."""
    hints = [(symbol, hint_of(symbol, named)) for symbol in symbols]
    return ", ".join(s + (f" ({hint})" if hint else "") for s, hint in hints)


def hint_of(symbol: str, named: str | None) -> str:
    """Return `did you mean X?` for a symbol that cannot be read, or no text.

    A symbol that is carried in another timeframe gives no text. `named` is the feed
    that the call names.
    """
    try:
        known = carried(named).symbols
    except Exception:  # noqa: BLE001 # an adapter's own function: it lists no symbols
        return ""
    return "" if symbol in known else did_you_mean(symbol, known)
