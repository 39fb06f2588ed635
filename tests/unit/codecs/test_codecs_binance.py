import json
import math
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shmfeed.codecs import Codec, Request, binance, get_codec
from shmfeed.codecs.interface import (
    Acknowledged,
    BarEvent,
    GoingAway,
    Heartbeat,
    Ignored,
    Malformed,
    Refused,
)
from shmfeed.errors import BadArgumentError
from shmfeed.settings.schema import MARKETS

EVENTS = (BarEvent, Acknowledged, Refused, Heartbeat, GoingAway, Ignored, Malformed)
DATA = Path(
    os.environ.get("SHMFEED_TEST_DATA")
    or Path(__file__).resolve().parents[4] / "shared" / "data"
)

# As the venue really sent them.
OPEN = b'{"stream":"nknusdt@kline_1m","data":{"e":"kline","E":1633998523963,"s":"NKNUSDT","k":{"t":1633998480000,"T":1633998539999,"s":"NKNUSDT","i":"1m","f":19862761,"L":19862790,"o":"0.35270000","c":"0.35280000","h":"0.35280000","l":"0.35220000","v":"25877.00000000","n":30,"x":false,"q":"9116.04600000","V":"58.00000000","Q":"20.46240000","B":"0"}}}'  # noqa: E501 - recorded as one line
CLOSED = b'{"stream":"xemusdt@kline_1m","data":{"e":"kline","E":1681154040004,"s":"XEMUSDT","k":{"t":1681153980000,"T":1681154039999,"s":"XEMUSDT","i":"1m","f":35012468,"L":35012468,"o":"0.04110000","c":"0.04110000","h":"0.04110000","l":"0.04110000","v":"243.00000000","n":1,"x":true,"q":"9.98730000","V":"243.00000000","Q":"9.98730000","B":"0"}}}'  # noqa: E501 - recorded as one line
NO_TRADES = b'{"stream":"belbtc@kline_1m","data":{"e":"kline","E":1681154040004,"s":"BELBTC","k":{"t":1681153980000,"T":1681154039999,"s":"BELBTC","i":"1m","f":-1,"L":-1,"o":"0.00002369","c":"0.00002369","h":"0.00002369","l":"0.00002369","v":"0.00000000","n":0,"x":true,"q":"0.00000000","V":"0.00000000","Q":"0.00000000","B":"0"}}}'  # noqa: E501 - recorded as one line
USDM = b'{"stream":"ctkusdt@kline_1m","data":{"e":"kline","E":1626992741424,"s":"CTKUSDT","k":{"t":1626992700000,"T":1626992759999,"s":"CTKUSDT","i":"1m","f":23961275,"L":23961322,"o":"1.01000","c":"1.01100","h":"1.01100","l":"1.01000","v":"3917","n":48,"x":false,"q":"3957.89900","V":"1729","Q":"1748.01900","B":"0"}}}'  # noqa: E501 - recorded as one line
GOODBYE = (
    b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
    b'{"e":"serverShutdown","E":1770123456789}',
)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
ANY = settings(deadline=None)  # a slow machine is no failure
KEYS = ["stream", "data", "e", "E", "k", "id", "result", "code", "msg", "error"]
KEYS += [*"tTsiohlcvxq"]
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)
# A value without a JSON literal spoils a message as a whole.
FINITE = JSON.filter(
    lambda one: "NaN" not in (text := json.dumps(one)) and "Inf" not in text
)


def codec(market: str = "spot") -> Codec:
    return get_codec("binance", market)


def only(data: bytes, market: str = "spot"):
    (event,) = codec(market).decode(data)
    return event


def raw(frame: bytes) -> bytes:
    return json.dumps(json.loads(frame)["data"]).encode()


def changed(path: str, value: object, frame: bytes = OPEN) -> bytes:
    message = json.loads(frame)
    *parents, last = path.split(".")
    place = message
    for parent in parents:
        place = place[parent]
    place[last] = value
    return json.dumps(message).encode()


