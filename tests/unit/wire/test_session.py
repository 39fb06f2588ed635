"""One subscription kept alive, against real servers on loopback."""

import contextlib
import itertools
import json
import random
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from support import loopback
from support.loopback import STREAMS, acknowledge, bar, frame, raw, upgrade, venue
from support.playing import playing, stay
from support.waiting import until

from shmfeed.codecs import get_codec
from shmfeed.codecs.interface import (
    BarEvent,
    GoingAway,
    Heartbeat,
    Ignored,
    Malformed,
    Refused,
)
from shmfeed.codecs.wealthai import WealthaiCodec
from shmfeed.errors import BadArgumentError
from shmfeed.settings.model import Settings
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.events import (
    ChangeRefused,
    Connected,
    ConnectionLost,
    NextAttempt,
    StatusChanged,
    Subscribed,
)
from shmfeed.wire.session import Session

OTHER = (("ETHUSDT", "1m"),)
SLOW = {"reconnect_delay_base": 30.0, "reconnect_delay_max": 60.0}


@pytest.fixture
def play():
    with contextlib.ExitStack() as stack:
        yield lambda urls, **options: stack.enter_context(playing(urls, **options))


# From the handshake to the first bar


def test_subscribed_once_acknowledged_and_bars_follow(play):
    said = []

    def handler(ws):
        said.append(acknowledge(ws))
        ws.send(bar(0))
        ws.send(bar(1))
        stay(ws)

    with venue(handler) as url:
        played = play(url)
        assert played.status.state == "disconnected"
        bars = played.until_seen(BarEvent, 2)
        status = played.status
        assert played.seen[0] == Subscribed(STREAMS)
        assert bars[1].open_time - bars[0].open_time == 60_000
        assert (status.state, status.phase) == ("connected", "streaming")
        assert status.endpoint == url
        assert (status.attempts, status.reconnects, status.last_error) == (0, 0, "")
        assert said[0]["symbols"] == ["BTCUSDT"]
        played.close()
        assert played.status.state == "disconnected"
    assert played.states == [
        ("connecting", "connecting"),
        ("connecting", "subscribing"),
        ("connected", "streaming"),
    ]


def test_bars_before_the_acknowledgement_are_delivered_after_it(play):
    def handler(ws):
        ws.send(bar(0))
        ws.send(bar(1))
        ws.send('{"type":"NEWS"}')
        time.sleep(0.1)
        acknowledge(ws)
        ws.send(bar(2))
        stay(ws)

    with venue(handler) as url:
        played = play(url)
        played.until_seen(BarEvent, 3)
        kinds = [type(event) for event in played.seen]
        assert kinds == [Ignored, Subscribed, BarEvent, BarEvent, BarEvent]
        times = [event.open_time for event in played.all(BarEvent)]
        assert times == sorted(times)
        played.close()


def test_each_change_of_the_status_is_an_event(play):
    def handler(ws):
        visits.append(1)
        acknowledge(ws)
        ws.send(bar(0))
        if len(visits) == 1:
            ws.close(1001, "restart")
        stay(ws)

    visits = []
    with venue(handler) as url:
        played = play(url, **SLOW)
        before = played.status
        played.until_seen(Subscribed, 2)
        played.close()
    for event in played.changes:
        if isinstance(event, StatusChanged):
            assert event.old == before != event.new
            before = event.new
    assert before == played.status._replace(state="connected", phase="streaming")
    kinds = [event for event in played.changes if not isinstance(event, StatusChanged)]
    lost = ConnectionLost(was_connected=True, is_oversized=False)
    assert kinds == [Connected(False), lost, Connected(True)]


def test_the_endpoint_of_the_status_has_no_query(play):
    with venue(lambda ws: (acknowledge(ws), stay(ws))) as url:
        played = play(url + "?listenKey=secret")
        played.until_seen(Subscribed)
        assert "secret" not in played.status.endpoint
        played.close()


def test_heartbeats_are_answered_and_other_messages_delivered(play):
    replies = []

    def handler(ws):
        acknowledge(ws)
        for text in ("ping", '{"type":"PING"}', "{", '{"type":"NEWS"}'):
            ws.send(text)
        replies.extend(ws.recv() for _ in range(2))
        stay(ws)

    with venue(handler) as url:
        played = play(url)
        played.until_seen(Ignored)
        kinds = [type(event) for event in played.seen]
        assert kinds == [Subscribed, Heartbeat, Heartbeat, Malformed, Ignored]
        assert loopback.within(2, lambda: replies == ["pong", '{"type":"PONG"}'])
        played.close()


