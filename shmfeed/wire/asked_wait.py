"""The wait that a venue asks for: in `Retry-After`, or in the words of a refusal.

Venues write it in many ways: "IP banned until 1659146400000", "retry in 5 seconds",
`"retryAfter":1659146400000`. All are read; a date counts from the venue's own clock
where that is known.
"""

import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

DEFAULT_WAIT = 30.0  # s; of a venue that says "later" and not when
MAX_WAIT = 3 * 86_400.0  # s; the longest ban that a venue is known for

_TOO_MANY = frozenset({418, 429})  # 418: Binance, of an address that went on after 429
_MAX_DATE = 7_258_118_400_000  # ms; the year 2200
_SECONDS = re.compile(r"[0-9]{1,18}(?:\.[0-9]{0,18})?")  # a fraction is not HTTP's
# A moment: 10 digits are seconds, 13 milliseconds, since 1970; or an ISO date.
_UNTIL = re.compile(
    r"(?:until|till|retry[ _-]?after)[^0-9]{1,12}"
    r"([0-9]{13}|[0-9]{10}|"
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]{5,15}(?:Z|[+-][0-9:]{5})?)"
    r"(?![0-9])",
    re.IGNORECASE,
)
_SPAN = re.compile(
    r"(?:retry|again|wait|bann?ed|blocked)[^0-9]{1,24}([0-9]{1,9}(?:\.[0-9]{1,6})?)\s?"
    r"(ms|millisec|s|m|h|d)(?:ec|econd|in|inute|our|r|ay|ond)?s?\b",
    re.IGNORECASE,
)
_FIELD = re.compile(  # of JSON, in seconds
    r"retry[_-]?after[\"' ]{0,3}[:=][\"' ]{0,3}([0-9]{1,6}(?:\.[0-9]{1,6})?)(?![0-9.])",
    re.IGNORECASE,
)
# An error without such words may be about a symbol, and asks for no wait of all.
_OF_THE_CLIENT = re.compile(
    r"bann?ed|blocked|too many|rate.?limit|throttl|slow down|overload|maintenance",
    re.IGNORECASE,
)
_UNITS = {"ms": 0.001, "millisec": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400}


def wait_of_answer(
    code: int, retry_after: Iterable[str], words: str, now: int | None = None
) -> float:
    """Return the seconds that an answer of status `code` asks a client to wait, or 0.

    Args:
        code: The HTTP status.
        retry_after: The values of its `Retry-After` fields; the longest counts.
        words: The words of its body.
        now: The venue's time, ms UTC; by default this host's.
    """
    now = _now() if now is None else now
    waits = [_field_wait(value, now) for value in retry_after]
    given = [wait for wait in waits if wait is not None]
    if given:
        return _bounded(max(given))
    return wait_of_words(words, now) or (DEFAULT_WAIT if code in _TOO_MANY else 0.0)


def wait_of_words(words: str, now: int | None = None) -> float:
    """Return the seconds that a venue's words ask to wait, 0 if they name no time."""
    now = _now() if now is None else now
    if until := _UNTIL.search(words):
        moment = _moment(until[1])
        return _bounded((moment - now) / 1000 if moment else 0.0)
    if span := _SPAN.search(words):
        return _bounded(float(span[1]) * _UNITS[span[2].lower()])
    if field := _FIELD.search(words):
        return _bounded(float(field[1]))
    return 0.0


def wait_of_error(words: str) -> float:
    """Return the seconds for which an error, sent as a message, keeps a client away."""
    return wait_of_words(words) if _OF_THE_CLIENT.search(words) else 0.0


def parse_http_date(text: str) -> int | None:
    """Return an HTTP date as ms UTC, or None for another text."""
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return _milliseconds(date)


def _field_wait(value: str, now: int) -> float | None:
    if _SECONDS.fullmatch(value):
        return float(value)
    date = parse_http_date(value)
    return None if date is None else (date - now) / 1000


def _moment(text: str) -> int | None:
    if text.isdigit():
        return int(text) * (1000 if len(text) == 10 else 1)
    try:
        return _milliseconds(datetime.fromisoformat(text))
    except ValueError:
        return None


def _milliseconds(date: datetime) -> int | None:
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    try:
        found = int(date.timestamp() * 1000)
    except (OverflowError, ValueError):
        return None
    return found if 0 < found < _MAX_DATE else None


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), MAX_WAIT)


def _now() -> int:
    return time.time_ns() // 1_000_000
