"""The words of a venue's refusal: without secrets, and the symbols that they name."""

import re
from collections.abc import Container, Iterable, Iterator

import msgspec

from shmfeed.settings.endpoint import mask_secret
from shmfeed.text import one_line

_WORD = re.compile(r"([\"'`]?)(?<!\w)([A-Za-z0-9][A-Za-z0-9._:/-]*)(@?)")
# A label before or behind a symbol in one word, as in `symbol:BTC` or `BTC:unknown`.
_LABEL = re.compile(r"^(?:[a-z]+:)+|(?::[a-z]+)+$")
_SHORT_WORD = 4  # a word of so many lower-case letters is English rather than a symbol
# The begin of a list of what the venue would have accepted.
_ACCEPTED = re.compile(
    r"\b(?:one of|did you mean|nearest|available|(?<!not )(?:accepted|allowed|supported"
    r"|valid)\b[^.;]*?:)",
    re.IGNORECASE,
)

_LONGEST_WORDS = 2048  # characters, more than one_line() shows


def redact_message(message: str, secrets: Iterable[str] = ()) -> str:
    """Return a venue's message as one short line without our secrets.

    A message may be JSON, so a secret is also found as JSON writes it.
    """
    forms = {form for secret in secrets for form in (secret, _in_json(secret))}
    message = message[:_LONGEST_WORDS]  # it bounds the work
    for secret in sorted(filter(None, forms), key=len, reverse=True):
        message = mask_secret(message, secret)
    return one_line(message)


def named_symbols(message: str, symbols: Iterable[str]) -> tuple[str, ...]:
    """Return those of `symbols` that a refusal's words name, in the order given.

    A symbol is named as a whole word, also within a stream's name such as
    `btcusdt@kline_1m`. Names in the case of `symbols` count before those in another,
    and the words before a list of what the venue would accept before the list.
    """
    known = dict.fromkeys(symbols)
    folded: dict[str, list[str]] = {}
    for symbol in known:
        folded.setdefault(symbol.casefold(), []).append(symbol)
    head = _ACCEPTED.split(message, maxsplit=1)[0]
    for text in (head, message):
        words = set(_words(text, known, folded))
        named = words & known.keys() or {
            symbol for word in words for symbol in folded.get(word.casefold(), ())
        }
        if named:
            return tuple(symbol for symbol in known if symbol in named)
    return ()


def _words(text: str, known: Container[str], folded: Container[str]) -> Iterator[str]:
    """Yield the words that may be symbols: not the short ones of plain English."""
    for quote, word, at in _WORD.findall(text):
        name = word.rstrip(".:/-")
        if name not in known and name.casefold() not in folded:
            name = _LABEL.sub("", name.rpartition("/")[2] if at else name)
        is_marked = quote or at or name in known or not name.islower()
        if is_marked or len(name) > _SHORT_WORD:
            yield name


def _in_json(text: str) -> str:
    return msgspec.json.encode(text).decode()[1:-1]
