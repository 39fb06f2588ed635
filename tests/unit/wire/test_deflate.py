"""Compressed messages are negotiated, inflated, and refused."""

import contextlib
import random
import sys
import time
import tracemalloc
import zlib

import pytest
from support import loopback
from support.connecting import connected, fail_to_open, hold, lose, receive
from support.loopback import BINARY, PING, TEXT, frame, header, raw, venue

from shmfeed.errors import BadArgumentError
from shmfeed.settings.loading import load
from shmfeed.wire.connect import ConnectPolicy, policy_of
from shmfeed.wire.connection import OversizedError

POLICY = policy_of(load({"compression": "deflate"}, {}))
RSV1 = 0x40


class Deflater:
    """A server's half of the compression, made of zlib alone."""

    def __init__(self, bits=15, takes_over=True):
        self._bits, self._takes_over = bits, takes_over
        self._engine = self._new()

    def _new(self):
        return zlib.compressobj(wbits=-self._bits)

    def __call__(self, data):
        if not self._takes_over:
            self._engine = self._new()
        packed = self._engine.compress(data) + self._engine.flush(zlib.Z_SYNC_FLUSH)
        return packed[:-4]


def packed_frame(payload, opcode=TEXT, *, fin=True):
    whole = bytearray(frame(payload, opcode, fin=fin))
    whole[0] |= RSV1
    return bytes(whole)


@contextlib.contextmanager
def choosing(parameters, *frames):
    """Yield the URL of a server that chooses these parameters and sends frames."""

    def handler(connection):
        reply = loopback.answer(loopback.read_head(connection))
        choice = f"Sec-WebSocket-Extensions: {parameters}\r\n\r\n"
        connection.sendall(reply[:-2] + choice.encode())
        for piece in frames:
            connection.sendall(piece)
        hold(connection)

    with raw(handler) as url:
        yield url


def test_a_server_that_compresses_is_understood_and_answered():
    texts = [f"{n} " + "abc" * random.Random(n).randrange(3000) for n in range(300)]

    def handler(ws):
        assert ws.protocol.extensions
        for text in texts:
            ws.send(text)
        for text in ws:
            ws.send(text)

    with venue(handler, compression="deflate") as url:
        with connected(url, policy=POLICY) as connection:
            assert receive(connection, 300) == [text.encode() for text in texts]
            connection.send("z" * 100_000)
            assert receive(connection, 1) == [b"z" * 100_000]
        # Control: without the setting nothing is offered.
        with connected(url) as connection:
            assert "closed the connection" in str(lose(connection))


def test_a_server_that_does_not_compress_is_understood_too():
    with venue(lambda ws: (ws.send("plain"), ws.recv())) as url:
        with connected(url, policy=POLICY) as connection:
            assert receive(connection, 1) == [b"plain"]


@pytest.mark.parametrize(
    ("parameters", "deflater"),
    [
        ("permessage-deflate", Deflater()),
        ("permessage-deflate; server_no_context_takeover", Deflater(takes_over=False)),
        ("permessage-deflate; server_max_window_bits=9", Deflater(9)),
        ('permessage-deflate; server_max_window_bits="10"', Deflater(10)),
        ("permessage-deflate; client_max_window_bits=8", Deflater()),
        ("permessage-deflate; client_no_context_takeover", Deflater()),
        (" permessage-deflate ;client_max_window_bits=15 ", Deflater()),
    ],
)
def test_whatever_the_offer_permits_is_accepted(parameters, deflater):
    texts = [b"%d" % n + b"x" * (n * 500) for n in range(20)]
    frames = [packed_frame(deflater(text), BINARY) for text in texts]
    with choosing(parameters, *frames) as url:
        with connected(url, policy=POLICY) as connection:
            assert receive(connection, 20) == texts


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("x-webkit-deflate-frame", "sec-websocket-extensions that was not offered"),
        ("permessage-deflate, permessage-deflate", "that was not offered"),
        ("permessage-deflate; mystery", "the server's compression is refused"),
        ("permessage-deflate; server_max_window_bits=16", "compression is refused"),
        ("permessage-deflate; client_max_window_bits=7", "compression is refused"),
        ("permessage-deflate; ; ;", "the server's compression is refused"),
    ],
)
def test_whatever_the_offer_does_not_permit_is_refused(parameters, words):
    with choosing(parameters) as url:
        assert words in fail_to_open(url, policy=POLICY)
        assert "was not offered" in fail_to_open(url)  # without the setting


