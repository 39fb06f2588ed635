import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.codecs import get_codec
from shmfeed.codecs.heartbeats import heartbeat_in
from shmfeed.codecs.interface import Heartbeat, Ignored, Malformed

CODECS = (get_codec("wealthai"), get_codec("binance", "spot"))


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"ping", "pong"),
        (b"PING", "PONG"),
        (b"Ping", "Pong"),
        (b" ping", "pong"),
        (b"ping\n", "pong"),
        (b"\tPING\r\n", "PONG"),
        (b'"ping"', '"pong"'),
        (b' "PING" ', '"PONG"'),
        (b"'ping'", "'pong'"),
        (b'{"type":"ping"}', '{"type":"pong"}'),
        (b'{"type":"PING"}', '{"type":"PONG"}'),
        (b' {"type": "ping", "ts": 1e999}\n', '{"type":"pong"}'),
        (b'{"op":"ping"}', '{"op":"pong"}'),
        (b'{"event":"ping","req_id":"1"}', '{"event":"pong"}'),
        (b'{"method":"PING"}', '{"method":"PONG"}'),
        (b'{"action":"ping"}', '{"action":"pong"}'),
        (b'{"ping":1492420473027}', '{"pong":1492420473027}'),
        (b'{"ping":"a b"}', '{"pong":"a b"}'),
    ],
)
def test_a_ping_is_answered_in_kind(data, reply):
    assert heartbeat_in(data) == Heartbeat(reply)
    for codec in CODECS:
        assert codec.decode(data) == (Heartbeat(reply),)


@pytest.mark.parametrize(
    "data",
    [
        *(b"pong", b"PONG\n", b'"pong"', b"heartbeat", b' "Heartbeat"'),
        *(b'{"type":"pong"}', b'{"type":"Heartbeat"}', b'{"event":"pong"}'),
        *(b'{"pong":1}', b'{"op":"pong","args":["1"]}'),
    ],
)
def test_other_heartbeats_need_no_answer(data):
    for codec in CODECS:
        assert codec.decode(data) == (Heartbeat(),)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b" ", b"pingpong", b"ping ping", b"ping" + b" " * 99, b"p ing", b"''"),
        *(b'["ping"]', b'{"type":["ping"]}', b'{"type":5,"ping"}', b"\xffping"),
        b'{"ping":"' + b"x" * 99 + b'"}',
    ],
)
def test_what_only_looks_like_one_is_none(data):
    assert heartbeat_in(data) is None
    for codec in CODECS:
        assert isinstance(codec.decode(data)[0], Malformed | Ignored)


@pytest.mark.parametrize("codec", CODECS)
def test_the_type_of_a_message_counts_first(codec):
    (event,) = codec.decode(b'{"type":"NEWS","op":"ping","ping":1}')
    assert event == Ignored()


@given(st.binary(max_size=70) | st.text(max_size=70).map(str.encode))
def test_any_bytes_are_a_heartbeat_or_none(data):
    found = heartbeat_in(data)
    assert found is None or isinstance(found, Heartbeat)


@given(st.text(max_size=20) | st.integers() | st.none() | st.booleans())
def test_what_a_ping_holds_is_echoed_as_it_is(value):
    found = heartbeat_in(json.dumps({"ping": value}).encode())
    if found is not None:
        assert json.loads(found.reply) == {"pong": value}
