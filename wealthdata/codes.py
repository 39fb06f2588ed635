"""Symbols as the feed spells them."""

from collections.abc import Sequence
from typing import overload

from shmfeed.errors import BadArgumentError, StreamNotFoundError
from shmfeed.text import repr_short
from shmfeed.validation import check_feed_name, items_of
from wealthdata.carried import Carried, carried, list_of, nearest
from wealthdata.securities import Security, check_security


@overload
def normalize_code(code: str, *, feed: str | None = None) -> str: ...
@overload
def normalize_code(
    code: list[str] | tuple[str, ...], *, feed: str | None = None
) -> list[str]: ...
def normalize_code(
    code: str | Sequence[str], *, feed: str | None = None
) -> str | list[str]:
    """Return a symbol, or a list of them, as the feed spells them.

    Args:
        code: A symbol in any case, or a list. `SYMBOL@FEED` keeps its feed.
        feed: The feed that carries them. Default: as in `get_price`.

    Returns:
        The carried symbol of these letters: "BTCUSDT" for "btcusdt". In a backtest the
        context's symbols count.

    Raises:
        BadArgumentError: An argument is not accepted.
        StreamNotFoundError: No such symbol is carried; the message names the nearest.
        NoDataError: There is neither a feed nor a context.

    Thread safety:
        As for `get_price`.
    """
    named = None if feed is None else check_feed_name(feed)
    if isinstance(code, str):
        return _normalize([check_security(code)], named)[0]
    listed = items_of(code)
    if listed is None:
        raise BadArgumentError(
            f"code is {repr_short(code)}; it must be a symbol or a list of symbols"
        )
    return _normalize([check_security(item) for item in listed], named)


def _normalize(securities: list[Security], named: str | None) -> list[str]:
    names = {security.feed or named for security in securities}
    known = {name: carried(name) for name in names}
    return [
        find_symbol(security, known[security.feed or named])
        + ("" if security.feed is None else f"@{security.feed}")
        for security in securities
    ]


def find_symbol(security: Security, known: Carried) -> str:
    """Return the carried symbol of the same letters. Raise StreamNotFoundError."""
    for symbol in known.symbols:
        if symbol.lower() == security.symbol.lower():
            return symbol
    check_carried(security, known)
    return security.symbol  # a history function may have it


def check_carried(security: Security, known: Carried) -> None:
    """Raise StreamNotFoundError if no stream can be of this security."""
    symbol = security.symbol
    if symbol in known.timeframes:
        return  # the usual case, without a look at each symbol
    if symbol not in known.symbols and known.is_complete:
        raise StreamNotFoundError(
            f"{known.describe()} does not carry {symbol}; its symbols are:"
            f" {list_of(known.symbols)}{nearest(symbol, known.symbols)}"
        )