class TestSettings:
    @pytest.mark.parametrize(
        ("market", "endpoints", "streams"),
        [
            (
                "spot",
                [
                    "wss://stream.binance.com:9443/stream",
                    "wss://stream.binance.com:443/stream",
                ],
                1024,
            ),
            ("usdm", ["wss://fstream.binance.com/market/stream"], 200),
            ("coinm", ["wss://dstream.binance.com/stream"], 200),
            ("testnet", ["wss://stream.testnet.binance.vision/stream"], 1024),
        ],
    )
    def test_each_market_has_its_endpoints_and_limit(self, market, endpoints, streams):
        for name in (market, f"binance-{market}"):
            made = codec(name)
            assert made.endpoints((), ()) == endpoints
            assert made.max_streams == streams
            assert made.flags_closed
            assert made.push_interval == (2.0 if streams == 1024 else 0.25)
            assert made.numbers_trades == (streams == 1024)
            assert made.answers_pings
            assert made.control_interval == 0.25
            assert made.max_connection_age == 85_800

    def test_the_settings_list_the_same_markets(self):
        assert tuple(binance._MARKETS) == MARKETS["binance"]

    @pytest.mark.parametrize(
        "market", ["", "SPOT", "binance", "binance-binance-spot", "x"]
    )
    def test_an_unknown_market_is_refused(self, market):
        with pytest.raises(BadArgumentError, match=r"spot usdm coinm testnet") as info:
            codec(market)
        assert repr(market) in str(info.value)

    @pytest.mark.parametrize("protocol", ["okx", "", "Binance"])
    def test_an_unknown_protocol_is_refused(self, protocol):
        with pytest.raises(BadArgumentError, match=r"wealthai binance") as info:
            get_codec(protocol)
        assert repr(protocol) in str(info.value)

    def test_symbols_are_upper_case_on_each_market(self):
        assert codec().stream_key("btcUsdt", "60m") == ("BTCUSDT", "1h")
        assert codec().stream_key("BTCUSDT", "1s") == ("BTCUSDT", "1s")
        assert codec("testnet").stream_key("BTCUSDT", "1s") == ("BTCUSDT", "1s")
        assert codec("coinm").stream_key("ethusd_210924", "1M") == (
            "ETHUSD_210924",
            "1M",
        )

    @pytest.mark.parametrize(
        ("market", "symbol", "timeframe"),
        [
            ("spot", "BTC-USDT", "1m"),
            ("spot", "BTC/USDT", "1m"),
            ("spot", "ß", "1m"),
            ("spot", "", "1m"),
            ("spot", "B" * 49, "1m"),
            ("spot", "BTCUSDT", "7m"),
            ("usdm", "BTCUSDT", "1s"),
            ("coinm", "BTCUSD_PERP", "1s"),
        ],
    )
    def test_refused_streams_name_the_value(self, market, symbol, timeframe):
        with pytest.raises(BadArgumentError) as info:
            codec(market).stream_key(symbol, timeframe)
        assert repr(symbol) in str(info.value) or repr(timeframe) in str(info.value)


