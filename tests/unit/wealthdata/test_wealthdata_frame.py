"""The two ways of putting a frame together: one result, and indexes of its own."""

import copy
import itertools
import pickle
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
from support.strategy_side import SYMBOL, append, shares

import wealthdata
from shmfeed.bar import DEFAULT_FIELDS, FLOAT_FIELDS
from shmfeed.ringbuf import RingWriter
from wealthdata import frame, get_price
from wealthdata.attrs import make_reading
from wealthdata.frame import DirectWay, PublicWay, Way, pieces, sealed, times

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

PANDAS = int(pd.__version__.partition(".")[0])
HOUR = 3_600_000
WAYS = [DirectWay, PublicWay]
SUBSETS = [
    fields
    for size in range(1, 7)
    for number, fields in enumerate(itertools.permutations(FLOAT_FIELDS, size))
    if size < 3 or number % 24 == 0
]


def floats(count: int, shared: bool) -> np.ndarray:
    """(6, count), as a ring has them: rows far apart, read-only where shared."""
    ring = np.random.default_rng(1).random((9, 2 * count + 10))
    ring[2:8, ::7] = np.nan
    ring.flags.writeable = not shared
    return ring[2:8, 5 : 5 + count]


def make(
    way: type[Way],
    fields: tuple[str, ...] = FLOAT_FIELDS,
    count: int = 20,
    shared: bool = True,
    memory: np.ndarray | None = None,
) -> pd.DataFrame:
    memory = floats(count, shared) if memory is None else memory
    layout = pieces([FLOAT_FIELDS.index(field) for field in fields])
    closes = 1_704_067_200_000 + np.arange(memory.shape[1]) * HOUR
    reading = make_reading(True, {"source": "live"})
    return way(sealed(fields), layout).frame(memory, times(closes), reading, shared)


def test_the_direct_way_is_taken() -> None:
    assert frame.WAY is frame.choose() is DirectWay


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "private"])
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_both_give_the_same(count: int, shared: bool) -> None:
    for fields in SUBSETS:
        memory = floats(count, shared)
        direct, public = (make(way, fields, memory=memory) for way in WAYS)
        pd.testing.assert_frame_equal(
            direct, public, check_freq=True, check_flags=True, check_exact=True
        )
        for found in (direct, public):
            assert list(found.columns) == list(fields)
            assert found.columns.dtype == pd.Index(["a"]).dtype
            assert found.index.dtype == frame.TIME
            assert found.index.freq is None
            assert found.attrs == {"shmfeed": {"source": "live"}}
            if count:
                assert all(np.shares_memory(found[f], memory) for f in fields)


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_what_is_made_of_them_is_the_same(count: int) -> None:
    """Each goes through other attributes of a frame, its blocks, its indexes."""
    asked: list[Callable[[pd.DataFrame], object]] = [
        lambda f: f.copy(),
        lambda f: pickle.loads(pickle.dumps(f)),
        copy.copy,
        copy.deepcopy,
        lambda f: f.rolling(3).mean(),
        lambda f: f.loc[f.index[:1]],
        lambda f: f.loc["2024-01-01"] if count else f,
        lambda f: f.reset_index(),
        lambda f: f.T,
        lambda f: f[["close", "open"]],
        lambda f: f.rename(columns=str.upper).assign(ma=1.0),
        lambda f: pd.concat([f, f]),
        lambda f: f.join(f.add_suffix("_2")),
        lambda f: (f * 2 + f).describe() if count else f,
        lambda f: f.resample("2h").last(),
        lambda f: f.shift(freq="1h") if count else f,
        lambda f: f.index.union(f.index.shift(1, "h")),
        lambda f: f.index.get_indexer(f.index[::-1]).tolist(),
        lambda f: f.index.tz_localize("UTC").tz_convert("Asia/Shanghai"),
        lambda f: f.isna().sum(),
        lambda f: f.memory_usage().tolist(),
        lambda f: f.to_json(date_format="iso"),
        repr,
    ]
    for ask in asked:
        direct, public = (ask(make(way, count=count)) for way in WAYS)
        assert type(direct) is type(public)
        if isinstance(direct, pd.DataFrame):
            pd.testing.assert_frame_equal(direct, public)
            assert direct.attrs == public.attrs
        elif isinstance(direct, pd.Series):
            pd.testing.assert_series_equal(direct, public)
        elif isinstance(direct, pd.Index):
            pd.testing.assert_index_equal(direct, public)
        else:
            assert direct == public


