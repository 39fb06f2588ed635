"""An aligned list is judged, and noted, by the rows that its frame has."""

from typing import Any

import pytest
from support.numbered_bars import append, listed, numbers, opens, prices, when

from shmfeed.bar import UNCONFIRMED
from shmfeed.errors import GapError, UnconfirmedError
from shmfeed.writer import FeedWriter
from wealthdata import Context, get_price, set_context, wait_bar
from wealthdata.attrs import FrameAttrs

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings(
    "ignore::wealthdata.BehindWarning", "ignore::wealthdata.StaleFeedWarning"
)

NAMES = ["A", "B"]
WAYS: dict[str, dict[str, Any]] = {
    "by the cut": {},
    "integers": {"fields": ["close", "flags"]},
    "by a range": {"end_date": when(10_000)},
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def fill(writer: FeedWriter, held: dict[str, list[int]]) -> None:
    for symbol, listed_numbers in held.items():
        append(writer.add_stream(symbol, "1h"), *listed_numbers)


def attrs_of(**asked: Any) -> FrameAttrs:
    attrs: FrameAttrs = get_price(NAMES, align=True, **asked).attrs["shmfeed"]
    return attrs


@pytest.mark.parametrize(
    ("held", "end", "behind", "late"),
    [
        # B lacks the bars up to the bound; those after it count once.
        ({"A": range(11), "B": [0, 1, 2, 9, 10]}, 6, 8, {"B": 4}),
        ({"A": range(11), "B": [0, 1, 2, 9, 10]}, 9, 1, {}),
        ({"A": range(7), "B": range(11)}, 8, 4, {"A": 2}),
        ({"A": range(11), "B": range(9)}, 10, 2, {"B": 2}),
        # B has no row in the range, and its newest bar is the newest of all.
        ({"A": range(5), "B": [9]}, 6, 5, {}),
        # Without a common time: from the end of the one that lags most.
        ({"A": [0, 2, 4, 6], "B": [1, 3, 5]}, None, 1, {"B": 1}),
        ({"A": [0, 2, 4, 6], "B": [1, 3, 5]}, 4, 3, {"B": 1}),
        # Without a row of any security: from the bound.
        ({"A": [5, 6], "B": [5]}, 2, 4, {}),
    ],
)
def test_behind_is_counted_once(
    writer: FeedWriter,
    held: dict[str, list[int]],
    end: int | None,
    behind: int,
    late: dict[str, int],
) -> None:
    fill(writer, held)
    bound = {} if end is None else {"end_date": when(end)}
    for more in ({}, {"count": 2}, {"wide": True}, {"fields": ["flags"]}):
        attrs = attrs_of(**bound, **more)
        assert attrs.behind == behind * 3600
        assert attrs.late == {name: 3600 * bars for name, bars in late.items()}
    if end is not None:
        set_context(Context(current_dt=when(end)))
        assert attrs_of().behind == behind * 3600


@each_way
def test_a_hole_before_the_rows_is_none_of_theirs(
    writer: FeedWriter, way: dict[str, Any]
) -> None:
    # The first common times are found among more rows than the frame has.
    fill(writer, {"A": [0, 1, 5, 6, 7, 8, 9], "B": [0, 1, 5, 6, 7, 8]})
    attrs = attrs_of(count=4, on_gap="raise", on_short="raise", **way)
    assert (attrs.gaps, attrs.short) == (0, 0)
    with pytest.raises(GapError, match="3 bars missing"):
        attrs_of(count=5, on_gap="raise", **way)


@each_way
def test_a_row_that_is_left_out_may_be_unconfirmed(
    writer: FeedWriter, way: dict[str, Any]
) -> None:
    fill(writer, {"A": [0, 1], "B": [0, 1]})
    for symbol, number in (("A", 2), ("B", 3)):
        ring = writer.add_stream(symbol, "1h")
        ring.append(opens(number), *prices(number), flags=UNCONFIRMED)
    attrs = attrs_of(count=2, on_unconfirmed="raise", **way)
    assert attrs.unconfirmed == 0
    with pytest.raises(UnconfirmedError, match="A 1h"):
        get_price(NAMES, count=2, on_unconfirmed="raise", **way)


@each_way
def test_a_wait_hands_over_what_was_left_out(
    writer: FeedWriter, way: dict[str, Any]
) -> None:
    fill(writer, {"A": [0, 1, 2], "B": [0, 1]})
    attrs_of(count=2, **way)
    append(writer.add_stream("B", "1h"), 2)
    assert wait_bar(NAMES, "1h", timeout=0) == (NAMES, [])


def test_the_forming_bar_takes_no_row_from_a_whole_ring(writer: FeedWriter) -> None:
    fill(writer, {"A": list(range(120))})
    writer.add_stream("A", "1h").update_forming(opens(120), *prices(120))
    for _ in range(2):
        found = get_price("A", count=150, include_now=True)
        assert numbers(found) == list(range(20, 121))
        assert found.attrs["shmfeed"].short == 49
        assert numbers(get_price("A", count=100, include_now=True))[0] == 21
    set_context(Context([listed(*range(10, 20), symbol="A")]))  # adjoins bar 20
    found = get_price("A", count=111, include_now=True)
    assert numbers(found) == list(range(10, 121))
    assert found.attrs["shmfeed"].source == "mixed"
