"""`df.attrs["shmfeed"]` of rows that a leader on another host has made."""

import pickle
from collections.abc import Iterator

import pandas as pd
import pytest
from support.numbered_bars import SYMBOL, append

from shmfeed.errors import StaleFeedError
from shmfeed.layout import Geometry
from shmfeed.marks import StreamMoments
from shmfeed.memory.words import boot_ns
from shmfeed.writer import FeedWriter, create
from wealthdata import get_bars, get_price

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

STREAM = (SYMBOL, "1h")
SECOND = 1_000_000_000


@pytest.fixture
def writer(strategy: str) -> Iterator[FeedWriter]:
    geometry = Geometry(4, 50, 12)
    with FeedWriter(strategy, geometry, streams=[STREAM], is_relayed=True) as writer:
        append(writer.add_stream(*STREAM), *range(20))
        yield writer
    writer.close(unlink=True)


def heard(writer: FeedWriter, seconds: float) -> None:
    writer.mark_relayed(boot_ns() - round(seconds * SECOND), None)


def each_kind_of_read() -> list[pd.DataFrame]:
    return [
        get_price(SYMBOL),
        get_price(SYMBOL),  # the prepared one
        get_price(SYMBOL, copy=True),
        get_price(SYMBOL, end_date="2030-01-01"),
        get_price([SYMBOL]),
        get_price([SYMBOL], align=True, wide=True),
        get_price(SYMBOL, frequency="2h"),
        get_bars(SYMBOL, 5),
    ]


class TestSource:
    def test_each_kind_of_read(self, writer: FeedWriter) -> None:
        reads = each_kind_of_read()
        assert [frame.attrs["shmfeed"].source for frame in reads] == ["relayed"] * 8

    def test_a_feeder_with_a_venue_of_its_own_afterwards(
        self, writer: FeedWriter, strategy: str
    ) -> None:
        assert get_price(SYMBOL).attrs["shmfeed"].source == "relayed"
        writer.close()
        with create(strategy, 50, 12, 4) as after:
            after.add_stream(*STREAM)
            for frame in (get_price(SYMBOL), get_price([SYMBOL])):
                attrs = frame.attrs["shmfeed"]
                assert (attrs.source, attrs.relay_age) == ("live", None)
            assert len(get_price(SYMBOL)) == 20


class TestRelayAge:
    def test_nothing_has_come_yet(self, writer: FeedWriter) -> None:
        assert get_price(SYMBOL).attrs["shmfeed"].relay_age is None

    def test_seconds_since_the_link_brought_anything(self, writer: FeedWriter) -> None:
        heard(writer, 2.0)
        reads = get_price(SYMBOL), get_price([SYMBOL]), get_price(SYMBOL, copy=True)
        for frame in reads:
            assert 2.0 <= frame.attrs["shmfeed"].relay_age < 10.0

    def test_it_is_as_of_the_read(self, writer: FeedWriter) -> None:
        writer.mark_connection([STREAM], False)  # an outage, which ends
        heard(writer, 200.0)
        reads = each_kind_of_read()
        writer.mark_connection([STREAM], True)
        heard(writer, 0.0)  # later than the reads
        for frame in reads:
            assert 200.0 <= frame.attrs["shmfeed"].relay_age < 250.0
        live = get_price(SYMBOL)
        heard(writer, 0.0)
        assert live.attrs["shmfeed"].relay_age < 50.0

    def test_it_counts_for_no_comparison_and_no_pickle(
        self, writer: FeedWriter
    ) -> None:
        heard(writer, 2.0)
        one = get_price(SYMBOL)
        assert one.attrs["shmfeed"].relay_age is not None
        heard(writer, 1.0)
        other = get_price(SYMBOL)
        assert one.attrs["shmfeed"] == other.attrs["shmfeed"]
        copied = pickle.loads(pickle.dumps(one)).attrs["shmfeed"]
        assert (copied.relay_age, copied.source) == (None, "relayed")
        assert pickle.dumps(one.attrs["shmfeed"]) == pickle.dumps(
            other.attrs["shmfeed"]
        )


def test_the_age_of_the_leaders_data_is_judged(writer: FeedWriter) -> None:
    now = boot_ns()
    moments = StreamMoments(now - 60 * SECOND, now - 30 * SECOND, 0, 0, 0)
    writer.copy_moments(STREAM, moments, False, with_away=True)
    heard(writer, 0.0)
    assert 30 <= get_price(SYMBOL, max_age=60).attrs["shmfeed"].age < 60
    with pytest.raises(StaleFeedError):
        get_price(SYMBOL, max_age=20, on_stale="raise")
