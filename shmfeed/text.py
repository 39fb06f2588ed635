"""Text for messages, logs and terminals: short, printable, on one line."""

import reprlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

MIB = 1 << 20  # bytes
NO_VALUE = "-"  # stands where a value is not known
_LONGEST_WORD = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 2, 80, 80


def repr_short(value: object) -> str:
    """Return the repr of a value, shortened for a message; never raise."""
    try:
        return _REPR.repr(value)
    except Exception:  # noqa: BLE001 # an int of too many digits, a foreign __repr__
        name = type(value).__name__
        return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def shorten(text: str, limit: int = 600) -> str:
    """Return a text of at most `limit` characters; cut the middle of a longer one."""
    if len(text) <= limit:
        return text
    tail = limit // 3
    return f"{text[: limit - tail - 5]} ... {text[-tail:]}"


def printable(text: str) -> str:
    """Return a text from outside as one line, unprintable characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(text: str, limit: int = 300) -> str:
    """Return a peer's text as one line of at most `limit` characters.

    Each run of space and control characters becomes one space.
    """
    text = text[: 4 * limit]  # a peer decides how long it is
    words = "".join(c if c.isprintable() else " " for c in text).split()
    line = " ".join(words)
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    Args:
        number: The count.
        noun: The noun in the singular.
        plural: The noun in the plural, if that is more than an s behind it.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def plain(number: float) -> str:
    """Return a price or a volume with all digits that a venue may have sent."""
    return f"{number:.15g}"


def mebibytes(size: int) -> str:
    """Return a number of bytes in MiB, with two decimals."""
    return f"{size / MIB:,.2f}"


def format_ms(time: int) -> str:
    """Return ms UTC as `2026-01-31T08:00:00Z`, with milliseconds where there are any.

    A number beyond the calendar is returned as `N ms`.
    """
    try:
        moment = _EPOCH + timedelta(milliseconds=time)
    except OverflowError:
        return f"{time} ms"
    finest = "milliseconds" if time % 1000 else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=finest) + "Z"


def did_you_mean(value: object, accepted: Iterable[str]) -> str:
    """Return a clause that names the accepted word nearest to a value, or nothing."""
    from difflib import get_close_matches  # noqa: PLC0415 # for errors alone

    if not isinstance(value, str):
        return ""
    near = get_close_matches(value[:_LONGEST_WORD].lower(), list(accepted), 1)
    return f"; did you mean {near[0]}?" if near else ""


def format_duration(seconds: float | None) -> str:
    """Return a duration in its two largest units: `0.2 s`, `3m 20s`, `2d 4h`."""
    if seconds is None:
        return NO_VALUE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s"
