"""A session over several connections, against real servers on loopback."""

import contextlib
import json
import time

import pytest
from support import loopback
from support.house_server import HouseServer
from support.loopback import bar, raw, venue
from support.playing import playing
from support.waiting import until

from shmfeed.codecs.interface import BarEvent, GoingAway
from shmfeed.codecs.wealthai import WealthaiCodec
from shmfeed.wire import endpoints
from shmfeed.wire.events import (
    ChangeRefused,
    Connected,
    ConnectionLost,
    NextAttempt,
    Received,
    StreamsRefused,
    Subscribed,
)

SLOW = {"reconnect_delay_base": 30.0, "reconnect_delay_max": 60.0}
SIX = tuple((f"SYM{number}", "1m") for number in range(6))


@pytest.fixture
def play():
    with contextlib.ExitStack() as stack:
        yield lambda urls, **options: stack.enter_context(playing(urls, **options))


class Parting(WealthaiCodec):
    """The wealthai protocol with an announcement that the server is about to close."""

    def decode(self, data):
        return (GoingAway(),) if b"LEAVING" in data else super().decode(data)


def losses(played):
    return [e for e in played.events if isinstance(e, ConnectionLost)]


def connects(played):
    return [e.is_planned for e in played.events if isinstance(e, Connected)]


def refused(played):
    return [e for e in played.events if isinstance(e, StreamsRefused)]


def bars_of(played, symbol):
    return [e for e in played.all(BarEvent) if e.symbol == symbol]


# Make before break


def test_a_planned_change_of_connection_leaves_no_stream_uncovered(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, max_connection_age=0.3)
        assert played.until(lambda: played.status.reconnects >= 2)
        played.close()
    assert played.status.last_error == ""
    assert not any(lost.uncovered for lost in losses(played))
    planned = [e.is_planned for e in played.events if isinstance(e, Connected)]
    assert planned[:3] == [False, True, True]
    assert "reconnecting" not in dict(played.states)


def test_bars_of_the_old_connection_count_until_the_new_one_delivers(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, codec=Parting("", ""))
        played.until_seen(Subscribed)
        server.delay = 0.3
        old = server.connections[0]
        old.send("LEAVING")
        old.send(bar(0))  # while the new connection still opens
        played.until_seen(BarEvent, 1)
        assert len(server.connections) == 1
        assert played.until(lambda: len(server.connections) == 2)
        old.send(bar(1))  # and after it has been acknowledged
        played.until_seen(BarEvent, 2)
        assert not losses(played)
        server.connections[1].send(bar(2))
        assert played.until(lambda: losses(played))
        [lost] = losses(played)
        assert (lost.is_planned, lost.uncovered) == (True, ())
        played.close()


def update(minute, close, **more):
    """Return an update of a forming bar, without a flag, a number or a time."""
    return json.dumps(json.loads(bar(minute)) | {"close": close} | more)


@pytest.mark.parametrize(
    ("more", "comes"), [({}, False), ({"closed": True}, True), ({"seq": 9}, True)]
)
def test_an_old_update_of_the_old_connection_does_not_follow_a_newer_one(
    play, more, comes
):
    # The second and the third case are controls: a closing message always counts, and
    # the ledger knows the order of what has a number.
    server = HouseServer()
    with venue(server) as url:
        played = play(url, codec=Parting("", ""))
        played.until_seen(Subscribed)
        server.connections[0].send("LEAVING")
        played.until_seen(Subscribed, 2)
        server.connections[1].send(update(5, 1.9))
        played.until_seen(BarEvent)
        server.connections[0].send(update(5, 1.1, **more))
        server.connections[0].send(update(6, 1.2))  # newer than all of the new one's
        played.until(lambda: played.all(BarEvent)[-1].close == 1.2)
        closes = [event.close for event in played.all(BarEvent)]
        assert closes == ([1.9, 1.1, 1.2] if comes else [1.9, 1.2])
        played.close()


def test_a_server_that_announces_its_end_is_heard_until_it_hangs_up(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, codec=Parting("", ""))
        played.until_seen(Subscribed)
        server.connections[0].send("LEAVING")
        assert played.until(lambda: len(server.connections) == 2)
        # The new one is silent, so the old one stays until its server closes it.
        assert not played.until(lambda: losses(played), seconds=1.5)
        server.connections[0].close()
        assert played.until(lambda: losses(played))
        assert played.status.state == "connected"
        assert not losses(played)[0].uncovered
        played.close()


