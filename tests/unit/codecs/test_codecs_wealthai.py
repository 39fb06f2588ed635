import json
import math
import time

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shmfeed.codecs import Codec, Request, get_codec, wealthai
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

EVENTS = (BarEvent, Acknowledged, Refused, Heartbeat, GoingAway, Ignored, Malformed)
TOKEN = "token-4711"
BAR = {
    "type": "BAR",
    "symbol": "BTCUSDT",
    "timeframe": "1h",
    "open_time": 1633996800000,
    "close_time": 1634000400000,
    "open": "57000.5",
    "high": "57100",
    "low": "56900",
    "close": "57050.25",
    "volume": "12.5",
}


def codec(market_type: str = "", token: str = TOKEN) -> Codec:
    return get_codec("wealthai", market_type, token)


def only(message: object):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    (event,) = codec().decode(data)
    return event


def bar(**changes: object) -> dict[str, object]:
    """Return the example with some keys changed or, given as `...`, left out."""
    message = {**BAR, **changes}
    return {key: value for key, value in message.items() if value is not ...}


class TestSettings:
    def test_the_limits_are_the_protocols(self):
        made = codec()
        assert made.name == "wealthai"
        assert not made.flags_closed
        assert made.answers_pings
        assert made.max_connection_age is None
        assert made.max_streams >= 1000

    def test_streams_keep_their_case(self):
        assert codec().stream_key("btcUSDT", "daily") == ("btcUSDT", "1d")

    @pytest.mark.parametrize(
        ("symbol", "timeframe"), [("", "1h"), ("A B", "1h"), ("A", "2m"), ("A", "1H")]
    )
    def test_refused_streams_name_the_value(self, symbol, timeframe):
        with pytest.raises(BadArgumentError) as info:
            codec().stream_key(symbol, timeframe)
        assert repr(symbol) in str(info.value) or repr(timeframe) in str(info.value)

    def test_the_default_endpoints_are_complete(self):
        made = [f"wss://ws.wealthai.cc:{p}/market_data" for p in (18000, 18001, 18002)]
        assert codec().endpoints((), ()) == made
        assert codec().endpoints((), (18002, 1)) == [
            "wss://ws.wealthai.cc:18002/market_data",
            "wss://ws.wealthai.cc:1/market_data",
        ]

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("ws://127.0.0.1:1", "ws://127.0.0.1:1/market_data"),
            ("ws://127.0.0.1:1/", "ws://127.0.0.1:1/market_data"),
            ("wss://h/feed", "wss://h/feed"),
            ("wss://h/feed/?a=b", "wss://h/feed/?a=b"),
        ],
    )
    def test_an_endpoint_without_a_path_is_a_base(self, given, expected):
        assert codec().endpoints([given], ()) == [expected]

    def test_ports_complete_endpoints_without_one(self):
        assert codec().endpoints(["wss://h/x"], (1, 2)) == [
            "wss://h:1/x",
            "wss://h:2/x",
        ]
        assert codec().endpoints(["wss://h:2/x"], (1, 2)) == ["wss://h:2/x"]
        with pytest.raises(BadArgumentError, match="names port"):
            codec().endpoints(["wss://h:3/x"], (1, 2))


