"""The news of an answer of history: trades not told of, rows with other values."""

import numpy as np

from shmfeed.bar import NO_TRADE, Bar
from shmfeed.history.interface import HistoryAnswer
from shmfeed.memory.rows import Rows

MARGIN_MS = 1000  # a connection may miss the end of a bar that closes so soon


def has_later(answer: HistoryAnswer, last: Bar | None) -> bool:
    """Return True if the answer has a row after the ring's newest one."""
    times = Rows(answer.block, 0).open_time
    return len(times) > 0 and (last is None or int(times[-1]) > last.open_time)


def is_abreast(answer: HistoryAnswer, last: Bar | None) -> bool:
    """Return True if the answer reaches as far as the ring's newest row.

    A history that lacks this row is behind, and proves nothing about newer ones.
    """
    if last is None or last.open_time < answer.request.first:
        return True
    times = Rows(answer.block, 0).open_time
    return len(times) > 0 and int(times[-1]) >= last.open_time


def has_news(
    answer: HistoryAnswer, last: Bar | None, forming: Bar | None, since: int | None
) -> bool:
    """Return True if the socket should have told of trades that the answer has.

    Args:
        answer: The answer.
        last: The ring's newest row before it.
        forming: The forming bar before it.
        since: The venue's time since which a connection carries the stream, ms UTC;
            None without one.
    """
    if since is None:
        return False
    rows = Rows(answer.block, 0)
    is_later = rows.open_time > (last.open_time if last else -1)
    is_later &= rows.close_time > since + MARGIN_MS
    for number in np.flatnonzero(is_later):
        bar = rows.bar(int(number))
        if bar.flags & NO_TRADE or not bar.volume > 0:
            continue
        is_told = forming is not None and forming.open_time == bar.open_time
        if not is_told or forming is None or forming.volume < bar.volume:
            return True
    return False


def changed_rows(old: Rows, new: Rows) -> list[tuple[Bar, Bar]]:
    """Return the rows that have other values now, each as it was and as it is."""
    _, before, after = np.intersect1d(
        old.open_time, new.open_time, assume_unique=True, return_indices=True
    )
    differs = (old.values[:, before] != new.values[:, after]).any(axis=0)
    return [
        (old.bar(int(before[n])), new.bar(int(after[n])))
        for n in np.flatnonzero(differs)
    ]