def test_a_new_connection_that_fails_leaves_the_old_one_alone(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, codec=Parting("", ""))
        played.until_seen(Subscribed)
        server.refuse = {"BTCUSDT"}
        server.connections[0].send("LEAVING")
        assert played.until(lambda: played.status.attempts >= 4)
        server.connections[0].send(bar(0))
        played.until_seen(BarEvent)
        assert played.status.state == "connected"
        assert not any(lost.was_connected for lost in losses(played))
        server.refuse = set()
        assert played.until(lambda: len(server.connections) == 2)
        assert played.until(lambda: played.status.attempts == 0)
        played.close()


def test_a_replacement_that_dies_at_once_gives_way_to_the_old_connection(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, codec=Parting("", ""), **SLOW)
        played.until_seen(Subscribed)
        old = server.connections[0]
        old.send("LEAVING")
        played.until_seen(Subscribed, 2)
        server.connections[1].close()
        assert played.until(lambda: losses(played))
        old.send(bar(0))
        played.until_seen(BarEvent)
        assert played.status.state == "connected"
        assert not losses(played)[0].uncovered
        played.close()


def test_control_a_loss_without_a_replacement_uncovers_the_streams(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url)
        played.until_seen(Subscribed)
        server.connections[0].close()
        assert played.until(lambda: losses(played))
        assert losses(played)[0].uncovered == (("BTCUSDT", "1m"),)
        assert "1000" in losses(played)[0].reason
        assert losses(played)[0].endpoint == url
        played.close()


def test_new_settings_replace_every_connection(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, streams=SIX, max_streams_per_connection=3, **SLOW)
        assert played.until(lambda: played.status.state == "connected")
        played.session.replace_connections()
        assert played.until(lambda: len(server.connections) == 4)
        assert played.status.state == "connected"
        played.close()


# Several connections


def test_streams_beyond_the_limit_go_over_several_connections(play):
    server = HouseServer()
    server.most = 2
    with venue(server) as url:
        played = play(url, streams=SIX, max_streams_per_connection=2)
        assert played.until(lambda: played.status.state == "connected")
        assert sorted(map(tuple, server.requests)) == [
            ("SYM0", "SYM1"),
            ("SYM2", "SYM3"),
            ("SYM4", "SYM5"),
        ]
        covered = [e.covered for e in played.events if isinstance(e, Subscribed)]
        assert sorted(key for keys in covered for key in keys) == sorted(SIX)
        assert all(e == Subscribed(SIX) for e in played.all(Subscribed))
        played.close()


def test_control_one_connection_for_all_is_refused(play):
    server = HouseServer()
    server.most = 2
    with venue(server) as url:
        played = play(url, streams=SIX, max_reconnect_attempts=1, on_refused="fail")
        assert "refused" in played.until_state("error").last_error
        played.close()


def test_one_lost_connection_uncovers_its_streams_alone(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, streams=SIX, max_streams_per_connection=2, **SLOW)
        assert played.until(lambda: played.status.state == "connected")
        at = server.requests.index(["SYM2", "SYM3"])
        server.connections[at].send(bar(0, "SYM2"))
        played.until_seen(BarEvent)
        server.connections[at].close()
        assert played.until(lambda: losses(played))
        assert losses(played)[0].uncovered == (("SYM2", "1m"), ("SYM3", "1m"))
        for connection in server.connections[:3]:
            with contextlib.suppress(Exception):
                connection.send(bar(1, "SYM0"))
        played.until_seen(BarEvent, 3)
        assert played.until(lambda: played.status.state == "connected")
        assert played.events[-1] is not None
        back = [e for e in played.events if isinstance(e, Subscribed)][-1]
        assert back.covered == (("SYM2", "1m"), ("SYM3", "1m"))
        assert played.status.reconnects == 1
        played.close()


def test_the_state_is_that_of_the_worst_connection(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, streams=SIX, max_streams_per_connection=2, **SLOW)
        assert played.until(lambda: played.status.state == "connected")
        at = server.requests.index(["SYM4", "SYM5"])
        server.answers = False
        server.connections[at].close()
        played.until_state("reconnecting")
        played.close()


