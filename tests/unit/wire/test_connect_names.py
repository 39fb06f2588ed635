"""Names and addresses on the way to a connection, also with a broken resolver."""

import contextlib
import os
import resource
import socket
import threading
import time

import pytest
from support import loopback
from support.connecting import connected, fail_to_open
from support.feeding import feeder, tell
from support.loopback import venue

import shmfeed
from shmfeed.simulator import Venue
from shmfeed.wire import tcp
from shmfeed.wire.connect import ConnectPolicy
from shmfeed.wire.connection import Connection, ConnectionLostError


class Resolver:
    """A getaddrinfo that hangs until `release`, and then is the host's."""

    def __init__(self):
        self.real = socket.getaddrinfo
        self.released = threading.Event()
        self.asked = []

    def __call__(self, host, *rest, **options):
        self.asked.append(host)
        assert self.released.wait(30)
        return self.real("127.0.0.1", *rest, **options)


@pytest.fixture
def hanging(monkeypatch):
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.released.set()
    # A look-up that hung gives its place back.
    rooms = [tcp._lookups.acquire(timeout=5) for _ in range(tcp.MAX_LOOKUPS)]
    assert all(rooms)
    for _ in rooms:
        tcp._lookups.release()


def test_a_hanging_lookup_blocks_nothing_and_ends_in_time(hanging):
    connection = Connection("wss://venue.invalid/x", max_frame_bytes=1 << 20)
    begun, turns, longest, last = time.monotonic(), 0, 0.0, time.monotonic()
    with pytest.raises(ConnectionLostError) as caught:
        for _ in connection.opening(0.5, tick=0.02):
            now = time.monotonic()
            longest, last, turns = max(longest, now - last), now, turns + 1
    connection.close()
    assert str(caught.value) == "looking up venue.invalid timed out after 0.5 s"
    assert 0.5 <= time.monotonic() - begun < 2
    assert turns > 10
    assert longest < 0.3
    assert hanging.asked == ["venue.invalid"]


def test_control_a_lookup_in_the_loop_blocks_it(hanging, monkeypatch):
    # Control: the same resolver, asked where the loop runs.
    monkeypatch.setattr(tcp, "_is_address", lambda host: True)
    connection = Connection("wss://venue.invalid/x", max_frame_bytes=1 << 20)
    timer = threading.Timer(0.6, hanging.released.set)
    timer.start()
    begun = time.monotonic()
    with contextlib.suppress(ConnectionLostError):
        next(connection.opening(0.1, tick=0.02))
    assert time.monotonic() - begun >= 0.5
    connection.close()
    timer.join()


def test_hanging_lookups_are_limited_and_their_slots_come_back(hanging):
    before = threading.active_count()
    wanted = "looking up venue.invalid timed out after 0.01 s"
    for _ in range(tcp.MAX_LOOKUPS):
        assert fail_to_open("wss://venue.invalid/x", 0.01) == wanted
    for _ in range(20):
        assert fail_to_open("wss://venue.invalid/x", 0.01) == (
            "venue.invalid cannot be looked up: 4 earlier lookups still hang in this"
            " host's resolver"
        )
    assert threading.active_count() - before == tcp.MAX_LOOKUPS
    hanging.released.set()
    assert loopback.within(5, lambda: threading.active_count() == before)
    with venue(lambda ws: ws.recv()) as url:
        with connected(
            url.replace("127.0.0.1", "venue.invalid"),
            policy=ConnectPolicy(allow_insecure=True),
        ):
            pass


def test_an_address_needs_no_lookup(hanging):
    hanging.released.set()
    begun = threading.active_count()
    for host in ("127.0.0.1", "[::1]"):
        connection = Connection(f"ws://{host}:1/x", max_frame_bytes=1)
        with contextlib.suppress(ConnectionLostError):
            next(connection.opening(5))
            assert threading.active_count() == begun
        connection.close()


def test_a_missing_thread_is_an_ordinary_failure(monkeypatch):
    def full(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    for _ in range(tcp.MAX_LOOKUPS + 1):
        reason = fail_to_open("wss://venue.invalid/x")
        assert reason == "cannot start a thread to look up venue.invalid"


def test_a_silent_address_leaves_time_for_the_next(monkeypatch):
    real = socket.getaddrinfo

    def both(_, port, **options):
        hosts = ("127.0.0.2", "127.0.0.1")
        return [one for host in hosts for one in real(host, port, **options)]

    with venue(lambda ws: ws.recv()) as url, contextlib.ExitStack() as open_:
        port = int(url.split("/")[2].split(":")[1])
        deaf = open_.enter_context(socket.create_server(("127.0.0.2", port), backlog=0))
        for _ in range(4):  # its backlog is full: the next connection waits
            waiting = open_.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", both)
        begun = time.monotonic()
        known = url.replace("127.0.0.1", "venue.invalid")
        with connected(known, policy=ConnectPolicy(allow_insecure=True)):
            assert 2 < time.monotonic() - begun < 5  # its share of the patience


def test_a_host_short_of_descriptors_costs_no_lookup_slots(hanging):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, most[1]))
    try:
        for _ in range(tcp.MAX_LOOKUPS + 1):
            reason = fail_to_open("wss://venue.invalid/x")
            assert reason == "too many open files"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    wanted = "looking up venue.invalid timed out after 0.01 s"
    assert fail_to_open("wss://venue.invalid/x", 0.01) == wanted


def test_a_feeder_whose_resolver_hangs_answers_ticks_and_stops(feed_name, hanging):
    url = "wss://venue.invalid/market_data"
    with feeder(feed_name, url, connect_timeout=60.0) as one:
        with shmfeed.attach(feed_name, timeout=5) as feed:
            assert loopback.within(5, lambda: hanging.asked)
            for _ in range(5):
                begun = time.monotonic()
                assert tell(feed_name, "status")["state"] == "connecting"
                assert time.monotonic() - begun < 2
            assert feed.status()["health"] != "dead"
        begun = time.monotonic()
        one.stop()
        one.thread.join(10)
        assert time.monotonic() - begun < 3


def test_a_name_that_resolves_late_is_connected_to(feed_name, hanging):
    with Venue(speed=None, symbols=["BTCUSDT"]) as local:
        url = local.url.replace("127.0.0.1", "localhost")
        with feeder(feed_name, url, connect_timeout=30.0):
            assert loopback.within(5, lambda: hanging.asked)
            hanging.released.set()
            local.wait_subscribed()


@pytest.mark.parametrize("first", ["127.0.0.1", "::1"])
def test_a_local_name_with_a_foreign_address_gets_no_plain_text(monkeypatch, first):
    found = [
        (socket.AF_INET, 1, 6, "", (address, loopback.refused_port()))
        for address in (first, "192.0.2.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    reason = fail_to_open("ws://localhost/x", 0.2)
    assert reason == (
        "localhost resolves to 192.0.2.1, which is another host;"
        " use wss://, or set allow_insecure"
    )
    proxied = ConnectPolicy(proxy="http://localhost:1")
    assert "resolves to 192.0.2.1" in fail_to_open(
        "ws://127.0.0.1/x", 0.2, policy=proxied
    )
    # Control: allowed, or encrypted, it would be.
    assert "resolves to 192.0.2.1" not in fail_to_open("wss://localhost/x", 0.2)
    lax = ConnectPolicy(allow_insecure=True)
    assert "resolves to 192.0.2.1" not in fail_to_open(
        "ws://localhost/x", 0.2, policy=lax
    )
