"""The venue's REST: the market's bars, in the form and within the limits of Binance."""

import json
import socket
import time
from email.utils import parsedate_to_datetime
from itertools import pairwise

import pytest
from support.rest import bar_of, get, get_on, rest_connection
from support.venue_client import HANDSHAKE, client

from shmfeed.bar import Bar
from shmfeed.errors import BadArgumentError
from shmfeed.simulator import Venue, bar

MINUTE = 60_000
START = 1_700_000_040_000  # on the minute
PATHS = ("/api/v3/", "/fapi/v1/", "/dapi/v1/")


@pytest.fixture
def venue():
    options = {"symbols": "BTCUSDT,ETHUSDT", "seed": 5}
    with Venue(
        protocol="binance", speed=None, start=START + 90_000, **options
    ) as venue:
        yield venue


def klines(venue, path="/api/v3/", **params):
    asked = {"symbol": "BTCUSDT", "interval": "1m"} | params
    return get(venue, f"{path}klines", **asked)


def market(open_time, timeframe="1m"):
    return tuple(bar(5, "BTCUSDT", timeframe, open_time)[:8])


@pytest.mark.parametrize("path", PATHS)
def test_rows_are_the_market_of_the_past(venue, path):
    first = START - 30 * 86_400_000
    last = first + 2 * MINUTE
    rows = klines(venue, path, startTime=first + 1 - MINUTE, endTime=last).json
    opens = [first, first + MINUTE, last]
    assert [bar_of(row) for row in rows] == [market(one) for one in opens]
    assert [len(row) for row in rows] == [12] * 3
    assert rows[0][8] == MINUTE // 125


def test_the_newest_rows_end_with_the_forming_bar(venue):
    rows = klines(venue, limit=3).json
    assert [row[0] for row in rows] == [START - MINUTE, START, START + MINUTE]
    assert [bar_of(row) for row in rows[:2]] == [
        market(START - MINUTE),
        market(START),
    ]
    forming = bar_of(rows[2])
    assert forming == tuple(bar(5, "BTCUSDT", "1m", START + MINUTE, 4)[:8])


def test_a_range_is_cut_by_its_limit_at_the_right_end(venue):
    far = {"startTime": START - 600 * MINUTE, "endTime": START}
    rows = klines(venue, **far).json
    assert (len(rows), rows[0][0]) == (500, far["startTime"])
    rows = klines(venue, endTime=START, limit=2).json
    assert [row[0] for row in rows] == [START - MINUTE, START]
    assert klines(venue, startTime=START + 2 * MINUTE).json == []
    rows = klines(venue, startTime=START).json
    assert [row[0] for row in rows] == [START, START + MINUTE]


@pytest.mark.parametrize("timeframe", ["3m", "1h", "3d", "1w", "1M"])
def test_each_timeframe_has_the_grid_of_the_socket(venue, timeframe):
    rows = klines(venue, interval=timeframe, limit=5, endTime=START).json
    assert len(rows) == 5
    closed = [bar_of(row) for row in rows[:4]]
    assert closed == [market(one[0], timeframe) for one in closed]
    assert all(a[1] == b[0] for a, b in pairwise(closed))
    begin, _, _, _, _, _, last, *_ = rows[1]
    again = klines(venue, interval=timeframe, startTime=begin, endTime=last).json
    assert again == rows[1:2]


def test_rows_equal_what_the_socket_sent():
    with Venue(protocol="binance", symbols="BTCUSDT", speed=600) as venue:
        sent = {}
        with client(venue, "/stream?streams=btcusdt@kline_1m") as connection:
            while len(sent) < 5:
                kline = json.loads(connection.recv(timeout=5))["data"]["k"]
                if kline["x"]:
                    sent[kline["t"]] = kline
        rows = klines(venue, startTime=min(sent), endTime=max(sent)).json
    columns = ("t", "o", "h", "l", "c", "v", "T", "q", "n")
    for row, kline in zip(rows, sent.values(), strict=True):
        for value, name in zip(row, columns, strict=False):
            assert float(value) == float(kline[name]), name


