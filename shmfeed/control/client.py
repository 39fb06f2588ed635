"""The asking side of the control socket."""

import itertools
import os
import socket
import time

from shmfeed.control.lines import (
    LineReader,
    TooLongError,
    address,
    peer_uid,
    remaining,
    send,
)
from shmfeed.control.messages import (
    ANSWER_LIMIT,
    REQUEST_LIMIT,
    VERSION,
    ControlError,
    decode_answer,
    encode,
)
from shmfeed.errors import BadArgumentError, FeedNotFoundError

_RETRY = 0.02
_ids = itertools.count(1)


def ask(
    path: str | os.PathLike[str], op: str, timeout: float, **fields: object
) -> dict[str, object]:
    """Asks the feeder whose control socket is at `path`; the answer's fields.

    `fields` are those of Request. An error that the feeder answers is raised here as
    the same class. FeedNotFoundError where there is no socket, ControlError where
    nobody answers within `timeout` seconds or the answer is none.
    """
    request_id = next(_ids)
    line = _question(request_id, op, fields)
    at = address(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            answer = _exchange(connection, at, line, time.monotonic() + timeout)
        except FileNotFoundError:
            text = f"no feeder's control socket at {at}"
            raise FeedNotFoundError(text) from None
        except TimeoutError:
            text = f"no answer from {at} to {op!r} within {timeout:g} s"
            raise ControlError(text) from None
        except OSError as error:
            text = f"no feeder answers at {at}: {error.strerror}"
            raise ControlError(text) from None
        except TooLongError:
            text = f"the answer from {at} is longer than {ANSWER_LIMIT} bytes"
            raise ControlError(text) from None
    if answer is None:
        raise ControlError(f"{at} closed the connection without an answer")
    return decode_answer(answer, request_id)


def _question(request_id: int, op: str, fields: dict[str, object]) -> bytes:
    try:
        line = encode({**fields, "v": VERSION, "id": request_id, "op": op})
    except (TypeError, ValueError) as error:
        raise BadArgumentError(f"request {op!r} cannot be sent: {error}") from None
    if len(line) > REQUEST_LIMIT:
        raise BadArgumentError(f"request {op!r} is longer than {REQUEST_LIMIT} bytes")
    return line


def _exchange(
    connection: socket.socket, at: str, line: bytes, deadline: float
) -> bytes | None:
    _connect(connection, at, deadline)
    if peer_uid(connection) != os.geteuid():
        raise ControlError(f"{at} is served by another user's process")
    # A server that refuses the connection says so before it closes: read in any case.
    send(connection, line, remaining(deadline))
    return LineReader(connection, ANSWER_LIMIT).read(deadline)


def _connect(connection: socket.socket, at: str, deadline: float) -> None:
    while True:
        connection.settimeout(remaining(deadline))
        try:
            return connection.connect(at)
        except BlockingIOError:  # the queue of those who wait to be accepted is full
            time.sleep(_RETRY)
