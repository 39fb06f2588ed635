"""Numbers of messages and of trades: they stay true whatever a fault does."""

import itertools
import json

import pytest
from support.venue_client import ask, client, receive

from shmfeed.bar import floor
from shmfeed.simulator import STEPS, Venue
from shmfeed.simulator.binance import binance_frames
from shmfeed.simulator.faults import ConnectionFaults, parse_faults
from shmfeed.simulator.frames import payload_of
from shmfeed.simulator.options import venue_options
from shmfeed.simulator.schedule import all_states, open_times_before
from shmfeed.simulator.wealthai import WealthaiDialect

KEYS = ("A", "1m"), ("B", "1m")
TIMES = open_times_before(6_000_000, "1m", 20)
COUNT = 20 * STEPS


def dialect(sequence, **options):
    return WealthaiDialect(venue_options({"sequence": sequence, **options}))


def sent(faults, sequence="connection"):
    """Return the messages of stream A under these faults."""
    one = dialect(sequence)
    made = ConnectionFaults(parse_faults(faults), 1, 1, one.encode, one.encode_copy)
    frames = made.frames(KEYS[0], all_states(7, KEYS[0], TIMES))
    return [*map(payload_of, frames)]


def numbers(payloads):
    return [json.loads(payload)["seq"] for payload in payloads]


@pytest.mark.parametrize("sequence", ["connection", "stream"])
def test_bars_are_numbered_by_connection_or_by_stream(sequence):
    one = dialect(sequence)
    got = [
        numbers(map(payload_of, one.encode(key, all_states(7, key, TIMES))))
        for key in KEYS
    ]
    first = list(range(1, COUNT + 1))
    second = [n + COUNT for n in first] if sequence == "connection" else first
    assert got == [first, second]
    assert "seq" not in json.loads(payload_of(one.encode_copy(KEYS[0], STATE)))


STATE = all_states(7, KEYS[0], TIMES)[0]


def test_without_the_option_nothing_is_numbered():
    assert not any(b"seq" in payload for payload in sent("", sequence="none"))
    assert sent("", sequence="none") == [
        payload.rpartition(b',"seq"')[0] + b"}" for payload in sent("")
    ]


def test_a_lost_message_has_used_its_number():
    got = numbers(sent("lost:0.3"))
    assert 0 < len(got) < COUNT
    assert got == sorted(set(got))
    assert numbers(sent("lost-close")) == [n for n in range(1, COUNT + 1) if n % STEPS]
    skipped = set(range(1, COUNT + 1)) - set(numbers(sent("gap:0.3")))
    assert skipped
    assert all(
        {n - (n - 1) % STEPS + i for i in range(STEPS)} <= skipped for n in skipped
    )


def test_what_a_mute_stream_does_not_send_has_used_its_numbers():
    one = dialect("stream")
    mute = iter([False, True, False])
    made = ConnectionFaults((), 1, 1, one.encode, None, lambda key: next(mute))
    states = all_states(7, KEYS[0], TIMES)[:9]
    parts = [made.frames(KEYS[0], states[n : n + 3]) for n in (0, 3, 6)]
    assert [numbers(map(payload_of, part)) for part in parts] == [
        [1, 2, 3],
        [],
        [7, 8, 9],
    ]


def test_a_doubled_or_late_message_keeps_its_number():
    assert numbers(sent("duplicate")) == [n for n in range(1, COUNT + 1) for _ in "ab"]
    for payload in sent("late"):
        message = json.loads(payload)
        place = (message["open_time"] - int(TIMES[0])) // 60_000 * STEPS
        assert place < message["seq"] <= place + STEPS


def test_swapped_messages_keep_their_numbers():
    got = numbers(sent("reorder"))
    swaps = [pair for pair in itertools.pairwise(got) if pair[0] > pair[1]]
    assert swaps == [(n + 1, n) for n in range(STEPS, COUNT, STEPS)]


def test_a_revision_is_a_message_of_its_own():
    assert numbers(sent("revise")) == list(range(1, COUNT + 21))


@pytest.mark.parametrize("name", ["malformed", "off-grid", "nan", "infinite"])
def test_a_damaged_copy_has_no_number(name):
    got = sent(name)
    assert not any(b"seq" in payload for payload in got[::2])
    assert numbers(got[1::2]) == list(range(1, COUNT + 1))