# Failures


def test_a_refusal_fails_with_the_servers_message(play):
    def handler(ws):
        ws.recv()
        ws.send('{"type":"ERROR","message":"unknown symbol FOO"}')
        stay(ws)

    with venue(handler) as url:
        played = play(url, max_reconnect_attempts=2)
        status = played.until_state("error")
        assert status.error_kind == "subscription"
        assert status.last_error == (
            f"{url} refused the subscription: unknown symbol FOO"
        )
        assert status.attempts == 2
        assert not played.all(Subscribed)
        played.close()


@pytest.mark.parametrize("ending", ["close frame", "cut"])
def test_a_hang_up_behind_a_refusal_keeps_the_servers_message(play, ending):
    """As of a bad token: the search for a refused symbol must not hide the words."""

    def handler(ws):
        ws.recv()
        ws.send('{"type":"ERROR","message":"csrf_token is not accepted"}')
        if ending == "close frame":
            ws.close(1008, "policy violation")
        else:
            ws.socket.shutdown(socket.SHUT_RDWR)

    with venue(handler) as url:
        streams = (*STREAMS, *OTHER)
        played = play(url, max_reconnect_attempts=1, streams=streams)
        status = played.until_state("error")
        assert status.error_kind == "subscription"
        words = f"{url} refused the subscription: csrf_token is not accepted"
        assert status.last_error == words
        played.close()


def test_a_lost_connection_is_no_refusal_once_the_venue_has_accepted(play):
    # Control of the test above.
    def handler(ws):
        ws.recv()
        ws.send('{"type":"ERROR","message":"no"}')
        ws.recv()  # one of the two halves
        ws.send('{"type":"CONNECTED"}')
        ws.recv()
        ws.close(1011, "broken")

    with venue(handler) as url:
        streams = (*STREAMS, *OTHER)
        played = play(url, max_reconnect_attempts=1, streams=streams)
        status = played.until_state("error")
        assert status.error_kind == "connection"
        assert status.last_error.endswith("1011 broken")
        played.close()


def test_more_streams_than_a_connection_may_carry_are_a_failure_with_words(play):
    """Each of them alone is accepted, so that the search must end by itself."""
    requests = []

    def handler(ws):
        for text in ws:
            said = json.loads(text)
            requests.append(said["symbols"])
            answer = {"type": "CONNECTED", "request_id": said["request_id"]}
            if len(said["symbols"]) > 1:
                answer |= {"type": "ERROR", "message": "at most 1 stream"}
            ws.send(json.dumps(answer))

    with venue(handler) as url:
        streams = (*STREAMS, *OTHER)
        played = play(url, max_reconnect_attempts=1, streams=streams)
        status = played.until_state("error")
        assert status.last_error == f"{url} refused the subscription: at most 1 stream"
        both = ["BTCUSDT", "ETHUSDT"]
        assert requests[:4] == [both, ["BTCUSDT"], ["ETHUSDT"], both]
        played.until(lambda: len(requests) >= 6)
        assert requests[4:6] == [both, both]  # no second search
        played.close()


@pytest.mark.parametrize("ending", ["stays", "hangs up"])
@pytest.mark.parametrize("acknowledges", [True, False])
def test_a_wait_that_a_message_asks_for_is_kept(play, acknowledges, ending):
    requests = []

    def handler(ws):
        requests.append(ws.recv())
        if acknowledges:
            ws.send('{"type":"CONNECTED"}')
            ws.send(bar(0))
        ws.send('{"type":"ERROR","message":"too many requests, retry in 40 seconds"}')
        if ending == "hangs up" or acknowledges:
            ws.close()
        stay(ws)

    with venue(handler) as url:
        streams = (*STREAMS, *OTHER)
        played = play(url, max_reconnect_attempts=1, streams=streams)
        [waiting] = played.until(
            lambda: [one for one in played.events if isinstance(one, NextAttempt)]
        )
        assert 39 < waiting.seconds <= 40
        assert played.status.attempts == 0  # it is no failure
        assert played.status.state != "error"
        assert len(requests) == 1  # and no symbol's fault
        played.close()


def test_a_missing_acknowledgement_fails(play):
    with venue(stay) as url:
        played = play(url, ack_timeout=0.15, max_reconnect_attempts=1)
        status = played.until_state("error")
        assert status.error_kind == "subscription"
        assert status.last_error == (
            f"{url} did not acknowledge the subscription within 0.15 s"
        )
        played.close()


