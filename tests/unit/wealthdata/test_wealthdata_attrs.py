"""`df.attrs["shmfeed"]`: plain values that survive copies, pickling and files."""

import ast
import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from support.numbered_bars import SYMBOL, append

from shmfeed.ringbuf import RingWriter
from wealthdata import LappedWarning, get_price
from wealthdata.attrs import FrameAttrs, combine, make_attrs

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

KEYS = [
    *("source", "feed", "identity", "rolled"),
    *("age", "relay_age", "state", "health", "due", "behind", "late"),
    *("forming", "short", "gaps", "unconfirmed", "polled", "revised", "absent"),
    "valid",
]
VOLATILE = ("age", "relay_age", "due", "state", "health")


@pytest.fixture
def frame(ring: RingWriter) -> pd.DataFrame:
    append(ring, *range(20))
    get_price(SYMBOL)
    return get_price(SYMBOL)


def test_attrs_are_a_dict_of_plain_values(frame: pd.DataFrame, strategy: str) -> None:
    attrs = frame.attrs["shmfeed"]
    assert isinstance(attrs, dict)
    assert list(attrs) == KEYS
    plain = str | int | float | bool | list | dict | None
    assert all(isinstance(value, plain) for value in attrs.values())
    assert attrs["feed"] == attrs.feed == strategy
    assert attrs.source == "live"
    assert attrs.state == "connected"
    assert attrs.health == "live"
    assert attrs.forming is False
    assert attrs.gaps == 0
    assert 0 <= attrs.age < 10
    assert attrs.valid is True
    with pytest.raises(AttributeError, match="nothing"):
        attrs.nothing  # noqa: B018 # the access is the test


def test_cached_and_general_query_give_the_same_attrs(frame: pd.DataFrame) -> None:
    cached, general = frame, get_price(SYMBOL, end_date="2030-01-01")
    values = [{**f.attrs["shmfeed"], "age": 0} for f in (cached, general)]
    assert values[0] == values[1]


def test_a_copy_is_the_same_object(frame: pd.DataFrame) -> None:
    attrs = frame.attrs["shmfeed"]
    assert copy.copy(attrs) is copy.deepcopy(attrs) is attrs
    for derived in (frame.copy(), frame[["close"]], frame.rolling(2).mean(), frame + 1):
        assert derived.attrs.get("shmfeed", attrs) is attrs
    assert frame.copy().attrs["shmfeed"] is attrs


def test_attrs_compare_as_a_dict(frame: pd.DataFrame) -> None:
    attrs = frame.attrs["shmfeed"]
    assert attrs == dict(attrs)
    assert attrs != {**attrs, "gaps": 1}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_attrs_survive_pickling(frame: pd.DataFrame, protocol: int) -> None:
    attrs = frame.attrs["shmfeed"]
    again = pickle.loads(pickle.dumps(attrs, protocol))
    assert again == attrs
    assert [again[key] for key in VOLATILE] == [None] * 5
    assert again.valid is True


def test_a_pickled_frame_keeps_its_attrs(frame: pd.DataFrame, ring: RingWriter) -> None:
    data = pickle.dumps(frame)
    append(ring, *range(20, 200))
    again = pickle.loads(data)
    assert again["open"].tolist() == [n + 1.0 for n in range(20)]
    assert again.attrs["shmfeed"] == frame.attrs["shmfeed"]
    assert again.attrs["shmfeed"].valid  # a private copy
    assert not frame.attrs["shmfeed"].valid
    assert not pickle.loads(pickle.dumps(frame)).attrs["shmfeed"].valid


def test_attrs_survive_json(frame: pd.DataFrame) -> None:
    attrs = frame.attrs["shmfeed"]
    assert json.loads(json.dumps(attrs)) == attrs


WHOLE: dict[str, Callable[[FrameAttrs], object]] = {
    "iter": lambda a: [*a],
    "reversed": lambda a: [*reversed(a)][::-1],
    "keys": lambda a: [*a.keys()],
    "items": lambda a: [key for key, _ in a.items()],
    "dict": dict,
    "stars": lambda a: {**a},
    "copy": lambda a: a.copy(),
    "or": lambda a: a | {},
    "or behind": lambda a: {} | a,
    "update": lambda a: {}.__ior__(a),
    "json": lambda a: json.loads(json.dumps(a)),
    "indented": lambda a: json.loads(json.dumps(a, indent=1)),
    "repr": lambda a: ast.literal_eval(repr(a)),
    "get": lambda a: {key: a.get(key) for key in KEYS},
    "subscripts": lambda a: {key: a[key] for key in KEYS},
    "attributes": lambda a: {key: getattr(a, key) for key in KEYS},
    "pickle": lambda a: pickle.loads(pickle.dumps(a)),
}


