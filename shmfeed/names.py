"""Names that come in from outside: checked here once, at the door."""

import re

from shmfeed.arguments import shown
from shmfeed.errors import BadArgumentError

_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,47}")
_FEED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


def check_symbol(text: object) -> str:
    """`text`, if it is a symbol; else BadArgumentError with the value."""
    return _check("symbol", _SYMBOL, text)


def check_feed_name(text: object) -> str:
    """`text`, if it may name a feed; else BadArgumentError with the value."""
    return _check("feed name", _FEED, text)


def _check(what: str, pattern: re.Pattern[str], text: object) -> str:
    if isinstance(text, str) and pattern.fullmatch(text):
        return text
    raise BadArgumentError(
        f"{what} {shown(text)} is not accepted; it matches {pattern.pattern}"
    )