def test_control_before_its_timeout_an_acknowledgement_is_waited_for(play):
    # Control of the test above.
    with venue(stay) as url:
        played = play(url, ack_timeout=60.0, max_reconnect_attempts=1)
        assert not played.until(lambda: played.status.attempts, seconds=0.6)
        assert played.status.phase == "subscribing"
        played.close()


def test_a_refused_port_names_endpoint_and_attempts(play):
    url = f"ws://127.0.0.1:{loopback.refused_port()}/market_data"
    played = play(url)
    status = played.until_state("error")
    assert status.last_error == (
        f"could not connect to {url} after 3 attempts: connection refused"
    )
    assert (status.error_kind, status.attempts) == ("connection", 3)
    assert played.states == [
        ("connecting", "connecting"),
        ("connecting", "waiting"),
        ("connecting", "connecting"),
        ("connecting", "waiting"),
        ("connecting", "connecting"),
        ("error", "waiting"),
    ]
    ticks = []
    assert not played.until(
        lambda: ticks.append(1) or played.status.state != "error", 0.3
    )
    assert len(ticks) > 5  # it goes on ticking
    played.close()


def test_retry_starts_over(play):
    port = loopback.refused_port()
    played = play(f"ws://127.0.0.1:{port}/x", max_reconnect_attempts=1)
    played.until_state("error")
    played.session.retry()
    played.until_state("connecting")
    assert played.status.attempts == 0
    played.until_state("error")
    assert played.status.attempts == 1
    played.close()


def test_attempts_can_be_unlimited(play):
    url = f"ws://127.0.0.1:{loopback.refused_port()}/x"
    played = play(url, max_reconnect_attempts=None)
    assert played.until(lambda: played.status.attempts > 5)
    assert played.status.state == "connecting"
    played.close()


def test_endpoints_are_tried_in_turn(play):
    dead = f"ws://127.0.0.1:{loopback.refused_port()}/x"

    def refuse(ws):
        ws.recv()
        ws.send('{"type":"ERROR","message":"full"}')
        stay(ws)

    with venue(refuse) as full, venue(lambda ws: (acknowledge(ws), stay(ws))) as url:
        played = play([dead, full, url])
        played.until_state("connected")
        assert played.status.endpoint == url
        assert played.status.attempts == 0
        played.close()


def test_all_endpoints_are_named_when_none_can_be_reached(play):
    urls = [f"ws://127.0.0.1:{loopback.refused_port()}/{n}" for n in "ab"]
    played = play(urls, max_reconnect_attempts=1)
    status = played.until_state("error")
    assert status.last_error == (
        f"could not connect to {urls[0]} (connection refused), "
        f"{urls[1]} (connection refused) after 1 attempt"
    )
    played.close()


def test_failures_are_reported_during_the_first_pass(play):
    dead = f"ws://127.0.0.1:{loopback.refused_port()}/x"
    with raw(lambda connection: connection.recv(1 << 20) and time.sleep(0.5)) as mute:
        played = play([dead, mute], connect_timeout=2.0)
        played.until(lambda: played.status.endpoint == mute)
        status = played.status
        assert status.last_error == f"could not connect to {dead}: connection refused"
        assert (status.state, status.attempts) == ("connecting", 0)
        played.close()


def test_a_handshake_that_is_never_answered_times_out(play):
    with raw(lambda connection: connection.recv(1 << 20) and time.sleep(0.5)) as url:
        played = play(url, connect_timeout=0.15, max_reconnect_attempts=1)
        status = played.until_state("error")
        assert "the handshake timed out after 0.15 s" in status.last_error
        assert len(played.states) == 2
        played.close()


@pytest.mark.parametrize(
    "urls", [[], ["ws://192.0.2.1/x"], ["ftp://x/"], ["ws://127.0.0.1/", "x"]]
)
def test_forbidden_endpoints_are_refused_at_construction(urls):
    with pytest.raises(BadArgumentError):
        Session(get_codec("wealthai"), Settings(), urls, STREAMS)


# Loss and return


def test_a_dropped_connection_comes_back_at_once(play):
    def handler(ws):
        seen.append(time.monotonic())
        acknowledge(ws)
        ws.send(bar(0))
        if len(seen) == 1:
            ws.close(1001, "restart")
        stay(ws)

    seen = []
    with venue(handler) as url:
        played = play(url, **SLOW)
        played.until_seen(Subscribed, 2)
        assert seen[1] - seen[0] < 0.5
        status = played.status
        assert (status.reconnects, status.attempts) == (1, 0)
        assert (
            status.last_error
            == f"lost {url}: the server closed the connection: 1001 restart"
        )
        assert status.error_kind == ""
        assert ("reconnecting", "connecting") in played.states
        played.close()


