"""Hostile servers are left in time, with a reason, and cost no memory."""

import contextlib
import itertools
import json
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from support import loopback
from support.loopback import BINARY, CLOSE, PING, PONG, bar, frame, header, raw

CAP = 1 << 20  # of a message: the default of max_frame_bytes
ROOM = CAP + (16 << 20)  # what one connection may cost at most
WORK = 5.0  # seconds of a CPU; others may have most of it, so time tells nothing
TIMEOUT = 60.0  # seconds that a server waits for a client with little CPU
TOKEN, KEY = "canary-of-the-token-7d1f", "canary-of-the-key-93ab"
CLIENT = Path(__file__).parents[1] / "support/hostile_client.py"


class Client:
    """The client's process, and all that it has printed."""

    def __init__(self, errors):
        self._errors = errors
        self._said = []
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", CLIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        self.do("ws://127.0.0.1:1/", way="plant")  # so that its modules are there

    def do(self, url, way="session", **settings):
        order = {"way": way, "url": url, "csrf_token": TOKEN, **settings}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        self._said.append(self.process.stdout.readline())
        return json.loads(self._said[-1])

    def end(self):
        """Return everything that it has printed, once it has ended."""
        self.process.stdin.close()
        self._said.append(self.process.stdout.read())
        self.process.wait(10)
        return "".join(self._said) + Path(self._errors.name).read_text()


@contextlib.contextmanager
def silenced_client(folder):
    """Yield a client, and check that it has printed none of our secrets."""
    with (folder / "errors").open("w") as errors:
        one = Client(errors)
        try:
            yield one
            said = one.end()
        finally:
            one.process.kill()
            with one.process:
                pass
    assert "Current thread" in said  # faulthandler's words are among it
    for secret in (TOKEN, KEY):
        assert secret[:12] not in said


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with silenced_client(tmp_path_factory.mktemp("client")) as one:
        yield one


class Server:
    """A hostile server: it accepts the client, and then does what `play` does."""

    def __init__(self, play):
        self.play = play
        self.codes = []

    def __call__(self, connection):
        loopback.upgrade(connection)
        loopback.read_frame(connection)
        connection.settimeout(TIMEOUT)
        with contextlib.suppress(OSError):
            self.play(connection)
        self.record_closes(connection)

    def record_closes(self, connection):
        """Record the codes of the received close frames."""
        with contextlib.suppress(OSError):
            while True:
                opcode, payload = loopback.read_frame(connection)
                if opcode == CLOSE:
                    self.codes.append(struct.unpack("!H", payload[:2])[0])


OK = frame(b'{"type":"CONNECTED"}')
BAR = frame(bar(0).encode())


def saying(*data):
    return lambda connection: [connection.sendall(OK + piece) for piece in data]


