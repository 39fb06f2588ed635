"""get_price of a list: long and wide, aligned or not, by either way."""

import copy
import itertools
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.numbered_bars import append, listed, opens, prices, when

from shmfeed.bar import DEFAULT_FIELDS
from shmfeed.errors import (
    BadArgumentError,
    MissingBarsWarning,
    NoDataError,
    ShortError,
    StaleFeedError,
    StaleFeedWarning,
    StreamNotFoundError,
)
from shmfeed.writer import FeedWriter, create
from wealthdata import (
    Context,
    attachment,
    freshness,
    get_price,
    list_query,
    list_reading,
    query_cache,
    set_context,
)
from wealthdata import long_frame as long_frames
from wealthdata.list_query import CachedListQuery

pytest_plugins = ["support.strategy_process"]

SYMBOLS = ["A", "B", "C"]
ODD_CHOICES: list[tuple[str, Any]] = [
    ("on_stale", np.array([1, 2])),
    ("on_stale", ["warn"]),
    ("include_now", np.array([1, 2])),
    ("copy", np.array([1, 2])),
    ("max_age", np.array([1, 2])),
    ("count", np.array([1, 2])),
]
FIELDS = list(DEFAULT_FIELDS)


@pytest.fixture(autouse=True)
def nothing_was_warned_of() -> None:
    list_query._warned.clear()
    freshness.outages.clear()


def fill(writer: FeedWriter, held: dict[str, list[int]]) -> None:
    for symbol, numbers in held.items():
        append(writer.add_stream(symbol, "1h"), *numbers)


def by_the_cut(**asked: Any) -> pd.DataFrame:
    get_price(**asked)
    queries = [*query_cache.list_queries.values()]
    assert len(queries) == 1
    assert isinstance(queries[0], CachedListQuery)
    return get_price(**asked)


def by_the_long_way(**asked: Any) -> pd.DataFrame:
    query_cache.list_queries.clear()
    with mock.patch.object(CachedListQuery, "read", return_value=None):
        found = get_price(**asked)
    assert not query_cache.list_queries
    return found


def up_to_an_end(**asked: Any) -> pd.DataFrame:
    return by_the_cut(**asked, end_date=when(10_000))


WAYS = [by_the_cut, up_to_an_end, by_the_long_way]


def chosen(
    held: dict[str, list[int]], count: int, align: bool, wide: bool
) -> dict[str, list[int]]:
    """Return the numbers of the bars that a frame has, found by sets."""
    held = {symbol: numbers for symbol, numbers in held.items() if numbers}
    if align:
        common = sorted(set.intersection(*map(set, held.values()))) if held else []
        return dict.fromkeys(held, common[-count:])
    found = {symbol: numbers[-count:] for symbol, numbers in held.items()}
    if wide and found:
        times = sorted(set().union(*found.values()))[-count:]
        found = {s: [n for n in ns if n in times] for s, ns in found.items()}
    return found


def as_long(rows: dict[str, list[int]]) -> pd.DataFrame:
    pairs = [(symbol, number) for symbol, ns in rows.items() for number in ns]
    times = pd.DatetimeIndex([when(n) for _, n in pairs])
    return pd.DataFrame(
        {
            "time": times.astype(long_frames.TIME),
            "code": pd.Series([symbol for symbol, _ in pairs], dtype=str),
            **{
                field: np.array([prices(n)[i] for _, n in pairs], np.float64)
                for i, field in enumerate(FIELDS)
            },
        }
    )


def as_wide(rows: dict[str, list[int]]) -> pd.DataFrame:
    long = as_long(rows)
    times = sorted(set(long["time"]))
    index = pd.DatetimeIndex(times).astype(long_frames.TIME)
    columns = pd.MultiIndex.from_product([FIELDS, list(rows)])
    wide = pd.DataFrame(np.nan, index=index, columns=columns)
    for symbol, numbers in rows.items():
        for number in numbers:
            for i, field in enumerate(FIELDS):
                wide.loc[when(number), (field, symbol)] = prices(number)[i]
    return wide


def gaps_of(rows: dict[str, list[int]]) -> int:
    return sum(ns[-1] - ns[0] + 1 - len(ns) for ns in rows.values() if ns)


NUMBERS = st.lists(st.integers(0, 9), max_size=8, unique=True).map(sorted)


