"""Seventy misdeeds of a server, numbered: the client's answer, and its recovery.

A connection is left with the close code of the standard, or goes on; in either case the
next bar arrives. `test_hostile_server` measures the cost of such servers, Autobahn's
cases in `autobahn/` judge the same connection by another project's rules.
"""

import contextlib
import itertools
import re
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
import websocket
from support import loopback
from support.feeding import feeder
from support.loopback import BINARY, CLOSE, PING, PONG, bar, frame, header, raw
from support.playing import playing
from support.waiting import until

import shmfeed
from shmfeed.codecs.interface import BarEvent, Malformed
from shmfeed.wire import frames
from shmfeed.wire.events import StatusChanged

ENDLESS = {
    "max_reconnect_attempts": None,
    "reconnect_delay_base": 0.001,
    "reconnect_delay_max": 0.001,
    "dials_per_minute": 0,
}
ACKNOWLEDGED = frame(b'{"type":"CONNECTED"}')
HALF = frame(b'{"type":', fin=False)
LIMIT = 1 << 20  # the default of max_frame_bytes


class Left(NamedTuple):
    """After these bytes the client leaves, with this close code and these words."""

    data: bytes
    code: int
    words: str
    malformed: int = 0  # messages before them


class Ended(NamedTuple):
    """The server closes with this payload; the client answers with this code."""

    payload: bytes
    code: int
    words: str


class Kept(NamedTuple):
    """These bytes cost so many malformed messages, and not the connection."""

    data: bytes
    malformed: int = 0
    pongs: tuple[bytes, ...] = ()


class Unopened(NamedTuple):
    """The edited answer to the handshake is refused with these words."""

    edit: Callable[[bytes], bytes]
    words: str


class Opened(NamedTuple):
    """The edited answer is accepted."""

    edit: Callable[[bytes], bytes]


Case = Left | Ended | Kept | Unopened | Opened


