"""The cached query of a backtest gives what the general query does."""

import random
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

import wealthdata
from shmfeed.bar import BACKFILLED, POLLED, REVISED, UNCONFIRMED, Bar
from shmfeed.errors import BadArgumentError, GapError, StreamNotFoundError
from wealthdata import get_price, query_cache
from wealthdata.column_history import ColumnHistory, FeedHistories
from wealthdata.columns import from_bars
from wealthdata.handed import current_record
from wealthdata.history_query import CachedHistoryQuery
from wealthdata.runner.run_context import RunContext, run_params

START, MINUTE = 1_767_225_600_000, 60_000
BARS = 200
HOLE = range(90, 95)
FLAGS = {50: UNCONFIRMED, 60: REVISED, 61: POLLED | REVISED, 70: BACKFILLED}


def bars(price, numbers=range(BARS)):
    return from_bars(
        [
            Bar(
                START + number * MINUTE,
                START + (number + 1) * MINUTE,
                *(price + number, price + number + 2, price - 1, price + 1),
                volume=number,
                flags=FLAGS.get(number, 0),
            )
            for number in numbers
            if number not in HOLE
        ]
    )


def make_history():
    return ColumnHistory({("A", "1m"): bars(100.0), ("B", "1m"): bars(50.0)})


def moment(number):
    """Return the close time of a bar, naive UTC."""
    at = datetime.fromtimestamp((START + (number + 1) * MINUTE) / 1000, UTC)
    return at.replace(tzinfo=None)


def strategy(history, number=100, kind="backtest"):
    params = run_params(kind, "1m", moment(0))
    return RunContext(history, run_params=params, current_dt=moment(number))


@pytest.fixture(autouse=True)
def own_choices():
    query_cache.forget_queries()
    yield
    wealthdata.clear_context()
    wealthdata.choices.forget_choices()
    query_cache.forget_queries()


def serving(*arguments):
    return query_cache.queries.get(arguments)


def both(**keywords):
    """Return the answers of the general query and of the cached one."""
    query_cache.forget_queries()
    general = get_price("A", frequency="1m", **keywords)
    key = "A", "1m", keywords.get("fields"), None
    assert isinstance(serving(*key), CachedHistoryQuery)
    asked = wealthdata.request.ReadArguments(
        *key, *(keywords.get(name, default) for name, default in REST)
    )
    choices = wealthdata.choices.current_choices()
    cached = serving(*key).read(asked, choices)
    assert cached is not None
    assert get_price("A", frequency="1m", **keywords).equals(cached)
    return general, cached


REST = [
    ("count", None),
    ("include_now", False),
    ("copy", False),
    ("align", False),
    ("wide", False),
    ("label", None),
]


def stored(frame):
    return dict(frame.attrs["shmfeed"])


def check_same(general, cached):
    pd.testing.assert_frame_equal(general, cached)
    assert general.index.dtype == cached.index.dtype
    assert stored(general) == stored(cached)
    assert list(stored(general)) == list(stored(cached))


def test_each_answer_is_that_of_the_general_query():
    choose = random.Random(16)
    wealthdata.set_context(context := strategy(make_history()))
    fields = [None, "close", ("volume", "open"), ("money",)]
    for _ in range(200):
        context.current_dt = moment(choose.randint(-2, BARS + 2))
        asked = {"fields": choose.choice(fields), "copy": choose.random() < 0.5}
        if choose.random() < 0.8:
            asked["count"] = choose.choice([1, 2, 5, 20, 300])
        if choose.random() < 0.4:
            asked["label"] = choose.choice(["open", "close", "date"])
        check_same(*both(**asked))


def test_a_frame_is_private_memory():
    history = make_history()
    wealthdata.set_context(strategy(history))
    before = history.rows(("A", "1m"), 1).floats.copy()
    _, frame = both(count=5)
    frame.iloc[:, :] = -1.0
    assert frame["close"].eq(-1.0).all()
    assert np.array_equal(before, history.rows(("A", "1m"), 1).floats, equal_nan=True)
    assert both(count=5)[1]["close"].iloc[-1] == 101.0