@given(
    numbers=st.lists(NUMBERS, min_size=1, max_size=3),
    count=st.integers(1, 9),
    align=st.booleans(),
    wide=st.booleans(),
    way=st.sampled_from(WAYS),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")
def test_the_frame_is_what_sets_give(
    strategy: str,
    numbers: list[list[int]],
    count: int,
    align: bool,
    wide: bool,
    way: Callable[..., pd.DataFrame],
) -> None:
    held = dict(zip(SYMBOLS, numbers, strict=False))
    attachment.detach()
    with create(strategy, history=100) as writer:
        fill(writer, held)
        found = way(security=list(held), count=count, align=align, wide=wide)
        writer.close(unlink=True)
    rows = chosen(held, count, align, wide)
    expected = as_wide(rows) if wide else as_long(rows)
    if wide and not rows:
        assert found.shape == (0, 0)
    else:
        pd.testing.assert_frame_equal(found, expected, check_freq=False)
    attrs = found.attrs["shmfeed"]
    assert attrs.absent == [symbol for symbol in held if not held[symbol]]
    assert attrs.gaps == gaps_of(rows)
    assert attrs.valid


MOMENTS = st.none() | st.integers(-2, 12)
_WARNINGS = (
    "ignore::wealthdata.StaleFeedWarning",
    "ignore::wealthdata.BehindWarning",
)


@given(
    numbers=st.lists(NUMBERS, min_size=1, max_size=3),
    bounds=st.tuples(MOMENTS, MOMENTS),
    count=st.none() | st.integers(1, 9),
    align=st.booleans(),
    wide=st.booleans(),
)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings(*_WARNINGS)
def test_a_range_is_the_same_by_both_ways(
    strategy: str,
    numbers: list[list[int]],
    bounds: tuple[int | None, int | None],
    count: int | None,
    align: bool,
    wide: bool,
) -> None:
    held = dict(zip(SYMBOLS, numbers, strict=False))
    start, end = (None if n is None else when(n) for n in bounds)
    if start is not None:
        count = None
        end = None if end is None else max(start, end)
    asked = {"start_date": start, "end_date": end, "count": count}
    shape = {"align": align, "wide": wide}
    attachment.detach()
    with create(strategy, history=100) as writer:
        fill(writer, held)
        cut, long_way = (
            way(security=[*held], **asked, **shape)
            for way in (by_the_cut, by_the_long_way)
        )
        counts = ("short", "gaps", "unconfirmed", "polled", "due", "late", "behind")
        found, expected = (
            [frame.attrs["shmfeed"][name] for name in counts]
            for frame in (cut, long_way)
        )
        writer.close(unlink=True)
    pd.testing.assert_frame_equal(cut, long_way, check_freq=False)
    assert found == expected
    assert cut.attrs["shmfeed"] == long_way.attrs["shmfeed"]


class TestTheTwoWaysAreOne:
    @pytest.fixture
    def frames(self, writer: FeedWriter) -> list[pd.DataFrame]:
        fill(writer, {"A": [0, 1, 2], "B": [1, 2], "C": []})
        asked = {"security": ["B", "A", "B", "C"], "count": 3}
        return [by_the_long_way(**asked), by_the_cut(**asked)]

    def test_frames_and_attrs(self, frames: list[pd.DataFrame]) -> None:
        long_way, cut = frames
        pd.testing.assert_frame_equal(cut, long_way)
        assert list(cut["code"]) == ["B", "B", "A", "A", "A"]
        ages = [frame.attrs["shmfeed"].pop("age") for frame in frames]
        assert 0 <= ages[0] <= ages[1]
        assert cut.attrs == long_way.attrs

    def test_each_frame_is_private(self, frames: list[pd.DataFrame]) -> None:
        before = copy.deepcopy(frames[1])
        for frame in frames:
            frame.loc[:, "close"] = -1.0
            frame.loc[0, "code"] = "X"
            frame.iloc[0, 0] = when(99)
        again = get_price(["B", "A", "B", "C"], count=3)
        pd.testing.assert_frame_equal(again, before)
        assert pickle.loads(pickle.dumps(again)).equals(before)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("align", [False, True])
def test_integer_fields(writer: FeedWriter, align: bool, wide: bool) -> None:
    fill(writer, {"A": [0, 1, 2], "B": [2]})
    fields = ["close", "open_time", "flags"]
    found = get_price(["A", "B"], fields=fields, align=align, wide=wide)
    if not wide:
        rows = [2, 2] if align else [0, 1, 2, 2]
        assert found["open_time"].tolist() == [opens(n) for n in rows]
        assert found["flags"].dtype == np.int64
    else:
        assert found[("open_time", "A")].iloc[-1] == opens(2)
        assert (found.dtypes[("open_time", "A")] == np.int64) == align


def test_one_field_of_a_wide_frame(writer: FeedWriter) -> None:
    fill(writer, {"A": [0, 1], "B": [1]})
    for fields in ("close", ["close"]):
        found = get_price(["B", "A"], fields=fields, wide=True)
        assert list(found.columns) == ["B", "A"]
        assert found["A"].tolist() == [prices(0)[3], prices(1)[3]]
        assert np.isnan(found["B"].iloc[0])


def test_the_columns_of_a_frame_are_its_own(writer: FeedWriter) -> None:
    fill(writer, {"A": [0], "B": [0]})
    for wide, fields in ((False, None), (True, None), (True, "close")):
        first = get_price(["A", "B"], wide=wide, fields=fields)
        columns = first.columns.tolist()
        first.columns.name = "mine"
        first.index.name = "mine"
        for index in [first.columns, *getattr(first.columns, "levels", [])]:
            with suppress(ValueError, TypeError):
                index.values[0] = "X"
        again = get_price(["A", "B"], wide=wide, fields=fields)
        assert again.columns.tolist() == columns
        assert again.columns.name is None
        assert again.index.name is None


@pytest.mark.parametrize("wide", [False, True])
def test_forming_bars_of_a_list(writer: FeedWriter, wide: bool) -> None:
    fill(writer, {"A": [0, 1], "B": [0, 1]})
    for symbol in "AB":
        ring = writer.add_stream(symbol, "1h")
        ring.update_forming(opens(2), *prices(2))
    found = get_price(["A", "B"], count=2, include_now=True, align=True, wide=wide)
    times = found.index if wide else found["time"]
    assert sorted(set(times)) == [when(1), when(2)]
    assert found.attrs["shmfeed"].forming


def test_a_forming_bar_that_is_not_shown_is_not_claimed(writer: FeedWriter) -> None:
    fill(writer, {"A": [0, 1], "B": [0, 1], "C": [5]})
    writer.add_stream("B", "1h").update_forming(opens(2), *prices(2))
    for shape in ({"align": True}, {"align": True, "wide": True}):
        for pair in (["A", "B"], ["B", "C"]):
            found = get_price(pair, include_now=True, **shape)
            assert not found.attrs["shmfeed"].forming
    assert get_price(["A", "B"], include_now=True).attrs["shmfeed"].forming
    found = get_price(["B", "C"], count=1, include_now=True, wide=True)
    assert not found.attrs["shmfeed"].forming


def test_a_stream_that_stopped_bounds_an_aligned_frame(writer: FeedWriter) -> None:
    fill(writer, {"A": [0, 1, 2], "B": list(range(40))})
    for way in WAYS:
        attachment.detach()
        found = way(security=["A", "B"], count=2, align=True)
        assert list(found["time"]) == [when(1), when(2)] * 2


class TestSecuritiesThatTheFeedDoesNotCarry:
    def test_are_absent_and_warned_of_once(self, writer: FeedWriter) -> None:
        fill(writer, {"A": [0, 1]})
        with pytest.warns(MissingBarsWarning, match=r"not carry X, Y at 1h; ") as seen:
            found = get_price(["X", "A", "Y"])
        assert len(seen) == 1
        assert seen[0].filename == __file__
        for _ in range(2):
            assert found.attrs["shmfeed"].absent == ["X", "Y"]
            assert list(found["code"]) == ["A", "A"]
            found = get_price(["X", "A", "Y"])
        found = get_price(["X", "A"], end_date=when(5))
        assert found.attrs["shmfeed"].absent == ["X"]

    def test_are_seen_once_the_feed_carries_them(self, writer: FeedWriter) -> None:
        fill(writer, {"A": [0]})
        with pytest.warns(MissingBarsWarning):
            get_price(["A", "X"])
        fill(writer, {"X": [0]})
        assert list(get_price(["A", "X"])["code"]) == ["A", "X"]

    def test_alone_they_are_an_error(self, writer: FeedWriter) -> None:
        fill(writer, {"A": [0]})
        with pytest.raises(StreamNotFoundError, match="X 1h"):
            get_price(["X", "Y"])

    @pytest.mark.parametrize("more", [{}, {"end_date": when(5)}, {"fields": "flags"}])
    def test_are_named_with_the_nearest_symbol(
        self, writer: FeedWriter, more: dict[str, Any]
    ) -> None:
        fill(writer, {"BTCUSDT": [0], "ETHUSDT": [0]})
        hint = r"btcusdt \(did you mean BTCUSDT\?\), Q at 1h"
        with pytest.warns(MissingBarsWarning, match=hint):
            get_price(["btcusdt", "Q", "ETHUSDT"], **more)
        with pytest.raises(StreamNotFoundError, match=r"; did you mean ETHUSDT\?$"):
            get_price(["ETHUSD", "btcusdt"], **more)

    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"align": True},
            {"wide": True, "fields": "close"},
            {"end_date": when(5)},
            {"fields": ["close", "flags"]},
            {"include_now": True},
            {"frequency": "2h"},
        ],
    )
    @pytest.mark.filterwarnings("ignore::wealthdata.MissingBarsWarning")
    def test_lack_each_row_asked_for(
        self, writer: FeedWriter, more: dict[str, Any]
    ) -> None:
        fill(writer, {"A": range(6)})
        for _ in range(2):
            found = get_price(["A", "X"], count=2, **more)
            assert found.attrs["shmfeed"].short == 2
            words = "X .* 0 rows of 2 asked for, as the feed does not carry it"
            with pytest.raises(ShortError, match=words):
                get_price(["A", "X"], count=2, on_short="raise", **more)
        alone = get_price(["A"], count=2, on_short="raise", **more)
        assert alone.attrs["shmfeed"].short == 0

    @pytest.mark.filterwarnings("ignore::wealthdata.MissingBarsWarning")
    def test_lack_no_row_of_a_range(self, writer: FeedWriter) -> None:
        fill(writer, {"A": range(3)})
        found = get_price(["A", "X"], start_date=when(1), on_short="raise")
        assert found.attrs["shmfeed"].short == 0

    def test_carried_ones_without_rows_make_an_empty_frame(
        self, writer: FeedWriter
    ) -> None:
        fill(writer, {"A": [], "B": []})
        with pytest.warns(MissingBarsWarning):
            found = get_price(["A", "B", "X"])
        pd.testing.assert_frame_equal(found, as_long({}))
        assert found.attrs["shmfeed"].absent == ["A", "B", "X"]

    def test_a_context_may_have_them(self, writer: FeedWriter) -> None:
        fill(writer, {"A": [0, 1]})
        set_context(Context([listed(0, 1, symbol="X")]))
        with pytest.warns(StaleFeedWarning, match="X 1h is stale: feed .* has no rows"):
            found = get_price(["A", "X"], count=2)
        assert list(found["code"]) == ["A", "A", "X", "X"]
        assert found.attrs["shmfeed"].absent == []