class TestSubscribing:
    STREAMS = (("B", "1h"), ("A", "1h"), ("B", "1m"), ("A", "1m"))

    def test_the_first_frame_is_connect(self):
        made = codec()
        assert made.url("wss://h/market_data", self.STREAMS) == "wss://h/market_data"
        assert made.subscribe(self.STREAMS) == [
            Request(
                "1",
                '{"type":"CONNECT","request_id":"1","symbols":["B","A"],'
                '"resolutions":["1h","1m"],"csrf_token":"token-4711",'
                '"market_type":"binance-testnet"}',
            )
        ]

    def test_market_type_is_sent_unchecked(self):
        (request,) = codec("usdm", "").subscribe(self.STREAMS)
        message = json.loads(request.frame)
        assert (message["market_type"], message["csrf_token"]) == ("usdm", "")

    def test_a_change_sends_the_whole_new_list(self):
        made = codec()
        made.subscribe(self.STREAMS)
        new = [*self.STREAMS, ("C", "1h")]
        (request,) = made.change(self.STREAMS, new)
        message = json.loads(request.frame)
        assert request.id == message["request_id"] == "2"
        assert list(message)[:4] == ["type", "request_id", "symbols", "resolutions"]
        assert message["symbols"] == ["B", "A", "C"]
        assert made.change(new, new[::-1]) == []
        assert made.change(new, self.STREAMS)[0].id == "3"

    def test_each_connection_begins_with_1(self):
        made = codec()
        for _ in range(2):
            made.url("wss://h/market_data", self.STREAMS)
            assert [made.subscribe(self.STREAMS)[0].id for _ in range(2)] == ["1", "2"]

    def test_codecs_of_two_connections_count_for_themselves(self):
        one = codec()
        assert one.subscribe(self.STREAMS)[0].id == "1"
        other = one.fresh()
        assert type(other) is type(one)
        assert [other.subscribe(self.STREAMS)[0].id for _ in range(2)] == ["1", "2"]
        other.url("wss://h/market_data", self.STREAMS)
        assert one.change(self.STREAMS, self.STREAMS[1:])[0].id == "2"

    def test_mute_streams_are_asked_for_with_all_others(self):
        made = codec()
        (request,) = made.ask_again(self.STREAMS[:1], self.STREAMS)
        assert json.loads(request.frame)["symbols"] == ["B", "A"]
        assert made.ask_again((), self.STREAMS) == []

    def test_a_new_token_serves_all_connections(self):
        one = codec()
        other = one.fresh()
        one.csrf_token = "second-0815"
        assert one.csrf_token == other.csrf_token == "second-0815"
        (request,) = other.subscribe(self.STREAMS)
        assert json.loads(request.frame)["csrf_token"] == "second-0815"
        assert "second-0815" not in f"{other!r} {request!r}"

    def test_the_former_token_is_redacted_too(self):
        made = codec()
        for _ in range(2):  # the same again does not push the former one out
            made.csrf_token = "second-0815"
        words = f'{{"type":"ERROR","message":"{TOKEN} is old, second-0815 is new"}}'
        (event,) = made.decode(words.encode())
        assert event.message == "*** is old, *** is new"

    def test_the_token_is_in_the_frame_alone(self):
        made = codec()
        requests = made.subscribe(self.STREAMS)
        assert TOKEN in requests[0].frame
        assert TOKEN not in f"{made!r} {requests!r} {requests[0]}"
        assert TOKEN in repr(tuple(requests[0]))  # a plain tuple would have shown it


class TestBars:
    def test_a_bar_is_decoded(self):
        event = only(BAR)
        assert math.isnan(event.money)
        event.money = 0.0
        assert event == BarEvent(
            symbol="BTCUSDT",
            timeframe="1h",
            open_time=1633996800000,
            close_time=1634000400000,
            open=57000.5,
            high=57100.0,
            low=56900.0,
            close=57050.25,
            volume=12.5,
            money=0.0,
            closed=None,
            event_time=0,
        )

    @pytest.mark.parametrize(
        "same",
        [
            {"type": "KLINE"},
            {"timeframe": ..., "resolution": "1h"},
            {"timeframe": "60m"},
            {"timeframe": None, "resolution": "60m"},
            {"open": 57000.5, "volume": 12.5, "high": 57100},
            {"open_time": "1633996800000", "close_time": 1634000400000.0},
            {"news": {"deep": [1, 2]}, "money": None, "closed": None},
        ],
    )
    def test_other_spellings_decode_to_the_same_bar(self, same):
        event, expected = only(bar(**same)), only(BAR)
        event.money = expected.money = 0.0
        assert event == expected

    @pytest.mark.parametrize("key", ["closed", "is_closed", "final", "x"])
    @pytest.mark.parametrize(
        ("sent", "flag"), [(True, True), (False, False), ("true", True), (None, None)]
    )
    def test_each_spelling_of_the_flag_is_read(self, key, sent, flag):
        assert only(bar(**{key: sent})).closed is flag

    @pytest.mark.parametrize("key", ["money", "quote_volume", "turnover"])
    def test_each_spelling_of_money_is_read(self, key):
        assert only(bar(**{key: "7.5"})).money == 7.5

    def test_a_bar_without_close_time_is_decoded(self):
        assert only(bar(close_time=...)).close_time == 0

    def test_values_are_not_judged(self):
        assert math.isnan(only(bar(open="nan")).open)
        assert only(bar(high=1, low=2)).low == 2.0

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"open": "SECRET"}, "$.open"),
            ({"open": None}, "$.open"),
            ({"open": math.nan}, "JSON"),
            ({"open": 10**400}, "out of range"),
            ({"volume": ...}, "volume"),
            ({"open_time": "SECRET"}, "$.open_time"),
            ({"open_time": 1.5}, "$.open_time"),
            ({"open_time": -1}, "$.open_time"),
            ({"open_time": 10**30}, "$.open_time"),
            ({"close_time": [1], "open": "SECRET"}, "$.open"),
            ({"closed": "SECRET", "high": None}, "$.high"),
            ({"money": {}, "volume": ...}, "volume"),
            ({"symbol": 5}, "$.symbol"),
            ({"symbol": "SECRET SECRET"}, "symbol or timeframe"),
            ({"timeframe": "SECRET"}, "symbol or timeframe"),
            ({"timeframe": ...}, "symbol or timeframe"),
            ({"timeframe": 60}, "symbol or timeframe"),
            ({"timeframe": "SECRET", "resolution": 5}, "symbol or timeframe"),
        ],
    )
    @pytest.mark.parametrize("kind", ["BAR", "KLINE"])
    def test_a_malformed_message_is_reported(self, kind, changes, reason):
        event = only(bar(type=kind, **changes))
        assert isinstance(event, Malformed)
        assert reason in event.reason
        assert "SECRET" not in event.reason