def test_a_connection_lost_right_after_its_acknowledgement_is_a_failure(play):
    accepted = []

    def handler(ws):
        accepted.append(ws)
        acknowledge(ws)
        ws.close()

    with venue(handler) as url:
        played = play(url, max_reconnect_attempts=3)
        status = played.until_state("error")
        assert len(accepted) == 3
        assert status.attempts == 3
        assert status.error_kind == "connection"
        played.close()


def test_short_connections_with_data_are_paced_but_count_as_no_failure(play):
    accepted = []

    def handler(ws):
        accepted.append(time.monotonic())
        acknowledge(ws)
        ws.send(bar(0))
        ws.close()

    with venue(handler) as url:
        rng = random.Random(1)
        rng.uniform = lambda low, high: high
        played = play(
            url,
            max_reconnect_attempts=1,
            rng=rng,
            reconnect_delay_base=0.2,
            reconnect_delay_max=0.2,
        )
        assert played.until(lambda: len(accepted) >= 4)
        assert played.status.attempts == 0
        played.close()
    gaps = [later - earlier for earlier, later in itertools.pairwise(accepted)]
    assert gaps[0] < 0.15
    assert min(gaps[1:3]) >= 0.2


def test_a_token_that_the_server_repeats_is_redacted(play):
    def handler(ws):
        acknowledge(ws)
        ws.close(1008, "bad token canary-42")

    with venue(handler) as url:
        played = play(url, csrf_token="canary-42", max_reconnect_attempts=1)
        status = played.until_state("error")
        assert status.last_error.endswith("1008 bad token ***")
        played.close()


def oversized(played):
    lost = [event for event in played.changes if isinstance(event, ConnectionLost)]
    return [event for event in lost if event.is_oversized]


def test_an_oversized_frame_is_an_event(play):
    def handler(connection):
        upgrade(connection)
        loopback.read_frame(connection)
        said = frame(b'{"type":"CONNECTED"}') + frame(bar(0).encode())
        connection.sendall(said + loopback.header(1 << 40))
        with contextlib.suppress(OSError):
            while connection.recv(4096):
                pass

    with raw(handler) as url:
        played = play(url)
        assert played.until(lambda: len(oversized(played)) >= 2)
        assert len(played.all(BarEvent)) >= 2
        assert f"{1 << 40} bytes" in played.status.last_error
        played.close()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_hundred_reconnects_leave_descriptors_and_threads_as_they_were(play):
    def handler(ws):
        acknowledge(ws)
        ws.send(bar(0))
        ws.close()

    with venue(handler) as url:
        played = play(url, reconnect_delay_base=0.001, reconnect_delay_max=0.001)
        played.until_seen(Subscribed, 3)
        first = descriptors()
        played.until_seen(Subscribed, 103, seconds=20)
        assert played.status.reconnects >= 102
        played.close()
        # The server's side has a descriptor and a thread for each that is closing.
        assert loopback.within(3, lambda: descriptors() <= first)


# Watchdogs, each with its control


def mute(ws):
    """Acknowledge, answer pings, and never send a bar."""
    acknowledge(ws)
    for _ in range(1000):
        ws.send('{"type":"HEARTBEAT"}')
        time.sleep(0.02)


@pytest.mark.parametrize(("data_timeout", "noticed"), [(0.2, True), (60.0, False)])
def test_a_server_without_bars_is_given_up(play, data_timeout, noticed):
    with venue(mute) as url:
        played = play(url, data_timeout=data_timeout, heartbeat_interval=0.05)
        played.until_state("connected")
        lost = played.until(lambda: played.status.last_error, seconds=0.6)
        assert bool(lost) is noticed
        if noticed:
            assert (
                played.status.last_error
                == f"lost {url}: the venue sent no bar for 0.2 s"
            )
        played.close()


@pytest.mark.parametrize(("heartbeat", "noticed"), [((0.05, 0.2), True), (None, False)])
def test_a_silent_server_is_given_up(play, heartbeat, noticed):
    def handler(connection):
        upgrade(connection)
        loopback.read_frame(connection)
        connection.sendall(frame(b'{"type":"CONNECTED"}') + frame(bar(0).encode()))
        with contextlib.suppress(OSError):
            while connection.recv(4096):  # pings among it, never answered
                pass

    interval, timeout = heartbeat or (30.0, 60.0)
    with raw(handler) as url:
        played = play(url, heartbeat_interval=interval, heartbeat_timeout=timeout)
        played.until_seen(BarEvent)
        lost = played.until(lambda: played.status.last_error, seconds=0.6)
        assert bool(lost) is noticed
        if noticed:
            assert (
                played.status.last_error
                == f"lost {url}: the venue sent no frame for 0.2 s"
            )
        played.close()


