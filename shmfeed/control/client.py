"""The client of the control socket: send one request, return the feeder's answer."""

import itertools
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from shmfeed.control.lines import LineReader, TooLongError, address, remaining, send
from shmfeed.control.messages import (
    ANSWER_LIMIT,
    REQUEST_LIMIT,
    VERSION,
    ControlError,
    decode_answer,
    encode,
)
from shmfeed.control.peer import peer_pid, peer_uid
from shmfeed.errors import BadArgumentError, FeedNotFoundError

_RETRY = 0.02
_ids = itertools.count(1)


def ask(
    path: str | os.PathLike[str], op: str, timeout: float, **fields: object
) -> dict[str, object]:
    """Send a request to the feeder whose control socket is at `path`.

    Args:
        path: The path of the socket.
        op: One of `control.messages.OPS`.
        timeout: Seconds until a valid answer must have come.
        **fields: Fields of `ControlRequest`.

    Returns:
        The fields of the answer.

    Raises:
        ShmfeedError: The feeder answered with this error, which has the same class.
        FeedNotFoundError: There is no socket at `path`.
        ControlError: No valid answer came within `timeout` seconds.
        BadArgumentError: The request cannot be sent, or `path` is too long.
    """
    connection, answer = _ask(path, op, timeout, fields)
    connection.close()
    return answer


def open_claim(
    path: str | os.PathLike[str], op: str, timeout: float, **fields: object
) -> socket.socket:
    """Send a request whose connection stays open; return that once it is accepted.

    Arguments and errors are those of `ask`.
    """
    return _ask(path, op, timeout, fields)[0]


def is_closed(connection: socket.socket) -> bool:
    """Return True if the feeder has closed a connection that is held, or sent more."""
    poll = select.poll()
    try:
        poll.register(connection, select.POLLIN)
    except ValueError:  # closed here
        return True
    return bool(poll.poll(0))


def _ask(
    path: str | os.PathLike[str], op: str, timeout: float, fields: dict[str, object]
) -> tuple[socket.socket, dict[str, object]]:
    """Return the open connection of an accepted request, and the answer's fields."""
    request_id = next(_ids)
    line = request_line(request_id, op, fields)
    at = address(path)
    with ExitStack() as opened:
        with _naming_errors(at, op, timeout):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            opened.enter_context(connection)
            answer = _exchange(connection, at, line, time.monotonic() + timeout)
        if answer is None:
            raise ControlError(f"{at} closed the connection without an answer")
        found = decode_answer(answer, request_id)
        opened.pop_all()
    return connection, found


def listener_pid(path: str | os.PathLike[str], timeout: float = 0.5) -> int:
    """Return the pid of the feeder that listens at `path`, in this PID namespace.

    Return 0 if it is not visible here.

    Raises:
        FeedNotFoundError: There is no socket at `path`.
        ControlError: No process listens there, or its backlog stays full.
    """
    at = address(path)
    with (
        _naming_errors(at, "connect", timeout),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
    ):
        _connect(connection, at, time.monotonic() + timeout)
        return peer_pid(connection)


def is_listening(path: str | os.PathLike[str]) -> bool:
    """Return True if a process listens at `path`, even one that is stopped."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            connection.connect(address(path))
        except BlockingIOError:  # the backlog of a stopped process is full
            return True
        except OSError:
            return False
    return True


@contextmanager
def _naming_errors(at: str, op: str, timeout: float) -> Iterator[None]:
    """Raise the errors of a connection's socket by their names."""
    try:
        yield
    except FileNotFoundError:
        text = f"there is no control socket at {at}; start the feeder"
        raise FeedNotFoundError(text) from None
    except TimeoutError:
        text = f"the feeder at {at} did not answer {op!r} within {timeout:g} s"
        raise ControlError(text) from None
    except PermissionError:
        text = f"{at} belongs to another user, whose feeder answers that user alone"
        raise ControlError(text) from None
    except OSError as error:
        text = f"no feeder listens at {at}: {error.strerror}; start the feeder"
        if Path(at).exists() and not Path(at).is_socket():
            text = f"{at} is not a socket; remove it, and restart the feeder"
        raise ControlError(text) from None
    except TooLongError:
        text = f"the answer from {at} is longer than {ANSWER_LIMIT} bytes"
        raise ControlError(text) from None


def request_line(request_id: int, op: str, fields: dict[str, object]) -> bytes:
    """Return the line of a request; raise BadArgumentError if it cannot be sent."""
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
        raise ControlError(f"the process that listens at {at} belongs to another user")
    # Read even if sending failed: a server answers before it closes a connection that
    # it refuses.
    send(connection, line, remaining(deadline))
    return LineReader(connection, ANSWER_LIMIT).read(deadline)


def _connect(connection: socket.socket, at: str, deadline: float) -> None:
    while True:
        connection.settimeout(remaining(deadline))
        try:
            return connection.connect(at)
        except BlockingIOError:  # the server's backlog is full
            time.sleep(_RETRY)