ODD = st.none() | st.sampled_from(["", "yes", "x", "1e999", " 1", -1, 1.5, 10**30, {}])


OPTIONAL = ("close_time", "money", "quote_volume", "turnover", "closed", "is_closed")
OPTIONAL += ("final", "x", "ts", "seq", "sequence")


class TestOptionalFields:
    ABSENT = bar(close_time=...)

    @pytest.mark.parametrize(
        "odd",
        [
            *({"turnover": v} for v in ("", "x", {}, [], True, 10**400, "1e999x")),
            *({"money": v} for v in ({}, "", None, [[1]])),
            *({"close_time": v} for v in (None, "", [1], -1, 10**30, 1.5, True)),
            *({"final": v} for v in ("yes", "", 2, [], 0.5)),
            *({"closed": v, "x": "no"} for v in ("open", {})),
            *({"ts": v} for v in ("x", None, {}, -5, 0, 1633996800, 10**30)),
            *({"seq": v} for v in ("x", None, {}, -1, 1.5, 2**63, True)),
            {"sequence": "x", "seq": []},
        ],
    )
    def test_an_unreadable_value_counts_as_absent(self, odd):
        event, expected = only({**self.ABSENT, **odd}), only(self.ABSENT)
        assert math.isnan(event.money)
        assert math.isnan(expected.money)
        event.money = expected.money = 0.0
        assert event == expected

    def test_control_a_strict_decoder_refuses_it(self):
        for odd in ({"turnover": ""}, {"close_time": None}, {"final": "yes"}):
            data = json.dumps({**self.ABSENT, **odd}).encode()
            with pytest.raises(msgspec.ValidationError):
                wealthai._decode_bar(data)

    def test_the_first_readable_spelling_counts(self):
        assert only(bar(money="", turnover=None, quote_volume="7.5")).money == 7.5
        assert only(bar(closed="yes", is_closed=None, final=True)).closed is True
        assert only(bar(seq="x", sequence=7)).sequence == 7
        assert only(bar(timeframe=60, resolution="1m")).timeframe == "1m"
        assert only(bar(timeframe="7m", resolution="1m")).timeframe == "1m"

    def test_readable_values_beside_an_unreadable_one_count(self):
        odd = {"turnover": "", "x": True, "ts": "1633996800123", "seq": 3}
        event = only(bar(money="7.5", **odd))
        assert (event.money, event.closed) == (7.5, True)
        assert (event.event_time, event.sequence) == (1633996800123, 3)
        assert event.close_time == BAR["close_time"]

    @pytest.mark.parametrize("key", ["seq", "sequence"])
    @pytest.mark.parametrize("sent", [0, 7, "7", 2**63 - 1])
    def test_each_spelling_of_the_number_is_read(self, key, sent):
        assert only(bar(**{key: sent})).sequence == int(sent)

    @pytest.mark.parametrize("sent", [1633996800123, "1633996800123"])
    def test_the_time_of_the_venue_is_read(self, sent):
        assert only(bar(ts=sent)).event_time == 1633996800123

    def test_without_them_a_bar_has_no_time_and_no_number(self):
        event = only(BAR)
        assert (event.event_time, event.sequence) == (0, -1)
        assert (event.first_id, event.last_id) == (-1, -1)

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from([*OPTIONAL, "resolution", "other"]),
            ODD | st.deferred(lambda: FINITE),
        )
    )
    def test_no_optional_value_ever_drops_the_bar(self, odd):
        event = only({**BAR, **odd})
        assert isinstance(event, BarEvent)
        assert (event.symbol, event.timeframe, event.close) == (
            "BTCUSDT",
            "1h",
            57050.25,
        )

    @settings(deadline=None)
    @given(
        st.sampled_from(["symbol", "open_time", "open", "high", "low", "volume"]),
        st.none() | st.lists(st.integers()) | st.sampled_from(["", "x y", {}]),
    )
    def test_control_an_unreadable_required_value_drops_it(self, key, odd):
        assert isinstance(only({**BAR, key: odd}), Malformed)


