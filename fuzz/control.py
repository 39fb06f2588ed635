"""Lines of the control socket: requests as a feeder reads them, answers as we do."""

import loop

with loop.watched(__name__):
    from shmfeed.control.messages import (
        OPS,
        RequestError,
        decode_answer,
        decode_request,
        encode_answer,
        encode_error,
    )
    from shmfeed.errors import ShmfeedError

SEEDS = [
    (
        b'{"v":1,"id":3,"op":"subscribe","manager":"m","pid":5,"symbols":["BTCUSDT"],'
        b'"resolutions":["1m"]}'
    ),
    b'{"v":1,"id":4,"op":"stop","unlink":true}',
    b'{"v":2,"id":4,"op":"status"}',
    b'{"v":1,"id":3,"ok":true,"state":"connected"}',
    b'{"v":1,"id":3,"ok":false,"error":"FeedBusyError","message":"..","pid":5}',
    b'{"v":1,"id":3,"ok":false,"error":"ValueError","message":1}',
]


def one(data: bytes) -> None:
    try:
        request = decode_request(data, OPS)
    except RequestError as error:
        encode_error(error.id, error)  # it must be possible to say so
    else:
        assert request.op in OPS
        encode_answer(request.id, {})
    try:
        answer = decode_answer(data, 3)
    except ShmfeedError as error:
        str(error).encode("utf-8", "replace")
    else:
        assert isinstance(answer, dict)


if __name__ == "__main__":
    loop.fuzz(one, SEEDS)