class TestEndpoints:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("ws://127.0.0.1:8000", "ws://127.0.0.1:8000/stream"),
            ("ws://127.0.0.1:8000/", "ws://127.0.0.1:8000/stream"),
            ("wss://h/market", "wss://h/market/stream"),
            ("wss://h/market/", "wss://h/market/stream"),
            ("wss://h/market/stream", "wss://h/market/stream"),
            ("wss://h/ws/", "wss://h/ws"),
            ("wss://h/news", "wss://h/news/stream"),
            ("ws://[::1]:8000", "ws://[::1]:8000/stream"),
            ("wss://h?key=1", "wss://h/stream?key=1"),
            ("wss://h/ws/private", "wss://h/ws/private/stream"),
            ("wss://fstream.binance.com", "wss://fstream.binance.com/stream"),
        ],
    )
    def test_a_base_url_is_completed(self, given, expected):
        assert codec().endpoints([given], ()) == [expected]

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("wss://h/ws/btcusdt@kline_1m", "wss://h/ws"),
            ("wss://h/ws/btcusdt%40kline_1m", "wss://h/ws"),
            ("wss://h/ws/a@kline_1m/b@kline_1h/", "wss://h/ws"),
            ("wss://h:9443/ws/!miniTicker@arr", "wss://h:9443/ws"),
            ("wss://h/market/ws/a@kline_1m", "wss://h/market/ws"),
            ("wss://h/stream?streams=a@kline_1m/b@kline_1m", "wss://h/stream"),
            ("wss://h?streams=a", "wss://h/stream"),
            ("wss://h/stream?key=1&streams=a&x=2", "wss://h/stream?key=1&x=2"),
        ],
    )
    def test_names_of_streams_are_left_out(self, given, expected):
        assert codec().endpoints([given], ()) == [expected]

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("", "/market/stream"),
            ("/", "/market/stream"),
            ("/ws", "/market/ws"),
            ("/ws/btcusdt@kline_1m", "/market/ws"),
            ("/stream?streams=btcusdt@kline_1m", "/market/stream"),
            ("/market", "/market/stream"),
            ("/market/ws", "/market/ws"),
        ],
    )
    def test_former_addresses_of_futures_become_the_present_ones(self, given, expected):
        host = "wss://fstream.binance.com"
        assert codec("usdm").endpoints([host + given], ()) == [host + expected]

    def test_ports_go_where_there_is_none(self):
        made = codec().endpoints(["ws://[::1]", "wss://h:2/ws"], (1, 2))
        assert made == ["ws://[::1]:1/stream", "ws://[::1]:2/stream", "wss://h:2/ws"]
        assert codec().endpoints((), (7,)) == ["wss://stream.binance.com:7/stream"]

    def test_the_same_twice_is_tried_once(self):
        assert codec().endpoints(["wss://h", "wss://h/stream"], ()) == [
            "wss://h/stream"
        ]

    def test_a_contradicting_port_is_refused(self):
        with pytest.raises(BadArgumentError, match="9443"):
            codec().endpoints(["wss://h:9443"], (443,))

    @pytest.mark.parametrize(
        "given", ["https://h", "h", "", "wss://", "ws://h:x", "wss://h/#a"]
    )
    def test_an_invalid_endpoint_is_refused(self, given):
        with pytest.raises(BadArgumentError):
            codec().endpoints([given], ())


def streams(n: int, length: int = 7) -> list[tuple[str, str]]:
    return [(f"S{i:0{length - 1}d}", "1m") for i in range(n)]


def commands(requests: list[Request]) -> list[dict[str, object]]:
    made = [json.loads(request.frame) for request in requests]
    assert [str(command["id"]) for command in made] == [r.id for r in requests]
    assert all(len(request.frame.encode()) <= 4096 for request in requests)
    assert all(len(command["params"]) <= 100 for command in made)
    return made