@pytest.mark.parametrize(
    ("path", "limit", "weight"),
    [("/api/v3/", n, 2) for n in (1, 1000)]
    + [
        (path, n, w)
        for path in PATHS[1:]
        for n, w in ((99, 1), (100, 2), (499, 2), (500, 5), (1000, 5), (1001, 10))
    ],
)
def test_weights_follow_the_limit(venue, path, limit, weight):
    answer = klines(venue, path, limit=limit)
    assert answer.status == 200
    assert answer.headers["X-MBX-USED-WEIGHT-1M"] == str(weight)
    (request,) = venue.rest_requests
    assert (request.weight, request.status) == (weight, 200)
    assert request.params["limit"] == str(limit)
    assert (venue.log.rest_requests, venue.log.rest_weight) == (1, weight)


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("/api/v3/", {"symbol": "BTCUSD"}, -1121),
        ("/fapi/v1/", {"symbol": "BTCUSD"}, -1121),
        ("/api/v3/", {"symbol": "btcusdt"}, -1100),
        ("/api/v3/", {"symbol": ""}, -1102),
        ("/api/v3/", {"interval": "7m"}, -1120),
        ("/fapi/v1/", {"interval": "1s"}, -1120),
        ("/api/v3/", {"startTime": "soon"}, -1100),
        ("/api/v3/", {"limit": 0}, -1130),
        ("/fapi/v1/", {"limit": 1501}, -1130),
        ("/fapi/v1/", {"startTime": 2, "endTime": 1}, -1023),
        ("/dapi/v1/", {"startTime": 0, "endTime": 201 * 86_400_000}, -1127),
    ],
)
def test_a_bad_request_has_the_code_of_the_venue(venue, path, params, code):
    answer = klines(venue, path, **params)
    assert (answer.status, answer.json["code"]) == (400, code)
    assert answer.json["msg"]


def test_spot_caps_the_rows_and_other_markets_have_more(venue):
    assert len(klines(venue, limit=1500).json) == 1000
    assert len(klines(venue, "/fapi/v1/", limit=1500).json) == 1500


@pytest.mark.parametrize(
    ("path", "limit", "weight", "status"),
    [
        ("/api/v3/", 6000, "20", "status"),
        ("/fapi/v1/", 2400, "1", "status"),
        ("/dapi/v1/", 2400, "1", "contractStatus"),
    ],
)
def test_exchange_info_has_symbols_and_limits(venue, path, limit, weight, status):
    answer = get(venue, f"{path}exchangeInfo")
    assert answer.headers["X-MBX-USED-WEIGHT-1M"] == weight
    found = answer.json
    assert found["rateLimits"][0]["limit"] == limit
    assert [one["symbol"] for one in found["symbols"]] == ["BTCUSDT", "ETHUSDT"]
    assert {one[status] for one in found["symbols"]} == {"TRADING"}
    assert found["symbols"][0]["baseAsset"] == "BTC"
    assert abs(get(venue, f"{path}time").json["serverTime"] - found["serverTime"]) < 5e3


def test_spot_answers_about_the_symbols_asked_for(venue):
    path = "/api/v3/exchangeInfo"
    assert len(get(venue, path, symbol="ETHUSDT").json["symbols"]) == 1
    both = get(venue, path, symbols='["BTCUSDT","ETHUSDT"]').json
    assert len(both["symbols"]) == 2
    assert get(venue, path, symbol="XRPUSDT").json["code"] == -1121
    assert get(venue, path, symbols="[1]").json["code"] == -1100
    assert get(venue, "/api/v3/depth").status == 404
    assert get(venue, "/fapi/v9/klines").status == 404


def test_one_connection_carries_requests_and_the_date_is_the_venues(venue):
    with rest_connection(venue) as connection:
        for _ in range(3):
            answer = get_on(connection, "/api/v3/time")
            assert answer.headers["Connection"] == "keep-alive"
        connection.request("POST", "/api/v3/time", body=b"x" * 100)
        assert connection.getresponse().status == 405
    before = venue.now()
    venue.set_faults("skew:+90s")
    answer = get(venue, "/api/v3/time")
    moment = parsedate_to_datetime(answer.headers["Date"])
    assert 0 <= answer.json["serverTime"] / 1000 - moment.timestamp() < 1
    assert 85 < moment.timestamp() - before / 1000 < 95


@pytest.mark.parametrize("speed", [60, 1])
def test_handshake_rest_and_events_tell_one_time(speed):
    options = {"protocol": "binance", "update_interval": 0.05, "speed": speed}
    with Venue(**options) as venue, client(venue, "/ws/a@kline_1m") as connection:
        shaken = parsedate_to_datetime(connection.response.headers["Date"])
        stated = get(venue, "/api/v3/time").json["serverTime"] / 1000
        event = json.loads(connection.recv(timeout=5))["E"] / 1000
    assert abs(stated - event) < 5 * speed
    assert abs(stated - shaken.timestamp()) < 5 * speed


def test_too_much_weight_is_refused_then_banned():
    if time.time() % 60 > 55:  # the count would begin again in between
        time.sleep(60.1 - time.time() % 60)
    with Venue(
        protocol="binance", symbols="A", speed=None, rest_limit=100
    ) as venue:  # five requests of exchangeInfo
        answers = [get(venue, "/api/v3/exchangeInfo") for _ in range(14)]
        statuses = [one.status for one in answers]
        refused = [one for one in answers if one.status != 200]
        assert set(statuses) == {200, 429, 418}, statuses
        assert statuses == sorted(statuses, key=[200, 429, 418].index)
        assert all(one.json["code"] == -1003 for one in refused)
        assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
        assert 110 <= int(refused[-1].headers["Retry-After"]) <= 120
        assert klines(venue, "/fapi/v1/", symbol="A").status == 200


