"""Bars of ring and context in one frame, checked against a model of the merge."""

import hypothesis
import pytest
from hypothesis import strategies as st
from support.numbered_bars import (
    SYMBOL,
    append,
    from_context,
    listed,
    numbers,
    opens,
    prices,
    shares,
    when,
)

from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create
from wealthdata import Context, MissingBarsWarning, get_price, merge, set_context
from wealthdata.bar_history import ContextHistory
from wealthdata.freshness import FirstOfContext
from wealthdata.request import PriceRequest

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings(
    "ignore::wealthdata.StaleFeedWarning", "ignore::wealthdata.BehindWarning"
)


@pytest.fixture(autouse=True)
def no_earlier_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "_warned", FirstOfContext())


@pytest.mark.parametrize("context", [range(3, 10), range(3, 15), range(3, 40)])
def test_bars_that_overlap_or_adjoin_are_joined(
    ring: RingWriter, context: range
) -> None:
    append(ring, *range(10, 20))
    set_context(Context([listed(*context)]))
    found = get_price(SYMBOL, count=15)
    assert numbers(found) == list(range(5, 20))
    assert from_context(found) == list(range(5, 10))  # the ring's bars win
    attrs = found.attrs["shmfeed"]
    assert attrs.source == "mixed"
    assert attrs.gaps == 0
    assert attrs.health == "live"
    assert attrs.age is not None
    assert attrs.valid
    found.iloc[0, 0] = -1.0


def test_the_ring_alone_serves_when_it_has_enough(ring: RingWriter) -> None:
    append(ring, *range(10, 20))
    set_context(Context([listed(*range(15))]))
    for arguments in ({"count": 10}, {"start_date": when(10)}):
        for _ in range(2):
            found = get_price(SYMBOL, **arguments)
            assert numbers(found) == list(range(10, 20))
            assert found.attrs["shmfeed"].source == "live"
            assert shares(found)


def test_a_cached_query_does_not_leave_the_context_out(
    ring: RingWriter,
) -> None:
    append(ring, *range(10, 20))
    set_context(Context([listed(*range(15))]))
    for count, first in ((5, 15), (15, 5), (10, 10), (20, 0)):
        found = get_price(SYMBOL, count=count)
        assert numbers(found) == list(range(first, 20))
        assert shares(found) == (first >= 10)


def test_a_context_with_nothing_older_changes_nothing(ring: RingWriter) -> None:
    append(ring, *range(10, 20))
    set_context(Context([listed(*range(10, 15))]))
    found = get_price(SYMBOL, count=15)
    assert numbers(found) == list(range(10, 20))
    assert found.attrs["shmfeed"].source == "live"
    assert shares(found)


def test_a_hole_is_not_joined_and_gives_one_warning(ring: RingWriter) -> None:
    append(ring, *range(10, 20))
    set_context(Context([listed(*range(8))]))
    with pytest.warns(MissingBarsWarning) as caught:
        found = get_price(SYMBOL, count=15)
    assert numbers(found) == list(range(10, 20))
    assert found.attrs["shmfeed"].source == "live"
    assert shares(found)
    message = str(caught[0].message)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "BTCUSDT 1h: 2 bars missing" in message
    assert "2024-01-01T08:00:00Z to 2024-01-01T10:00:00Z" in message
    for mark in ("run_params.type", "use(context_only=True)", "SHMFEED_FEED=off"):
        assert mark in message
    assert numbers(get_price(SYMBOL, count=15)) == list(range(10, 20))  # no warning


def test_a_hole_outside_the_range_gives_no_warning(ring: RingWriter) -> None:
    append(ring, *range(10, 20))
    set_context(Context([listed(*range(8))]))
    assert numbers(get_price(SYMBOL, count=5)) == list(range(15, 20))
    found = get_price(SYMBOL, start_date=when(8))
    assert numbers(found) == list(range(10, 20))


def test_a_hole_inside_the_context_is_a_gap(ring: RingWriter) -> None:
    append(ring, *range(10, 20))
    set_context(Context([listed(3, 4, 7, 8, 9)]))
    found = get_price(SYMBOL, count=50)
    assert numbers(found) == [3, 4, 7, 8, 9, *range(10, 20)]
    assert found.attrs["shmfeed"].gaps == 2


def test_the_source_is_that_of_the_returned_rows(ring: RingWriter) -> None:
    append(ring, *range(10, 20))
    set_context(Context([listed(*range(12))]))
    found = get_price(SYMBOL, start_date=when(2), end_date=when(4))
    assert from_context(found) == [2, 3, 4]
    assert found.attrs["shmfeed"].source == "context"
    assert found.attrs["shmfeed"].age > 86_400  # since the newest close
    found = get_price(SYMBOL, count=3, end_date=when(10))
    assert numbers(found) == [8, 9, 10]
    assert from_context(found) == [8, 9]
    assert found.attrs["shmfeed"].source == "mixed"


def test_the_context_serves_until_the_ring_has_a_bar(ring: RingWriter) -> None:
    set_context(Context([listed(*range(5))]))
    found = get_price(SYMBOL, count=3)
    assert from_context(found) == [2, 3, 4]
    attrs = found.attrs["shmfeed"]
    assert (attrs.source, attrs.age > 86_400) == ("context", True)
    assert attrs.health == "waiting"
    ring.update_forming(opens(5), *prices(5))
    found = get_price(SYMBOL, count=3, include_now=True)
    assert numbers(found) == [3, 4, 5]
    assert from_context(found) == [3, 4]
    assert found.attrs["shmfeed"].source == "mixed"
    assert found.attrs["shmfeed"].forming


