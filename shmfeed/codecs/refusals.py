"""The words of a venue's refusal: without secrets, and the symbols that they name."""

import re
from collections.abc import Container, Iterable, Iterator

import msgspec

from shmfeed.settings.endpoint import mask_secrets
from shmfeed.text import one_line

_WORD = re.compile(r"([\"'`]?)(?<!\w)([A-Za-z0-9][A-Za-z0-9._:/-]*)(@?)")
# A label before or behind a symbol in one word, as in `symbol:BTC` or `BTC:unknown`.
_LABEL = re.compile(r"^(?:[a-z]+:)+|(?::[a-z]+)+$")
_SHORT_WORD = 4  # a word of so many lower-case letters is English rather than a symbol
# English words that are some venue's symbols too; they count only in quotes.
_ENGLISH = frozenset({
    "a", "all", "an", "and", "any", "are", "as", "at", "be", "by", "can", "for", "from",
    "has", "i", "in", "is", "it", "no", "not", "of", "on", "one", "or", "the", "to",
    "was", "with", "you",
})  # fmt: skip
# Words that begin a list of symbols which the venue would accept: these always,
_SUGGESTING = (
    "one of|any of|among|choose|did you mean|do you mean|perhaps|maybe|nearest|closest"
    "|similar|try|use|instead(?! of)|expected|must be|should be|only"
)
# and these unless a negation stands before them in the clause.
_ACCEPTING = (
    "accepted|allowed|supported|valid|available|known|existing|permitted|offered|listed"
    "|possible|tradable"
)
# These words end the list.
_LIST = re.compile(rf"\b(?:(?:{_SUGGESTING})|({_ACCEPTING}))\b", re.IGNORECASE)
_LIST_END = re.compile(
    r"[.;!?](?=\s|$)|[])}\n]|\b(?:got|given|received|rejected|refused|instead of"
    r"|rather than|but|unknown|invalid|unsupported)\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|no|none|never|nothing|cannot|isn't|aren't)\b[^.;:,(]*$", re.IGNORECASE
)
_CLAUSE_WITH_ONLY = re.compile(r"[^.;:,(\n]*\bonly\b", re.IGNORECASE)

_LONGEST_WORDS = 2048  # characters, more than one_line() shows


def redact_message(message: str, secrets: Iterable[str] = ()) -> str:
    """Return a venue's message as one short line without our secrets.

    A message may be JSON, so a secret is also found as JSON writes it.
    """
    forms = {form for secret in secrets for form in (secret, _in_json(secret))}
    message = message[:_LONGEST_WORDS]  # it bounds the work
    return one_line(mask_secrets(message, forms))


def named_symbols(
    message: str, symbols: Iterable[str], field: str = ""
) -> tuple[str, ...]:
    """Return those of `symbols` that a refusal names, in the order given.

    The symbols in `field`, separated by spaces, count alone if they are of `symbols`. A
    symbol is named in the words as a whole word, also within a stream's name such as
    `btcusdt@kline_1m`. Names in the case of `symbols` count before those in another.
    Symbols that the venue would accept are not named.
    """
    known = dict.fromkeys(symbols)
    folded: dict[str, list[str]] = {}
    for symbol in known:
        folded.setdefault(symbol.casefold(), []).append(symbol)
    refused = _without_accepted(message)
    for words in (set(field.split()), set(_words(refused, known, folded))):
        named = words & known.keys() or {
            symbol for word in words for symbol in folded.get(word.casefold(), ())
        }
        if named:
            return tuple(symbol for symbol in known if symbol in named)
    return ()


def _without_accepted(text: str) -> str:
    """Return the words of a refusal without its lists of what would be accepted."""
    text = _CLAUSE_WITH_ONLY.sub("only", text)
    kept: list[str] = []
    at = 0
    for mark in _LIST.finditer(text):
        before = text[at : mark.start()]
        if mark.start() < at or (mark[1] and _NEGATION.search(before)):
            continue
        end = _LIST_END.search(text, mark.end())
        kept.append(before)
        at = end.start() if end else len(text)
    return " ".join([*kept, text[at:]])


def _words(text: str, known: Container[str], folded: Container[str]) -> Iterator[str]:
    """Yield the words that may be symbols: not the short ones of plain English."""
    for quote, word, at in _WORD.findall(text):
        name = word.rstrip(".:/-")
        if name not in known and name.casefold() not in folded:
            name = _LABEL.sub("", name.rpartition("/")[2] if at else name)
        is_quoted = bool(quote or at)
        is_english = name.casefold() in _ENGLISH
        is_name = name in known or not name.islower() or len(name) > _SHORT_WORD
        if is_quoted or (is_name and not is_english):
            yield name


def _in_json(text: str) -> str:
    return msgspec.json.encode(text).decode()[1:-1]
