"""A venue behind a proxy that falls silent or cuts: noticed within the limit.

Readers see the stream stale before the connection is given up, where the data stop
first. The controls are websocket-client with its own pings and timeouts: it hangs.
"""

import contextlib
import threading
import time
from urllib.parse import urlsplit

import pytest
import websocket
from support import loopback
from support.feeding import STREAM, feeder
from support.tcp_proxy import PASS, TcpProxy
from support.waiting import until

import shmfeed
from shmfeed.simulator import Venue, verify

SEED = 11
LIVE = {"speed": 300, "history": 100, "update_interval": 0.02, "seed": SEED}
STALE, PING, LIMIT = 0.25, 0.1, 1.2
SLACK = 1.0 + 2.0  # a second, and what a busy machine takes
NEVER = 600.0
SETTINGS = {
    "heartbeat_interval": PING,
    "heartbeat_timeout": LIMIT,
    "data_timeout": NEVER,
    "connect_timeout": LIMIT,
    "stale_after": STALE,
    "max_reconnect_attempts": None,
    "dials_per_minute": 0,
}
# The proxy's mode, settings, the words of the loss, whether data stop before it.
MODES = {
    "no pong": ("silence", {}, "the venue sent no frame for 1.2 s", True),
    "half a header": (
        "half a header",
        {},
        "the rest of a message did not arrive within 1.2 s|no frame for 1.2 s",
        True,
    ),
    "no handshake": ("RST", {}, "the handshake timed out after 1.2 s", False),
    "trickle": ("trickle", {}, "within 1.2 s|no frame for 1.2 s", True),
    "pongs without data": (
        "pongs alone",
        {"data_timeout": LIMIT},
        "the venue sent no bar for 1.2 s",
        True,
    ),
    "FIN": ("FIN", {}, "without a close frame", False),
    "RST": ("RST", {}, "reset", False),
}


@contextlib.contextmanager
def through_a_proxy(url):
    """Yield a proxy to the server of this URL, and the URL of the proxy."""
    there = urlsplit(url)
    proxy = TcpProxy((there.hostname, there.port))
    with loopback.raw(proxy) as near:
        yield proxy, near


def seen_until(feed, words, seconds):
    """Return the seconds until the stream was stale, and until the loss had words."""
    began = time.monotonic()
    stale = None
    while time.monotonic() - began < seconds:
        status = feed.status()
        if stale is None and status["streams"][0]["health"] == "stale":
            stale = time.monotonic() - began
        told = f"{status['last_error']} {feed.connection()['last_error']}"
        if any(word in told for word in words.split("|")):
            return stale, time.monotonic() - began
        time.sleep(0.002)
    raise AssertionError(f"{words!r} is not in {told!r} after {seconds} s")


@pytest.mark.parametrize("what", MODES)
def test_it_is_noticed_within_its_limit_and_the_feed_recovers(feed_name, what):
    mode, settings, words, stops = MODES[what]
    with Venue(**LIVE) as venue, through_a_proxy(venue.url) as (proxy, url):
        with (
            feeder(feed_name, url, **{**SETTINGS, **settings}),
            shmfeed.attach(feed_name, timeout=5) as feed,
        ):
            ring = feed.ring(*STREAM)
            until(lambda: ring.count >= 100)
            until(lambda: ring.status().health == "live")
            proxy.mode = mode
            if what == "no handshake":  # of the connection after this one
                until(lambda: feed.status()["state"] == "reconnecting")
                proxy.mode = what
            stale, lost = seen_until(feed, words, LIMIT + PING + SLACK)
            print(f"{what}: stale after {stale} s, noticed after {lost:.2f} s")
            if stops:
                assert stale is not None
                assert STALE - 0.05 < stale <= lost
            before = int(ring.view(1).open_time[-1])
            proxy.mode = PASS
            until(lambda: ring.view(1).open_time[-1] > before + 60_000)
            until(lambda: ring.status().health == "live")
            rows, status = ring.snapshot(100), feed.status()
    assert verify(SEED, *STREAM, rows) == 0
    assert set((rows.open_time[1:] - rows.open_time[:-1]).tolist()) == {60_000}
    assert status["gaps"] == status["malformed"] == 0


def endless(ws):
    while True:
        ws.send("a message like any other")
        time.sleep(0.02)


def run_forever(url, took):
    """Let websocket-client run by its own pings."""
    app = websocket.WebSocketApp(url, on_message=lambda *_: took.set())
    app.run_forever(ping_interval=2 * PING, ping_timeout=PING, http_no_proxy=["*"])


def receive_for_ever(url, took):
    """Let websocket-client read with a timeout."""
    with contextlib.suppress(websocket.WebSocketException, OSError):
        client = websocket.create_connection(url, timeout=3 * PING, http_no_proxy=["*"])
        while client.recv():
            took.set()


def connect(url, took):
    with contextlib.suppress(websocket.WebSocketException, OSError):
        websocket.create_connection(url, http_no_proxy=["*"])


@pytest.mark.parametrize(
    ("mode", "client"),
    [
        ("half a header", run_forever),
        ("trickle", receive_for_ever),
        ("no handshake", connect),
    ],
)
def test_control_websocket_client_hangs(mode, client):
    with loopback.venue(endless) as far, through_a_proxy(far) as (proxy, url):
        took = threading.Event()
        if mode == "no handshake":
            proxy.mode = mode
        hung = threading.Thread(target=client, args=(url, took))
        hung.start()
        assert mode == "no handshake" or took.wait(5)
        proxy.mode = mode
        hung.join(LIMIT)
        assert hung.is_alive()
    hung.join(10)  # the proxy has ended the connection
    assert not hung.is_alive()