class TestSubscribing:
    BASE = "wss://h/stream"

    def test_few_streams_are_subscribed_by_the_url(self):
        made = codec()
        wanted = [("BTCUSDT", "1m"), ("ETHUSDT", "1M")]
        url = made.url(self.BASE, wanted)
        assert url == "wss://h/stream?streams=btcusdt@kline_1m/ethusdt@kline_1M"
        assert made.subscribe(wanted) == []

    def test_the_url_keeps_another_query(self):
        url = codec().url("wss://h/stream?key=1", [("BTCUSDT", "1m")])
        assert url == "wss://h/stream?key=1&streams=btcusdt@kline_1m"

    def test_streams_beyond_the_url_are_requested(self):
        made = codec()
        made.url(self.BASE, [("A", "1m"), ("B", "1m")])
        assert [c["method"] for c in commands(made.subscribe([("A", "1m")]))] == [
            "UNSUBSCRIBE"
        ]
        (request,) = made.subscribe([("A", "1m"), ("B", "1m"), ("C", "1h")])
        assert json.loads(request.frame)["params"] == ["c@kline_1h"]

    @pytest.mark.parametrize(
        ("endpoint", "wanted"),
        [
            ("wss://h/ws", streams(1)),
            ("wss://h/stream", streams(201)),
            ("wss://h/stream", streams(100, 48)),
        ],
    )
    def test_other_streams_are_subscribed_by_requests(self, endpoint, wanted):
        made = codec()
        assert made.url(endpoint, wanted) == endpoint
        sent = commands(made.subscribe(wanted))
        assert {command["method"] for command in sent} == {"SUBSCRIBE"}
        params = [name for command in sent for name in command["params"]]
        assert params == [f"{s.lower()}@kline_{t}" for s, t in wanted]

    def test_a_later_url_forgets_the_former(self):
        made = codec()
        made.url(self.BASE, streams(2))
        made.url("wss://h/ws", streams(2))
        assert [request.id for request in made.subscribe(streams(2))] == ["1"]
        assert made.change(streams(2), streams(1))[0].id == "2"
        made.url("wss://h/ws", streams(2))
        assert made.subscribe(streams(2))[0].id == "1"

    def test_codecs_of_two_connections_know_nothing_of_each_other(self):
        one = codec()
        one.url(self.BASE, streams(2))
        other = one.fresh()
        assert type(other) is type(one)
        assert commands(other.subscribe(streams(2)))[0]["id"] == 1
        other.url(self.BASE, streams(1))
        assert one.subscribe(streams(2)) == []
        assert one.change(streams(2), streams(1))[0].id == "1"

    def test_control_one_codec_forgets_the_first_of_two_connections(self):
        one = codec()
        one.url(self.BASE, streams(2))
        one.url(self.BASE, streams(1))
        assert one.subscribe(streams(2)) != []

    def test_mute_streams_are_given_up_and_asked_for_again(self):
        made = codec()
        sent = commands(made.ask_again(streams(2)[1:], streams(3)))
        assert [(c["method"], c["params"], c["id"]) for c in sent] == [
            ("UNSUBSCRIBE", ["s000001@kline_1m"], 1),
            ("SUBSCRIBE", ["s000001@kline_1m"], 2),
        ]
        assert made.ask_again((), streams(3)) == []

    def test_200_by_url_and_all_1024_in_few_frames(self):
        assert "streams=" in codec().url(self.BASE, streams(200, 4))
        assert len(codec().subscribe(streams(1024))) == 11

    def test_a_request_is_the_documented_frame(self):
        assert codec().subscribe([("BTCUSDT", "1m")]) == [
            Request("1", '{"method":"SUBSCRIBE","params":["btcusdt@kline_1m"],"id":1}')
        ]

    def test_no_change_sends_no_request(self):
        made = codec()
        assert made.url(self.BASE, []) == self.BASE
        assert made.subscribe([]) == []
        assert made.change(streams(3), streams(3)[::-1]) == []

    def test_change_subscribes_before_it_unsubscribes(self):
        made = codec()
        sent = commands(made.change(streams(3), streams(4)[2:]))
        assert [(c["method"], c["params"], c["id"]) for c in sent] == [
            ("SUBSCRIBE", ["s000003@kline_1m"], 1),
            ("UNSUBSCRIBE", ["s000000@kline_1m", "s000001@kline_1m"], 2),
        ]
        assert made.change([], streams(1))[0].id == "3"

    def test_change_unsubscribes_first_at_the_limit(self):
        old, new = streams(300)[:200], streams(300)[150:]
        sent = commands(codec("usdm").change(old, new))
        assert [c["method"] for c in sent] == [
            "UNSUBSCRIBE",
            "UNSUBSCRIBE",
            "SUBSCRIBE",
        ]


