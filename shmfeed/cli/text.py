"""Values as a person at a terminal reads them: times, ages, aligned tables."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING = "-"


def iso(time: int | None) -> str:
    """ms UTC as `2026-01-31T08:00:00Z`; milliseconds only where there are any.

    A number that is in no calendar stays one.
    """
    if time is None:
        return _NOTHING
    try:
        moment = _EPOCH + timedelta(milliseconds=time)
    except OverflowError:
        return f"{time} ms"
    finest = "milliseconds" if time % 1000 else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=finest) + "Z"


def span(seconds: float | None) -> str:
    """A length of time in its two largest units: `0.2 s`, `3m 20s`, `2d 4h`."""
    if seconds is None:
        return _NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s"


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """A line for each row, its columns under each other; those of `right` flush right.

    All rows are equally long.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [justified(row, widths, right) for row in rows]


def justified(
    row: Sequence[str], widths: Sequence[int], right: Collection[int] = ()
) -> str:
    """One such line."""
    cells = [
        cell.rjust(width) if number in right else cell.ljust(width)
        for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def short(text: str) -> str:
    """A text of at most some 600 characters; of a longer one the middle is left out."""
    return text if len(text) <= 600 else f"{text[:400]} .. {text[-200:]}"


def mib(size: int) -> str:
    """Bytes in MiB, two decimals."""
    return f"{size / 2**20:.2f}"


def plain(text: str) -> str:
    """A text from outside in one line of printable characters: others are escaped."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
