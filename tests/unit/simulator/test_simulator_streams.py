"""Faults of single streams, symbols and lines, as a plain client sees them."""

import itertools
import json
import time

import pytest
from support.venue_client import ask, client, receive
from websockets.exceptions import ConnectionClosed

from shmfeed.simulator import STEPS, Venue
from shmfeed.simulator.faults import (
    ConnectionFaults,
    FaultSchedule,
    StreamFaults,
    parse_faults,
)
from shmfeed.simulator.frames import payload_of
from shmfeed.simulator.schedule import all_states, open_times_before
from shmfeed.simulator.wealthai import wealthai_frames

KEY = ("A", "1m")
STATES = all_states(7, KEY, open_times_before(6_000_000, "1m", 20))
BINANCE = {"protocol": "binance", "speed": None}


def push(venue, *keys):
    """Send one state of each stream; return nothing."""
    for symbol, timeframe in keys:
        venue.push_market(symbol, timeframe, 0, 3)


def streams(connection, count):
    got = [receive(connection) for _ in range(count)]
    return [(message["symbol"], message["timeframe"]) for message in got]


@pytest.mark.parametrize(
    ("stream", "heard"),
    [
        ("A/1m", [("A", "5m"), ("B", "1m"), ("B", "5m")]),
        ("A", [("B", "1m"), ("B", "5m")]),
        ("*/1m", [("A", "5m"), ("B", "5m")]),
    ],
)
def test_a_stream_a_symbol_or_a_timeframe_is_mute(stream, heard):
    keys = tuple(itertools.product("AB", ("1m", "5m")))
    with Venue(speed=None, faults=f"mute-stream:{stream}") as venue:
        for _ in range(2):  # on every connection, however often it is asked for
            with client(venue) as connection:
                for number in "12":
                    reply = ask(
                        connection, number, symbols=["A", "B"], resolutions=["1m", "5m"]
                    )
                    assert reply["type"] == "CONNECTED"
                    push(venue, *keys)
                    assert streams(connection, len(heard)) == heard


@pytest.mark.parametrize("again", ["same connection", "new connection"])
def test_a_mute_stream_speaks_when_it_is_asked_for_again(again):
    with Venue(speed=None, faults="mute-stream:A:asked") as venue:
        with client(venue) as connection, client(venue) as other:
            ask(connection, symbols=["A", "B"])
            push(venue, ("A", "1m"), ("B", "1m"))
            assert streams(connection, 1) == [("B", "1m")]
            ask(connection if again == "same connection" else other, "2")
            push(venue, ("A", "1m"))
            assert streams(connection, 1) == [("A", "1m")]


def test_a_mute_stream_speaks_on_another_connection_alone():
    with Venue(speed=None, faults="mute-stream:A:moved") as venue:
        with client(venue) as connection, client(venue) as other:
            ask(connection)
            push(venue, ("A", "1m"))
            ask(connection, "2")
            ask(other)
            push(venue, ("A", "1m"))
            assert streams(other, 1) == [("A", "1m")]
            with pytest.raises(TimeoutError):
                connection.recv(timeout=0.2)


def test_binance_hears_a_stream_that_is_asked_for_again():
    subscribe = '{"method":"SUBSCRIBE","params":["%s@kline_1m"],"id":%d}'
    with Venue(**BINANCE, faults="mute-stream:A:asked") as venue:
        with client(venue, "/ws/a@kline_1m") as connection:
            venue.wait_subscribed(1)
            push(venue, ("A", "1m"), ("A", "1m"))
            connection.send(subscribe % ("b", 1))
            assert receive(connection)["id"] == 1
            push(venue, ("A", "1m"), ("B", "1m"))
            assert receive(connection)["s"] == "B"  # another stream's request
            connection.send(subscribe % ("a", 2))
            assert receive(connection)["id"] == 2
            push(venue, ("A", "1m"))
            assert receive(connection)["s"] == "A"


def test_faults_of_streams_have_their_times():
    now = [0.0]
    faults = parse_faults("mute-stream:A@1+2,refuse-symbol:B@1,refuse-symbol:C@2")
    made = StreamFaults(FaultSchedule(faults, "1", clock=lambda: now[0]))
    found = {}
    for now[0] in (0.5, 1.5, 2.5, 3.5):
        found[now[0]] = made.is_mute(1, KEY), made.refused("ABC")
    assert found == {
        0.5: (False, []),
        1.5: (True, ["B"]),
        2.5: (True, ["B", "C"]),
        3.5: (False, ["B", "C"]),
    }


def test_a_symbol_is_refused_by_name_and_the_subscription_with_it():
    with Venue(speed=None, faults="refuse-symbol:B") as venue:
        with client(venue) as connection:
            reply = ask(connection, symbols=["A", "B"])
            assert reply["type"] == "ERROR"
            assert reply["message"] == "symbols not available: B"
            assert ask(connection, "2")["type"] == "CONNECTED"
            venue.set_faults("")
            assert ask(connection, "3", symbols=["B"])["type"] == "CONNECTED"