def test_one_link_probes_a_venue_that_is_away_for_all(play):
    server, port = HouseServer(), loopback.refused_port()
    url = f"ws://127.0.0.1:{port}/market_data"
    played = play(url, streams=SIX, max_streams_per_connection=1)
    assert played.until(lambda: played.status.attempts >= 6)
    failures = [link.status.attempts for link in played.session._links()]
    assert sorted(failures)[-2] <= 1  # all but one have failed once, or not at all
    with venue(server, port=port):
        assert played.until(lambda: played.status.state == "connected")
        assert len(server.connections) == 6
        played.close()


def test_a_silent_connection_is_left_while_another_one_speaks(play):
    server = HouseServer()
    with venue(server) as url:
        given = {"max_streams_per_connection": 3, "data_timeout": 0.4}
        played = play(url, streams=SIX, **given)
        assert played.until(lambda: played.status.state == "connected")
        speaking = server.connections[0]
        symbol = server.symbols[speaking][0]

        def is_left():
            speaking.send(bar(0, symbol))  # so that no wait lasts
            return losses(played)

        assert played.until(is_left)
        assert "no bar for 0.4 s" in losses(played)[0].reason
        silent = set(server.symbols[server.connections[1]])
        assert {name for name, _ in losses(played)[0].uncovered} == silent
        played.close()


def test_a_change_is_requested_without_a_wait(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, tick=3.0)
        played.until_seen(Subscribed)
        begun = time.monotonic()
        played.session.change((*played.session.acknowledged, ("ETHUSDT", "1m")))
        played.until_seen(Subscribed, 2)
        assert time.monotonic() - begun < 2.0
        played.close()


@pytest.mark.parametrize("dies", [0, 1])
def test_a_link_that_is_served_elsewhere_probes_nothing(play, dies):
    away, server, port = HouseServer(), HouseServer(), loopback.refused_port()
    with venue(server) as url:
        urls = [f"ws://127.0.0.1:{port}/market_data", url]
        played = play(urls, streams=SIX, max_streams_per_connection=3)
        assert played.until(lambda: played.status.state == "connected")
        server.answers = False
        with venue(away, port=port):
            server.connections[dies].close()
            assert played.until(lambda: losses(played)[-1].was_connected)
            assert played.until(lambda: played.status.state == "connected")
            assert (len(server.connections), len(away.connections)) == (2, 1)
            played.close()


def test_a_change_moves_no_stream_and_adds_a_connection(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, streams=SIX[:3], max_streams_per_connection=2)
        assert played.until(lambda: played.status.state == "connected")
        assert sorted(server.requests) == [["SYM0", "SYM1"], ["SYM2"]]
        played.session.change(SIX)
        assert played.until(lambda: not played.session.is_changing)
        assert played.all(Subscribed)[-1] == Subscribed(SIX, ends_change=True)
        assert sorted(server.requests[2:]) == [["SYM2", "SYM3"], ["SYM4", "SYM5"]]
        assert played.status.state == "connected"
        played.session.change(SIX[:2])
        assert played.until(lambda: not played.session.is_changing)
        assert len(played.session._groups) == 1
        played.close()


@pytest.mark.parametrize("bad", ["SYM3", "SYM5"])
def test_a_change_that_one_connection_refuses_is_rolled_back_on_all(play, bad):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, streams=SIX[:3], max_streams_per_connection=2)
        assert played.until(lambda: played.status.state == "connected")
        server.refuse = {bad}
        played.session.change(SIX)
        assert played.until(lambda: not played.session.is_changing)
        [outcome] = played.all(ChangeRefused)
        assert bad in outcome.message
        assert played.session.acknowledged == SIX[:3]
        until_requested = [["SYM0", "SYM1"], ["SYM2"]]
        assert played.until(
            lambda: (
                [list(dict(g.links[0].subscribed)) for g in played.session._groups]
                == until_requested
            )
        )
        played.session.change(SIX[:4] if bad == "SYM5" else SIX[:2])
        assert played.until(lambda: not played.session.is_changing)
        assert len(played.all(ChangeRefused)) == 1
        played.close()


# Two lines