@pytest.mark.parametrize("way", WAYS)
def test_what_is_made_of_an_index_is_copied_before_it_is_written_to(
    way: type[Way],
) -> None:
    layout = way(sealed(FLOAT_FIELDS), pieces([*range(6)]))
    found, other = (
        layout.frame(
            floats(20, True), times(np.arange(20) * HOUR), make_reading(True, {}), True
        )
        for _ in range(2)
    )
    del layout  # what is known to be shared does not hang on it
    assert found.columns.is_(other.columns)
    for number, axis in enumerate(("columns", "index")):
        series = pd.Series(getattr(found, axis))
        first = series.iloc[0] = series.iloc[1]
        assert series.iloc[0] == first
        assert getattr(found, axis)[0] != first
        assert other.axes[1 - number][0] != first


def test_a_frame_of_the_direct_way_can_be_given_flags_and_attributes() -> None:
    found = make(DirectWay)
    assert found.flags.allows_duplicate_labels
    found.flags.allows_duplicate_labels = False
    assert make(DirectWay).flags.allows_duplicate_labels
    found.attrs["mine"] = 1
    assert "mine" not in make(DirectWay).attrs
    found["ma"] = found.pop("close")
    assert list(found)[-1] == "ma"


TOUCHES: list[Callable[[pd.DataFrame], object]] = [
    lambda f: setattr(f.index, "name", "mine"),
    lambda f: setattr(f.columns, "name", "mine"),
    lambda f: setattr(f.index, "names", ["mine"]),
    lambda f: setattr(f.columns, "names", ["mine"]),
    lambda f: f.index.set_names("mine", inplace=True),
    lambda f: f.columns.set_names("mine", inplace=True),
    lambda f: f.index.rename("mine", inplace=True),
    lambda f: f.columns.rename("mine", inplace=True),
    lambda f: f.rename_axis("mine", inplace=True),
    lambda f: f.rename_axis("mine", axis=1, inplace=True),
    lambda f: f.rename(columns={"open": "mine"}, inplace=True),
    lambda f: setattr(f, "columns", list("abcde")),
    lambda f: setattr(f, "index", range(20)),
    lambda f: f.insert(0, "mine", 1.0),
    lambda f: f.pop("open"),
    lambda f: setattr(f.index, "freq", "h"),
    lambda f: f.columns.values.__setitem__(0, "mine"),
    lambda f: f.columns.array.__setitem__(0, "mine"),
    lambda f: f.columns.to_numpy().__setitem__(0, "mine"),
    lambda f: np.asarray(f.columns).__setitem__(0, "mine"),
    lambda f: f.columns.to_series().iloc.__setitem__(0, "mine"),
    lambda f: pd.Series(f.columns).iloc.__setitem__(0, "mine"),
    lambda f: pd.Series(f.columns).array.__setitem__(0, "mine"),
    lambda f: f.T.reset_index().iloc.__setitem__((0, 0), "mine"),
    lambda f: f.index.values.__setitem__(0, f.index.values[1]),
    lambda f: f.index.array.__setitem__(0, f.index[1]),
    lambda f: f.index.asi8.__setitem__(0, 0),
    lambda f: np.asarray(f.index).__setitem__(0, f.index.values[1]),
]


def test_what_columns_are_looked_up_in_is_there_before_frames_share_it() -> None:
    """Two threads never make it at once."""
    assert make(DirectWay).columns._engine.is_mapping_populated
    assert not pd.Index(["open", "close"])._engine.is_mapping_populated