def test_truth_has_corrections_and_the_venue_lacks_what_was_taken_out(venue):
    first, last = START - 4 * MINUTE, START + 5 * MINUTE
    wrong = Bar(START - MINUTE, START, 1.0, 4.0, 0.5, 2.0, 3.0, 1.25)
    venue.correct("BTCUSDT", "1m", wrong)
    venue.take_out("BTCUSDT", "1m", START - 2 * MINUTE)
    truth = venue.truth("BTCUSDT", "1m", first, last)
    assert [one.open_time for one in truth] == [first, first + MINUTE, wrong[0], START]
    assert tuple(truth[0][:8]) == market(first)
    assert truth[2] == wrong
    rows = klines(venue, startTime=first, endTime=START).json
    assert [bar_of(row) for row in rows] == [tuple(one[:8]) for one in truth]
    assert len(klines(venue, limit=4).json) == 4  # filled from before the hole
    assert klines(venue, limit=4).json[0][0] == first + MINUTE


def test_a_request_without_a_socket_is_no_dial(venue):
    assert klines(venue).status == 200
    assert venue.log.dials == 0
    venue.wait_rest(1)
    assert venue.rest_url == f"http://127.0.0.1:{venue.port}"
    with client(venue, "/ws"):
        assert venue.log.dials == 1


def test_a_handshake_in_pieces_still_becomes_a_socket(venue):
    request = HANDSHAKE.replace(b"/market_data", b"/ws")
    with socket.create_connection(("127.0.0.1", venue.port)) as connection:
        connection.sendall(request[:7])
        assert klines(venue).status == 200  # meanwhile
        connection.sendall(request[7:])
        assert connection.recv(100).startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /api/v3/time HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n",
        b"GET /api/v3/time HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /api/v3/time HTTP/7\r\n\r\n",
        b"GET /api/v3/time HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_ends_the_connection(venue, sent):
    with socket.create_connection(("127.0.0.1", venue.port), 5) as connection:
        try:
            connection.sendall(sent)
            assert connection.recv(100) == b""
        except ConnectionResetError:
            pass
    assert klines(venue).status == 200


def test_other_protocols_have_no_rest():
    for options in ({}, {"protocol": "binance", "rest": False}):
        with Venue(speed=None, **options) as venue:
            assert get(venue, "/api/v3/time").status in {404, 426}
            assert venue.log.rest_requests == 0
    with pytest.raises(BadArgumentError, match="rest_limit=5 needs protocol 'binance'"):
        Venue(rest_limit=5)


def test_the_venue_stops_with_connections_open():
    with Venue(protocol="binance", speed=None) as venue:
        idle = socket.create_connection(("127.0.0.1", venue.port), 5)
        with idle, rest_connection(venue) as connection:
            assert get_on(connection, "/fapi/v1/time").status == 200
            venue.stop()
            assert idle.recv(1) == b""


@pytest.mark.parametrize("timeframe", ["5m", "1h", "1M"])
def test_longer_bars_can_be_made_of_shorter_ones(timeframe):
    options = {"protocol": "binance", "symbols": "BTCUSDT", "seed": 5}
    base = "1h" if timeframe == "1M" else "1m"
    with Venue(**options, speed=600, start=START, roll_up=base) as venue:
        long = klines(venue, interval=timeframe, limit=3, endTime=START - 1).json
        for row in long[:-1]:
            first, end, *values = bar_of(row)
            parts = []
            while not parts or parts[-1][1] < end:
                since = parts[-1][1] if parts else first
                asked = {"startTime": since, "endTime": end - 1, "limit": 1000}
                found = klines(venue, interval=base, **asked).json
                parts += map(bar_of, found)
            _, _, opened, high, low, close, volume, money = zip(*parts, strict=True)
            assert values[:4] == [opened[0], max(high), min(low), close[-1]]
            assert values[4:] == pytest.approx([sum(volume), sum(money)])
            assert (first, end, *values) != market(first, timeframe)  # the control
        if timeframe == "5m":
            with client(venue, "/ws/btcusdt@kline_5m") as connection:
                kline = {"x": False}
                while not kline["x"]:
                    kline = json.loads(connection.recv(timeout=5))["k"]
            (row,) = klines(
                venue, interval="5m", startTime=kline["t"], endTime=kline["t"]
            ).json
            assert [float(kline[n]) for n in "ohlcv"] == list(bar_of(row)[2:7])