def many(piece, count, batch=1000):
    """Return a play that sends so many pieces, as fast as they are taken."""

    def play(connection):
        connection.sendall(OK)
        for _ in range(count // batch):
            connection.sendall(piece * batch)
        connection.sendall(BAR)

    return play


def read_nothing(connection):
    """Send pings until the unread answers pile up, then texts without end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(OK + frame(b"x" * 99, PING) * 60_000 + frame(b"ping"))
    while True:
        connection.sendall(frame(b"}") * 10_000)


def fragments(size, count):
    def play(connection):
        connection.sendall(OK + frame(b"", fin=False))
        piece = frame(b"x" * size, 0, fin=False)
        for _ in range(count):
            connection.sendall(piece)

    return play


def flood_behind(start, size=64 << 20):
    def play(connection):
        connection.sendall(OK + start)
        for _ in range(size >> 16):
            connection.sendall(bytes(1 << 16))

    return play


# Server behaviours, each with the close code and the reason that the client must give.
REFUSED = {
    "a frame of 1 TiB": (flood_behind(header(1 << 40)), 1009, f"{1 << 40} bytes"),
    "a frame of all the bits": (saying(b"\x81\x7f" + b"\xff" * 8), 1009, "bytes; max"),
    "a frame one byte too big": (flood_behind(header(CAP + 1)), 1009, f"{CAP + 1} byt"),
    "a million fragments of nothing": (fragments(0, 1_000_000), 1009, "1025 fragments"),
    "a million fragments of a byte": (fragments(1, 1_000_000), 1009, "1025 fragments"),
    "fragments over the limit in sum": (fragments(600_000, 9), 1009, "in 3 fragments"),
    "a ping of 126 bytes": (saying(frame(b"x" * 126, PING)), 1002, "frame of 126"),
    "a pong of 1 MiB": (flood_behind(header(CAP, PONG)), 1002, f"frame of {CAP}"),
    "a ping in fragments": (saying(frame(b"", PING, fin=False)), 1002, "ping frame"),
    "a pong in fragments": (saying(frame(b"", PONG, fin=False)), 1002, "fragmented a"),
    "reserved bits": (saying(b"\xb1\x00"), 1002, "reserved bits"),
    "a compressed frame": (saying(b"\xc1\x05\xaaVJ-*"), 1002, "reserved bits"),
    "a masked frame": (saying(b"\x81\x81maskx"), 1002, "masked"),
    "an opcode of none": (saying(b"\x83\x00"), 1002, "opcode 3"),
    "a control opcode of none": (saying(b"\x8b\x00"), 1002, "opcode 11"),
    "a continuation of nothing": (saying(frame(b"x", 0)), 1002, "Illegal frame"),
    "a message within another": (saying(frame(b"x", fin=False) + BAR), 1002, "Illegal"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_hostile_server_is_left_with_a_code_and_a_reason(client, what):
    play, code, words = REFUSED[what]
    server = Server(play)
    with raw(server) as url:
        found = client.do(f"{url}?key={KEY}")
        assert words in found["error"]
        assert loopback.within(TIMEOUT, lambda: server.codes == [code]), server.codes
    assert found["work"] < WORK
    assert found["grown"] < ROOM
    assert found["oversized"] == (code == 1009)


DEEP = b"[" * 100_000
# Behaviours that cost at most one message and never the connection.
BORNE = {
    "JSON 100,000 deep": (saying(frame(DEEP) + BAR), {"Malformed": 1}),
    "a bar 100,000 deep": (
        saying(frame(b'{"type":"BAR","symbol":' + DEEP) + BAR),
        {"Malformed": 1},
    ),
    "an object 100,000 deep": (
        saying(frame(b'{"a":' * 100_000) + BAR),
        {"Malformed": 1},
    ),
    "a number of 10,000 digits": (
        saying(frame(b'{"type":"BAR","open_time":' + b"9" * 10_000 + b"}") + BAR),
        {"Malformed": 1},
    ),
    "a text that is no UTF-8": (
        saying(frame(b'{"type":"\xff\xfe"}') + BAR),
        {"Malformed": 1},
    ),
    "a message of nothing": (
        saying(frame(b"") + frame(b"", BINARY) + BAR),
        {"Malformed": 2},
    ),
    "a message of the limit": (
        saying(frame(b'"' + b"x" * (CAP - 2) + b'"') + BAR),
        {"Malformed": 1},
    ),
    "100,000 that mean nothing": (
        many(frame(b'{"type":"X"}'), 100_000),
        {"Ignored": 100_000},
    ),
    "100,000 that are garbage": (many(frame(b"}"), 100_000), {"Malformed": 100_000}),
    "100,000 pongs unasked": (many(frame(b"", PONG), 100_000), {}),
}


@pytest.mark.parametrize("what", BORNE)
def test_it_costs_no_more_than_its_own_messages(client, what):
    play, kinds = BORNE[what]
    with raw(Server(play)) as url:
        found = client.do(f"{url}?key={KEY}")
    assert found["error"] == ""
    assert found["kinds"] == {"Subscribed": 1, "BarEvent": 1, **kinds}
    assert found["work"] < WORK
    assert found["grown"] < ROOM


def test_a_server_that_takes_no_answers_is_given_up(client):
    with raw(Server(read_nothing)) as url:
        found = client.do(f"{url}?key={KEY}")
    assert found["error"].endswith("the server has taken no data for 2 s")
    # Received data are delivered; an endless message is not waited for.
    assert 1000 < found["kinds"]["Malformed"] < 100_000
    assert found["grown"] < ROOM
    assert found["work"] < WORK


def test_bars_without_end_before_the_acknowledgement(client):
    def play(connection):
        for _ in range(1000):
            connection.sendall(BAR * 1000)

    with raw(Server(play)) as url:
        found = client.do(f"{url}?key={KEY}")
    assert found["error"].endswith(
        "more than 20000 bars before it acknowledged the subscription"
    )
    assert found["grown"] < ROOM
    assert found["work"] < WORK


# The handshake


def lines(size):
    """Return so many bytes of meaningless header lines."""
    one = b"X-%04d: y\r\n"
    return b"".join(one % n for n in range(size // len(one % 0)))


def test_a_header_of_a_thousand_lines_within_the_limit_is_read(client):
    def handler(connection):
        answer = loopback.answer(loopback.read_head(connection))
        connection.sendall(answer[:-2] + lines(15 << 10) + b"\r\n")
        loopback.read_frame(connection)
        connection.sendall(OK + BAR)
        connection.recv(4096)

    with raw(handler) as url:
        found = client.do(f"{url}?key={KEY}")
    assert found["kinds"] == {"Subscribed": 1, "BarEvent": 1}


@pytest.mark.parametrize(
    "piece", [b"x" * 65536, lines(65536), b"\r\n" * 9, b"\0" * 4096]
)
def test_a_header_without_end(client, piece):
    def handler(connection):
        loopback.read_head(connection)
        start = (
            b"HTTP/1.1 101 Switching Protocols\r\nX: " if piece != b"\r\n" * 9 else b""
        )
        with contextlib.suppress(OSError):
            connection.sendall(start)
            for _ in itertools.repeat(None, 1000):
                connection.sendall(piece)

    with raw(handler) as url:
        found = client.do(f"{url}?key={KEY}")
    wanted = "is not HTTP" if piece[:2] == b"\r\n" else "is longer than 16384 bytes"
    assert wanted in found["error"]
    assert found["grown"] < ROOM
    assert found["work"] < WORK


def test_control_websocket_client_pays_for_a_declared_length(client):
    # Control: the memory measurement detects a copy.
    def handler(connection):
        loopback.upgrade(connection, header(1 << 40))
        for _ in range(64):
            connection.sendall(bytes(1 << 20))

    with raw(handler) as url:
        assert client.do(url, way="library")["grown"] > ROOM * 2


# Secrets


@pytest.mark.parametrize(
    "words",
    [
        f"bad token {TOKEN}",
        f"bad key {KEY}",
        f"the query key={KEY} is not known",
        f"{'so many words, ' * 4}{KEY}",  # of which a reason is cut
    ],
)
def test_a_server_that_repeats_our_secrets_reveals_none(client, words):
    code = struct.pack("!H", 1008)
    for play in (
        saying(frame(code + words.encode(), CLOSE)),
        lambda connection: connection.sendall(
            frame(json.dumps({"type": "ERROR", "message": words}).encode())
        ),
        saying(frame(json.dumps({"type": "ERROR", "message": words}).encode()) + BAR),
    ):
        with raw(Server(play)) as url:
            found = client.do(f"{url}?key={KEY}")
        assert "***" in found["error"] or found["kinds"]["Refused"] == 1

    def refuse(connection):
        loopback.read_head(connection)
        connection.sendall(f"HTTP/1.1 403 {words}\r\n\r\n".encode())

    with raw(refuse) as url:
        assert "403" in client.do(f"{url}?key={KEY}")["error"]


def test_control_a_printed_secret_is_found(tmp_path):
    # The control of the search: all that the client prints is looked at, and is much.
    with pytest.raises(AssertionError, match=f"{KEY[:12]}.*contained"):
        with silenced_client(tmp_path) as one:
            with raw(Server(saying(BAR))) as url:
                one.do(f"{url}?key={KEY}")
            command = Path(f"/proc/{one.process.pid}/cmdline").read_bytes()
            one.do(f"ws://127.0.0.1/?{KEY}", way="plant")
    for secret in (TOKEN, KEY):
        assert secret.encode() not in command
    said = (tmp_path / "errors").read_text()
    for shown in ("Settings(", "<shmfeed.wire.session.Session", "Target("):
        assert shown in said