def code(number: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", number) + reason


def put(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def edit(answer: bytes) -> bytes:
        assert old in answer
        return answer.replace(old, new)

    return edit


def instead(answer: bytes) -> Callable[[bytes], bytes]:
    return lambda _: answer


ACCEPT = re.compile(rb"(Sec-WebSocket-Accept: )\S+")
UPGRADE, CONNECTION = b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n"
ILLEGAL = "Illegal frame"

CASES: dict[str, Case] = {
    # Frames
    "1 reserved bit 1": Left(b"\xc1\x00", 1002, "reserved bits"),
    "2 reserved bit 2": Left(b"\xa1\x00", 1002, "reserved bits"),
    "3 reserved bit 3": Left(b"\x91\x00", 1002, "reserved bits"),
    "4 opcode 3": Left(b"\x83\x00", 1002, "opcode 3"),
    "5 opcode 7 behind a bar": Left(
        frame(bar(0).encode()) + b"\x87\x00", 1002, "code 7"
    ),
    "6 control opcode 11": Left(b"\x8b\x00", 1002, "opcode 11"),
    "7 control opcode 15": Left(b"\x8f\x00", 1002, "opcode 15"),
    "8 masked text": Left(b"\x81\x81maskx", 1002, "masked"),
    "9 masked ping": Left(b"\x89\x80mask", 1002, "masked"),
    "10 ping of 126 bytes": Left(frame(b"x" * 126, PING), 1002, "frame of 126"),
    "11 close of 126 bytes": Left(frame(code(1000) + b"x" * 124, CLOSE), 1002, "126"),
    "12 pong with a long length": Left(header(1 << 16, PONG), 1002, "frame of 65536"),
    "13 ping in fragments": Left(frame(b"", PING, fin=False), 1002, "ping frame"),
    "14 close in fragments": Left(frame(b"", CLOSE, fin=False), 1002, "fragmented"),
    "15 continuation of nothing": Left(frame(b"x", 0), 1002, ILLEGAL),
    "16 continuation behind a whole message": Left(
        frame(b"}") + frame(b"x", 0), 1002, ILLEGAL, 1
    ),
    "17 text inside a text": Left(HALF + frame(b"x"), 1002, ILLEGAL),
    "18 binary inside a text": Left(HALF + frame(b"x", BINARY), 1002, ILLEGAL),
    "19 length with its high bit": Left(b"\x81\x7f\xff" + bytes(7), 1009, "bytes; max"),
    "20 length one over the limit": Left(header(LIMIT + 1), 1009, f"{LIMIT + 1} bytes"),
    "21 fragments over the limit": Left(
        frame(bytes(600_000), fin=False) + frame(bytes(600_000), 0), 1009, "2 fragments"
    ),
    "22 fragments without end": Left(
        HALF + frame(b"", 0, fin=False) * 1024, 1009, "1025 fragments"
    ),
    "23 bytes that form no frame": Left(b"\xff" * 64, 1002, "reserved bits"),
    "24 HTTP behind the handshake": Left(b"HTTP/1.1 400 Bad\r\n\r\n", 1002, "reserved"),
    # Messages
    "25 length that is not minimal": Kept(b"\x81\x7e\x00\x01}", 1),
    "26 length of 8 bytes that is not minimal": Kept(
        b"\x81\x7f" + bytes(7) + b"\x01}", 1
    ),
    "27 text that is not UTF-8": Kept(frame(b'{"type":"\xff"}'), 1),
    "28 a character in two fragments": Kept(
        frame(b'{"type":"\xc3', fin=False)
        + frame(b'\xa4"', 0, fin=False)
        + frame(b"", 0),
        1,
    ),
    "29 a character that its fragments leave open": Kept(
        frame(b'{"type":"\xc3', fin=False) + frame(b'"}', 0), 1
    ),
    "30 empty text and empty binary": Kept(frame(b"") + frame(b"", BINARY), 2),
    "31 fragments of nothing around a text": Kept(
        frame(b"", fin=False) + frame(b"}", 0, fin=False) + frame(b"", 0), 1
    ),
    "32 pings between fragments": Kept(
        HALF
        + frame(b"a", PING)
        + frame(b"", 0, fin=False)
        + frame(b"b", PING)
        + frame(b"", 0),
        1,
        (b"a", b"b"),
    ),
    "33 a flood of pings": Kept(
        b"".join(frame(b"%d" % n, PING) for n in range(500)),
        0,
        tuple(b"%d" % n for n in range(500)),
    ),
    "34 a ping of 125 bytes": Kept(frame(b"\xff" * 125, PING), 0, (b"\xff" * 125,)),
    "35 pongs unasked": Kept(frame(b"", PONG) * 100),
    # Closes
    "36 close 1000": Ended(code(1000), 1000, "1000"),
    "37 close 1001 with words": Ended(code(1001, b"going"), 1000, "1001 going"),
    "38 close 3000": Ended(code(3000), 1000, "3000"),
    "39 close 4999": Ended(code(4999), 1000, "4999"),
    "40 close without a code": Ended(b"", 1000, "1005"),
    "41 close of one byte": Ended(b"\x03", 1002, "close frame"),
    "42 close 999": Ended(code(999), 1002, "close opcode 999"),
    "43 close 1005": Ended(code(1005), 1002, "close opcode 1005"),
    "44 close 1006": Ended(code(1006), 1002, "close opcode 1006"),
    "45 close 2999": Ended(code(2999), 1002, "close opcode 2999"),
    "46 close 65535": Ended(code(65535), 1002, "close opcode 65535"),
    "47 close whose words are not UTF-8": Ended(code(1000, b"\xc3"), 1007, "1000"),
    # Handshakes
    "48 wrong accept": Unopened(
        lambda answer: ACCEPT.sub(rb"\1dGhlIHNhbXBsZSBub25jZQ==", answer), "Accept"
    ),
    "49 no accept": Unopened(put(b"Sec-WebSocket-Accept", b"X-Accept"), "Accept"),
    "50 accept twice, differing": Unopened(
        put(UPGRADE, UPGRADE + b"Sec-WebSocket-Accept: x\r\n"), "several"
    ),
    "51 no upgrade": Unopened(put(UPGRADE, b""), "not upgrade to websocket"),
    "52 upgrade to h2c": Unopened(
        put(b"websocket", b"h2c"), "not upgrade to websocket"
    ),
    "53 no connection": Unopened(put(CONNECTION, b""), "not upgrade the connection"),
    "54 compression unasked": Unopened(
        put(UPGRADE, UPGRADE + b"Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        "sec-websocket-extensions that was not offered",
    ),
    "55 a subprotocol unasked": Unopened(
        put(UPGRADE, UPGRADE + b"Sec-WebSocket-Protocol: soap\r\n"),
        "sec-websocket-protocol that was not offered",
    ),
    "56 status 200": Unopened(
        put(b"101 Switching Protocols", b"200 OK"), "answered 200"
    ),
    "57 a page of HTML": Unopened(
        instead(b"HTTP/1.1 502 Bad\r\n\r\n<html><title>Down</title>"), "502 Bad: Down"
    ),
    "58 a header line without a colon": Unopened(
        put(UPGRADE, UPGRADE + b"nonsense\r\n"), "without a colon"
    ),
    "59 garbage before the answer": Unopened(
        lambda answer: b"\0\1" + answer, "not HTTP"
    ),
    "60 another protocol": Unopened(
        instead(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "not HTTP"
    ),
    "61 HTTP/2": Unopened(put(b"HTTP/1.1", b"HTTP/2"), "not HTTP"),
    "62 a header of 17 KiB": Unopened(
        put(UPGRADE, UPGRADE + b"X: " + b"x" * (17 << 10) + b"\r\n"),
        "longer than 16384",
    ),
    "63 interim answers without end": Unopened(
        instead(b"HTTP/1.1 100 Continue\r\n\r\n" * 700), "longer than 16384"
    ),
    "64 half an answer": Unopened(lambda answer: answer[:-4], "closed the connection"),
    "65 nothing": Unopened(instead(b""), "closed the connection"),
    "66 folded fields": Opened(
        put(b"Connection: Upgrade", b"Connection:\r\n\tUpgrade")
    ),
    "67 lines without carriage returns": Opened(put(b"\r\n", b"\n")),
    "68 HTTP/1.0": Opened(put(b"HTTP/1.1", b"HTTP/1.0")),
    "69 a length of the body, which does not exist": Opened(
        put(UPGRADE, UPGRADE + b"Content-Length: 5\r\n")
    ),
    "70 no reason behind the status": Opened(put(b" Switching Protocols", b"")),
}


GOES_ON = Kept | Opened | None
FORBIDDEN = 99  # the bar behind a misdeed that ends the connection


class Nasty:
    """A server whose connections play one case each; all later ones behave.

    Attributes:
        codes, pongs: The codes of the client's close frames and the payloads of its
            pongs, by connection.
        is_brief: A connection that goes on is closed after its bar.
    """

    def __init__(self, *cases: Case, is_brief: bool = False) -> None:
        self.cases = dict(enumerate(cases))
        self.is_brief = is_brief
        self.codes: dict[int, list[int]] = {}
        self.pongs: dict[int, list[bytes]] = {}
        self._numbers = itertools.count()
        self._bars = itertools.count(1)

    def __call__(self, connection) -> None:
        number = next(self._numbers)
        case = self.cases.get(number)
        answer = loopback.answer(loopback.read_head(connection))
        if isinstance(case, Unopened):
            connection.sendall(case.edit(answer))
            return
        connection.sendall(case.edit(answer) if isinstance(case, Opened) else answer)
        loopback.read_frame(connection)
        good = isinstance(case, GOES_ON)
        with contextlib.suppress(OSError):
            connection.sendall(ACKNOWLEDGED + misdeed(case))
            opened = next(self._bars) if good else FORBIDDEN
            connection.sendall(frame(bar(opened).encode()))
            if good and self.is_brief and number in self.cases:
                connection.sendall(frame(code(1001), CLOSE))
        self._listen(connection, number)

    def _listen(self, connection, number: int) -> None:
        codes = self.codes.setdefault(number, [])
        pongs = self.pongs.setdefault(number, [])
        with contextlib.suppress(OSError):
            while True:
                opcode, payload = loopback.read_frame(connection)
                if opcode == CLOSE:
                    codes.append(struct.unpack("!H", payload[:2])[0])
                    return
                if opcode == PONG:
                    pongs.append(payload)


def misdeed(case: Case | None) -> bytes:
    match case:
        case Left(data) | Kept(data):
            return data
        case Ended(payload):
            return frame(payload, CLOSE)
        case _:
            return b""


def numbers_of(opened: Iterable[int]) -> list[int]:
    return [(one - 1_700_000_040_000) // 60_000 for one in opened]


@pytest.mark.parametrize("name", CASES)
def test_what_the_client_does_and_that_it_recovers(name):
    case = CASES[name]
    server = Nasty(case)
    with raw(server) as url, playing(url, **ENDLESS) as played:
        bars = lambda: numbers_of(one.open_time for one in played.all(BarEvent))  # noqa: E731
        assert played.until(lambda: 1 in bars()), played.events
        errors = " ".join(
            one.new.last_error
            for one in played.changes
            if isinstance(one, StatusChanged)
        )
        assert FORBIDDEN not in bars()
    if isinstance(case, GOES_ON):
        assert errors.strip() == ""
    else:
        assert case.words in errors
    assert len(played.all(Malformed)) == getattr(case, "malformed", 0)
    if isinstance(case, Left | Ended):
        assert server.codes[0] == [case.code]
    if isinstance(case, Kept):
        assert tuple(server.pongs[0]) == case.pongs


def test_there_are_forty_at_least_and_they_are_numbered():
    assert [int(name.split()[0]) for name in CASES] == [*range(1, len(CASES) + 1)]
    assert len(CASES) >= 40


def test_a_feed_lives_through_all_of_them(feed_name):
    server = Nasty(*CASES.values(), is_brief=True)
    good = sum(isinstance(case, GOES_ON) for case in CASES.values())
    with raw(server) as url, feeder(feed_name, url, close_grace=0.01, **ENDLESS):
        with shmfeed.attach(feed_name, timeout=5) as feed:
            ring = feed.ring("BTCUSDT", "1m")
            rows = lambda: ring.snapshot(100, include_now=True)  # noqa: E731
            # Bar 0 stands before the misdeed of case 5.
            until(lambda: len(rows()) == good + 2)
            assert numbers_of(rows().open_time.tolist()) == [*range(good + 2)]
            status = feed.status()
    print(f"{len(CASES)} cases, {status['reconnects']} reconnects, {good} bars")
    assert status["state"] == "connected"
    assert status["gaps"] == status["revisions"] == 0


def test_control_a_client_that_takes_every_frame_is_seen(monkeypatch):
    """Without its own checks the connection delivers the forbidden bar."""
    monkeypatch.setattr(
        frames._SizedFrames, "recv_header", websocket.frame_buffer.recv_header
    )
    monkeypatch.setattr(websocket.ABNF, "validate", lambda *_: None)
    found = []
    for name in ("1 reserved bit 1", "8 masked text", "13 ping in fragments"):
        with raw(Nasty(CASES[name])) as url, playing(url, **ENDLESS) as played:
            played.until(lambda: played.all(BarEvent), 1)
            found += numbers_of(one.open_time for one in played.all(BarEvent))
    assert FORBIDDEN in found
