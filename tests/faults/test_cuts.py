"""A session cut off at every byte, and fed a byte at a time: whole bars or none."""

import contextlib
import itertools
import queue
import socket
import threading

import pytest
from support import loopback
from support.loopback import PING, bar, frame, raw
from support.playing import playing

from shmfeed.codecs.interface import BarEvent, Heartbeat, Malformed
from shmfeed.codecs.wealthai import WealthaiCodec
from shmfeed.wire import channel, connection, frames
from shmfeed.wire.events import Subscribed

ENDLESS = {
    "max_reconnect_attempts": None,
    "reconnect_delay_base": 0.001,
    "reconnect_delay_max": 0.001,
}
CONNECT, ACK, LIFE = 10.0, 12.0, 30.0
# By the fake clock, in seconds: each phase has a limit of its own.
WATCHED = {
    "connect_timeout": CONNECT,
    "ack_timeout": ACK,
    "heartbeat_timeout": LIFE,
    "heartbeat_interval": 15.0,
    "data_timeout": 10_000.0,
}


@pytest.fixture(autouse=True)
def dials_at_once(monkeypatch):
    """Wait for nothing between two dials; hundreds would take most of the time."""
    monkeypatch.setattr(channel, "STAGGER", 0.0)


def pieces():
    """Return the venue's bytes after the handshake, each with the event that they end.

    A bar as one frame, one in fragments with a ping between them, and one behind a
    text that is no bar.
    """
    first, second, third = (bar(n).encode() for n in range(3))
    return [
        (frame(b'{"type":"CONNECTED"}'), Subscribed),
        (frame(first), 0),
        (frame(second[:50], fin=False), None),
        (frame(b"still here?", PING), None),
        (frame(second[50:60], 0, fin=False), None),
        (frame(second[60:], 0), 1),
        (frame(b"pong"), Heartbeat),
        (frame(third), 2),
    ]


SCRIPT = b"".join(data for data, _ in pieces())
HANDSHAKE = len(loopback.answer(b"GET / HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n"))
SIZE = HANDSHAKE + len(SCRIPT)


def expected(size):
    """Return the events of a session that is cut off after `size` bytes."""
    seen, end = [], HANDSHAKE
    for data, what in pieces():
        end += len(data)
        if end > size:
            break
        if what is not None:
            seen.append(what)
    return seen


def event_of(event):
    """Return an event as `expected` has it; check the values of a bar."""
    if not isinstance(event, BarEvent):
        return type(event)
    values = (event.open, event.high, event.low, event.close, event.volume)
    assert values == (1.0, 2.0, 0.5, 1.5, 10.0)
    return (event.open_time - 1_700_000_040_000) // 60_000


def by_connection(events):
    """Return the events of each acknowledged connection."""
    found = []
    for event in map(event_of, events):
        if event is Subscribed:
            found.append([])
        found[-1].append(event)
    return found


class Cutter:
    """A server that sends each connection as many bytes as `cuts` says.

    `sent` is set once one has got them all; `end` says how it goes on.
    """

    def __init__(self, cuts, end):
        self.cuts = iter(cuts)
        self.end = end
        self.sent = threading.Event()
        self.done = 0

    def __call__(self, connection):
        size = next(self.cuts, SIZE)
        whole = loopback.answer(loopback.read_head(connection)) + SCRIPT
        assert len(whole) == SIZE
        connection.sendall(whole[:size])
        self.sent.set()
        self.end(connection)
        self.done += 1


def finish(connection):
    connection.shutdown(socket.SHUT_WR)
    wait(connection)


def reset(connection):
    linger = b"\1\0\0\0\0\0\0\0"  # for 0 s
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def wait(connection):
    with contextlib.suppress(OSError):
        while connection.recv(4096):
            pass


def cut_at(cuts, end):
    """Return the events of each connection that is cut there, and the session."""
    cutter = Cutter(cuts, end)
    with raw(cutter) as url, playing(url, **ENDLESS) as played:
        assert played.until(lambda: cutter.done > len(cuts), seconds=40)
        return by_connection(played.seen), played.session


def test_a_session_that_ends_at_any_byte_comes_back_and_hands_out_whole_bars_only():
    cuts = range(SIZE + 1)
    assert len(cuts) > 700
    found, session = cut_at(cuts, finish)
    wanted = [expected(size) for size in cuts]
    acknowledged = [one for one in wanted if one]
    assert found[: len(acknowledged)] == acknowledged
    assert session.status.reconnects >= len(acknowledged) - 1


def test_a_session_that_is_reset_at_any_byte_hands_out_whole_bars_in_order_only():
    cuts = range(0, SIZE + 1, 3)
    found, _ = cut_at(cuts, reset)  # which may overtake what had been sent
    for one in found:
        assert one == expected(SIZE)[: len(one)]


def one_by_one(self, data):
    """Return True: deliver each fragment, without waiting for the last one."""
    return True


def test_control_a_reader_of_partial_messages_is_noticed(monkeypatch):
    # Control: the same cuts, the same comparison.
    monkeypatch.setattr(frames._SizedMessage, "is_fire", one_by_one)
    cuts = range(HANDSHAKE, SIZE, 20)
    found, _ = cut_at(cuts, finish)
    assert found[: len(cuts)] != [expected(size) for size in cuts if expected(size)]
    assert any(Malformed in one for one in found)