class TestContexts:
    def test_older_bars_of_a_list(self, writer: FeedWriter) -> None:
        fill(writer, {"A": [2, 3], "B": [2, 3]})
        asked: dict[str, Any] = {"security": ["A", "B"], "count": 4}
        assert len(by_the_cut(**asked)) == 4
        bars = [listed(0, 1, 2, symbol=symbol) for symbol in "AB"]
        set_context(Context(bars))
        for align in (False, True):
            found = get_price(**asked, align=align)
            assert list(found["time"]) == [when(n) for n in range(4)] * 2

    def test_without_a_feed_a_list_lacks_what_the_context_lacks(
        self, strategy: str
    ) -> None:
        set_context(Context([listed(0, 1, symbol="A")]))
        with pytest.warns(StaleFeedWarning, match=f"feed {strategy!r} is not on this"):
            found = get_price(["A", "X"])
        assert list(found["code"]) == ["A", "A"]
        assert found.attrs["shmfeed"].absent == ["X"]
        with pytest.raises(NoDataError, match=f"no feed {strategy!r}.* no X 1h"):
            get_price(["X", "Y"])

    def test_the_time_of_a_context_hides_newer_bars(self, writer: FeedWriter) -> None:
        fill(writer, {"A": [0, 1, 2], "B": [0, 1, 2]})
        by_the_cut(security=["A", "B"], count=2)
        set_context(Context([], current_dt=when(1)))
        found = get_price(["A", "B"], count=2)
        assert list(found["time"]) == [when(0), when(1)] * 2


