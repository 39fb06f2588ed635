"""The source of history against the local venue's REST and its faults."""

import time
from contextlib import closing, contextmanager

import numpy as np
import pytest

from shmfeed.codecs import get_codec
from shmfeed.history.blocks import times_of
from shmfeed.history.interface import HistoryError, HistoryRequest
from shmfeed.history.registry import make_source
from shmfeed.memory.rows import Rows
from shmfeed.settings.model import Settings
from shmfeed.simulator import Venue, bar

MINUTE = 60_000
START = 1_700_000_040_000  # on the minute
KEY = ("BTCUSDT", "1m")
HISTORY = HistoryRequest(KEY, START - 99 * MINUTE, START)


@pytest.fixture(autouse=True)
def own_budget(monkeypatch, tmp_path):
    monkeypatch.setattr("shmfeed.history.registry._locks", lambda _settings: tmp_path)


@contextmanager
def source_of(market="spot", faults=(), **options):
    options = {"symbols": "BTCUSDT,ETHUSDT", "seed": 5, **options}
    options = {"protocol": "binance", "start": START + 90_000, **options}
    with Venue(faults=",".join(faults), **options) as venue:
        known = Settings(
            protocol="binance", market_type=market, rest_endpoint=[venue.rest_url]
        )
        with closing(make_source(known, get_codec("binance", market))) as source:
            yield source, venue


def fetch_all(source, request):
    blocks = []
    while request is not None:
        page = source.fetch(request)
        blocks.append(page.block)
        request = page.follows
    blocks.sort(key=lambda one: times_of(one)[:1].tolist())
    return Rows(np.concatenate(blocks, axis=1), 0)


def truth(opened, timeframe="1m"):
    return tuple(bar(5, "BTCUSDT", timeframe, opened)[:7])


@pytest.mark.parametrize("market", ["spot", "usdm", "coinm", "testnet"])
class TestEachMarket:
    def test_a_range_is_the_truth(self, market):
        with source_of(market) as (source, _):
            first = START - 2500 * MINUTE
            rows = fetch_all(source, HistoryRequest(KEY, first, START))
        assert len(rows) == 2501
        for number in (0, 499, 500, 1000, 2500):
            assert rows.bar(number)[:7] == truth(first + number * MINUTE)
        assert np.isnan(rows["money"]).all() == (market == "coinm")

    def test_the_newest_are_closed_and_as_many_as_asked_for(self, market):
        with source_of(market) as (source, venue):
            for _ in range(2):  # once without, and once with a known clock
                rows = fetch_all(source, HistoryRequest(KEY, 0, 0, newest=1000))
                assert len(rows) == 1000
                assert rows.bar(-1)[:7] == truth(START)
            weights = [one.weight for one in venue.rest_requests]
            assert sum(weights[-1:]) <= 5

    @pytest.mark.parametrize("timeframe", ["1h", "3d", "1w", "1M"])
    def test_long_timeframes(self, market, timeframe):
        with source_of(market) as (source, _):
            key = ("BTCUSDT", timeframe)
            rows = fetch_all(source, HistoryRequest(key, 0, 0, newest=30))
            assert len(rows) == 30
            ends = int(rows.close_time[-1])
            assert ends <= START + 90_000
            assert rows.bar(-1)[:7] == truth(int(rows.open_time[-1]), timeframe)

    def test_symbols(self, market):
        with source_of(market) as (source, _):
            states = source.symbols(["BTCUSDT", "BTCUSTD"])
            assert states["BTCUSDT"] == (True, True, "")
            assert not states["BTCUSTD"].is_known
            assert states["BTCUSTD"].text.endswith("the nearest is BTCUSDT")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("rest-status:429:7s", "blocked"),
        ("rest-status:429", "blocked"),
        ("rest-status:418:60s", "blocked"),
        ("rest-status:500", "away"),
        ("rest-status:503", "away"),
        ("rest-away", "away"),
        ("rest-cut", "away"),
        ("rest-truncated", "malformed"),
        ("rest-html", "malformed"),
        ("rest-huge:4MiB", "away"),
        ("rest-redirect", "away"),
        ("rest-redirect:307:same", "away"),
        ("rest-unordered", "malformed"),
        ("rest-doubled", "malformed"),
        ("rest-overlap", "malformed"),
        ("rest-grid", "malformed"),
        ("rest-rubbish", "malformed"),
    ],
)
def test_each_fault_is_an_error_and_the_next_answer_is_taken(fault, kind):
    with source_of(faults=[fault]) as (source, venue):
        with pytest.raises(HistoryError) as caught:
            source.fetch(HISTORY)
        assert caught.value.kind == kind, caught.value
        venue.set_faults("")
        if kind != "blocked":
            assert source.fetch(HISTORY).block.shape[1] == 100


def test_a_forming_row_is_left_out():
    with source_of(faults=["rest-forming"]) as (source, _):
        wanted = HISTORY._replace(last=START + 10 * MINUTE)
        assert times_of(source.fetch(wanted).block)[-1] == START


def test_empty():
    with source_of(faults=["rest-empty"]) as (source, _):
        assert source.fetch(HISTORY).block.shape == (9, 0)


def test_the_used_weight_of_others_is_heeded():
    with source_of(faults=["rest-used:3500"]) as (source, _):
        source.fetch(HISTORY)
        with pytest.raises(HistoryError, match="is used up; the next request in"):
            source.fetch(HISTORY)


def test_a_hang_ends(monkeypatch):
    monkeypatch.setattr("shmfeed.history.rest_source.TIMEOUT", 0.3)
    begun = time.monotonic()
    with source_of(faults=["rest-hang"]) as (source, _):
        with pytest.raises(HistoryError, match="timed out"):
            source.fetch(HISTORY)
    assert time.monotonic() - begun < 5