# Silence, and a byte now and then, by a clock of the test's own


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def silent_for(played, clock, cutter, step=2.0):
    """Return the seconds from the last byte until the session gives up."""
    session = played.session
    session._tick = 0.001  # the server gets its turn
    while not cutter.sent.is_set():
        played.take(next(played.batches))
        if session.status.phase == "waiting":
            clock.now += 0.001
    cutter.sent.clear()
    session._tick = 0.0
    begun, state = clock.now, (session.status.last_error, session.status.attempts)
    for _ in range(3):  # what has been sent is here: take it
        played.take(next(played.batches))
    before = session.status.attempts
    session.status = session.status._replace(last_error="")
    while not session.status.last_error and session.status.attempts == before:
        clock.now += step
        played.take(next(played.batches))
        assert clock.now - begun < 100, state
    return clock.now - begun


def test_silence_after_any_byte_is_noticed_within_the_limit_of_its_phase():
    clock = Clock()
    cuts = range(SIZE)
    cutter = Cutter(cuts, wait)
    waits = {}
    options = {**ENDLESS, **WATCHED, "clock": clock, "tick": 0.0}
    with raw(cutter) as url, playing(url, **options) as played:
        for size in cuts:
            waits[size] = silent_for(played, clock, cutter)
        found = by_connection(played.seen)
    limits = {
        size: CONNECT if size < HANDSHAKE else LIFE if expected(size) else ACK
        for size in cuts
    }
    late = {size: t for size, t in waits.items() if t > limits[size] + 5}
    assert not late
    hasty = {size: t for size, t in waits.items() if t < limits[size] - 2}
    assert not hasty
    assert found == [expected(size) for size in cuts if expected(size)]


class Tap:
    """A server that sends only what the test gives it."""

    def __init__(self, *, answers=True):
        self.answers = answers
        self.taken = queue.SimpleQueue()

    def __call__(self, connection):
        if self.answers:
            head = loopback.read_head(connection)
            self.taken.put((connection, loopback.answer(head)))
        else:
            self.taken.put((connection, b""))
        wait(connection)


def survives(url, tap, first, drops, **options):
    """Return how long a session tolerates one byte per second, and its error.

    The time is in seconds, at most 60. `first` is sent right after the handshake's
    answer; None sends no answer.
    """
    clock = Clock()
    settings = {**ENDLESS, **WATCHED, "clock": clock, "tick": 0.0, **options}
    with playing(url, **settings) as played:
        while tap.taken.empty():
            played.take(next(played.batches))
        connection, answer = tap.taken.get()
        connection.sendall(answer + first if first is not None else b"")
        assert first is None or played.until(
            lambda: played.status.phase != "connecting"
        )
        begun = clock.now
        while not played.status.last_error and clock.now - begun < 60:
            connection.sendall(next(drops))
            clock.now += 1.0
            for _ in range(3):
                played.take(next(played.batches))
        return clock.now - begun, played.status.last_error


ACKNOWLEDGED = frame(b'{"type":"CONNECTED"}')
ALIVE = frame(b"", 0, fin=False) + frame(b"", PING)
HEADER = loopback.header(1 << 17)
TRICKLES = {
    "an answer to the handshake": (
        None,
        itertools.chain(
            [b"HTTP/1.1 101 Switching\r\nX-Slow: "], itertools.repeat(b"x")
        ),
        CONNECT,
        "the handshake timed out",
    ),
    "texts instead of an acknowledgement": (
        b"",
        itertools.repeat(frame(b"pong")),
        ACK,
        "did not acknowledge the subscription within",
    ),
    "the header of a frame and its payload": (
        ACKNOWLEDGED,
        itertools.chain((HEADER[n : n + 1] for n in range(10)), itertools.repeat(b"x")),
        LIFE,
        "the rest of a message did not arrive within 30 s",
    ),
    "a payload": (
        ACKNOWLEDGED + loopback.header(1000),
        itertools.repeat(b"x"),
        LIFE,
        "the rest of a message did not arrive within 30 s",
    ),
    "fragments with pings between them": (
        ACKNOWLEDGED + frame(b"x", fin=False),
        itertools.repeat(ALIVE),
        LIFE,
        "the rest of a message did not arrive within 30 s",
    ),
}


@pytest.mark.parametrize("what", TRICKLES)
def test_a_trickle_is_given_up_within_the_limit(what):
    first, drops, limit, reason = TRICKLES[what]
    tap = Tap()
    with raw(tap) as url:
        seconds, error = survives(url, tap, first, drops, codec=Pingless("", ""))
    assert reason in error
    assert limit - 2 <= seconds <= limit + 3


class Pingless(WealthaiCodec):
    """The wealthai protocol at a venue that answers no pings."""

    answers_pings = False


def test_a_trickle_of_tls_is_given_up_within_the_limit():
    tap = Tap(answers=False)
    drops = itertools.chain([b"\x16\x03\x03\x3f\xff"], itertools.repeat(b"\2"))
    with raw(tap) as url:
        seconds, error = survives(url.replace("ws:", "wss:"), tap, None, drops)
    assert "the TLS handshake timed out" in error
    assert CONNECT - 2 <= seconds <= CONNECT + 3


@pytest.mark.parametrize("what", ["a payload", "fragments with pings between them"])
def test_control_without_a_limit_a_trickle_lasts_for_ever(what, monkeypatch):
    # Control: nothing else ends these, not even with pings.
    monkeypatch.setattr(connection.Connection, "part_since", None)
    first, drops, *_ = TRICKLES[what]
    codec = Pingless("", "") if what == "a payload" else None
    tap = Tap()
    with raw(tap) as url:
        assert survives(url, tap, first, drops, codec=codec) == (60.0, "")


def test_frames_that_come_slowly_but_whole_are_no_trickle():
    tap = Tap()
    half = frame(b"pong")[:3], frame(b"pong")[3:]
    pairs = itertools.cycle([half[1] + half[0]])  # always in the middle of one
    with raw(tap) as url:
        first = ACKNOWLEDGED + half[0]
        assert survives(url, tap, first, pairs) == (60.0, "")