def test_pongs_count_as_frames(play):
    def handler(ws):
        acknowledge(ws)
        ws.send(bar(0))
        stay(ws)  # the library answers the pings

    with venue(handler) as url:
        played = play(url, heartbeat_interval=0.05, heartbeat_timeout=0.2)
        played.until_seen(BarEvent)
        assert not played.until(lambda: played.status.last_error, seconds=0.6)
        played.close()


@pytest.mark.parametrize(("timeout", "noticed"), [(0.2, True), (60.0, False)])
def test_a_half_frame_followed_by_silence_is_given_up(play, timeout, noticed):
    def handler(connection):
        upgrade(connection)
        loopback.read_frame(connection)
        connection.sendall(frame(b'{"type":"CONNECTED"}') + b"\x81")
        with contextlib.suppress(OSError):
            while connection.recv(4096):
                pass

    with raw(handler) as url:
        played = play(url, heartbeat_interval=0.1, heartbeat_timeout=timeout)
        played.until_seen(Subscribed)
        lost = played.until(lambda: played.status.last_error, seconds=0.6)
        assert bool(lost) is noticed
        played.close()


@pytest.mark.parametrize("step", [3600.0, -3600.0, 86_400.0])
@pytest.mark.parametrize("wrong", [False, True])
def test_a_step_of_the_wall_clock_ends_no_connection(play, monkeypatch, step, wrong):
    def handler(ws):
        acknowledge(ws)
        ws.send(bar(0))
        stay(ws)

    steps, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + steps[-1])
    pings = {"heartbeat_interval": 0.05, "heartbeat_timeout": 0.3}
    # Control: a session that goes by the wall clock.
    clock = {"clock": time.time} if wrong else {}
    with venue(handler) as url:
        played = play(url, **pings, **clock)
        played.until_seen(BarEvent)
        steps.append(step)
        lost = played.until(lambda: played.status.last_error, seconds=0.4)
        # A wall clock that is set back would delay every timeout.
        assert bool(lost) is (wrong and step > 0)
        played.close()


def test_a_connection_is_given_up_after_the_host_has_slept(play):
    assert abs(boot_seconds() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
    slept = [0.0]
    with venue(lambda ws: (acknowledge(ws), ws.send(bar(0)), stay(ws))) as url:
        played = play(url, clock=lambda: boot_seconds() + slept[0])
        played.until_seen(BarEvent)
        slept[0] = 3600.0
        played.until_seen(Subscribed, 2)
        assert played.status.last_error == f"lost {url}: the venue sent no bar for 60 s"
        played.close()


# The way there, as the settings say


def test_a_session_uses_its_proxy(play):
    with venue(lambda ws: (acknowledge(ws), stay(ws))) as url:
        with loopback.proxy() as (seen, address):
            played = play(url, proxy=address, csrf_token="canary-42")
            played.until_seen(Subscribed)
            played.close()
    assert len(seen.asked) == 1
    assert "canary" not in seen.asked[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "which max_redirects does not allow"),
        (
            {"max_redirects": 1, "csrf_token": "canary-42"},
            "must not get the feeder's token",
        ),
        ({"max_redirects": 1}, ""),
    ],
)
def test_a_session_follows_redirects_as_its_settings_allow(play, settings, words):
    said = []
    with venue(lambda ws: (said.append(acknowledge(ws)), stay(ws))) as other:

        def send_on(connection):
            loopback.read_head(connection)
            reply = f"HTTP/1.1 302 Found\r\nLocation: {other}\r\n\r\n"
            connection.sendall(reply.encode())

        with raw(send_on) as url:
            played = play(url, max_reconnect_attempts=1, **settings)
            if words:
                assert words in played.until_state("error").last_error
            else:
                played.until_state("connected")
            played.close()
    assert bool(said) is not bool(words)


def test_a_proxy_on_another_host_gets_no_plain_text():
    with pytest.raises(BadArgumentError, match="on its way to proxy"):
        allowed = Settings(proxy="http://192.0.2.1:1", endpoint="wss://x.example")
        Session(get_codec("wealthai"), allowed, ["ws://127.0.0.1/x"], STREAMS)


