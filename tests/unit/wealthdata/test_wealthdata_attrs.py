"""`df.attrs["shmfeed"]`: plain values that survive copies, pickling and files."""

import copy
import json
import pickle
from pathlib import Path

import pandas as pd
import pytest
from support.numbered_bars import SYMBOL, append

from shmfeed.ringbuf import RingWriter
from wealthdata import get_price
from wealthdata.attrs import FrameAttrs, combine, make_attrs

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

KEYS = [
    *("source", "feed", "identity", "rolled"),
    *("age", "state", "health", "due", "behind", "late"),
    *("forming", "short", "gaps", "unconfirmed", "polled", "revised", "absent"),
    "valid",
]
VOLATILE = ("age", "due", "state", "health")


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
    assert [again[key] for key in VOLATILE] == [None] * 4
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


def test_attrs_survive_concat(frame: pd.DataFrame) -> None:
    other = get_price(SYMBOL, fields=["money"])
    assert pd.concat([frame, frame]).attrs["shmfeed"] == frame.attrs["shmfeed"]
    assert pd.concat([frame, other], axis=1).shape == (20, 6)


def test_attrs_survive_parquet(frame: pd.DataFrame, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "bars.parquet"
    frame.to_parquet(path)
    again = pd.read_parquet(path)
    assert again.attrs["shmfeed"] == frame.attrs["shmfeed"]
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