class TestFreshness:
    def test_the_state_of_all(self, writer: FeedWriter) -> None:
        fill(writer, {"A": [0], "B": [0]})
        attrs = by_the_cut(security=["A", "B"]).attrs["shmfeed"]
        assert (attrs.health, attrs.state, attrs.source) == (
            "live",
            "connected",
            "live",
        )

    def test_a_dead_feed_is_warned_of_for_each(self, writer: FeedWriter) -> None:
        fill(writer, {"A": [0], "B": [0]})
        by_the_cut(security=["A", "B"])
        writer.close()
        with pytest.warns(StaleFeedWarning) as seen:
            attrs = get_price(["A", "B"]).attrs["shmfeed"]
        assert len(seen) == 2
        assert attrs.health == "dead"
        with pytest.raises(StaleFeedError):
            get_price(["A", "B"], on_stale="raise")
        get_price(["A", "B"], on_stale="ignore")

    def test_an_outage_ends_with_a_fresh_list(self, writer: FeedWriter) -> None:
        fill(writer, {"A": [0], "B": [0]})
        freshness.outages.add(((writer.name, "B", "1h"), None))
        by_the_cut(security=["A", "B"])
        assert not freshness.outages

    def test_max_age(self, writer: FeedWriter) -> None:
        fill(writer, {"A": [0], "B": [0]})
        get_price(["A", "B"], max_age=100.0, on_stale="raise")
        with pytest.raises(StaleFeedError, match=r"^A 1h"):
            get_price(["A", "B"], max_age=0.0, on_stale="raise")


