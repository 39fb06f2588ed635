"""The two frame builders: equal frames, and indexes that no other frame sees."""

import copy
import itertools
import pickle
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
from support.numbered_bars import SYMBOL, append, shares

import wealthdata
from shmfeed.bar import DEFAULT_FIELDS, FLOAT_FIELDS
from shmfeed.ringbuf import RingWriter
from wealthdata import frame, get_price
from wealthdata.attrs import make_attrs
from wealthdata.frame import (
    DIRECT_BUILDERS,
    DirectFrameBuilder,
    FrameBuilder,
    PublicFrameBuilder,
    block_spans,
    readonly_index,
    to_datetimes,
)

pytest_plugins = ["support.frame_builders", "support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

PANDAS = int(pd.__version__.partition(".")[0])
HOUR = 3_600_000
each_direct = pytest.mark.parametrize("own", DIRECT_BUILDERS)
SUBSETS = [
    fields
    for size in range(1, 7)
    for number, fields in enumerate(itertools.permutations(FLOAT_FIELDS, size))
    if size < 3 or number % 24 == 0
]


def floats(count: int, shared: bool) -> np.ndarray:
    """Return a (6, count) array like a ring's: strided, read-only if shared."""
    ring = np.random.default_rng(1).random((9, 2 * count + 10))
    ring[2:8, ::7] = np.nan
    ring.flags.writeable = not shared
    return ring[2:8, 5 : 5 + count]


def make(
    builder: type[FrameBuilder],
    fields: tuple[str, ...] = FLOAT_FIELDS,
    count: int = 20,
    shared: bool = True,
    memory: np.ndarray | None = None,
) -> pd.DataFrame:
    memory = floats(count, shared) if memory is None else memory
    spans = block_spans([FLOAT_FIELDS.index(field) for field in fields])
    closes = 1_704_067_200_000 + np.arange(memory.shape[1]) * HOUR
    attrs = make_attrs(True, {"source": "live"})
    built = builder(readonly_index(fields), spans)
    return built.build(memory, to_datetimes(closes), attrs, shared)


def test_the_fastest_builder_is_selected() -> None:
    assert frame.BUILDER is frame.select_builder() is DIRECT_BUILDERS[0]


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "private"])
@pytest.mark.parametrize("count", [0, 1, 1000])
@each_direct
def test_both_builders_give_equal_frames(
    own: type[FrameBuilder], count: int, shared: bool
) -> None:
    for fields in SUBSETS:
        memory = floats(count, shared)
        direct, public = (
            make(builder, fields, memory=memory)
            for builder in (own, PublicFrameBuilder)
        )
        pd.testing.assert_frame_equal(
            direct, public, check_freq=True, check_flags=True, check_exact=True
        )
        for found in (direct, public):
            assert list(found.columns) == list(fields)
            assert found.columns.dtype == pd.Index(["a"]).dtype
            assert found.index.dtype == frame.TIME
            assert found.index.freq is None
            assert found.attrs == {"shmfeed": make_attrs(True, {"source": "live"})}
            if count:
                assert all(np.shares_memory(found[f], memory) for f in fields)


