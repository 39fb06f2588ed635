"""The newest bars of many rings of one feed, as of one instant."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from shmfeed.bar import DEFAULT_FIELDS, Field
from shmfeed.core import read_cut, read_list
from shmfeed.cutting import Bounds, ListArrays
from shmfeed.errors import BadArgumentError
from shmfeed.feed import Ring, check_ring
from shmfeed.memory.rows import FloatArray, IntArray
from shmfeed.memory.words import RetryBudget
from shmfeed.validation import items_of


class Cut(NamedTuple):
    """The newest closed bars of many rings as of one instant, made by `cut`.

    Attributes:
        values: float64 (fields, rings, m) in the order asked, private and writable,
            oldest bar first; NaN where a ring has no bar.
        close_time: int64, ms UTC. Aligned, shape (m,): one time for all rings. Else
            (rings, m), 0 where a ring has no bar.
        missing: The rings that have no closed bar, in the order asked.
    """

    values: FloatArray
    close_time: IntArray
    missing: list[Ring]


def cut(
    rings: Iterable[Ring],
    n: int,
    fields: "Field | Sequence[Field]" = DEFAULT_FIELDS,
    align: bool = True,
) -> Cut:
    """Return the newest closed bars of many rings as of one instant, in one call.

    Aligned, the cut has the newest close times that all rings with bars have. There is
    an instant during the call at which its last close time was the newest that all of
    them had: each row is closed in every ring, and no ring lacks it because it was read
    too early. Bars that close during the call do not disturb it.

    Not aligned, each ring gives its own newest bars. There is an instant during the
    call at which the last bar of each ring was that ring's newest.

    Args:
        rings: Rings of one feed. A ring may be given twice.
        n: At least 1. More than `history` counts as `history`.
        fields: One or several of open high low close volume money, each once.
        align: If True, one row for each close time that all rings with bars have,
            among the last `history` bars of each. If False, the last n bars of each
            ring, which end at the right.

    Returns:
        The cut, of m rows: n, or as many as there are. A ring without bars keeps its
        place, is in `missing`, and does not bound the others.

    Raises:
        BadArgumentError: An argument is not accepted, or the rings are not of one feed.
        FeedNotFoundError: The feed is closed.
        StreamNotFoundError: A recreated feed does not carry a stream.
        BusyRingError: For 10 ms, aligned, the writer overwrote rows that were read or,
            not aligned, a ring closed a bar during each try.

    Thread safety: any thread may call it.
    """
    given: Any = rings if rings.__class__ is tuple else _as_tuple(rings)
    names: Any = fields if fields.__class__ is tuple else _as_tuple(fields)
    budget = None
    while (found := read_cut(given, n, names, align)) is None:
        _check_one_feed(given)
        budget = budget or RetryBudget("cut")
        budget.spend()  # the feed was recreated between two of the rings
    values, close_time, missing = found
    return Cut(values, close_time, [given[k] for k in missing])


def cut_list(
    rings: tuple[Ring, ...],
    n: int,
    fields: tuple[Field, ...],
    bounds: Bounds,
    quiet: int,
) -> ListArrays:
    """Return what `read_list` returns of these rings of one feed, at least one.

    Raise FeedNotFoundError, StreamNotFoundError or BusyRingError.
    """
    budget = None
    while (found := read_list(rings, n, fields, bounds, quiet)) is None:
        budget = budget or RetryBudget("list")
        budget.spend()  # the feed was recreated between two of the rings
    return found


def _as_tuple(value: object) -> tuple[Any, ...]:
    items = items_of(value)
    return (value,) if items is None else tuple(items)


def _check_one_feed(rings: Sequence[Any]) -> None:
    """Raise BadArgumentError unless these are rings of one feed."""
    if not rings:
        raise BadArgumentError("rings is empty; it must contain rings of Feed.ring()")
    names = sorted({ring._feed.name for ring in map(check_ring, rings)})
    if len(names) > 1:
        listed = ", ".join(map(repr, names))
        raise BadArgumentError(
            f"rings come from {len(names)} feeds: {listed}; a cut reads one"
        )