def test_compressed_and_plain_frames_fragments_and_pings_may_be_mixed():
    deflater = Deflater()
    long, short = b"long " * 5000, b"short"
    packed = deflater(long)
    pieces = [packed[:10], packed[10:500], packed[500:]]
    stream = (
        packed_frame(pieces[0], fin=False)
        + frame(b"?", PING)
        + frame(pieces[1], 0, fin=False)
        + frame(pieces[2], 0)
        + frame(b"plain")
        + packed_frame(deflater(short))
        + frame(b"pl", fin=False)
        + frame(b"ain", 0)
        + packed_frame(deflater(b""))
        + packed_frame(deflater(short))
    )
    want = [long, b"plain", short, b"plain", b"", short]
    with choosing("permessage-deflate", stream) as url:
        with connected(url, policy=POLICY) as connection:
            assert receive(connection, len(want)) == want
    with choosing("permessage-deflate", *(bytes([b]) for b in stream)) as url:
        with connected(url, policy=POLICY) as connection:
            assert receive(connection, len(want), 10) == want


def bomb(size):
    return Deflater()(b"\0" * size)


@pytest.mark.parametrize("kind", ["one frame", "fragments", "a window kept"])
def test_a_bomb_is_bounded_in_memory_and_cpu(kind):
    packed = bomb(50 << 20)
    third = len(packed) // 3
    frames = {
        "one frame": [packed_frame(packed)],
        "fragments": [
            packed_frame(packed[:third], fin=False),
            frame(packed[third : 2 * third], 0, fin=False),
            frame(packed[2 * third :], 0),
        ],
        "a window kept": [packed_frame(bomb(100)), packed_frame(packed)],
    }[kind]
    with choosing("permessage-deflate", *frames) as url:
        with connected(url, policy=POLICY) as connection:
            tracemalloc.start()
            begun = time.thread_time()
            ended = lose(connection)
            took = time.thread_time() - begun
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert isinstance(ended, OversizedError)
    assert "inflates to more than 1048576 bytes, max_frame_bytes" in str(ended)
    assert peak < 16 << 20
    assert took < 0.5


def test_control_without_a_limit_the_bomb_goes_off():
    # Control of the test above.
    engine = zlib.decompressobj(-15)
    assert len(engine.decompress(bomb(20 << 20) + b"\0\0\xff\xff")) == 20 << 20


def test_fragments_that_inflate_to_too_much_together_are_refused():
    deflater = Deflater()
    packed = deflater(random.Random(1).randbytes(1_500_000))
    half = len(packed) // 2
    frames = packed_frame(packed[:half], fin=False) + frame(packed[half:], 0)
    with choosing("permessage-deflate", frames) as url:
        with connected(url, policy=POLICY) as connection:
            assert isinstance(lose(connection), OversizedError)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (packed_frame(b"\xff\xff\xff"), "a message that cannot be inflated"),
        (packed_frame(b"", PING), "reserved bits in a frame that no extension"),
        (packed_frame(b"x", 0), "reserved bits in a frame that no extension"),
        (bytes([0xA1, 0]), "reserved bits in a frame that no extension"),
        (packed_frame(b"x", fin=False)[:1] + header(1 << 21)[1:], "frame of 2097152"),
    ],
)
def test_a_broken_frame_ends_the_connection(data, words):
    with choosing("permessage-deflate", data) as url:
        with connected(url, policy=POLICY) as connection:
            assert words in str(lose(connection))


def test_without_the_extension_a_compressed_frame_is_refused():
    with choosing("", packed_frame(Deflater()(b"x"))) as url:
        for policy in (POLICY, ConnectPolicy()):
            with connected(url, policy=policy) as connection:
                assert "that no extension permits" in str(lose(connection))


def test_without_its_package_the_setting_and_a_connection_say_so(monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "websockets"]:
        monkeypatch.setitem(sys.modules, name, None)
    with choosing("permessage-deflate") as url:
        assert "compression needs the package websockets" in fail_to_open(
            url, policy=POLICY
        )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadArgumentError, match="deflate needs the package websockets"):
        load({"compression": "deflate"}, {})
    assert load({"compression": "off"}, {}).compression == "off"