class TestIndexesOfItsOwn:
    """What is done to one frame's indexes shows on no other."""

    @pytest.fixture(params=WAYS)
    def way(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> type[Way]:
        monkeypatch.setattr(frame, "WAY", request.param)
        monkeypatch.setattr(frame, "_layouts", {})
        chosen: type[Way] = request.param
        return chosen

    @pytest.fixture(
        params=[("future.infer_string", False), ("future.infer_string", True)]
        + [("mode.string_storage", "python")] * (PANDAS > 2),
        ids=str,
    )
    def storage(self, request: pytest.FixtureRequest) -> Iterator[None]:
        """How pandas keeps the names of columns."""
        with pd.option_context(*request.param):
            yield

    @pytest.mark.filterwarnings("ignore")  # chained assignments warn
    def test_no_touch_shows_elsewhere(
        self, way: type[Way], storage: None, ring: RingWriter
    ) -> None:
        append(ring, *range(30))
        for number, touch in enumerate(TOUCHES):
            before, touched = get_price(SYMBOL), get_price(SYMBOL)
            times = before.index.tolist()
            try:
                touch(touched)
            except (ValueError, TypeError) as error:
                assert "read-only" in str(error)  # noqa: PT017 # a refusal will do
            for found in (before, get_price(SYMBOL), get_price(SYMBOL, count=20)):
                assert found.columns.name is None, number
                assert found.index.name is None, number
                assert found.index.freq is None, number
                assert list(found.columns) == [*DEFAULT_FIELDS], number
                assert found.index.tolist() == times, number

    def test_the_control_shares_them(self) -> None:
        """A way that hands out the same index again is seen by what is asked above."""
        first, second = make(PublicWay), make(PublicWay)
        second.columns = first.columns
        first.columns.name = "mine"
        assert second.columns.name == "mine"


class TestTheChoice:
    """The direct way is taken only where it gives what the public one does."""

    def test_the_public_way_serves_where_pandas_insides_have_moved(
        self, ring: RingWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        append(ring, *range(20))
        expected = get_price(SYMBOL)

        def moved(name: str) -> None:
            raise ImportError(name)

        monkeypatch.setattr(frame, "import_module", moved)
        assert frame.choose() is PublicWay
        monkeypatch.setattr(frame, "WAY", PublicWay)
        monkeypatch.setattr(frame, "_layouts", {})
        wealthdata.attachment.detach()
        found = get_price(SYMBOL)
        pd.testing.assert_frame_equal(found, expected)
        assert shares(found)

    @pytest.mark.parametrize("name", frame._Insides._fields)
    def test_any_one_that_has_moved_will_do(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load = frame._load
        was = getattr(load(), name)
        other = not was if isinstance(was, bool) else None
        monkeypatch.setattr(frame, "_load", lambda: load()._replace(**{name: other}))
        assert frame.choose() is PublicWay

    def test_a_way_that_disagrees_is_not_taken(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Wrong(DirectWay):
            def frame(self, floats, times, reading, shared):
                return super().frame(floats + 1.0, times, reading, shared)

        monkeypatch.setattr(frame, "DirectWay", Wrong)
        assert frame.choose() is PublicWay

    def test_nor_is_one_that_copies(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Copying(DirectWay):
            def frame(self, floats, times, reading, shared):
                return super().frame(floats.copy(), times, reading, shared)

        monkeypatch.setattr(frame, "DirectWay", Copying)
        assert frame.choose() is PublicWay

    @pytest.mark.parametrize("part", ["frame", "index", "columns", "flags"])
    @pytest.mark.parametrize("change", ["more", "less", "other"])
    def test_nor_one_whose_parts_are_not_pandas_own(
        self, part: str, change: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As if pandas' makers had come to set another attribute, or none of these."""

        class Other(DirectWay):
            def frame(self, floats, times, reading, shared):
                made = super().frame(floats, times, reading, shared)
                parts = {
                    "frame": made,
                    "index": made._mgr.axes[1],
                    "columns": made._mgr.axes[0],
                    "flags": made._flags,
                }
                state = vars(parts[part])
                name = next(n for n in ("_attrs", "_id", "_obj") if n in state)
                if change == "more":
                    state["_another"] = None
                elif change == "other":
                    state[name] = "other"
                else:
                    del state[name]
                return made

        assert frame.whole(DirectWay)
        assert not frame.whole(Other)


def test_runs_of_one_stride_are_one_block() -> None:
    assert pieces([0, 1, 2, 3, 4]) == ((slice(0, 5), slice(0, 5, 1)),)
    assert pieces([0, 2, 4]) == ((slice(0, 3), slice(0, 5, 2)),)
    assert len(pieces([0, 3, 1])) == 2
    assert pieces([]) == ()
