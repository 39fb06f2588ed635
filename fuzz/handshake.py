"""The answers of servers and proxies to a handshake, and URLs: none does harm."""

import loop

with loop.watched(__name__):
    from shmfeed.errors import BadArgumentError
    from shmfeed.wire.handshake import (
        HandshakeError,
        check_tunnel,
        check_upgrade,
        parse_target,
        upgrade_request,
    )

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
    b"wss://ws.wealthai.cc:18000/market_data?a=b",
    b"ws://[::1]:80/x",
    b"wss://user@host:0/#x",
]


def one(data: bytes) -> None:
    for check in (lambda: check_upgrade(data, KEY), lambda: check_tunnel(data)):
        try:
            check()
        except HandshakeError as error:
            assert len(str(error)) < 400
            assert str(error).isprintable()
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