@pytest.mark.parametrize("show", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("symbols", [SYMBOL, [SYMBOL], [SYMBOL] * 2], ids=str)
def test_each_way_to_look_shows_all_of_it(
    frame: pd.DataFrame, symbols: object, show: Callable[[FrameAttrs], object]
) -> None:
    for _ in range(2):
        attrs = get_price(symbols).attrs["shmfeed"]
    shown = show(attrs)
    assert len(attrs) == len(KEYS)
    assert [*shown] == KEYS
    if isinstance(shown, dict):
        assert shown == attrs == dict(attrs)
        assert shown["unconfirmed"] == 0
        assert shown["valid"] is True
    if type(shown) is dict:
        assert isinstance(shown["due"], int)
        assert isinstance(shown["age"], float)


def test_names_are_listed_and_corrected(frame: pd.DataFrame) -> None:
    attrs = frame.attrs["shmfeed"]
    assert {*KEYS, "items"} <= {*dir(attrs)}
    assert all(key in attrs for key in KEYS)
    assert "nothing" not in attrs
    assert attrs.get("nothing", 5) == 5
    with pytest.raises(AttributeError, match="did you mean 'health'"):
        attrs.helth  # noqa: B018 # the access is the test
    with pytest.raises(KeyError, match="did you mean 'unconfirmed'"):
        attrs["unconfirmd"]
    with pytest.raises(TypeError):
        hash(attrs)


def test_own_keys_are_kept(frame: pd.DataFrame) -> None:
    attrs = get_price(SYMBOL).attrs["shmfeed"]
    attrs["note"] = "mine"
    attrs["polled"] = 7
    assert [*attrs] == [*KEYS, "note"]
    assert (attrs.note, attrs.polled, attrs.revised) == ("mine", 7, 0)
    assert attrs.pop("note") == "mine"
    assert attrs.setdefault("due", "x") != "x"


def test_reads_of_the_same_rows_are_equal_and_pickle_alike(
    frame: pd.DataFrame, ring: RingWriter
) -> None:
    one, other = get_price(SYMBOL), get_price(SYMBOL)
    assert one.attrs["shmfeed"].age != other.attrs["shmfeed"].age
    assert one.attrs == other.attrs
    assert not one.attrs != other.attrs  # noqa: SIM202 # its own operator
    assert pickle.dumps(one) == pickle.dumps(other)
    append(ring, 22)
    later = get_price(SYMBOL)
    assert later.attrs != one.attrs
    assert pickle.dumps(later) != pickle.dumps(other)


def test_joblib_hashes_reads_of_the_same_rows_alike(frame: pd.DataFrame) -> None:
    joblib = pytest.importorskip("joblib")
    assert joblib.hash(get_price(SYMBOL)) == joblib.hash(get_price(SYMBOL))


JOINED: dict[str, Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]] = {
    "concat": lambda a, b: pd.concat([a, b]),
    "join": lambda a, b: a.join(b.add_suffix("_b")),
}


@pytest.mark.parametrize("join", JOINED.values(), ids=JOINED)
def test_attrs_survive_where_the_sources_agree(
    frame: pd.DataFrame,
    ring: RingWriter,
    join: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame],
) -> None:
    one, other = get_price(SYMBOL), get_price(SYMBOL, fields=["money"])
    assert join(one, other).attrs["shmfeed"] is one.attrs["shmfeed"]
    append(ring, 22)
    assert "shmfeed" not in join(one, get_price(SYMBOL)).attrs  # one has a gap
    append(ring, *range(23, 200))
    assert not one.attrs["shmfeed"].valid
    with pytest.warns(LappedWarning):
        newest = get_price(SYMBOL)
    assert "shmfeed" not in join(newest, one).attrs


def test_attrs_survive_parquet(frame: pd.DataFrame, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "bars.parquet"
    frame.to_parquet(path)
    again = pd.read_parquet(path)
    attrs = again.attrs["shmfeed"]
    assert attrs == frame.attrs["shmfeed"]
    assert (type(attrs), attrs["valid"], [*attrs]) == (dict, True, KEYS)
    pd.testing.assert_frame_equal(again, frame, check_freq=False)


def test_valid_is_computed_at_each_access_and_not_stored(
    frame: pd.DataFrame, ring: RingWriter
) -> None:
    attrs = frame.attrs["shmfeed"]
    before = dict(attrs)
    append(ring, *range(20, 200))
    assert not attrs.valid
    assert attrs["valid"] is False
    with pytest.raises(KeyError, match="nothing"):
        attrs["nothing"]
    assert attrs == before


def context_attrs(**given: object) -> FrameAttrs:
    return make_attrs(True, {"source": "context", **given})


def test_several_streams_have_the_oldest_age_and_the_worst_health() -> None:
    made = combine(
        [
            context_attrs(
                source="live", feed="a", age=1.0, health="live", state="connected"
            ),
            context_attrs(
                source="live", feed="a", age=9.0, health="dead", state="error", gaps=2
            ),
            context_attrs(
                source="live", feed="a", age=None, health="quiet", forming=True
            ),
        ]
    )
    assert made == context_attrs(source="live", feed="a", forming=True, gaps=2)
    assert (made.age, made.state, made.health) == (9.0, "error", "dead")
    backtest = combine([context_attrs(), context_attrs(gaps=1)])
    assert backtest == {**context_attrs(), "gaps": 1}
    parts = [
        context_attrs(feed=feed, behind=behind, short=2, due=due, polled=1, identity=of)
        for feed, behind, due, of in (("a", 5.0, 1, "x"), ("b", 9.0, 2, "y"))
    ]
    both = combine([*parts, parts[0]])
    assert (both.feed, both.identity, both.behind) == ("a,b", "x,y", 9.0)
    assert (both.short, both.due, both.polled, both.revised) == (6, 4, 3, None)
    assert combine([context_attrs(), context_attrs(source="live")]).source == "mixed"