@pytest.mark.parametrize("dies", [0, 1])
def test_a_stream_is_covered_while_one_of_its_two_lines_is(play, dies):
    servers = [HouseServer(), HouseServer()]
    with venue(servers[0]) as first, venue(servers[1]) as second:
        played = play([first, second], lines=2, **SLOW)
        assert played.until(lambda: all(server.connections for server in servers))
        servers[0].connections[0].send(bar(0))
        servers[1].connections[0].send(bar(0))
        played.until_seen(BarEvent, 2)
        lines = {e.line for e in played.events if isinstance(e, Received)}
        assert lines == {0, 1}
        servers[dies].connections[0].close()
        assert played.until(lambda: losses(played))
        assert not losses(played)[0].uncovered
        assert played.status.state == "connected"
        servers[1 - dies].connections[0].send(bar(1))
        played.until_seen(BarEvent, 3)
        played.close()


def test_streams_are_uncovered_once_both_lines_are_lost(play):
    servers = [HouseServer(), HouseServer()]
    with venue(servers[0]) as first, venue(servers[1]) as second:
        played = play([first, second], lines=2, **SLOW)
        assert played.until(lambda: all(server.connections for server in servers))
        for server in servers:
            server.refuse = {"BTCUSDT"}
            server.connections[0].close()
        assert played.until(lambda: len(losses(played)) >= 2)
        assert [bool(lost.uncovered) for lost in losses(played)[:2]] == [False, True]
        assert played.until(lambda: played.status.state == "reconnecting")
        played.close()


@pytest.mark.parametrize("returns", [True, False])
def test_a_line_returns_to_its_own_endpoint(play, monkeypatch, returns):
    # The control never tries it again: both lines stay with one endpoint.
    monkeypatch.setattr(endpoints, "RETURN_SECONDS", 0.1 if returns else 1e9)
    servers = [HouseServer(), HouseServer()]
    with venue(servers[0]) as first, venue(servers[1]) as second:
        played = play([first, second], lines=2, **SLOW)
        assert played.until(lambda: all(server.connections for server in servers))
        servers[0].connections[0].send(bar(0))  # so that the first attempt is at once
        played.until_seen(BarEvent)
        servers[0].refuse = {"BTCUSDT"}
        servers[0].connections[0].close()
        assert played.until(lambda: len(servers[1].connections) == 2)
        failed = len(servers[0].requests)
        if returns:  # a failed return leaves the line where it is
            assert played.until(lambda: len(servers[0].requests) > failed)
            assert played.status.state == "connected"
        servers[0].refuse = set()
        played.until(lambda: len(connects(played)) > 3, 4.0 if returns else 0.3)
        assert connects(played) == [False, False, False] + [True] * returns
        if returns:
            servers[1].connections[1].send(bar(1))  # the old one goes on until then
            servers[0].connections[-1].send(bar(1))
            assert played.until(lambda: losses(played)[-1].is_planned)
        assert not any(lost.uncovered for lost in losses(played))
        played.close()


def test_two_lines_of_one_endpoint_both_use_it(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, lines=2)
        assert played.until(lambda: len(server.connections) == 2)
        played.close()


# Refused symbols


def test_a_symbol_that_the_venue_refuses_by_name_is_left_out(play):
    server = HouseServer()
    server.refuse = {"SYM2"}
    with venue(server) as url:
        played = play(url, streams=SIX)
        played.until_seen(Subscribed)
        assert played.status.state == "connected"
        [event] = refused(played)
        assert event.streams == (SIX[2],)
        assert "unknown symbol SYM2" in event.message
        [subscribed] = [e for e in played.events if isinstance(e, Subscribed)]
        assert set(subscribed.covered) == set(SIX) - {SIX[2]}
        assert subscribed.streams == SIX
        played.close()


def test_a_left_out_symbol_is_asked_for_again_at_the_next_connect(play):
    server = HouseServer()
    server.refuse = {"SYM2"}
    with venue(server) as url:
        played = play(url, streams=SIX)
        played.until_seen(Subscribed)
        server.refuse = set()
        server.connections[0].close()
        played.until_seen(Subscribed, 2)
        last = [e for e in played.events if isinstance(e, Subscribed)][-1]
        assert set(last.covered) == set(SIX)
        played.close()


def test_a_connection_whose_symbols_are_all_refused_is_left_out(play):
    server = HouseServer()
    server.refuse = {"SYM2", "SYM3"}
    with venue(server) as url:
        played = play(url, streams=SIX, max_streams_per_connection=2)
        assert played.until(lambda: played.status.state == "connected")
        left_out = {key for event in refused(played) for key in event.streams}
        assert left_out == set(SIX[2:4])
        played.session.change(SIX[:2])
        assert played.until(lambda: not played.session.is_changing)
        assert not played.all(ChangeRefused)
        played.close()


