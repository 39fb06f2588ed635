"""Whatever a server or a proxy sends, in whatever pieces: an outcome, and no harm."""

import select

from hypothesis import example, given
from hypothesis import strategies as st

from shmfeed.wire.answers import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    read_answer,
    read_body,
    words_of,
)
from shmfeed.wire.connect import ConnectPolicy, check_target
from shmfeed.wire.errors import ConnectionLostError
from shmfeed.wire.proxies import parse_proxy, tunnel
from shmfeed.wire.tcp import ConnectDeadline

TARGET = check_target("wss://venue.example/x", ConnectPolicy())
PASSWORD = "canary-of-the-password"


class Pieces:
    """A peer that has sent these pieces, and then closes."""

    def __init__(self, pieces):
        self._pieces = [piece for piece in pieces if piece]
        self.taken = 0

    def recv(self, most):
        if not self._pieces:
            return b""
        piece, rest = self._pieces[0][:most], self._pieces[0][most:]
        self._pieces[:1] = [rest] if rest else []
        self.taken += len(piece)
        return piece

    def send(self, data):
        return len(data)

    def fileno(self):
        return -1

    def close(self):
        pass


def finish(steps):
    """Run steps to their end, and return their result or the error."""
    try:
        while True:
            _, events = next(steps)
            assert events in (select.POLLIN, select.POLLOUT)
    except StopIteration as end:
        return end.value
    except ConnectionLostError as error:
        return error


def deadline():
    return ConnectDeadline(lambda: 0.0, 10.0)


def cut(data, places):
    """Return the data in pieces that end at these places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]


LINES = st.sampled_from(
    [
        *(
            b"HTTP/1.1 403 No",
            b"HTTP/1.1 101 Go",
            b"HTTP/1.1 103 Hint",
            b"HTTP/1.0 200",
        ),
        *(b"Content-Length: 5", b"Content-Length: 99999999999", b"Connection: Upgrade"),
        *(b"Transfer-Encoding: chunked", b"Retry-After: 7", b" folded", b"\tfolded"),
        *(b"3", b"abc", b"0", b"", b"ffffffff", b"X : y", b"no colon", b"\xff\0"),
    ]
)
ANSWERS = st.lists(LINES, max_size=12).map(b"\r\n".join) | st.binary(max_size=60)
PLACES = st.lists(st.integers(0, 400), max_size=6)


def answer_of(pieces):
    peer = Pieces(pieces)
    found = finish(read_answer(peer, deadline()))
    if isinstance(found, ConnectionLostError):
        return type(found), str(found)
    answer, rest = found
    body = finish(read_body(peer, answer, rest, deadline()))
    assert len(body) <= MAX_BODY_BYTES
    assert peer.taken <= MAX_HEADER_BYTES + MAX_BODY_BYTES
    words = words_of(answer, body)
    assert len(words) <= 300
    assert words.isprintable()
    return answer, body, words


@given(ANSWERS, PLACES)
@example(
    b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [60]
)
@example(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", [51, 55])
def test_an_answer_means_the_same_in_any_pieces(data, places):
    whole = answer_of([data])
    assert answer_of(cut(data, places)) == whole
    assert answer_of([bytes([byte]) for byte in data]) == whole


REPLIES = st.lists(
    st.sampled_from(
        [
            *(b"\x05\x00", b"\x05\x02", b"\x05\xff", b"\x01\x00", b"\x01\x01"),
            *(b"\x05\x00\x00\x01" + bytes(6), b"\x05\x00\x00\x03\x02ab\0\0"),
            *(b"\x05\x05\x00\x01" + bytes(6), b"\x04\x00"),
        ]
    ),
    max_size=5,
).map(b"".join) | st.binary(max_size=40)


@given(REPLIES | ANSWERS, PLACES, st.sampled_from(["http", "socks5h"]), st.booleans())
def test_a_proxys_answer_opens_the_tunnel_or_fails_without_the_password(
    data, places, scheme, has_user
):
    proxy = parse_proxy(f"{scheme}://{'me@' * has_user}p.example:1", PASSWORD)
    results = []
    for pieces in ([data], cut(data, places), [data + PASSWORD.encode()]):
        found = finish(tunnel(Pieces(pieces), proxy, TARGET, deadline()))
        assert found is None or isinstance(found, ConnectionLostError)
        assert PASSWORD not in str(found)
        results.append(str(found))
    if scheme == "socks5h":  # of HTTP, bytes behind the answer are noticed or not
        assert results[0] == results[1]