class TestDecoding:
    def test_an_unfinished_bar_is_decoded(self):
        assert only(OPEN) == BarEvent(
            symbol="NKNUSDT",
            timeframe="1m",
            open_time=1633998480000,
            close_time=1633998539999,
            open=0.3527,
            high=0.3528,
            low=0.3522,
            close=0.3528,
            volume=25877.0,
            money=9116.046,
            closed=False,
            event_time=1633998523963,
            first_id=19862761,
            last_id=19862790,
        )

    def test_a_closed_bar_is_decoded(self):
        event = only(CLOSED)
        assert (event.closed, event.symbol, event.volume) == (True, "XEMUSDT", 243.0)

    def test_a_closed_bar_without_trades_is_decoded(self):
        event = only(NO_TRADES)
        assert (event.closed, event.volume, event.money) == (True, 0.0, 0.0)
        assert event.open == event.high == event.low == event.close == 0.00002369
        assert (event.first_id, event.last_id, event.sequence) == (-1, -1, -1)
        assert event.no_trade
        assert not only(CLOSED).no_trade

    @pytest.mark.parametrize("frame", [OPEN, CLOSED, NO_TRADES, USDM])
    def test_a_raw_stream_decodes_to_the_same_bar(self, frame):
        assert only(raw(frame)) == only(frame)

    def test_money_is_quote_turnover_or_nothing(self):
        assert only(USDM, "usdm").money == 3957.899
        coinm = changed("data.k.s", "ETHUSD_210924")
        assert only(coinm, "coinm").symbol == "ETHUSD_210924"
        assert math.isnan(only(coinm, "coinm").money)

    def test_numbers_are_accepted_as_well_as_strings(self):
        assert only(changed("data.k.o", 0.3527)) == only(OPEN)
        assert only(changed("data.k.t", "1633998480000")) == only(OPEN)

    def test_values_are_not_judged(self):
        assert math.isnan(only(changed("data.k.o", "nan")).open)
        assert only(changed("data.k.v", "-inf")).volume == -math.inf

    @pytest.mark.parametrize("frame", GOODBYE)
    def test_a_shutdown_is_announced(self, frame):
        assert only(frame) == GoingAway()

    @pytest.mark.parametrize(
        ("frame", "request_id"),
        [
            (b'{"result":null,"id":1}', "1"),
            (b'{"result":null,"id":"a1"}', "a1"),
            (b'{"result":["btcusdt@aggTrade"],"id":3}', "3"),
            (b'{"result":null,"id":null}', None),
            (b'{"result":null,"id":true}', None),
            (b'{"result":null}', None),
            (b'{"error":null,"result":null,"id":4}', "4"),
            (b'{"code":0,"msg":"","result":null,"id":5}', "5"),
        ],
    )
    def test_an_acknowledgement_names_its_request(self, frame, request_id):
        assert only(frame) == Acknowledged(request_id)

    @pytest.mark.parametrize(
        ("frame", "refused"),
        [
            (
                b'{"code":2,"msg":"Invalid request: a\\nb","id":7}',
                Refused("7", "Invalid request: a b (code 2)"),
            ),
            (
                b'{"code":3,"msg":"Invalid JSON"}',
                Refused(None, "Invalid JSON (code 3)"),
            ),
            (
                b'{"error":{"code":1,"msg":"bad type"},"id":"x"}',
                Refused("x", "bad type (code 1)"),
            ),
            (b'{"error":"no","id":1}', Refused("1", "no")),
            (b'{"error":[1e999],"id":1}', Refused("1", "refused")),
            (b'{"error":{},"id":1}', Refused("1", "{}")),
            (b'{"code":0,"msg":"bad name","id":1}', Refused("1", "bad name (code 0)")),
            (b'{"code":0,"id":1}', Refused("1", "refused (code 0)")),
        ],
    )
    def test_a_refusal_names_its_request_and_reason(self, frame, refused):
        assert only(frame) == refused

    def test_a_refusal_is_short(self):
        words = only(b'{"code":2,"msg":"' + b"w" * 9999 + b'","id":7}').message
        assert len(words) == 300

    @pytest.mark.parametrize(
        "frame",
        [
            b'{"stream":"a@aggTrade","data":{"e":"aggTrade","E":1,"k":"odd","x":[]}}',
            b'{"stream":"a@aggTrade","data":{"e":"aggTrade","E":"soon","z":1e999}}',
            b'{"stream":"a@bookTicker","data":{"u":1,"s":"A","b":"1","B":"2"}}',
            b'{"stream":"!miniTicker@arr","data":[{"e":"24hrMiniTicker"}]}',
            b'{"e":"trade","E":1,"k":{"t":1}}',
            b'{"u":400900217,"s":"BNBUSDT","b":"25.35","B":"31.21"}',
            b'{"id":1}',
            b"{}",
        ],
    )
    def test_other_events_are_ignored(self, frame):
        assert only(frame) == Ignored()

    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            (changed("data.k.t", "SECRET"), "$.data.k.t"),
            (changed("data.k.t", -1), "$.data.k.t"),
            (changed("data.k.t", 10**30), "$.data.k.t"),
            (changed("data.k.t", 2 * 10**13), "int"),
            (changed("data.k.x", "SECRET"), "$.data.k.x"),
            (changed("data.k.o", None), "$.data.k.o"),
            (changed("data.k.o", 10**400), "out of range"),
            (changed("data.k.o", True), "$.data.k.o"),
            (changed("data.k.o", math.nan), "JSON"),
            (changed("data.k.v", math.inf), "JSON"),
            (changed("data.k.s", "SECRET SECRET"), "symbol or timeframe"),
            (changed("data.k.s", ""), "symbol or timeframe"),
            (changed("data.k.i", "7SECRETm"), "symbol or timeframe"),
            (changed("data.k", {}), "missing required"),
            (changed("data.k", None), "shape"),
            (changed("data.k", "SECRET"), "$.data.k"),
            (changed("data", "SECRET"), "$.data"),
            (changed("data", {}), "shape"),
            (b"[" * 100_000, "Expected `object`"),
            (b'{"z":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
            (b"", "truncated"),
            (OPEN[:-1], "truncated"),
            (OPEN + b"SECRET", "JSON"),
            (OPEN.replace(b'"B":"0"', b'"B":"\xff"'), "UTF-8"),
            (b"\xff\xfe", "UTF-8"),
            (b"pang", "JSON"),
            (b"null", "Expected `object`"),
            (b"[]", "Expected `object`"),
            (b'"SECRET"', "Expected `object`"),
            (b"9" * 5000, ""),
        ],
    )
    def test_a_malformed_message_is_reported_with_its_reason(self, frame, reason):
        event = only(frame)
        assert isinstance(event, Malformed)
        assert reason in event.reason
        assert "SECRET" not in event.reason
        assert len(event.reason) < 200