class TestOtherMessages:
    @pytest.mark.parametrize(
        ("message", "event"),
        [
            (b"ping", Heartbeat("pong")),
            (b"pong", Heartbeat()),
            ({"type": "PING", "ts": []}, Heartbeat('{"type":"PONG"}')),
            ({"type": "PONG"}, Heartbeat()),
            ({"type": "HEARTBEAT", "symbol": 5}, Heartbeat()),
            ({"type": "CONNECTED"}, Acknowledged(None)),
            ({"type": "CONNECTED", "request_id": "2", "x": {}}, Acknowledged("2")),
            ({"type": "CONNECTED", "request_id": 2}, Acknowledged("2")),
            ({"type": "CONNECTED", "request_id": True}, Acknowledged(None)),
            ({"type": "CONNECTED", "request_id": [1]}, Acknowledged(None)),
            ({"type": "ERROR"}, Refused(None, "ERROR")),
            ({"type": "ERROR", "message": ""}, Refused(None, "ERROR")),
            ({"type": "ERROR", "message": "no", "request_id": 1}, Refused("1", "no")),
            ({"type": "ERROR", "message": {"a": 1}}, Refused(None, '{"a": 1}')),
            ({"type": "ERROR", "message": "a\nb\x1b[1m"}, Refused(None, "a b [1m")),
            ({"type": "ERROR", "message": "Größe"}, Refused(None, "Größe")),
            ({"type": "ERROR", "reason": "no"}, Refused(None, "no")),
            ({"type": "ERROR", "msg": "no", "code": 7}, Refused(None, "no (code 7)")),
            ({"type": "ERROR", "message": "", "error": "a\nb"}, Refused(None, "a b")),
            ({"type": "ERROR", "error": {"why": 1}}, Refused(None, '{"why": 1}')),
            ({"type": "ERROR", "code": 7}, Refused(None, '{"code":7}')),
            ({"type": "ERROR", "a": [1], "b": None}, Refused(None, '{"a":[1]}')),
            (
                {"type": "ERROR", "message": "no", "symbol": "A"},
                Refused(None, "no", "A"),
            ),
            (
                {"type": "ERROR", "message": "no", "symbols": ["A", 5, "B C", "D"]},
                Refused(None, "no", "A D"),
            ),
            ({"type": "ERROR", "symbol": "A"}, Refused(None, '{"symbol":"A"}', "A")),
            ({"type": "NEWS"}, Ignored()),
            ({**BAR, "type": "NEWS"}, Ignored()),
            ({**BAR, "type": "bar"}, Ignored()),
            ({"type": "NEWS", "symbol": 5, "open_time": {}, "message": 1}, Ignored()),
            (b'{"type":"NEWS","message":1e999,"open":"x"}', Ignored()),
        ],
    )
    def test_each_message_becomes_its_event(self, message, event):
        assert only(message) == event

    def test_a_refusal_is_short_and_without_the_token(self):
        words = f"bad {TOKEN} {'w' * 999}"
        refused = only({"type": "ERROR", "message": words})
        assert refused.message == f"bad *** {words[-999:]}"[:297] + "..."
        refused = only({"type": "ERROR", "message": ["bad", TOKEN]})
        assert refused.message == '["bad", "***"]'

    def test_a_refusal_with_an_unreadable_field_stays_one(self):
        words = b'{"type":"ERROR","request_id":"1","limit":1e999}'
        assert only(words) == Refused("1", "ERROR")

    def test_a_long_refusal_costs_little(self):
        keys = ",".join(f'"{TOKEN[:9]}{n}":1' for n in range(40_000))
        names = ",".join(['"?"'] * 200_000)
        for body in (keys, f'"message":"{TOKEN[:9] * 99_999}"', f'"symbols":[{names}]'):
            before = time.process_time()
            event = only(f'{{"type":"ERROR",{body}}}'.encode())
            assert isinstance(event, Refused)
            assert len(event.message) <= 300
            assert time.process_time() - before < 1.0

    def test_no_words_of_a_refusal_show_the_token(self):
        for message in (
            {"reason": f"bad {TOKEN}"},
            {"token": TOKEN},
            {"message": {"token": TOKEN}},
            {"symbol": TOKEN, "symbols": [TOKEN]},
            {TOKEN: 1},
        ):
            event = only({"type": "ERROR", **message})
            assert TOKEN not in f"{event.message} {event.symbol}"
            assert "***" in event.message
        escaped = TOKEN.replace("k", "\\u006b")
        event = only(f'{{"type":"ERROR","message":["{escaped}"]}}'.encode())
        assert event.message == '["***"]'

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b" ",
            b"PING SECRET",
            b"null",
            b"5",
            b"[]",
            b'"BAR SECRET"',
            b"{}",
            b'{"type":null}',
            b'{"type":5}',
            b'{"type":["BAR"]}',
            b'{"type":"NEWS"',
            b'{"type":"NEWS"}{}',
            b'{"type":"NEWS","a":NaN}',
            b'{"type":"NEWS","a":Infinity}',
            b'{"type":"NEWS","message":"\\ud800"}',
            b'{"type":"NEWS","a":"\xff SECRET"}',
            b'{"type":"NEWS","a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
            b"[" * 50_000,
            b"\x00\xff\xfe",
            b"9" * 9999,
        ],
    )
    def test_a_malformed_message_is_reported(self, data):
        event = only(data)
        assert isinstance(event, Malformed)
        assert event.reason
        assert "SECRET" not in event.reason
        assert len(event.reason) < 200