def test_a_decision_has_the_same_receipt():
    wealthdata.set_context(strategy(make_history()))
    log = current_record().log
    log.take()
    receipts = []
    for _ in range(2):  # the second one by the cached query
        get_price("A", count=30, frequency="1m")
        (read,) = log.take().reads
        kept = read.record.kept
        assert read.record.key == ("A", "1m", *kept.key)
        receipts.append((read.origin, kept.key, kept.values.tolist()))
    assert receipts[0] == receipts[1]


def test_other_contexts_are_not_served():
    first, other = make_history(), ColumnHistory({("A", "1m"): bars(900.0)})
    wealthdata.set_context(strategy(first))
    assert get_price("A", count=1, frequency="1m")["close"].iloc[0] == 101.0
    wealthdata.set_context(strategy(other))
    assert get_price("A", count=1, frequency="1m")["close"].iloc[0] == 901.0
    wealthdata.set_context(strategy(first))
    assert get_price("A", count=1, frequency="1m")["close"].iloc[0] == 101.0
    wealthdata.set_context(strategy(ColumnHistory({})))
    with pytest.raises(StreamNotFoundError):
        get_price("A", count=1, frequency="1m")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_context_that_is_no_backtest_is_not_served(feed_name):
    wealthdata.use(feed=feed_name)
    context = strategy(make_history())
    wealthdata.set_context(context)
    get_price("A", count=1, frequency="1m")
    assert isinstance(serving("A", "1m", None, None), CachedHistoryQuery)
    context.run_params.type = "live"
    about = get_price("A", count=1, frequency="1m").attrs["shmfeed"]
    assert about.health == "dead"  # a feed was looked for
    context.run_params.type = "backtest"
    assert get_price("A", count=1, frequency="1m").attrs["shmfeed"].health is None


def test_calls_of_other_kinds_are_those_of_the_general_query():
    wealthdata.set_context(strategy(make_history()))
    get_price("A", count=20, frequency="1m")
    with pytest.raises(GapError):
        get_price("A", count=20, frequency="1m", on_gap="raise")
    with pytest.raises(BadArgumentError, match="count"):
        get_price("A", count=0, frequency="1m")
    with pytest.raises(BadArgumentError, match="include_now"):
        get_price("A", count=1, frequency="1m", include_now="yes")
    ended = get_price("A", count=1, end_date=moment(10), frequency="1m")
    assert ended["volume"].iloc[0] == 10
    whole = get_price("A", count=1, frequency="1m", fields=["open_time", "flags"])
    assert whole["flags"].iloc[0] == 0
    assert len(get_price("A", count=2, frequency="5m")) == 2  # rolled up


def test_each_feed_of_a_backtest_has_bars_of_its_own():
    feeds = {
        "spot": ColumnHistory({("A", "1m"): bars(100.0)}),
        "perp": ColumnHistory({("A", "1m"): bars(300.0)}),
    }
    wealthdata.use(context_only=True)
    wealthdata.set_context(strategy(FeedHistories(feeds, "spot")))
    for _ in range(2):
        asked = {"count": 1, "frequency": "1m", "fields": "close"}
        found = [get_price(name, **asked).iloc[0, 0] for name in ("A", "A@perp")]
        found.append(get_price("A", feed="perp", **asked).iloc[0, 0])
        assert found == [101.0, 301.0, 301.0]


def test_control_a_query_of_another_history_would_be_seen():
    wealthdata.set_context(strategy(make_history()))
    general, _ = both(count=5)
    other = ColumnHistory({("A", "1m"): bars(100.0, range(1, BARS))})
    wealthdata.set_context(strategy(other, number=101))
    with pytest.raises(AssertionError):
        check_same(general, both(count=5)[1])
