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
    b'{"type":"BAR","open_time":1e3,"closed":null}',
    *(bytes([1, number, 0, 3, 5]) for number in range(len(KNOWN))),
]


def one(data: bytes) -> None:
    judge(CODEC.decode(message_of(data, KNOWN)))


if __name__ == "__main__":
    loop.fuzz(one, SEEDS)