@pytest.mark.parametrize("name", ["align", "wide"])
def test_flags_are_checked(writer: FeedWriter, name: str) -> None:
    fill(writer, {"A": [0]})
    for security in (["A"], "A"):
        with pytest.raises(BadArgumentError, match=f"{name} is 'yes'; it must be True"):
            get_price(security, end_date=when(9), **{name: "yes"})


def test_of_one_security_they_change_nothing(writer: FeedWriter) -> None:
    fill(writer, {"A": [0, 1]})
    plain = get_price("A")
    pd.testing.assert_frame_equal(get_price("A", align=True, wide=True), plain)


@pytest.mark.parametrize("security", ["A", ["A"], ["A", "B"]])
def test_the_second_call_refuses_what_the_first_does(
    writer: FeedWriter, security: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(writer, {"A": [0, 1], "B": [0, 1]})
    get_price(security)
    get_price(security)
    odd = ("yes", None, 0.0, 2, np.array([1, 2]), [])
    for name, value in [*itertools.product(("align", "wide"), odd), *ODD_CHOICES]:
        with pytest.raises(BadArgumentError, match=name):
            get_price(security, **{name: value})
    monkeypatch.setenv("SHMFEED_COPY", "perhaps")
    with pytest.raises(BadArgumentError, match="SHMFEED_COPY is 'perhaps'"):
        get_price(security)


@pytest.mark.parametrize("security", ["A", ["A"], ("A", "B"), ["A", "B"]])
@pytest.mark.parametrize("kind", [np.array, set, pd.Index, pd.Series, iter], ids=str)
def test_fields_are_any_iterable(
    writer: FeedWriter, security: Any, kind: Callable[[Any], Any]
) -> None:
    fill(writer, {"A": [0, 1], "B": [0, 1]})
    expected = get_price(security, fields=["close"])
    for _ in range(2):
        found = get_price(security, fields=kind(["close"]))
        pd.testing.assert_frame_equal(found, expected)


def test_a_wide_frame_of_short_histories_has_no_more_times(writer: FeedWriter) -> None:
    fill(writer, {"A": [0, 1, 2, 3], "B": [5, 6, 7, 8, 9]})
    for way in WAYS:
        attachment.detach()
        found = way(security=["A", "B"], count=7, wide=True, fields="close")
        assert list(found.index) == [when(n) for n in (2, 3, 5, 6, 7, 8, 9)]
        assert found.attrs["shmfeed"].gaps == 0


def test_a_list_that_cannot_be_hashed_names_the_argument(writer: FeedWriter) -> None:
    fill(writer, {"A": [0]})
    wrong: Any = [["A"]]
    with pytest.raises(BadArgumentError, match="symbol"):
        get_price(wrong)


def test_few_rows_of_codes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_frames, "_MAX_CODE_ROWS", 1000)
    for rows in range(400, 440):
        assert len(long_frames.code_column(("A", "B"), rows)) == 2 * rows
        kept = sum(map(len, long_frames._codes.values()))
        assert kept <= 1000 + 2 * rows