def test_control_a_venue_that_refuses_every_symbol_is_an_error(play):
    server = HouseServer()
    server.refuse = set(dict(SIX))
    with venue(server) as url:
        played = play(url, streams=SIX, max_streams_per_connection=2)
        assert "unknown symbol" in played.until_state("error").last_error
        played.close()


def test_a_venue_that_hangs_up_at_a_refusal_serves_the_rest(play):
    server = HouseServer(hangs_up=True)
    server.refuse = {"SYM2", "SYM4"}
    with venue(server) as url:
        played = play(url, streams=SIX, max_reconnect_attempts=4)
        played.until_seen(Subscribed)
        left_out = {key for event in refused(played) for key in event.streams}
        assert left_out == {SIX[2], SIX[4]}
        played.close()


def test_an_unnamed_symbol_is_found_by_halving(play):
    server = HouseServer(names=False)
    server.refuse = {"SYM3"}
    with venue(server) as url:
        played = play(url, streams=SIX)
        played.until_seen(Subscribed)
        assert refused(played)[0].streams == (SIX[3],)
        assert sorted(server.requests[-1]) == ["SYM0", "SYM1", "SYM2", "SYM4", "SYM5"]
        played.close()


def test_control_with_fail_one_refused_symbol_costs_all(play):
    server = HouseServer()
    server.refuse = {"SYM2"}
    with venue(server) as url:
        played = play(url, streams=SIX, on_refused="fail", max_reconnect_attempts=1)
        assert "unknown symbol SYM2" in played.until_state("error").last_error
        played.close()


def test_no_connection_serves_with_a_forbidden_stream(play):
    server = HouseServer()
    quick = {"reconnect_delay_base": 0.01, "reconnect_delay_max": 0.05}
    with venue(server) as url:
        played = play(url, streams=SIX, max_reconnect_attempts=2, **quick)
        played.until_seen(Subscribed)
        played.session.forbid({SIX[3]: "SYM3: no such symbol"})
        assert played.until_state("error").last_error == "SYM3: no such symbol"
        assert played.status.error_kind == "subscription"
        served = len(connects(played))
        assert played.until(lambda: len(server.connections) > 5)
        assert len(connects(played)) == served == 1
        played.session.change(SIX[:3])
        assert played.until(lambda: played.session.acknowledged == SIX[:3])
        assert played.until(lambda: played.status.state == "connected")
        played.session.change(SIX[:4])
        assert played.until(lambda: len(losses(played)) > 10)
        played.session.forbid({})
        assert played.until(lambda: played.status.state == "connected")
        played.close()


def test_a_change_fails_as_a_whole(play):
    server = HouseServer()
    server.refuse = {"SYM2"}
    with venue(server) as url:
        played = play(url, streams=SIX[:2])
        played.until_seen(Subscribed)
        played.session.change(SIX)
        played.until_seen(ChangeRefused)
        assert not refused(played)
        assert played.session.acknowledged == SIX[:2]
        played.close()


# Waits that the venue asks for


def refusing(status, fields=""):
    def handler(connection):
        visits.append(time.monotonic())
        loopback.read_head(connection)
        connection.sendall(f"HTTP/1.1 {status}\r\n{fields}\r\n".encode())

    visits = []
    return handler, visits


def test_a_wait_that_the_venue_asks_for_is_kept_and_is_no_failure(play):
    handler, visits = refusing("429 Too Many Requests", "Retry-After: 1\r\n")
    with raw(handler) as url:
        played = play(url, max_reconnect_attempts=1)
        assert played.until(lambda: len(visits) == 2)
        assert visits[1] - visits[0] >= 0.9
        assert played.status.state == "connecting"
        assert played.status.attempts == 0
        waits = [e for e in played.events if isinstance(e, NextAttempt)]
        assert 0.9 <= waits[0].seconds <= 1.5
        assert "429" in waits[0].reason
        played.close()


def test_control_a_refusal_without_a_wait_is_a_failure(play):
    handler, visits = refusing("500 Oops")
    with raw(handler) as url:
        played = play(url, max_reconnect_attempts=1)
        played.until_state("error")
        assert played.until(lambda: len(visits) > 3)  # and the attempts go on
        played.close()


