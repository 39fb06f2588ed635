"""Frames out of a socket: any kind, cut anywhere, within their limits."""

import contextlib
import itertools
import socket
import ssl

import pytest
import websocket
from hypothesis import given
from hypothesis import strategies as st
from support import loopback
from support.loopback import BINARY, CLOSE, PING, PONG, TEXT, frame, header

from shmfeed.wire import frames
from shmfeed.wire.errors import (
    ClosedError,
    ConnectionLostError,
    OversizedError,
    as_connection_lost,
)
from shmfeed.wire.frames import FrameReader

LIMIT = 1 << 17


@contextlib.contextmanager
def line(max_bytes=LIMIT):
    """Yield the client's end of a connection, and the server's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.settimeout(5)
        yield FrameReader(ours, max_bytes, clock=itertools.count().__next__), theirs


def take_all(reader, limit=256):
    out = []
    reader.fill()
    while not reader.take(out, len(out) + limit):
        pass
    return out


def plainly(function, *arguments):
    with as_connection_lost():
        return function(*arguments)


class Unbuffered(websocket.WebSocket):
    """websocket-client itself, on a socket that is open already."""

    def __init__(self, sock):
        super().__init__(skip_utf8_validation=True)
        self.sock = sock
        self.connected = True


PIECES = st.lists(
    st.one_of(
        st.tuples(
            st.just("whole"), st.sampled_from([TEXT, BINARY]), st.integers(0, 300)
        ),
        st.tuples(
            st.just("whole"), st.just(TEXT), st.sampled_from([125, 126, 65535, 65536])
        ),
        st.tuples(st.just("fragments"), st.integers(2, 4), st.integers(0, 200)),
        st.tuples(
            st.just("control"), st.sampled_from([PING, PONG]), st.integers(0, 125)
        ),
    ),
    max_size=8,
)


def encode(pieces):
    """Return the bytes on the wire, the messages in them, and the payloads of pings."""
    wire, messages, pings = b"", [], []
    for number, (kind, what, size) in enumerate(pieces):
        payload = bytes([number + 65]) * size
        if kind == "whole":
            wire += frame(payload, what)
            messages.append(payload)
        elif kind == "control":
            wire += frame(payload, what)
            pings += [payload] if what == PING else []
        else:
            for part in range(what):
                opcode = TEXT if part == 0 else 0
                wire += frame(payload, opcode, fin=part == what - 1)
                wire += frame(b"amid", PING) if part == 0 else b""
            messages.append(payload * what)
            pings.append(b"amid")
    return wire, messages, pings


@given(
    pieces=PIECES,
    cuts=st.lists(st.integers(1, 5000), max_size=20),
    limit=st.integers(1, 5),
)
def test_messages_cut_anywhere_arrive_whole_and_in_order(pieces, cuts, limit):
    wire, messages, pings = encode(pieces)
    received = []
    with line() as (reader, server):
        while wire:
            size = cuts.pop() if cuts else 1 << 15
            server.sendall(wire[:size])
            wire = wire[size:]
            received += take_all(reader, limit)
        assert received == messages
        assert reader.part_since is None
        assert bool(pieces) is (reader.last_frame_at > 0)
        for payload in pings:
            assert loopback.read_frame(server) == (PONG, payload)


def test_messages_before_a_close_come_first_then_its_code_and_reason():
    with line() as (reader, server):
        server.sendall(frame(b"1") + frame(b"2") + frame(b"\x03\xf3gone", CLOSE))
        out = []
        reader.fill()
        with pytest.raises(ClosedError) as caught:
            reader.take(out, 256)
        assert out == [b"1", b"2"]
        assert (caught.value.code, caught.value.reason) == (1011, "gone")
        assert str(caught.value) == "the server closed the connection: 1011 gone"
        assert loopback.read_frame(server) == (CLOSE, b"\x03\xe8")


def test_a_close_without_code_or_with_a_reason_of_many_lines_is_read():
    with line() as (reader, server):
        server.sendall(frame(b"", CLOSE))
        reader.fill()
        with pytest.raises(ClosedError, match=r"1005$"):
            reader.take([], 256)
    with line() as (reader, server):
        server.sendall(frame(b"\x03\xe8a\nb\x1b[2J\xff", CLOSE))
        reader.fill()
        with pytest.raises(ClosedError) as caught:
            reader.take([], 256)
        assert caught.value.reason == "a b [2J�"
        assert loopback.read_frame(server) == (CLOSE, b"\x03\xef")  # 1007: not UTF-8


def test_nothing_follows_a_close_frame():
    with line() as (reader, server):
        reader.send_close(1002)
        reader.send_close(1000)
        reader.sock.close()
        assert loopback.read_frame(server) == (CLOSE, b"\x03\xea")
        assert server.recv(100) == b""


def test_the_limit_leaves_the_rest_for_the_next_time_without_a_system_call():
    with line() as (reader, server):
        server.sendall(b"".join(frame(b"%d" % n) for n in range(5)))
        reader.fill()
        out = []
        assert not reader.take(out, 2)
        server.sendall(frame(b"later"))
        reader.fill()  # reads nothing: there is still something to take
        assert reader.take(out, 100)
        assert out == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("opcode", [TEXT, BINARY, 0, PING])
@pytest.mark.parametrize("size", [101, 130, 1 << 17, 1 << 40])
def test_a_declared_length_over_the_limit_is_refused_before_its_payload(size, opcode):
    with line(max_bytes=100) as (reader, server):
        server.sendall(header(size, opcode))
        reader.fill()
        with pytest.raises(
            OversizedError, match=f"{size} bytes; max_frame_bytes is 100"
        ):
            reader.take([], 256)
        assert OversizedError("x").close_code == 1009


@pytest.mark.parametrize("size", [101, 130])
def test_a_frame_over_the_limit_is_refused_even_if_it_has_arrived(size):
    with line(max_bytes=100) as (reader, server):
        server.sendall(frame(b"x" * size))
        reader.fill()
        with pytest.raises(OversizedError, match=f"{size} bytes"):
            reader.take([], 256)


def test_a_frame_of_exactly_the_limit_is_taken():
    with line(max_bytes=100) as (reader, server):
        server.sendall(frame(b"x" * 100))
        assert take_all(reader) == [b"x" * 100]


def test_control_websocket_client_keeps_the_payload_of_a_terabyte_frame():
    # Control of the test above: what the limit is there for.
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.1)
        library = Unbuffered(ours)
        theirs.sendall(header(1 << 40))
        theirs.settimeout(0.1)
        for _ in range(8):
            with contextlib.suppress(TimeoutError):
                theirs.sendall(bytes(1 << 16))
            with pytest.raises(websocket.WebSocketTimeoutException):
                library.recv_data()
        assert sum(map(len, library.frame_buffer.recv_buffer)) > 1 << 18


def test_a_message_over_the_limit_is_refused_though_its_fragments_are_below_it():
    with line(max_bytes=100) as (reader, server):
        server.sendall(frame(b"x" * 60, fin=False) + frame(b"x" * 60, 0, fin=False))
        reader.fill()
        with pytest.raises(OversizedError, match="120 bytes in 2 fragments"):
            reader.take([], 256)


def test_a_message_of_too_many_empty_fragments_is_refused():
    with line() as (reader, server):
        rest = frame(b"", 0, fin=False) * frames.MAX_FRAGMENTS
        server.sendall(frame(b"", fin=False) + rest)
        reader.fill()
        with pytest.raises(OversizedError, match="1025 fragments"):
            reader.take([], 256)


def test_two_messages_of_many_fragments_are_counted_apart():
    most = frames.MAX_FRAGMENTS
    message = frame(b"a", fin=False) + frame(b"", 0, fin=False) * (most - 2)
    message += frame(b"b", 0)
    with line() as (reader, server):
        server.sendall(message * 2)
        assert take_all(reader) == [b"ab", b"ab"]


@pytest.mark.parametrize(
    "wire",
    [
        b"\xf1\x00",  # reserved bits
        b"\x83\x00",  # no such opcode
        frame(b"x", 0),  # a continuation of nothing
        frame(b"x", fin=False) + frame(b"y"),  # a message inside another
        frame(b"x", CLOSE),  # half a code
        frame(b"\x00\x01", CLOSE),  # no such code
        frame(b"x" * 126, PING),
        header(126, PONG),  # refused before its payload arrives
        header(1 << 16, CLOSE),
        frame(b"x", PONG, fin=False),
        b"\x81\x81maskx",  # masked, which only a client's may be
        b"\xc1\x01x",  # compressed, which was not agreed
    ],
)
def test_a_breach_of_the_protocol_is_reported_and_closed_with_1002(wire):
    with line() as (reader, server):
        server.sendall(wire)
        reader.fill()
        with pytest.raises(ConnectionLostError, match="protocol error: ") as caught:
            plainly(reader.take, [], 256)
        assert caught.value.close_code == 1002


def test_an_end_without_a_close_frame_is_reported():
    with line() as (reader, server):
        server.close()
        with pytest.raises(ConnectionLostError, match="without a close frame"):
            plainly(reader.fill)


def test_a_peer_that_takes_no_data_does_not_block_a_send(monkeypatch):
    monkeypatch.setattr(frames, "SEND_SECONDS", 0.1)
    with line() as (reader, _), pytest.raises(ConnectionLostError, match="taken no"):
        reader.send("x" * 10_000_000)


class Renegotiating:
    """A TLS socket that has to read before it can write, and is given nothing."""

    def __init__(self, sock):
        self.fileno = sock.fileno

    def send(self, data):
        raise ssl.SSLWantReadError


def test_a_tls_peer_that_makes_a_send_wait_does_not_block_it(monkeypatch):
    monkeypatch.setattr(frames, "SEND_SECONDS", 0.1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(ConnectionLostError, match=r"taken no data for 0.\d s"):
            FrameReader(Renegotiating(ours), LIMIT).send("x")
        theirs.sendall(b"?")  # bytes come, but not those that it waits for
        with pytest.raises(ConnectionLostError, match=r"taken no data for 0.\d s"):
            FrameReader(Renegotiating(ours), LIMIT).send("x")


@pytest.mark.parametrize("cut", range(1, 12))
def test_an_incomplete_message_has_the_time_at_which_it_began(cut):
    whole = frame(b"0") + frame(b"1", PING)
    with line() as (reader, server):
        server.sendall(whole + frame(b"abcdefghij")[:cut])
        assert take_all(reader) == [b"0"]
        since = reader.part_since
        assert since > reader.last_frame_at
        server.sendall(frame(b"abcdefghij")[cut:] + frame(b"next")[:cut])
        assert take_all(reader) == [b"abcdefghij", b"next"][: 1 + (cut > 5)]
        assert (reader.part_since is None) is (cut > 5)
        assert cut > 5 or reader.part_since > reader.last_frame_at > since


def test_a_message_in_fragments_stays_the_same_one_whatever_comes_between():
    with line() as (reader, server):
        server.sendall(frame(b"0") + frame(b"a", fin=False))
        take_all(reader)
        since = reader.part_since
        assert since is not None
        for between in (frame(b"", PING), frame(b"b", 0, fin=False), b"\x00"):
            server.sendall(between)
            take_all(reader)
            assert reader.part_since == since
        server.sendall(frame(b"c", 0)[1:])
        server.sendall(frame(b"c", 0))
        assert take_all(reader) == [b"abcc"]
        assert reader.part_since is None