class TestTheLongFrame:
    def test_the_direct_template_serves_here(self) -> None:
        assert long_frames.DIRECT is long_frames.DirectLongTemplate

    def test_another_pandas_is_served_by_the_public_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken(long_frames.DirectLongTemplate):
            def __call__(self, columns: Any, *rest: Any) -> pd.DataFrame:
                return super().__call__(columns + 1.0, *rest)

        assert not long_frames.builds_alike(Broken)
        monkeypatch.setattr(long_frames, "DirectLongTemplate", Broken)
        assert long_frames.select_template() is long_frames.PublicLongTemplate


class TestAListOfOne:
    """It must give what a cut of several gives, by C's own way too."""

    @pytest.mark.parametrize("fields", [None, "money", ["close", "open"], ["high"]])
    @pytest.mark.parametrize("count", [1, 3, 50])
    def test_is_the_frame_of_the_cut(
        self, writer: FeedWriter, fields: Any, count: int
    ) -> None:
        fill(writer, {"A": [0, 1, 3, 4], "B": [0, 1, 3, 4]})
        asked: dict[str, Any] = {"fields": fields, "count": count}
        both = get_price(["A", "B"], **asked)
        get_price(["A"], **asked)
        found = get_price(["A"], **asked)
        assert [type(query) for query in query_cache.list_queries.values()] == [
            CachedListQuery,
            CachedListQuery,
        ]
        pd.testing.assert_frame_equal(found, both[both["code"] == "A"])
        attrs = found.attrs["shmfeed"]
        assert [*attrs] == [*both.attrs["shmfeed"]]
        assert attrs.gaps == (count > 2)
        assert attrs.age > 0
        found.loc[:, "time"] = when(7)
        found.iloc[0, 2] = -1.0
        assert get_price(["A"], **asked).iloc[0, 2] != -1.0

    def test_without_bars_it_is_empty(self, writer: FeedWriter) -> None:
        fill(writer, {"A": []})
        for _ in range(2):
            found = get_price(["A"])
            pd.testing.assert_frame_equal(found, as_long({}))
            assert found.attrs["shmfeed"].absent == ["A"]

    def test_a_context_counts(self, writer: FeedWriter) -> None:
        fill(writer, {"A": [2, 3]})
        for _ in range(2):
            assert len(get_price(["A"])) == 2
        set_context(Context([listed(0, 1, 2, symbol="A")]))
        assert list(get_price(["A"])["time"]) == [when(n) for n in range(4)]

    def test_a_recreated_feed_without_it(self, writer: FeedWriter) -> None:
        fill(writer, {"A": [0]})
        get_price(["A"])
        writer.close(unlink=True)
        with create(writer.name) as other:
            fill(other, {"B": [0]})
            with pytest.raises(StreamNotFoundError):
                get_price(["A"])
            other.close(unlink=True)


class TestLate:
    """An aligned frame names the securities that hold it back."""

    @pytest.mark.parametrize("way", WAYS)
    def test_in_seconds(
        self, writer: FeedWriter, way: Callable[..., pd.DataFrame]
    ) -> None:
        fill(writer, {"A": [0, 1, 2], "B": [0, 1, 2, 3], "C": [1, 2, 3, 4], "D": []})
        found = way(security=["D", "C", "B", "A"], count=1, align=True)
        assert list(found["time"]) == [when(2)] * 3
        attrs = found.attrs["shmfeed"]
        assert attrs.late == {"A": 7200.0, "B": 3600.0}
        assert attrs.behind == 7200.0
        assert attrs.absent == ["D"]

    @pytest.mark.parametrize("way", WAYS)
    def test_of_none(
        self, writer: FeedWriter, way: Callable[..., pd.DataFrame]
    ) -> None:
        fill(writer, {"A": [0, 1, 2], "B": [1, 2]})
        attrs = way(security=["A", "B"], count=2, align=True).attrs["shmfeed"]
        assert (attrs.late, attrs.behind) == ({}, 0.0)
        attrs = get_price(["A", "B"], count=2).attrs["shmfeed"]
        assert (attrs.late, attrs.behind) == ({}, 0.0)