class ExpiringCodec(WealthaiCodec):
    """The wealthai protocol on a venue that ends connections."""

    max_connection_age = 0.3


def test_a_connection_is_replaced_before_the_venue_ends_it(play):
    with venue(lambda ws: (acknowledge(ws), stay(ws))) as url:
        played = play(url, codec=ExpiringCodec("", ""), max_reconnect_attempts=1)
        played.until_seen(Subscribed, 3)
        status = played.status
        assert (status.last_error, status.attempts) == ("", 0)
        assert status.reconnects == 2
        played.close()


def test_a_server_that_is_about_to_close_is_left_at_once(play):
    class Leaving(WealthaiCodec):
        def decode(self, data):
            return (GoingAway(),) if b"LEAVING" in data else super().decode(data)

    def handler(ws):
        acknowledge(ws)
        ws.send(bar(0))
        if not visits:
            visits.append(1)
            ws.send("LEAVING")
            ws.send(bar(1))
        stay(ws)

    visits = []
    with venue(handler) as url:
        played = play(url, codec=Leaving("", ""), **SLOW)
        played.until_seen(Subscribed, 2)
        assert played.status.last_error == ""
        played.until_seen(BarEvent, 2)
        played.close()


# Changes


def refuse_foo(ws):
    """Accept any list of symbols without FOO."""
    for text in ws:
        said = json.loads(text)
        number = {"request_id": said["request_id"]}
        if "FOO" in said["symbols"]:
            ws.send(json.dumps({"type": "ERROR", "message": "no FOO", **number}))
        else:
            ws.send(json.dumps({"type": "CONNECTED", **number}))
            for symbol in said["symbols"]:
                ws.send(bar(0, symbol))


def test_a_change_is_requested_on_the_live_connection(play):
    with venue(refuse_foo) as url:
        played = play(url)
        played.until_seen(BarEvent)
        played.session.change(OTHER)
        played.wake()
        played.until_seen(BarEvent, 2)
        subscribed = played.seen.index(Subscribed(OTHER, ends_change=True))
        assert played.seen[subscribed + 1].symbol == "ETHUSDT"
        assert played.status.reconnects == 0
        played.close()


def test_a_refused_change_leaves_the_old_streams_and_the_connection(play):
    with venue(refuse_foo) as url:
        played = play(url)
        played.until_seen(BarEvent)
        played.session.change((("FOO", "1m"),))
        assert played.until_seen(ChangeRefused) == [ChangeRefused("no FOO")]
        played.session.change(OTHER)
        played.until_seen(Subscribed, 2)
        assert (played.status.state, played.status.reconnects) == (
            "connected",
            0,
        )
        assert played.status.last_error == ""
        played.close()


def test_a_change_without_acknowledgement_is_refused_and_reconnects(play):
    asked = []

    def handler(ws):
        asked.append(acknowledge(ws))
        asked.extend(map(json.loads, ws))  # it may serve it, and never says so

    with venue(handler) as url:
        played = play(url, ack_timeout=0.2)
        played.until_seen(Subscribed)
        played.session.change(OTHER)
        [refused] = played.until_seen(ChangeRefused)
        assert "did not acknowledge the subscription within 0.2 s" in refused.message
        assert played.until_seen(Subscribed, 2)[-1] == Subscribed(STREAMS)
        until(lambda: len(asked) == 3)  # the venue notes it after it has answered
        assert [a["symbols"] for a in asked] == [["BTCUSDT"], ["ETHUSDT"], ["BTCUSDT"]]
        assert (played.status.reconnects, played.status.attempts) == (
            1,
            0,
        )
        played.close()


def test_a_change_while_disconnected_is_requested_by_the_next_connection(play):
    with venue(refuse_foo) as url:
        played = play(url)
        played.until(lambda: played.status.phase == "connecting")
        played.session.change(OTHER)
        subscribed = played.until_seen(Subscribed)
        if subscribed == [Subscribed(STREAMS)]:  # asked already
            subscribed = played.until_seen(Subscribed, 2)
        assert subscribed[-1] == Subscribed(OTHER, ends_change=True)
        played.close()


