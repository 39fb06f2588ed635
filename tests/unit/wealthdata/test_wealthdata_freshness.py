"""Freshness: the limits of stale bars, and one warning per outage."""

import math
import warnings
from typing import Literal

import pandas as pd
import pytest
from support.numbered_bars import SYMBOL, append, listed, numbers, when

import wealthdata
from shmfeed.bar import TIMEFRAMES, StreamKey
from shmfeed.errors import BadArgumentError, StaleFeedError
from shmfeed.health import RingStatus
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter
from wealthdata import Context, StaleFeedWarning, freshness, get_price, set_context

pytest_plugins = ["support.strategy_process"]


@pytest.fixture(autouse=True)
def no_earlier_outage() -> None:
    freshness.outages.clear()


def status(age: float | None, state: str = "connected", health: str = "live"):
    return RingStatus(age, state, health)


@pytest.mark.parametrize(
    ("found", "timeframe", "stale"),
    [
        (status(0.1), "1m", False),
        (status(None, health="quiet"), "1m", False),
        (status(179.0, health="quiet"), "1m", False),
        (status(181.0, health="quiet"), "1m", True),
        (status(29.0, health="quiet"), "1s", False),
        (status(31.0, health="quiet"), "1s", True),
        (status(3 * 3600 - 1.0), "1h", False),
        (status(3 * 3600 + 1.0, health="recovering"), "1h", True),
        (status(0.1, "reconnecting", "stale"), "1h", True),
        (status(0.1, "reconnecting"), "1h", True),
        (status(0.1, "disconnected", "dead"), "1h", True),
        (status(0.1, health="stale"), "1h", True),
    ],
)
def test_by_default_feeder_connection_and_three_bars_decide(
    found, timeframe: str, stale: bool
) -> None:
    assert freshness.is_stale(found, None, timeframe) is stale
    assert {freshness.stale_after(t) >= 30.0 for t in TIMEFRAMES} == {True}


@pytest.mark.parametrize(
    ("age", "max_age", "stale"),
    [(4.9, 5, False), (5.1, 5, True), (None, 5, True), (1e9, math.inf, False)],
)
def test_a_max_age_decides_by_the_age_alone(age, max_age: float, stale: bool) -> None:
    for found in (status(age), status(age, "disconnected", "dead")):
        assert freshness.is_stale(found, max_age, "1m") is stale