@pytest.mark.parametrize("way", WAYS)
def test_a_wide_frame_has_no_column_without_a_bar(
    writer: FeedWriter, way: Callable[..., pd.DataFrame]
) -> None:
    fill(writer, {"HALTED": [0, 1], "A": list(range(10)), "B": list(range(10))})
    found = way(security=["HALTED", "A", "B"], count=3, wide=True, fields="close")
    assert list(found.columns) == ["A", "B"]
    assert not found.isna().any(axis=None)
    assert found.attrs["shmfeed"].absent == ["HALTED"]


class TestSeveralFeeds:
    @pytest.fixture
    def other(self, writer: FeedWriter) -> Iterator[FeedWriter]:
        with create(f"{writer.name}-2", history=50) as made:
            yield made
            made.close(unlink=True)

    @pytest.mark.parametrize("way", WAYS)
    def test_are_one_frame_in_the_order_asked(
        self,
        writer: FeedWriter,
        other: FeedWriter,
        way: Callable[..., pd.DataFrame],
    ) -> None:
        fill(writer, {"A": [0, 1, 2], "C": [0, 1, 2]})
        fill(other, {"A": [5, 6], "B": [1, 2]})
        there = f"@{other.name}"
        names = ["C", f"B{there}", "A", f"A{there}"]
        found = way(security=names, count=2)
        assert found["code"].tolist() == [name for name in names for _ in range(2)]
        assert found["time"].tolist() == [when(n) for n in (1, 2, 1, 2, 1, 2, 5, 6)]
        attrs = found.attrs["shmfeed"]
        assert attrs.feed == f"{writer.name},{other.name}"
        alone = get_price(["A"], count=2, feed=other.name)
        part = found[found["code"] == f"A{there}"].reset_index(drop=True)
        pd.testing.assert_frame_equal(
            part.drop(columns="code"), alone.drop(columns="code")
        )
        attachment.detach()
        found = way(security=names[:3], count=2, align=True, wide=True)
        assert list(found.index) == [when(1), when(2)]


class TestAnInstant:
    """No security of a list has a bar that closed after one which another lacks."""

    ORDER = ("A", "B", "C")

    def skew(self, found: pd.DataFrame) -> int:
        """Return the bars by which a security is ahead of one that closes first."""
        newest = found.groupby("code", sort=False)["time"].max()
        times = [newest[symbol] for symbol in self.ORDER]
        pairs = itertools.pairwise(times)
        return max(
            int((after - before) / pd.Timedelta("1h")) for before, after in pairs
        )

    @pytest.mark.filterwarnings("ignore::wealthdata.BehindWarning")
    @pytest.mark.parametrize(
        "asked",
        [
            {},
            {"end_date": when(10_000)},
            {"fields": ["close", "flags"]},
            {"fields": ["close", "flags"], "end_date": when(10_000)},
            {"include_now": True},
        ],
        ids=["cut", "range", "integers", "range of integers", "forming"],
    )
    def test_is_that_of_all(
        self, writer: FeedWriter, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one_cut = "fields" not in asked and "include_now" not in asked
        fill(writer, {symbol: [0, 1, 2] for symbol in self.ORDER})
        rings = [writer.add_stream(symbol, "1h") for symbol in self.ORDER]
        numbers = itertools.count(3)

        def close_between(*given: Any) -> Any:
            number = next(numbers)
            for ring in rings:  # always A first
                append(ring, number)
            return find(*given)

        find = list_reading.find_bars
        skewed = self.read_between(monkeypatch, close_between, asked)
        assert self.skew(skewed) <= 0

        monkeypatch.setattr(list_reading, "_newest_closes", lambda *_: {})
        if not one_cut:  # the control: each is read as of its own time
            assert self.skew(self.read_between(monkeypatch, close_between, asked)) > 0

    def read_between(
        self, monkeypatch: pytest.MonkeyPatch, find: Any, asked: dict[str, Any]
    ) -> pd.DataFrame:
        def call(key: Any, request: Any, sources: Any, private: bool) -> Any:
            return find(key, request, sources, private)

        monkeypatch.setattr(list_reading, "find_bars", call)
        return get_price(list(self.ORDER), count=2, **asked)


def test_few_queries_of_lists_are_kept(writer: FeedWriter) -> None:
    names = [f"S{k}" for k in range(4)]
    fill(writer, {name: [0] for name in names})
    for mask in range(1, 16):
        for fields in ("open", "high", "low", "close", "volume"):
            listed = [name for k, name in enumerate(names) if mask >> k & 1]
            get_price(listed, fields=fields)
    assert 0 < len(query_cache.list_queries) <= query_cache.MAX_LISTS
