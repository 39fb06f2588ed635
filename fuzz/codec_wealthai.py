"""The wealthai protocol: any bytes become one event and only valid rows."""

import loop

with loop.watched(__name__):
    from judge import judge, message_of

    from shmfeed.codecs import get_codec

from support.spoiling import dump, wealthai_messages

CODEC = get_codec("wealthai", csrf_token="secret-4711")
KNOWN = wealthai_messages(1)
SEEDS = [
    *(dump(message).encode() for message in KNOWN),
    b"ping",
    b' "PING"\n',
    b'{"ping":7}',
    b'{"type":"ERROR","reason":"secret-4711"}',
    b'{"type":"BAR","open_time":1e3,"closed":null}',
    (
        b'{"type":"BAR","symbol":"A","timeframe":"1m","open_time":60000,"open":1,"high":1,'
        b'"low":1,"close":1,"volume":0,"turnover":"","ts":"x","seq":null,"final":"yes"}'
    ),
    *(bytes([1, number, 0, 3, 5]) for number in range(len(KNOWN))),
]


def one(data: bytes) -> None:
    judge(CODEC.decode(message_of(data, KNOWN)))


if __name__ == "__main__":
    loop.fuzz(one, SEEDS)