@pytest.mark.parametrize("count", [0, 1, 2, 50])
@each_direct
def test_operations_on_both_frames_give_equal_results(
    own: type[FrameBuilder], count: int
) -> None:
    """Each operation uses other attributes of a frame, its blocks, its indexes."""
    operations: list[Callable[[pd.DataFrame], object]] = [
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
    for operation in operations:
        direct, public = (
            operation(make(one, count=count)) for one in (own, PublicFrameBuilder)
        )
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


@pytest.mark.parametrize("builder", [*DIRECT_BUILDERS, PublicFrameBuilder])
def test_a_series_made_of_an_index_is_copied_before_a_write(
    builder: type[FrameBuilder],
) -> None:
    built = builder(readonly_index(FLOAT_FIELDS), block_spans([*range(6)]))
    closes = to_datetimes(np.arange(20) * HOUR)
    found, other = (
        built.build(floats(20, True), closes, make_attrs(True, {}), True)
        for _ in range(2)
    )
    del built  # the frames stay known to be shared without it
    assert found.columns.is_(other.columns)
    for number, axis in enumerate(("columns", "index")):
        series = pd.Series(getattr(found, axis))
        first = series.iloc[0] = series.iloc[1]
        assert series.iloc[0] == first
        assert getattr(found, axis)[0] != first
        assert other.axes[1 - number][0] != first


@each_direct
def test_a_frame_of_the_direct_builder_takes_flags_and_attributes(
    own: type[FrameBuilder],
) -> None:
    found = make(own)
    assert found.flags.allows_duplicate_labels
    found.flags.allows_duplicate_labels = False
    assert make(own).flags.allows_duplicate_labels
    found.attrs["mine"] = 1
    assert "mine" not in make(own).attrs
    found["ma"] = found.pop("close")
    assert list(found)[-1] == "ma"


CHANGES: list[Callable[[pd.DataFrame], object]] = [
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


def test_the_hash_table_of_the_columns_exists_before_frames_share_it() -> None:
    """Two threads never build it at once."""
    assert make(DirectFrameBuilder).columns._engine.is_mapping_populated
    assert not pd.Index(["open", "close"])._engine.is_mapping_populated


class TestIndexesAreNotShared:
    """A change of one frame's indexes shows on no other frame."""

    @pytest.fixture(
        params=[("future.infer_string", False), ("future.infer_string", True)]
        + [("mode.string_storage", "python")] * (PANDAS > 2),
        ids=str,
    )
    def storage(self, request: pytest.FixtureRequest) -> Iterator[None]:
        """Set how pandas stores the names of columns."""
        with pd.option_context(*request.param):
            yield

    @pytest.mark.filterwarnings("ignore")  # chained assignments warn
    def test_no_change_shows_on_another_frame(
        self, builder: type[FrameBuilder], storage: None, ring: RingWriter
    ) -> None:
        append(ring, *range(30))
        for number, change in enumerate(CHANGES):
            before, changed = get_price(SYMBOL), get_price(SYMBOL)
            times = before.index.tolist()
            try:
                change(changed)
            except (ValueError, TypeError) as error:
                assert "read-only" in str(error)  # noqa: PT017 # refused is fine too
            for found in (before, get_price(SYMBOL), get_price(SYMBOL, count=20)):
                assert found.columns.name is None, number
                assert found.index.name is None, number
                assert found.index.freq is None, number
                assert list(found.columns) == [*DEFAULT_FIELDS], number
                assert found.index.tolist() == times, number

    def test_control_a_shared_index_shows_the_change(self) -> None:
        first, second = make(PublicFrameBuilder), make(PublicFrameBuilder)
        second.columns = first.columns
        first.columns.name = "mine"
        assert second.columns.name == "mine"


class TestTheSelection:
    """A direct builder is selected only if it builds what the public one builds."""

    def test_the_public_builder_serves_if_private_parts_have_moved(
        self, ring: RingWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        append(ring, *range(20))
        expected = get_price(SYMBOL)

        def moved(name: str) -> None:
            raise ImportError(name)

        monkeypatch.setattr(frame, "import_module", moved)
        assert frame.select_builder() is PublicFrameBuilder
        monkeypatch.setattr(frame, "BUILDER", PublicFrameBuilder)
        monkeypatch.setattr(frame, "_templates", {})
        wealthdata.attachment.detach()
        found = get_price(SYMBOL)
        pd.testing.assert_frame_equal(found, expected)
        assert shares(found)

    @pytest.mark.parametrize("name", frame._PandasPrivates._fields)
    def test_one_changed_part_is_enough(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load = frame._load_privates
        was = getattr(load(), name)
        other = not was if isinstance(was, bool) else None
        monkeypatch.setattr(
            frame, "_load_privates", lambda: load()._replace(**{name: other})
        )
        assert frame.select_builder() is PublicFrameBuilder

    def test_a_builder_of_other_frames_is_not_selected(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Wrong(DirectFrameBuilder):
            def build(self, floats, times, attrs, shared):
                return super().build(floats + 1.0, times, attrs, shared)

        monkeypatch.setattr(frame, "DIRECT_BUILDERS", (Wrong,))
        assert frame.select_builder() is PublicFrameBuilder

    def test_a_builder_that_copies_is_not_selected(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Copying(DirectFrameBuilder):
            def build(self, floats, times, attrs, shared):
                return super().build(floats.copy(), times, attrs, shared)

        monkeypatch.setattr(frame, "DIRECT_BUILDERS", (Copying,))
        assert frame.select_builder() is PublicFrameBuilder

    @pytest.mark.parametrize("part", ["frame", "index", "columns", "flags"])
    @pytest.mark.parametrize("change", ["more", "less", "other"])
    def test_a_builder_whose_parts_differ_from_pandas_is_not_selected(
        self, part: str, change: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As if pandas had come to set one attribute more, one less, or another."""

        class Other(DirectFrameBuilder):
            def build(self, floats, times, attrs, shared):
                made = super().build(floats, times, attrs, shared)
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

        assert frame.has_pandas_parts(DirectFrameBuilder)
        assert not frame.has_pandas_parts(Other)


def test_a_run_of_one_stride_is_one_block() -> None:
    assert block_spans([0, 1, 2, 3, 4]) == ((slice(0, 5), slice(0, 5, 1)),)
    assert block_spans([0, 2, 4]) == ((slice(0, 3), slice(0, 5, 2)),)
    assert len(block_spans([0, 3, 1])) == 2
    assert block_spans([]) == ()