def checked(data: bytes):
    events = codec().decode(data)
    assert len(events) == 1
    assert isinstance(events[0], EVENTS)
    return events[0]


MESSAGES = (
    json.dumps(BAR).encode(),
    json.dumps(bar(timeframe=..., resolution="1m", x=True, money=5)).encode(),
    b'{"type":"CONNECTED","request_id":"1"}',
    b'{"type":"ERROR","message":"no","request_id":"1"}',
    b'{"type":"PING"}',
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
# A value without a JSON literal spoils a message as a whole.
FINITE = VALUES.filter(
    lambda one: "NaN" not in (text := json.dumps(one)) and "Inf" not in text
)
ANY = settings(deadline=None)  # a slow machine is no failure
KEYS = st.sampled_from([*BAR, "resolution", "money", "closed", "x", "message"])
TYPES = st.sampled_from(["BAR", "ERROR", "CONNECTED", "PING", "NEWS"])


class TestNothingRaises:
    @pytest.mark.parametrize(
        "data", [b"", b"\xff", b"[]", b"NaN", b'{"a":' + b"[" * 5000 + b"]" * 5000]
    )
    def test_control_a_bare_decoder_raises(self, data):
        with pytest.raises((msgspec.DecodeError, RecursionError)):
            msgspec.json.decode(data, type=dict[str, object])
        assert isinstance(checked(data), Malformed)

    @ANY
    @given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
    def test_arbitrary_bytes_raise_nothing(self, data):
        checked(data)

    @ANY
    @given(TYPES, st.dictionaries(KEYS, VALUES, max_size=6))
    @example("ERROR", {"message": 10**4000, "request_id": 10**4000})
    def test_arbitrary_values_raise_nothing(self, kind, values):
        message = {**BAR, "type": kind, **values}
        event = checked(json.dumps(message).encode(errors="replace"))
        text = json.dumps(message)
        if message["type"] == "NEWS" and "NaN" not in text and "Infinity" not in text:
            assert event == Ignored()

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

    @pytest.mark.parametrize("key", ["type", "message", "request_id", "open"])
    @pytest.mark.parametrize("kind", [b"ERROR", b"BAR"])
    def test_nesting_of_any_depth_raises_nothing(self, key, kind):
        for depth in range(850, 1020, 7):
            nest = b"[" * depth + b"]" * depth
            checked(b'{"type":"' + kind + b'","' + key.encode() + b'":' + nest + b"}")