def test_a_change_superseded_at_the_loss_is_not_requested_by_the_next_connection(play):
    asked = []

    def handler(ws):
        asked.append(acknowledge(ws)["symbols"])
        if len(asked) == 1:
            ws.recv()  # the change
            ws.close()
        stay(ws)

    with venue(handler) as url:
        played = play(url)
        played.until_seen(Subscribed)
        played.session.change(OTHER)
        lost = ConnectionLost(was_connected=True, is_oversized=False)
        assert played.until(lambda: lost in played.changes)
        played.session.change(STREAMS)  # as its owner does when it hears of the loss
        subscribed = Subscribed(STREAMS, ends_change=True)
        assert played.until_seen(Subscribed, 2)[-1] == subscribed
        until(lambda: len(asked) == 2)  # the venue notes it after it has answered
        assert asked == [["BTCUSDT"], ["BTCUSDT"]]
        played.close()


def test_a_change_before_the_start_is_requested_by_the_first_connection(play):
    with venue(refuse_foo) as url:
        played = play(url)
        played.session.change(OTHER)
        assert played.until_seen(Subscribed) == [Subscribed(OTHER, ends_change=True)]
        played.close()


def test_a_change_that_the_next_connection_refuses_is_rolled_back(play):
    with venue(refuse_foo) as url:
        played = play(url, max_reconnect_attempts=1)
        played.session.change((("FOO", "1m"),))
        played.until_seen(Subscribed)
        assert played.seen[:2] == [ChangeRefused("no FOO"), Subscribed(STREAMS)]
        assert played.status.attempts == 0
        played.close()


def test_a_change_in_error_is_requested_after_a_retry(play):
    def handler(ws):
        visits.append(1)
        if len(visits) == 1:
            ws.recv()
            ws.close()
        acknowledge(ws)
        stay(ws)

    visits = []
    with venue(handler) as url:
        played = play(url, max_reconnect_attempts=1, **SLOW)
        played.until_state("error")
        played.session.change((("FOO", "1m"),))
        played.session.change(OTHER)
        assert not played.until(lambda: played.seen, seconds=0.1)
        played.session.retry()
        assert played.until_seen(Subscribed) == [Subscribed(OTHER, ends_change=True)]
        assert played.all(ChangeRefused) == []
        played.close()


class Batched(WealthaiCodec):
    """The wealthai protocol with one request for each symbol."""

    def change(self, old, new):
        return [request for stream in new for request in self.subscribe([stream])]


def test_a_change_refused_in_part_reconnects(play):
    with venue(refuse_foo) as url:
        played = play(url, codec=Batched("", ""))
        played.until_seen(Subscribed)
        played.session.change((*OTHER, ("FOO", "1m")))
        assert played.until_seen(ChangeRefused) == [ChangeRefused("no FOO")]
        assert played.until_seen(Subscribed, 2)[-1] == Subscribed(STREAMS)
        assert (played.status.reconnects, played.status.last_error) == (
            1,
            "",
        )
        played.close()


def test_a_refusal_of_no_request_is_delivered(play):
    def handler(ws):
        acknowledge(ws)
        ws.send('{"type":"ERROR","message":"maintenance at noon"}')
        ws.send(bar(0))
        stay(ws)

    with venue(handler) as url:
        played = play(url)
        played.until_seen(BarEvent)
        assert played.all(Refused) == [Refused(None, "maintenance at noon")]
        played.close()


# Backoff, waking, stopping


class Recording(random.Random):
    """A random source that records its limits and its results."""

    def __init__(self, seed):
        super().__init__(seed)
        self.limits, self.waits = [], []

    def uniform(self, a, b):
        self.limits.append((a, b))
        self.waits.append(super().uniform(a, b))
        return self.waits[-1]


def test_backoff_doubles_up_to_its_limit_with_half_of_it_at_least(play):
    rng, now, starts, step = Recording(7), [0.0], [], 0.25
    played = play(
        f"ws://127.0.0.1:{loopback.refused_port()}/x",
        clock=lambda: now[0],
        rng=rng,
        tick=0.0,
        max_reconnect_attempts=9,
        reconnect_delay_base=1.0,
        reconnect_delay_max=60.0,
    )
    session, phase = played.session, ""
    while session.status.state != "error":
        next(played.batches)
        if session.status.phase == "waiting":
            now[0] += step
        elif phase == "waiting":
            starts.append(now[0])
        phase = session.status.phase
    played.close()
    limits = [min(60.0, 2.0**k) for k in range(9)]
    assert rng.limits == [(limit / 2, limit) for limit in limits]
    assert len(starts) == len(set(rng.waits)) - 1 == 8
    gaps = [after - before for before, after in itertools.pairwise([0.0, *starts])]
    for wait, gap in zip(rng.waits, gaps, strict=False):
        assert wait <= gap <= wait + 2 * step


