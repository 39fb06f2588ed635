"""Binance's protocol: any bytes become one event and only valid rows."""

import loop

with loop.watched(__name__):
    from judge import judge, message_of

    from shmfeed.codecs import get_codec

from support.spoiling import binance_messages, dump

CODEC = get_codec("binance", "spot")
KNOWN = binance_messages(1)
SEEDS = [
    *(dump(message).encode() for message in KNOWN),
    b'{"stream":"btcusdt@kline_1m","data":{"k":null}}',
    (
        b'{"e":"kline","E":null,"k":{"t":1700000040000000,"T":null,"s":"A","i":"1m","f":"",'
        b'"o":1,"c":1,"h":1,"l":1,"v":0,"x":true,"q":null}}'
    ),
    *(bytes([1, number, 0, 3, 5]) for number in range(len(KNOWN))),
]


def one(data: bytes) -> None:
    judge(CODEC.decode(message_of(data, KNOWN)))


if __name__ == "__main__":
    loop.fuzz(one, SEEDS)