def micro(frame: bytes) -> bytes:
    """Return a frame as the venue sends it for timeUnit=MICROSECOND."""
    message = json.loads(frame)
    payload = message["data"]
    payload["E"] = payload["E"] * 1000 + 7
    payload["k"]["t"] *= 1000
    payload["k"]["T"] = payload["k"]["T"] * 1000 + 999
    return json.dumps(message).encode()


class TestOptionalFields:
    @pytest.mark.parametrize(
        ("path", "attribute", "absent"),
        [
            ("data.E", "event_time", 0),
            ("data.k.T", "close_time", 0),
            ("data.k.f", "first_id", -1),
            ("data.k.L", "last_id", -1),
            ("data.k.q", "money", math.nan),
        ],
    )
    @pytest.mark.parametrize("odd", [None, "", "x", {}, [1], True, 10**30, -7, 1.5])
    def test_an_unreadable_value_counts_as_absent(self, path, attribute, absent, odd):
        event, expected = only(changed(path, odd)), only(OPEN)
        if attribute == "money" and isinstance(odd, float | int) and odd is not True:
            absent = float(odd)  # a number is readable, whatever it says
        assert getattr(event, attribute) == absent or math.isnan(absent)
        setattr(event, attribute, getattr(expected, attribute))
        assert event == expected

    def test_a_value_that_is_missing_is_absent(self):
        message = json.loads(OPEN)
        for key in "TfLq":
            del message["data"]["k"][key]
        del message["data"]["E"]
        event = only(json.dumps(message).encode())
        assert (event.close_time, event.event_time) == (0, 0)
        assert (event.first_id, event.last_id) == (-1, -1)
        assert math.isnan(event.money)

    def test_seconds_are_no_event_time(self):
        assert only(changed("data.E", 1633998523)).event_time == 0

    @ANY
    @given(
        st.dictionaries(
            st.sampled_from(["data.E", "data.k.T", "data.k.f", "data.k.L", "data.k.q"]),
            FINITE,
        )
    )
    def test_no_optional_value_ever_drops_the_bar(self, odd):
        frame = OPEN
        for path, value in odd.items():
            frame = changed(path, value, frame)
        event = only(frame)
        assert isinstance(event, BarEvent)
        assert (event.symbol, event.close, event.closed) == ("NKNUSDT", 0.3528, False)

    @ANY
    @given(
        st.sampled_from([f"data.k.{key}" for key in "tsiohlcvx"]),
        st.none() | st.lists(st.integers()) | st.sampled_from(["", "x y", {}]),
    )
    def test_control_an_unreadable_required_value_drops_it(self, path, odd):
        assert isinstance(only(changed(path, odd)), Malformed)

    @pytest.mark.parametrize("frame", [OPEN, CLOSED, NO_TRADES, USDM])
    def test_microseconds_are_told_by_their_size(self, frame):
        assert only(micro(frame)) == only(frame)
        assert only(raw(micro(frame))) == only(frame)