def test_binance_refuses_a_symbol_by_message_and_ignores_it_in_a_url():
    with Venue(**BINANCE, faults="refuse-symbol:B") as venue:
        with client(venue, "/ws/a@kline_1m/b@kline_1m") as connection:
            venue.wait_subscribed(1)
            push(venue, ("B", "1m"), ("A", "1m"))
            assert receive(connection)["s"] == "A"
            request = '{"method":"SUBSCRIBE","params":["b@kline_1m"],"id":1}'
            connection.send(request)
            reply = receive(connection)
            assert (reply["code"], reply["id"]) == (2, 1)
            assert reply["msg"] == "Invalid request: symbols not available: B"


@pytest.mark.parametrize("protocol", ["wealthai", "binance"])
def test_an_error_names_a_symbol_after_the_acknowledgement(protocol):
    options = {"protocol": protocol, "speed": None, "faults": "refuse-later:B"}
    with Venue(**options) as venue:
        path = "/ws/a@kline_1m/b@kline_1m" if protocol == "binance" else ""
        with client(venue, path) as connection:
            if protocol == "wealthai":
                assert ask(connection, symbols=["A", "B"])["type"] == "CONNECTED"
                error = receive(connection)
                assert error == {"type": "ERROR", "message": "no data for B"}
            else:
                error = receive(connection)
                assert error == {"error": {"code": 2, "msg": "no data for B"}}
            push(venue, ("B", "1m"), ("A", "1m"))
            assert "A" in receive(connection).values()


def test_bars_lag_on_every_other_connection_and_keep_their_order():
    with Venue(speed=None, sequence="connection", faults="lag:300ms:odd") as venue:
        with client(venue) as first, client(venue) as second:
            ask(first)
            ask(second)
            began = time.monotonic()
            push(venue, ("A", "1m"), ("A", "1m"))
            assert [receive(second)["seq"] for _ in "ab"] == [1, 2]
            assert time.monotonic() - began < 0.25
            assert [receive(first)["seq"] for _ in "ab"] == [1, 2]
            assert time.monotonic() - began > 0.25


def test_lagging_bars_survive_the_end_of_the_fault():
    with Venue(speed=None, faults="lag:200ms") as venue, client(venue) as connection:
        ask(connection)
        push(venue, ("A", "1m"))
        venue.set_faults("")
        assert streams(connection, 1) == [("A", "1m")]


def encode(key, states):
    return wealthai_frames(key, states, closed_flag=True)


def sent(text, number):
    faults = ConnectionFaults(parse_faults(text), 1, number, encode)
    return [json.loads(payload_of(frame)) for frame in faults.frames(KEY, STATES)]


@pytest.mark.parametrize(
    ("text", "differing"),
    [("disagree", {1, 2}), ("disagree:odd", {1}), ("disagree:even", {2})],
)
def test_connections_disagree_about_final_values(text, differing):
    true = sent("", 1)
    for number in (1, 2):
        got = sent(text, number)
        wrong = [n for n, (a, b) in enumerate(zip(true, got, strict=True)) if a != b]
        closes = list(range(STEPS - 1, len(true), STEPS))
        assert wrong == (closes if number in differing else [])
        for n in wrong:
            low, last, high = (float(got[n][x]) for x in ("low", "close", "high"))
            assert low <= last <= high
            assert {k for k in got[n] if got[n][k] != true[n][k]} == {"close"}


@pytest.mark.parametrize("timeframe", ["1m", "1d", "1w", "1M", "3d"])
def test_a_bar_from_the_future_is_a_bar_of_the_grid(timeframe):
    key = ("A", timeframe)
    end = 1_767_225_600_000  # 2026-01-01, a begin of every grid here but weeks'
    states = all_states(7, key, open_times_before(end, timeframe, 1))
    faults = ConnectionFaults(parse_faults("future:90m@0"), 1, 1, encode)
    got = [json.loads(payload_of(frame)) for frame in faults.frames(key, states)]
    assert len(got) == len(states) + 1  # once
    future, present = got[:2]
    shift = future["open_time"] - present["open_time"]
    length = present["close_time"] - present["open_time"]
    assert shift >= 90 * 60_000
    if timeframe != "1M":
        assert shift % length == 0
    assert shift < 90 * 60_000 + max(length, 31 * 86_400_000)
    assert future["open"] == present["open"]


def test_each_fault_ends_with_its_connection():
    with Venue(speed=None, faults="lag:100ms,cut@0.05") as venue:
        with client(venue) as connection:
            ask(connection)
            push(venue, ("A", "1m"))
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=5)
        venue.wait_connections(0)