def test_stop_during_a_pause_is_prompt(play):
    url = f"ws://127.0.0.1:{loopback.refused_port()}/x"
    rng = random.Random(1)
    rng.uniform = lambda low, high: 30.0
    played = play(url, rng=rng)
    played.session._tick = 10.0  # so that only the wake-up can end it
    assert played.until(lambda: played.states[-1:] == [("connecting", "waiting")])

    def stop():
        played.session.stop()
        played.wake()

    timer = threading.Timer(0.1, stop)
    timer.start()
    started = time.monotonic()
    assert list(played.batches) == [[]]
    assert time.monotonic() - started < 1.0
    timer.join()
    assert played.status.state == "disconnected"


def test_stop_during_an_opening_is_prompt(play):
    with raw(lambda connection: connection.recv(1 << 20) and time.sleep(0.5)) as url:
        played = play(url, connect_timeout=30.0)
        played.until(lambda: played.status.phase == "connecting")
        started = time.monotonic()
        played.close()
        assert time.monotonic() - started < 1.0


def test_a_wake_up_yields_an_empty_batch_at_once(play):
    with venue(lambda ws: (acknowledge(ws), stay(ws))) as url:
        played = play(url)
        played.until_seen(Subscribed)
        played.session._tick = 10.0
        timer = threading.Timer(0.1, played.wake)
        timer.start()
        started = time.monotonic()
        assert next(played.batches) == []
        assert 0.05 < time.monotonic() - started < 1.0
        timer.join()
        played.session.stop()
        played.close()


def test_a_generator_dropped_halfway_closes_its_connection(play):
    gone = threading.Event()

    def handler(ws):
        acknowledge(ws)
        stay(ws)
        gone.set()

    with venue(handler) as url:
        played = play(url)
        played.until_seen(Subscribed)
        played.batches.close()
        assert gone.wait(2)
        assert played.status.state == "disconnected"
        played.close()


def test_stop_sends_a_close_frame(play):
    codes = []

    def handler(ws):
        acknowledge(ws)
        with contextlib.suppress(Exception):
            ws.recv()
        codes.append(ws.close_code)

    with venue(handler) as url:
        played = play(url)
        played.until_seen(Subscribed)
        played.close()
        assert loopback.within(2, lambda: codes == [1000])


def test_binance_streams_of_the_url_are_subscribed_by_the_handshake(play):
    paths = []

    def handler(ws):
        paths.append(ws.request.path)
        stay(ws)

    codec = get_codec("binance", "binance-spot")
    with venue(handler) as url:
        base = url.removesuffix("/market_data")
        played = play(codec.endpoints([base], []), codec=codec)
        assert played.until_seen(Subscribed) == [Subscribed(STREAMS)]
        wanted = ["/stream?streams=btcusdt@kline_1m"]
        assert loopback.within(2, lambda: paths == wanted)
        assert played.status.endpoint == f"{base}/stream"
        played.close()


# Events that have come are handed out, though no answer can be sent


def test_bars_behind_a_ping_are_not_lost_with_the_connection(play):
    asked = (frame(b"ping"), frame(b"x", loopback.PING), frame(b'{"type":"PING"}'))
    script = b"".join(
        ask + frame(bar(n).encode())
        for n, ask in zip(range(300), itertools.cycle(asked), strict=False)
    )

    def handler(connection):
        upgrade(connection)
        loopback.read_frame(connection)
        if visits:
            stay_quiet(connection)
        visits.append(1)
        connection.sendall(frame(b'{"type":"CONNECTED"}') + script)
        # Gone: the first answer is answered by a reset, later ones cannot be sent.

    visits = []
    with raw(handler) as url:
        played = play(url, **SLOW)
        bars = played.until_seen(BarEvent, 300)
        assert len({event.open_time for event in bars}) == 300
        assert played.until(lambda: played.status.last_error.startswith("lost"))
        played.close()


def test_a_close_reason_is_read_though_a_send_fails_before(play):
    def handler(connection):
        upgrade(connection)
        loopback.read_frame(connection)
        word = struct.pack("!H", 1008) + b"bad token"
        said = frame(b'{"type":"CONNECTED"}') + frame(b"ping") * 20
        connection.sendall(said + frame(word, loopback.CLOSE))

    with raw(handler) as url:
        played = play(url, max_reconnect_attempts=1)
        assert played.until(lambda: played.status.last_error)
        assert played.status.last_error.endswith(
            "the server closed the connection: 1008 bad token"
        )
        played.close()


def stay_quiet(connection):
    with contextlib.suppress(OSError):
        while connection.recv(4096):
            pass
