"""Securities as a caller writes them: `SYMBOL`, or `SYMBOL@FEED`."""

from typing import NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short
from shmfeed.validation import check_feed_name, check_symbol, items_of
from wealthdata.argument_names import rename


class Security(NamedTuple):
    """A security as `written`: its symbol, and the feed that it names, or None."""

    written: str
    symbol: str
    feed: str | None = None


def check_security(written: object) -> Security:
    """Return the security. Raise BadArgumentError."""
    if not isinstance(written, str) or "@" not in written:
        symbol = check_symbol(written)
        return Security(symbol, symbol)
    symbol, _, feed = written.partition("@")
    try:
        return Security(written, check_symbol(symbol), check_feed_name(feed))
    except BadArgumentError as error:
        raise BadArgumentError(
            f"security is {repr_short(written)}; it must be SYMBOL or SYMBOL@FEED:"
            f" {error}"
        ) from None


def check_securities(securities: object) -> list[Security]:
    """Return the securities of a list in the order asked, each once.

    Raise BadArgumentError for an empty list and for what is not a security.
    """
    listed = items_of(securities)
    if listed is None:
        raise BadArgumentError(
            f"security is {repr_short(securities)}; it must be a symbol or a list of"
            " symbols"
        )
    found = list(dict.fromkeys(check_security(written) for written in listed))
    if not found:
        raise BadArgumentError("security is an empty list; name at least one symbol")
    return found


def check_awaited(securities: object) -> list[Security]:
    """Return the securities of a call that waits for their bars.

    Raise BadArgumentError as `check_securities` does, which names `securities`.
    """
    listed = [securities] if isinstance(securities, str) else securities
    try:
        return check_securities(listed)
    except BadArgumentError as error:
        raise rename(error, {"security": "securities"}) from None