def test_the_forming_bar_is_taken_from_the_ring(ring: RingWriter) -> None:
    append(ring, *range(10, 12))
    ring.update_forming(opens(12), *prices(12))
    set_context(Context([listed(*range(30))]))
    found = get_price(SYMBOL, count=5, include_now=True)
    assert numbers(found) == [8, 9, 10, 11, 12]
    assert found.attrs["shmfeed"].forming
    found = get_price(SYMBOL, count=5)
    assert numbers(found) == [7, 8, 9, 10, 11]
    assert not found.attrs["shmfeed"].forming


def test_integer_fields_of_joined_bars(ring: RingWriter) -> None:
    append(ring, *range(2, 4))
    set_context(Context([listed(0, 1)]))
    found = get_price(SYMBOL, fields=["open", "flags", "close_time"])
    assert found["flags"].tolist() == [0, 0, 2, 2]
    assert found["close_time"].tolist() == [opens(n) for n in (1, 2, 3, 4)]


def test_months_adjoin_by_the_calendar(writer: FeedWriter) -> None:
    month = 1_706_745_600_000  # 2024-02-01
    writer.add_stream(SYMBOL, "1M").append(month, 1, 1, 1, 1, 1)
    bar = {**listed(0)["bars"][0], "open_time": 1_704_067_200_000}
    entry = {"symbol": SYMBOL, "timeframe": "1M", "bars": [bar]}
    set_context(Context([entry]))
    found = get_price(SYMBOL, frequency="1M")
    assert [str(t.date()) for t in found.index] == ["2024-02-01", "2024-03-01"]


def test_a_list_joins_each_stream(writer: FeedWriter) -> None:
    append(writer.add_stream("A", "1h"), 5, 6)
    append(writer.add_stream("B", "1h"), 4, 5, 6)
    set_context(Context([listed(3, 4, symbol="A")]))
    found = get_price(["A", "B"], count=3)
    assert found["code"].tolist() == ["A"] * 3 + ["B"] * 3
    assert (found["open"] - 1).tolist() == [4, 5, 6, 4, 5, 6]
    assert found.attrs["shmfeed"].source == "mixed"


# The model: the same merge, with dicts and lists.


def model(
    ring: list[int], context: list[int], request: PriceRequest
) -> list[tuple[int, str]]:
    found = dict.fromkeys(ring, "ring")
    older = [n for n in context if not ring or n < ring[0]]
    joined = not ring or (bool(older) and max(context) >= ring[0] - 1)
    if joined:
        found.update(dict.fromkeys(older, "context"))
    closes = {n: opens(n + 1) for n in sorted(found)}
    bound = min(
        (b for b in (*request[2:4], request.newest) if b is not None), default=None
    )
    kept = [n for n, c in closes.items() if bound is None or c <= bound]
    if request.start is not None:
        kept = [n for n in kept if closes[n] >= request.start]
    if request.limit is not None:
        kept = kept[-request.limit :]
    return [(n, found[n]) for n in kept]


runs = st.lists(st.integers(0, 25), unique=True, max_size=15).map(sorted)
moments = st.none() | st.integers(-2, 28).map(lambda n: opens(n))
requests = st.builds(
    PriceRequest,
    limit=st.integers(1, 30),
    start=st.none(),
    end=moments,
    now=moments,
    newest=moments,
) | st.builds(
    PriceRequest,
    limit=st.none(),
    start=moments.filter(lambda m: m is not None),
    end=moments,
    now=moments,
    newest=moments,
)


@pytest.mark.filterwarnings("ignore::wealthdata.MissingBarsWarning")
def test_the_merge_agrees_with_the_model(strategy: str) -> None:
    with create(strategy, history=100, guard=16, max_streams=1000) as writer:
        feed = merge.Sources(None, None)._replace(feed=_attach())
        count = iter(range(1000))

        @hypothesis.settings(max_examples=300)
        @hypothesis.given(runs, runs, requests, st.booleans())
        def agrees(ring, context, request, private) -> None:
            symbol = f"S{next(count)}"
            append(writer.add_stream(symbol, "1h"), *ring)
            older = ContextHistory(Context([listed(*context, symbol=symbol)]))
            sources = feed._replace(history=older)
            found = merge.find_bars((symbol, "1h"), request, sources, private)
            opened = found.columns.open_time[found.first : found.last]
            volumes = found.columns["volume"][found.first : found.last]
            got = [
                ((int(t) - opens(0)) // 3_600_000, "ring" if v % 1 == 0 else "context")
                for t, v in zip(opened, volumes, strict=True)
            ]
            assert got == model(ring, context, request)
            assert found.shared <= (not private)
            assert found.columns.valid

        agrees()
        writer.close(unlink=True)


def test_a_hidden_forming_bar_takes_no_row_from_the_oldest(strategy: str) -> None:
    with create(strategy, history=5) as writer:
        stream = writer.add_stream(SYMBOL, "1h")
        append(stream, *range(8))
        stream.update_forming(opens(8), *prices(8))
        set_context(Context([], current_dt=when(7)))
        for asked in ({"count": 5}, {"start_date": when(0)}):
            found = get_price(SYMBOL, include_now=True, **asked)
            assert numbers(found) == [3, 4, 5, 6, 7]
        writer.close(unlink=True)


def _attach():
    from wealthdata import attachment

    return attachment.attached_feed()
