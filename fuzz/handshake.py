"""The answers of servers and proxies to a handshake, and URLs: none does harm."""

import loop

with loop.watched(__name__):
    from shmfeed.errors import BadArgumentError
    from shmfeed.wire.answers import body_in, parse_answer, words_of
    from shmfeed.wire.asked_wait import MAX_WAIT
    from shmfeed.wire.errors import HandshakeError
    from shmfeed.wire.handshake import (
        check_upgrade,
        parse_target,
        refusal,
        upgrade_request,
    )
    from shmfeed.wire.proxies import tunnel_refusal

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
SEEDS = [
    (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade"
        b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    ),
    b"HTTP/1.1 302 Found\r\nLocation: wss://elsewhere/",
    (
        b"HTTP/1.1 101\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        b"Sec-WebSocket-Protocol: x"
    ),
    (
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nRetry-After: 61\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nuntil\r\ne\r\n 1659146400000\r\n0\r\n"
    ),
    b"wss://ws.wealthai.cc:18000/market_data?a=b",
    b"ws://[::1]:80/x",
    b"wss://user@host:0/#x",
]


def one(data: bytes) -> None:
    head, _, body = data.partition(b"\r\n\r\n")
    try:
        answer = parse_answer(head)
        words = words_of(answer, body_in(answer, body)[0])
        errors = [refusal(answer, words), tunnel_refusal(answer, words, False)]
        check_upgrade(answer, KEY)
    except HandshakeError as error:
        errors = [error]
    for error in errors:
        assert len(str(error)) < 600
        assert str(error).isprintable()
        assert 0 <= error.retry_after <= MAX_WAIT
    url = data.decode("latin-1")
    try:
        target = parse_target(url)
    except BadArgumentError:
        return
    head = upgrade_request(target, KEY)
    assert head.count(b"\r\n") == 8
    assert head.endswith(b"\r\n\r\n")
    assert 0 < target.port < 1 << 16


if __name__ == "__main__":
    loop.fuzz(one, SEEDS)