class Budget:
    """A budget of so many dials, and a record of its calls."""

    def __init__(self, dials, *, is_banned=False):
        self.dials, self.blocked, self.is_banned = dials, [], is_banned

    def reserve(self, host, port):
        self.dials -= 1
        return 0.0 if self.dials >= 0 else 30.0

    def block(self, host, port, seconds):
        self.blocked.append(seconds)


@pytest.mark.parametrize(
    ("is_banned", "words"), [(False, "are used up"), (True, "has told a feeder")]
)
def test_a_wait_for_the_budget_of_dials_is_no_failure(play, is_banned, words):
    handler, visits = refusing("500 Oops")
    with raw(handler) as url:
        budget = Budget(2, is_banned=is_banned)
        played = play(url, budget=budget, max_reconnect_attempts=5)
        assert played.until(lambda: played.status.next_attempt_at)
        assert not played.until(lambda: len(visits) > 2, seconds=0.5)
        assert played.status.attempts == 2
        waits = [e for e in played.events if isinstance(e, NextAttempt)]
        assert waits[-1].seconds == 30.0
        assert words in waits[-1].reason
        played.close()


def test_a_venues_wait_is_told_to_the_budget(play):
    handler, visits = refusing("429 Too Many Requests", "Retry-After: 77\r\n")
    with raw(handler) as url:
        budget = Budget(100)
        played = play(url, budget=budget)
        assert played.until(lambda: budget.blocked)
        assert budget.blocked == [77.0]
        assert len(visits) == 1
        played.close()


def test_a_wait_is_kept_after_an_announced_end_too(play):
    server, budget = HouseServer(), Budget(1)
    with venue(server) as url:
        played = play(url, codec=Parting("", ""), budget=budget)
        played.until_seen(Subscribed)
        server.connections[0].send("LEAVING")
        assert played.until(lambda: budget.dials < 0)
        server.connections[0].close(1013, "retry in 77 seconds")
        assert played.until(lambda: losses(played))
        assert budget.blocked == [77.0]
        assert 70 < [e for e in played.events if isinstance(e, NextAttempt)][-1][0] < 90
        played.close()


def test_attempts_go_on_in_error_until_the_venue_is_back(play):
    server = HouseServer()
    server.refuse = {"BTCUSDT"}
    with venue(server) as url:
        played = play(url, max_reconnect_attempts=2)
        played.until_state("error")
        assert played.until(lambda: played.status.attempts > 4)
        server.refuse = set()
        played.until_state("connected")
        assert (played.status.attempts, played.status.error_kind) == (0, "")
        played.close()


def test_give_up_ends_the_attempts_until_a_retry(play):
    handler, visits = refusing("500 Oops")
    with raw(handler) as url:
        played = play(url, max_reconnect_attempts=2, give_up=True)
        played.until_state("error")
        assert not played.until(lambda: len(visits) > 2, seconds=0.5)
        assert played.status.next_attempt_at == 0.0
        played.session.retry()
        assert played.until(lambda: len(visits) > 2)
        played.close()


# Mute streams


def test_mute_streams_are_asked_for_again_on_the_live_connection(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, streams=SIX[:2])
        played.until_seen(Subscribed)
        played.session.ask_again([SIX[0]])
        assert played.until(lambda: len(server.requests) == 2)
        assert server.requests[1] == ["SYM0", "SYM1"]
        assert len(server.connections) == 1
        played.close()


def test_a_refused_repetition_ends_nothing(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, streams=SIX[:2])
        played.until_seen(Subscribed)
        server.refuse = {"SYM0"}
        played.session.ask_again([SIX[0]])
        assert not played.until(lambda: losses(played), seconds=0.3)
        assert played.status.state == "connected"
        played.close()


def test_mute_streams_move_to_a_new_connection(play):
    server = HouseServer()
    with venue(server) as url:
        played = play(url, streams=SIX, max_streams_per_connection=2, **SLOW)
        assert played.until(lambda: played.status.state == "connected")
        played.session.move([SIX[3]])
        assert played.until(lambda: len(server.connections) == 4)
        assert server.requests[-1] == ["SYM2", "SYM3"]
        until(lambda: played.status.state == "connected")
        assert not any(lost.uncovered for lost in losses(played))
        played.close()