class TestHeartbeats:
    @pytest.mark.parametrize(
        ("data", "reply"),
        [
            (b"ping", "pong"),
            (b"PING", "PONG"),
            (b" ping\n", "pong"),
            (b'{"ping":17}', '{"pong":17}'),
            (b'{"op":"ping"}', '{"op":"pong"}'),
            (b"pong", None),
            (b'{"op":"pong","args":["1"]}', None),
            (b'{"pong":1}', None),
        ],
    )
    def test_those_of_a_proxy_are_understood(self, data, reply):
        assert only(data) == Heartbeat(reply)


def checked(data: bytes, market: str = "spot"):
    events = codec(market).decode(data)
    assert len(events) == 1
    assert isinstance(events[0], EVENTS)
    return events[0]


MESSAGES = (OPEN, CLOSED, NO_TRADES, USDM, *GOODBYE, b'{"result":null,"id":1}')


class TestNothingRaises:
    @ANY
    @given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
    @example(b'{"error":' + b"[" * 980 + b"]" * 980 + b"}")
    def test_arbitrary_bytes_raise_nothing(self, data):
        checked(data)

    @ANY
    @given(JSON)
    def test_arbitrary_json_raises_nothing(self, value):
        checked(json.dumps(value).encode(errors="replace"))

    @ANY
    @given(st.sampled_from(MESSAGES), st.data())
    def test_mutated_messages_raise_nothing(self, message, data):
        at = data.draw(st.integers(0, len(message)))
        until = data.draw(st.integers(at, min(len(message), at + 8)))
        checked(message[:at] + data.draw(st.binary(max_size=8)) + message[until:])

    @pytest.mark.parametrize("message", MESSAGES)
    def test_a_message_cut_at_any_byte_raises_nothing(self, message):
        for end in range(len(message)):
            assert isinstance(checked(message[:end]), Malformed)

    @pytest.mark.parametrize("key", ["error", "msg", "data", "id", "e"])
    def test_nesting_of_any_depth_raises_nothing(self, key):
        limit = sys.getrecursionlimit()
        for depth in range(limit - 120, limit + 20, 7):
            nest = b"[" * depth + b"]" * depth
            checked(b'{"id":1,"' + key.encode() + b'":' + nest + b"}")


class TestRecordings:
    @pytest.mark.parametrize(
        ("market", "name"),
        [("spot", "binance-spot.frames"), ("usdm", "binance-usdm.frames")],
    )
    def test_every_recorded_frame_is_decoded(self, market, name):
        path = DATA / name
        if not path.exists():
            pytest.skip(f"no recording at {path}")
        made, kinds = codec(market), Counter()
        lines = path.read_text().splitlines()[1:]
        for text in filter(None, (line.partition(": ")[2] for line in lines)):
            (event,) = made.decode(text.encode())
            payload = json.loads(text).get("data", {})
            kinds[type(event)] += 1
            assert isinstance(event, BarEvent) == (payload.get("e") == "kline")
            if isinstance(event, BarEvent):
                assert_same(event, payload)
        assert set(kinds) == {BarEvent, Ignored}
        assert kinds.total() == sum(": {" in line for line in lines)


def assert_same(event: BarEvent, payload: dict) -> None:
    k = payload["k"]
    assert (event.symbol, event.timeframe) == (k["s"], k["i"])
    assert (event.open_time, event.close_time) == (k["t"], k["T"])
    assert (event.closed, event.event_time) == (k["x"], payload["E"])
    values = (event.open, event.high, event.low, event.close, event.volume)
    assert values == tuple(float(k[key]) for key in "ohlcv")
    assert event.money == float(k["q"])
    assert (event.first_id, event.last_id) == (k["f"], k["L"])
