import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as some
from support.rest_venue import kline

from shmfeed.bar import NO_TRADE
from shmfeed.history.binance import (
    MARKETS,
    failure_of,
    info_resource,
    page_query,
    parse_info,
    parse_klines,
)
from shmfeed.history.blocks import check_rows
from shmfeed.history.interface import HistoryError, HistoryRequest

MINUTE, DAY = 60_000, 86_400_000
START = 1_700_000_040_000
SPOT, USDM, COINM = (MARKETS[name] for name in ("spot", "usdm", "coinm"))
KEY = ("BTCUSDT", "1m")


class TestPages:
    @pytest.mark.parametrize(
        ("market", "wanted", "rows"),
        [
            (SPOT, 1, 1),
            (SPOT, 1000, 1000),
            (SPOT, 1001, 1000),
            (USDM, 99, 99),
            (USDM, 100, 100),
            (USDM, 499, 499),
            (USDM, 500, 499),  # 2 + 1 instead of 5
            (USDM, 1000, 1000),  # 5 as 2 + 2 + 1, in one request
            (USDM, 5000, 499),
        ],
    )
    def test_rows(self, market, wanted, rows):
        assert market.page_rows(wanted, "1m") == rows

    def test_a_span_limits_a_page(self):
        assert COINM.page_rows(1000, "1d") == 200
        assert COINM.page_rows(1000, "1M") == 6
        assert COINM.page_rows(1000, "1m") == 1000

    @pytest.mark.parametrize(
        ("market", "rows", "weight"),
        [
            (SPOT, 1, 2),
            (SPOT, 1000, 2),
            (USDM, 99, 1),
            (USDM, 100, 2),
            (USDM, 499, 2),
            (USDM, 500, 5),
            (USDM, 1000, 5),
            (USDM, 1001, 10),
            (USDM, 1500, 10),
        ],
    )
    def test_weights(self, market, rows, weight):
        assert market.weight_of(rows) == weight


class TestQueries:
    def test_a_range(self):
        last = START + 9 * MINUTE
        query = page_query(SPOT, HistoryRequest(KEY, START, last))
        assert query.resource == (
            "/api/v3/klines?symbol=BTCUSDT&interval=1m"
            f"&startTime={START}&endTime={last}&limit=10"
        )
        assert (query.weight, query.rows) == (2, 10)

    def test_a_range_of_several_pages_begins_with_the_oldest(self):
        request = HistoryRequest(KEY, START, START + 2500 * MINUTE)
        query = page_query(SPOT, request)
        assert (query.first, query.last) == (START, START + 999 * MINUTE)

    def test_months(self):
        first = 1_704_067_200_000  # 2024-01-01
        query = page_query(COINM, HistoryRequest(("A", "1M"), first, first + 300 * DAY))
        assert (query.last - first) // DAY == 152  # to 2024-06-01

    def test_the_newest(self):
        query = page_query(SPOT, HistoryRequest(KEY, 0, 0, newest=10))
        assert query.resource.endswith("interval=1m&limit=11")

    def test_the_newest_by_a_known_clock(self):
        query = page_query(SPOT, HistoryRequest(KEY, 0, 0, newest=10), START)
        assert query.resource.endswith(f"interval=1m&endTime={START}&limit=10")

    @pytest.mark.parametrize(
        ("market", "path"),
        [
            ("spot", "/api/v3"),
            ("testnet", "/api/v3"),
            ("usdm", "/fapi/v1"),
            ("coinm", "/dapi/v1"),
        ],
    )
    def test_paths(self, market, path):
        query = page_query(MARKETS[market], HistoryRequest(KEY, START, START))
        assert query.resource.startswith(f"{path}/klines?")

    def test_info(self):
        resource = info_resource(SPOT, ["ETHUSDT", "BTCUSDT"])
        assert resource.endswith("symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D")
        assert info_resource(USDM, ["BTCUSDT"]) == "/fapi/v1/exchangeInfo"


class TestParsing:
    def test_a_row(self):
        # The example of the venue's documents.
        data = (
            b'[[1499040000000,"0.01634790","0.80000000","0.01575800","0.01577100",'
            b'"148976.11427815",1499644799999,"2434.19055334",308,"1756.87402397",'
            b'"28.46694368","0"]]'
        )
        (row,) = parse_klines(data, SPOT)
        assert row == (
            1499040000000,
            1499644799999,
            0.0163479,
            0.8,
            0.015758,
            0.015771,
            148976.11427815,
            2434.19055334,
            0,
        )

    def test_no_trade(self):
        (row,) = parse_klines(json.dumps([kline(START, trades=0)]).encode(), SPOT)
        assert row[8] == NO_TRADE

    def test_coinm_has_no_quote_money(self):
        (row,) = parse_klines(json.dumps([kline(START)]).encode(), COINM)
        assert math.isnan(row[7])

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "Input data was truncated"),
            (b'[[1499040000000,"0.0163', "truncated"),
            (b"<html><body>502</body></html>", "HTML or XML, not JSON"),
            (b'{"symbol":1}', "Expected `array`"),
            (b'[["x","1","1","1","1","1",1]]', "Expected `int`"),
            (b'[[1499040000000,"x","1","1","1","1",1]]', "Expected `float`"),
            (b"[[1499040000000]]", "at least length 7"),
            (b"[" * 100_000, "Expected `int`, got `array`"),
            (b'["\xff"]', "not UTF-8|Expected"),
        ],
    )
    def test_no_klines(self, data, words):
        with pytest.raises(HistoryError, match=words) as caught:
            parse_klines(data, SPOT)
        assert caught.value.kind == "malformed"
        assert str(caught.value).startswith("the answer is no list of klines: ")

    @given(data=some.binary(max_size=200))
    def test_any_bytes(self, data):
        for parse in (
            lambda: parse_klines(data, SPOT),
            lambda: parse_info(data, START),
        ):
            with contextlib.suppress(HistoryError):
                parse()
        failure_of(data)

    @given(place=some.integers(0, 400), byte=some.integers(0, 255))
    def test_any_byte_may_be_another(self, place, byte):
        rows = [kline(START + n * MINUTE) for n in range(3)]
        data = bytearray(json.dumps(rows).encode())
        data[place % len(data)] = byte
        with contextlib.suppress(HistoryError):
            check_rows(parse_klines(bytes(data), SPOT), "1m")

    def test_symbols(self):
        symbols = [
            {"symbol": "BTCUSDT", "status": "TRADING", "filters": [{}]},
            {"symbol": "LUNAUSDT", "status": "BREAK"},
            {"symbol": "ETHUSD_210924", "contractStatus": "DELIVERED"},
        ]
        symbols[2]["deliveryDate"] = 1_632_470_400_000
        info = parse_info(json.dumps({"symbols": symbols}).encode(), START)
        states = info.states
        assert info.weight_limit == 0
        assert states["BTCUSDT"] == (True, True, "")
        assert states["LUNAUSDT"] == (True, False, "status BREAK")
        assert states["ETHUSD_210924"].text == (
            "status DELIVERED since 2021-09-24 08:00 UTC"
        )

    @pytest.mark.parametrize(
        ("limit", "expected"), [(1200, 1200), (0, 0), (-1, 0), (10**12, 0)]
    )
    def test_the_limit_of_weight(self, limit, expected):
        limits = [
            {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5},
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1},
        ]
        limits[1]["limit"] = limit
        data = json.dumps({"symbols": [], "rateLimits": limits}).encode()
        assert parse_info(data, START).weight_limit == expected

    def test_no_symbols(self):
        with pytest.raises(HistoryError, match="the answer is no list of symbols"):
            parse_info(b"{}", START)
