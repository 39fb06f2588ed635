"""Refused, banned and slow connections, and announced ends, as a client sees them."""

import contextlib
import json
import time

import pytest
from support.venue_client import ask, client, receive
from websockets.exceptions import ConnectionClosed, InvalidStatus

from shmfeed.errors import BadArgumentError
from shmfeed.simulator import Venue
from shmfeed.simulator.admission import Admission
from shmfeed.simulator.faults import FaultSchedule, parse_faults
from shmfeed.simulator.log import VenueLog

BINANCE = {"protocol": "binance", "speed": None}


def refused(venue, path=""):
    with pytest.raises(InvalidStatus) as caught, client(venue, path):
        pass
    return caught.value.response


def closed(connection):
    with pytest.raises(ConnectionClosed) as caught:
        connection.recv(timeout=5)
    return caught.value.rcvd


def test_a_refusal_asks_to_wait_and_says_why():
    with Venue(speed=None, faults="refuse:429:1500ms") as venue:
        response = refused(venue)
        assert (response.status_code, response.headers["Retry-After"]) == (429, "2")
        assert response.reason_phrase == "Too Many Requests"
        assert "Too many requests" in json.loads(response.body)["msg"]
        venue.set_faults("refuse:5s")
        assert refused(venue).status_code == 503
        venue.set_faults("")
        venue.refuse(503, wait=7, body="maintenance until noon")
        response = refused(venue)
        assert response.headers["Retry-After"] == "7"
        assert response.body == b"maintenance until noon"
        venue.refuse(503)
        assert "Retry-After" not in refused(venue).headers
        venue.refuse(False)
        with client(venue) as connection:
            assert ask(connection)["type"] == "CONNECTED"


def test_a_ban_names_its_end_and_is_counted():
    with Venue(**BINANCE, faults="ban:20s") as venue:
        response = refused(venue, "/ws")
        assert (response.status_code, response.headers["Retry-After"]) == (418, "20")
        words = json.loads(response.body)["msg"]
        end = int(words.rpartition(" ")[2].rstrip(".")) / 1000
        assert abs(end - time.time() - 20) < 2
        refused(venue, "/ws")
        assert (venue.log.dials, venue.log.banned_dials) == (2, 2)
        venue.set_faults("")
        with client(venue, "/ws"):
            pass
        assert (venue.log.dials, venue.log.banned_dials) == (3, 2)


def test_a_dial_prolongs_a_ban():
    now = [0.0]

    def banned(*times):
        admission = Admission(VenueLog())
        now[0] = 0.0
        admission.faults = FaultSchedule(
            parse_faults("ban:10s@5"), "1", clock=lambda: now[0]
        )
        found = []
        for now[0] in times:
            found.append(admission.decide() is not None)
        return found

    assert banned(4.9, 5.0, 14.9, 24.9) == [False, True, True, False]
    assert banned(4.9, 14.9, 15.1) == [False, True, True]
    assert banned(4.9, 15.1) == [False, False]  # no dial fell into it


def test_dials_in_any_minute_are_counted(monkeypatch):
    log = VenueLog()
    assert log.most_dials() == 0
    for moment in (0.0, 1.0, 59.9, 60.0, 60.5, 200.0):
        monkeypatch.setattr(time, "monotonic", lambda moment=moment: moment)
        log.add_dial(is_banned=False)
    assert log.most_dials() == 4  # 1.0 to 60.5; 0.0 and 60.0 are a minute apart
    assert log.most_dials(0.7) == 3
    assert log.dials == 6


def test_a_handshake_is_slow():
    with Venue(speed=None, faults="slow-handshake:300ms") as venue:
        began = time.monotonic()
        with client(venue) as connection:
            assert time.monotonic() - began > 0.25
            assert ask(connection)["type"] == "CONNECTED"


@pytest.mark.parametrize(
    ("code", "reason"), [(1008, "policy violation"), (1013, "try again later")]
)
def test_the_venue_closes_with_a_code_and_a_reason(code, reason):
    with Venue(speed=None, faults=f"close:{code}@0.2") as venue:
        for _ in range(2):  # each connection at its age
            began = time.monotonic()
            with client(venue) as connection:
                assert ask(connection)["type"] == "CONNECTED"
                end = closed(connection)
                assert (end.code, end.reason) == (code, reason)
                assert time.monotonic() - began > 0.15


@pytest.mark.parametrize("path", ["/ws", "/stream"])
def test_an_end_is_announced_before_it_comes(path):
    with Venue(**BINANCE, faults="going-away:300ms@0.1") as venue:
        with client(venue, path) as connection:
            message = receive(connection)
            began = time.monotonic()
            if path == "/stream":
                assert message["stream"] == "!serverShutdown"
                message = message["data"]
            assert message["e"] == "serverShutdown"
            assert abs(message["E"] / 1000 - time.time()) < 2
            venue.push_bar("A", "1m", 0, 1.0, 2.0, 0.5, 1.5, every=True)
            receive(connection)  # it still serves
            assert closed(connection).code == 1001
            assert time.monotonic() - began > 0.2


def test_the_end_of_present_connections_alone_is_announced():
    with Venue(**BINANCE) as venue, client(venue, "/ws") as old:
        venue.wait_connections(1)
        assert venue.announce_end(0.2) == 1
        assert receive(old)["e"] == "serverShutdown"
        with client(venue, "/ws") as new:
            assert closed(old).code == 1001
            with pytest.raises(TimeoutError):
                new.recv(timeout=0.3)


def test_a_connection_has_a_limit_of_streams():
    with Venue(speed=None, max_streams=2) as venue, client(venue) as connection:
        assert ask(connection, symbols=["A", "B"])["type"] == "CONNECTED"
        reply = ask(connection, "2", symbols=["A", "B", "C"])
        assert reply["type"] == "ERROR"
        assert reply["message"] == "3 streams requested; at most 2 per connection"
    with Venue(speed=None, max_streams=2, excess="close") as venue:
        with client(venue) as connection, contextlib.suppress(ConnectionClosed):
            ask(connection, symbols=["A", "B", "C"])
        assert connection.close_code == 1008
        assert "at most 2" in str(connection.close_reason)


@pytest.mark.parametrize("excess", ["refuse", "close"])
def test_binance_has_a_limit_of_streams(excess):
    with Venue(**BINANCE, max_streams=1, excess=excess) as venue:
        with client(venue, "/ws/a@kline_1m") as connection:
            connection.send('{"method":"SUBSCRIBE","params":["b@kline_1m"],"id":1}')
            if excess == "refuse":
                reply = receive(connection)
                assert (reply["code"], reply["id"]) == (2, 1)
                assert "at most 1" in reply["msg"]
            else:
                assert closed(connection).code == 1008
        with client(venue, "/ws/a@kline_1m/b@kline_1m") as connection:
            assert closed(connection).code == 1008


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_streams": 0}, "max_streams 0 is not accepted; 1 to 1000000"),
        ({"excess": "wait"}, "excess 'wait' is not accepted; one of refuse close"),
        ({"sequence": "feed"}, "one of none connection stream"),
        ({"trade_ids": "none"}, "one of dense holes"),
        (
            {"sequence": "stream", "protocol": "binance"},
            "sequence='stream' needs protocol 'wealthai', not 'binance'",
        ),
        ({"timestamps": True, "protocol": "binance"}, "timestamps=True needs"),
        ({"trade_ids": "holes"}, "needs protocol 'binance', not 'wealthai'"),
    ],
)
def test_a_bad_option_is_refused(options, message):
    with pytest.raises(BadArgumentError) as caught:
        Venue(**options)
    assert message in str(caught.value)