def read(writer: FeedWriter, **arguments: object) -> list[str]:
    """Return the warnings of one read, right after a beat of the feeder."""
    writer.beat()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        get_price(SYMBOL, **arguments)
    assert all(w.category is StaleFeedWarning for w in caught)
    assert all(w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


def test_a_fresh_stream_gives_no_warning(ring: RingWriter, writer: FeedWriter) -> None:
    append(ring, 0, 1)
    for on_stale in ("warn", "raise", "ignore"):
        assert read(writer, on_stale=on_stale) == []
        assert read(writer, on_stale=on_stale, max_age=60) == []


def test_an_outage_gives_one_warning(
    ring: RingWriter, writer: FeedWriter, strategy: str
) -> None:
    append(ring, 0, 1)
    assert read(writer) == []
    for _ in range(2):
        writer.set_state("reconnecting")
        (message,) = read(writer)
        for word in ("BTCUSDT 1h", repr(strategy), "stale", "reconnecting", "status"):
            assert word in message
        assert read(writer) == []
        assert read(writer, count=1) == read(writer, end_date=when(1)) == []
        writer.set_state("connected")
        assert read(writer) == []


@pytest.mark.parametrize("security", [SYMBOL, [SYMBOL]], ids=["one", "list"])
def test_a_read_that_ignores_it_ends_an_outage(
    ring: RingWriter, writer: FeedWriter, security: str | list[str]
) -> None:
    append(ring, 0, 1)
    for _ in range(2):
        writer.set_state("reconnecting")
        assert get_stale(writer, security) == 1
        assert get_stale(writer, security) == 0
        get_price(security, on_stale="ignore")
        assert get_stale(writer, security) == 0
        writer.set_state("connected")
        writer.beat()
        get_price(security, on_stale="ignore")


def get_stale(writer: FeedWriter, security: str | list[str]) -> int:
    """Return how many warnings a read gives."""
    writer.beat()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        get_price(security)
    return len(caught)


def test_a_live_stream_may_still_be_old() -> None:
    """A stream that is subscribed again: live, but its last bar is a day old."""
    found = status(86_400.0)
    with pytest.raises(StaleFeedError):
        freshness.check(("f", SYMBOL, "1h"), found, None, "raise")


def test_each_stream_and_limit_gives_one_warning(
    ring: RingWriter, writer: FeedWriter
) -> None:
    append(ring, 0, 1)
    append(writer.add_stream("ETHUSDT", "1h"), 0)
    assert len(read(writer, max_age=0)) == 1
    assert read(writer, max_age=0) == []
    assert read(writer) == []  # another limit, not exceeded
    assert read(writer, max_age=0) == []
    with pytest.warns(StaleFeedWarning, match="ETHUSDT"):
        get_price([SYMBOL, "ETHUSDT"], max_age=0)


def test_stale_bars_can_raise(ring: RingWriter, writer: FeedWriter) -> None:
    append(ring, 0, 1)
    for _ in range(2):
        with pytest.raises(StaleFeedError, match=r"BTCUSDT 1h.*limit 0 s"):
            get_price(SYMBOL, max_age=0, on_stale="raise")
        with pytest.raises(StaleFeedError):
            get_price([SYMBOL], max_age=0, on_stale="raise")
    assert len(read(writer, max_age=0)) == 1  # an error does not count as the warning


def test_stale_bars_can_be_read_without_a_warning(
    ring: RingWriter, writer: FeedWriter
) -> None:
    append(ring, 0, 1)
    writer.set_state("error")
    assert read(writer, on_stale="ignore") == []
    found = get_price(SYMBOL, on_stale="ignore")
    assert numbers(found) == [0, 1]
    assert found.attrs["shmfeed"].state == "error"
    assert found.attrs["shmfeed"].health == "stale"
    assert len(read(writer)) == 1


@pytest.fixture
def key(ring: RingWriter, writer: FeedWriter) -> StreamKey:
    append(ring, 0, 1)
    return SYMBOL, "1h"


def test_a_stream_whose_connection_is_away_is_stale_and_says_so(
    key: StreamKey, writer: FeedWriter
) -> None:
    append(writer.add_stream("ETHUSDT", "1h"), 0)
    writer.mark_connection([key], is_connected=False)
    (message,) = read(writer)
    assert "is stale: connection away for 0." in message
    assert message.partition("; health ")[2].startswith("recovering, connection reconn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_price("ETHUSDT")  # the other stream has its connection
    writer.mark_connection([key], is_connected=True)
    assert read(writer) == []


def test_a_polled_stream_is_fresh_though_its_connection_is_away(
    key: StreamKey, writer: FeedWriter
) -> None:
    writer.mark_connection([key], is_connected=False)
    writer.explain(key, "polled", "bars come by REST")
    assert read(writer) == []
    assert get_price(SYMBOL).attrs["shmfeed"].health == "polled"


@pytest.mark.parametrize("reason", ["dropped", "refused"])
def test_a_stream_that_can_bring_nothing_is_stale_with_the_reason(
    key: StreamKey, writer: FeedWriter, reason: Literal["dropped", "refused"]
) -> None:
    writer.explain(key, reason, "off the grid of 1h")
    (message,) = read(writer)
    assert "off the grid of 1h; last update" in message
    assert get_price([SYMBOL], on_stale="ignore").attrs["shmfeed"].health == "stale"


def test_the_limit_is_that_of_the_feed(key: StreamKey, writer: FeedWriter) -> None:
    writer.set_silence(key, 1e-9)
    (message,) = read(writer)
    assert "silent for 0.0 s, limit 1e-09 s; last update 0.0 s ago, limit 1e-09 s" in (
        message
    )
    with pytest.raises(StaleFeedError):
        get_price([SYMBOL], on_stale="raise")
    writer.set_silence(key, None)
    assert read(writer) == []


def test_a_stream_without_a_bar_is_stale_once_the_limit_is_over(
    ring: RingWriter, writer: FeedWriter
) -> None:
    assert read(writer) == []
    writer.set_silence((SYMBOL, "1h"), 1e-9)
    (message,) = read(writer)
    assert "is stale: no bar yet, subscribed" in message
    assert get_price(SYMBOL, on_stale="ignore").empty


def test_a_closed_stream_is_the_best_of_a_list(
    key: StreamKey, writer: FeedWriter
) -> None:
    append(writer.add_stream("ETHUSDT", "1h"), 0)
    writer.explain(key, "closed", "delisted")
    assert get_price([SYMBOL, "ETHUSDT"]).attrs["shmfeed"].health == "live"
    assert get_price([SYMBOL]).attrs["shmfeed"].health == "closed"


def test_bars_of_a_dead_feeder_are_stale(ring: RingWriter, writer: FeedWriter) -> None:
    append(ring, 0, 1)
    get_price(SYMBOL)
    writer.close()
    with pytest.warns(StaleFeedWarning, match="the feeder is dead.*health dead"):
        found = get_price(SYMBOL)
    assert numbers(found) == [0, 1]
    assert found.attrs["shmfeed"].health == "dead"
    with pytest.raises(StaleFeedError):
        get_price(SYMBOL, on_stale="raise")


def test_history_warns_too(ring: RingWriter, writer: FeedWriter) -> None:
    append(ring, 0, 1)
    made = Context()
    assert len(made.history(SYMBOL, 1)) == 1
    writer.set_state("error")
    with pytest.warns(StaleFeedWarning):
        made.history(SYMBOL, 1)


def test_a_backtest_is_never_stale(ring: RingWriter, writer: FeedWriter) -> None:
    append(ring, 0, 1)
    writer.close()
    set_context(Context([listed(0, 1)]))
    with pytest.raises(StaleFeedError):
        get_price(SYMBOL, on_stale="raise", max_age=0)
    wealthdata.use(context_only=True)
    found = get_price(SYMBOL, on_stale="raise", max_age=0)
    assert numbers(found) == [0, 1]
    attrs = found.attrs["shmfeed"]
    assert [attrs.health, attrs.state, attrs.due, attrs.age] == [None] * 4


CONTEXTS = [  # seconds since the close of bar 1, limit, is stale
    (0, None, False),
    (3 * 3600, None, False),
    (3 * 3600 + 1, None, True),
    (3600, 3600, False),
    (3601, 3600, True),
]


@pytest.fixture(params=["no feed", "no stream", "no rows"])
def elsewhere(
    request: pytest.FixtureRequest, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Give the feed that is looked for, which has no row of the stream."""
    monkeypatch.setattr(freshness, "_looked_for", freshness.FirstOfContext())
    if request.param != "no feed":
        writer = request.getfixturevalue("writer")
        writer.set_state("connected")
        if request.param == "no rows":
            request.getfixturevalue("ring")
    return strategy


@pytest.mark.parametrize(("age", "max_age", "stale"), CONTEXTS)
def test_rows_of_a_context_alone_are_judged_by_their_age(
    elsewhere: str, age: int, max_age: float | None, stale: bool
) -> None:
    """The first read names the feed that was looked for, stale or not."""
    now = when(1) + pd.Timedelta(seconds=age)
    set_context(Context([listed(0, 1)], current_dt=now))
    for symbol in (SYMBOL, [SYMBOL]):
        freshness._looked_for._known.clear()
        freshness.outages.clear()
        with pytest.warns(StaleFeedWarning, match=f"feed {elsewhere!r}") as given:
            found = get_price(symbol, max_age=max_age)
        assert ("is stale" in str(given[0].message)) is stale
        assert found.attrs["shmfeed"].age == age
        assert found.attrs["shmfeed"].due == age // 3600
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(get_price(symbol, max_age=max_age)) == 2
        if not stale:
            get_price(symbol, max_age=max_age, on_stale="raise")
            continue
        with pytest.raises(StaleFeedError, match=f"feed {elsewhere!r}"):
            get_price(symbol, max_age=max_age, on_stale="raise")


def test_a_misspelt_feed_does_not_give_bars_of_yesterday(strategy: str) -> None:
    """By the wall clock, as the context has no time of its own."""
    set_context(Context([listed(0, 1)]))
    for limits in ({"max_age": 1}, {}, {"feed": "misspelt"}):
        with pytest.raises(StaleFeedError, match=limits.get("feed", strategy)):
            get_price(SYMBOL, on_stale="raise", **limits)
        with pytest.raises(StaleFeedError):
            get_price([SYMBOL], on_stale="raise", **limits)
    wealthdata.use(on_stale="raise")
    with pytest.raises(StaleFeedError):
        get_price(SYMBOL)
    with pytest.raises(StaleFeedError):
        Context([listed(0, 1)]).history(SYMBOL, 1)
    assert len(get_price(SYMBOL, on_stale="ignore")) == 2


def test_the_warning_is_a_user_warning() -> None:
    assert issubclass(StaleFeedWarning, UserWarning)
    assert issubclass(BadArgumentError, ValueError)
