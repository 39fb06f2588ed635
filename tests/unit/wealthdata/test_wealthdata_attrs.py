"""`df.attrs["shmfeed"]`: plain values that survive what is done with frames."""

import copy
import json
import pickle
from pathlib import Path

import pandas as pd
import pytest
from support.strategy_side import SYMBOL, append

from shmfeed.ringbuf import RingWriter
from wealthdata import get_price
from wealthdata.attrs import Reading, combine, make_reading

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

KEYS = ["source", "feed", "age", "state", "health", "forming", "gaps"]


@pytest.fixture
def frame(ring: RingWriter) -> pd.DataFrame:
    append(ring, *range(20))
    get_price(SYMBOL)
    return get_price(SYMBOL)


def test_it_is_a_dict_of_plain_values(frame: pd.DataFrame, strategy: str) -> None:
    reading = frame.attrs["shmfeed"]
    assert isinstance(reading, dict)
    assert list(reading) == KEYS
    plain = str | int | float | bool | None
    assert all(isinstance(value, plain) for value in reading.values())
    assert reading["feed"] == reading.feed == strategy
    assert reading.source == "live"
    assert reading.state == "connected"
    assert reading.health == "live"
    assert reading.forming is False
    assert reading.gaps == 0
    assert 0 <= reading.age < 10
    assert reading.valid is True
    with pytest.raises(AttributeError, match="nothing"):
        reading.nothing  # noqa: B018 # the access is the test


def test_the_short_and_the_long_way_say_the_same(frame: pd.DataFrame) -> None:
    short, long = frame.attrs["shmfeed"], get_price(SYMBOL, end_date="2030-01-01")
    assert {**short, "age": 0} == {**long.attrs["shmfeed"], "age": 0}


def test_it_copies_as_itself(frame: pd.DataFrame) -> None:
    reading = frame.attrs["shmfeed"]
    assert copy.copy(reading) is copy.deepcopy(reading) is reading
    for derived in (frame.copy(), frame[["close"]], frame.rolling(2).mean(), frame + 1):
        assert derived.attrs.get("shmfeed", reading) is reading
    assert frame.copy().attrs["shmfeed"] is reading


def test_it_compares_as_a_dict(frame: pd.DataFrame) -> None:
    reading = frame.attrs["shmfeed"]
    assert reading == dict(reading)
    assert reading != {**reading, "gaps": 1}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_pickles(frame: pd.DataFrame, protocol: int) -> None:
    reading = frame.attrs["shmfeed"]
    again = pickle.loads(pickle.dumps(reading, protocol))
    assert again == reading
    assert again.health == "live"
    assert again.valid is True


def test_frames_pickle_with_it(frame: pd.DataFrame, ring: RingWriter) -> None:
    data = pickle.dumps(frame)
    append(ring, *range(20, 200))
    again = pickle.loads(data)
    assert again["open"].tolist() == [n + 1.0 for n in range(20)]
    assert again.attrs["shmfeed"] == frame.attrs["shmfeed"]
    assert again.attrs["shmfeed"].valid  # private by now
    assert not frame.attrs["shmfeed"].valid
    assert not pickle.loads(pickle.dumps(frame)).attrs["shmfeed"].valid


def test_it_is_json(frame: pd.DataFrame) -> None:
    reading = frame.attrs["shmfeed"]
    assert json.loads(json.dumps(reading)) == reading


def test_it_survives_concat(frame: pd.DataFrame) -> None:
    other = get_price(SYMBOL, fields=["money"])
    assert pd.concat([frame, frame]).attrs["shmfeed"] == frame.attrs["shmfeed"]
    assert pd.concat([frame, other], axis=1).shape == (20, 6)


def test_it_survives_parquet(frame: pd.DataFrame, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "bars.parquet"
    frame.to_parquet(path)
    again = pd.read_parquet(path)
    assert again.attrs["shmfeed"] == frame.attrs["shmfeed"]
    pd.testing.assert_frame_equal(again, frame, check_freq=False)


def test_valid_is_asked_anew_and_is_no_item(
    frame: pd.DataFrame, ring: RingWriter
) -> None:
    reading = frame.attrs["shmfeed"]
    before = dict(reading)
    append(ring, *range(20, 200))
    assert not reading.valid
    assert reading["valid"] is False
    with pytest.raises(KeyError, match="nothing"):
        reading["nothing"]
    assert reading == before


def facts(**given: object) -> Reading:
    plain = dict.fromkeys(KEYS) | {"gaps": 0, "forming": False, "source": "context"}
    return make_reading(True, plain | given)


def test_of_several_the_oldest_age_and_the_worst_health() -> None:
    made = combine(
        [
            facts(source="live", feed="a", age=1.0, health="live", state="connected"),
            facts(
                source="live", feed="a", age=9.0, health="dead", state="error", gaps=2
            ),
            facts(source="live", feed="a", age=None, health="quiet", forming=True),
        ]
    )
    assert made == {
        "source": "live",
        "feed": "a",
        "age": 9.0,
        "state": "error",
        "health": "dead",
        "forming": True,
        "gaps": 2,
    }
    backtest = combine([facts(), facts(gaps=1)])
    assert backtest == {**facts(), "gaps": 1}
    assert combine([facts(), facts(source="live")]).source == "mixed"