def test_numbers_begin_again_with_each_connection_and_count_what_a_mute_venue_loses():
    with Venue(speed=None, sequence="connection") as venue:
        for _ in range(2):
            with client(venue) as connection:
                ask(connection, symbols=["A", "B"])
                venue.push_market("A", "1m", 0, 3)
                venue.push_bar("B", "1m", 0, 1.0, 2.0, 0.5, 1.5)
                assert [receive(connection)["seq"] for _ in "ab"] == [1, 2]
                venue.mute()
                lose_one(venue)
                venue.mute(False)
                venue.push_market("A", "1m", 0, 5)
                assert receive(connection)["seq"] == 4


def lose_one(venue):
    """Have the venue send a state that its muted clients do not get."""
    key, state = KEYS[0], STATE
    assert venue._do(lambda server: server.producer.publish([(key, state)])) == 1


def test_two_connections_have_numbers_of_their_own():
    with Venue(speed=None, sequence="connection") as venue:
        with client(venue) as first, client(venue) as second:
            ask(first)
            venue.push_market("A", "1m", 0, 1)
            ask(second)
            venue.push_market("A", "1m", 0, 2)
            assert [receive(first)["seq"] for _ in "ab"] == [1, 2]
            assert receive(second)["seq"] == 1


@pytest.mark.parametrize("speed", ["max", 3600])
def test_numbers_have_no_break_over_history_and_live_bars(speed):
    options = {"speed": speed, "bars": 50, "history": 30, "update_interval": 0.02}
    with Venue(**options, sequence="connection") as venue, client(venue) as connection:
        ask(connection, symbols=["A", "B"])
        got = [receive(connection)["seq"] for _ in range(200)]
    assert got == list(range(1, 201))


def test_bars_carry_the_venues_time():
    one = dialect("none", timestamps=True)
    states = all_states(7, KEYS[0], TIMES)
    messages = [json.loads(payload_of(f)) for f in one.encode(KEYS[0], states)]
    assert [message["ts"] for message in messages] == [state[9] for state in states]
    assert messages[STEPS - 1]["ts"] == messages[STEPS - 1]["close_time"]
    assert [message["closed"] for message in messages[:STEPS]] == [False] * 7 + [True]
    unflagged = dialect("stream", timestamps=True, closed_flag=False)
    (frame,) = unflagged.encode(KEYS[0], [STATE])
    message = json.loads(payload_of(frame))
    assert "closed" not in message
    assert (message["ts"], message["seq"]) == (STATE[9], 1)


def test_a_hand_made_bar_carries_the_time_that_it_is_given():
    bar = ("A", "1m", 0, 1.0, 2.0, 0.5, 1.5)
    with Venue(speed=None) as venue, client(venue) as connection:
        ask(connection)
        venue.push_bar(*bar, event_time=1234)
        assert receive(connection)["ts"] == 1234
        venue.push_bar(*bar)
        assert "ts" not in receive(connection)
    with Venue(protocol="binance", speed=None) as venue:
        with client(venue, "/ws/a@kline_1m") as connection:
            venue.push_bar(*bar, event_time=1234)
            assert receive(connection)["E"] == 1234


def ids(symbol, timeframe, dense):
    """Return the first and last trade id of a week's bars, as they are closed."""
    end = floor(1_700_000_000_000, "1w")
    length = 7 * 86_400_000
    open_times = open_times_before(end, timeframe, 200)
    open_times = open_times[open_times >= end - length]
    key = symbol, timeframe
    states = all_states(7, key, open_times)[STEPS - 1 :: STEPS]
    frames = binance_frames(key, states, combined=False, dense=dense)
    klines = [json.loads(payload_of(frame))["k"] for frame in frames]
    assert all(kline["n"] > 0 for kline in klines)
    return [(kline["f"], kline["L"]) for kline in klines]


@pytest.mark.parametrize("timeframe", ["1s", "1m", "1h", "1d"])
def test_dense_trade_ids_count_up_by_one_over_the_bars(timeframe):
    found = ids("A", timeframe, dense=True)
    assert all(next_[0] == last[1] + 1 for last, next_ in itertools.pairwise(found))


def test_trade_ids_agree_over_timeframes():
    days, hours = ids("A", "1d", dense=True), ids("A", "1h", dense=True)
    assert [hours[n][0] for n in range(0, 168, 24)] == [first for first, _ in days]
    assert hours[-1][1] == days[-1][1]


def test_trade_ids_with_holes_skip_at_times_and_never_go_back():
    found = ids("A", "1m", dense=False)
    steps = [next_[0] - last[1] for last, next_ in itertools.pairwise(found)]
    assert min(steps) == 1
    assert max(steps) > 1
