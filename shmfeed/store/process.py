"""The process that has a store open, so that SQLite never holds the feeder's GIL.

    recorder's thread --request--> standard input  --> StoreFile
                      <--answer--- standard output <--

A frame is its length in 4 bytes, and as many bytes of MessagePack. A request is an
operation and its arguments; an answer is a result, or the kind and the text of a
StoreError. A block of rows travels as its bytes. One request is under way at a time.

The process ends when its standard input does: with its feeder, however that ends. What
it had been given by then is written. It runs at a lower priority than the feeder. One
that does not answer for ANSWER_SECONDS is killed: it hangs, or its disk does.
"""

import io
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np

from shmfeed.bar import Bar, StreamKey
from shmfeed.child_modules import module_command, module_environment
from shmfeed.identity import FeedIdentity, parse_identity
from shmfeed.layout import COLUMNS
from shmfeed.store.blocks import Block
from shmfeed.store.file import RowBatch, StoreFile
from shmfeed.store.schema import StoreError, StoreFailure

ANSWER_SECONDS = 60.0  # that a request may take
_LENGTH = struct.Struct("<I")
_NICE = 10
_STANDARD_ERROR = 2  # sys.stderr is None where the feeder has closed it
_KILL_SECONDS = 1.0  # that a process which was told to end may take
_Batches = list[tuple[list[tuple[tuple[str, str], Bar, float, str]], float, int]]


class StoreProcess:
    """A store that another process has open; as a StoreFile.

    Thread safety: one thread at a time. Another one may call `kill`.
    """

    def __init__(self, path: str, identity: FeedIdentity, replace: bool) -> None:
        """Start the process, and open or create the store in it.

        Raises:
            StoreError: The process cannot be started, or the file cannot be used.
        """
        self.path = path
        pipe = subprocess.PIPE
        try:
            # In a session of its own: Ctrl-C ends the feeder, which ends it.
            self._process = subprocess.Popen(  # noqa: S603 # our own module
                module_command("shmfeed.store.process"),
                stdin=pipe,
                stdout=pipe,
                bufsize=0,
                env=module_environment(),
                start_new_session=True,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise self._failed(f"its process cannot be started: {reason}") from error
        try:
            os.set_blocking(_pipe(self._process.stdin).fileno(), False)
            self._ask("open", os.fsencode(path), str(identity), replace)
        except BaseException:
            self.close()
            raise

    def write_batches(self, batches: Sequence[RowBatch]) -> None:
        """Write the rows of batches in one transaction, in their order."""
        self._ask("write", _encode(batches))

    def catch_up(self, key: StreamKey, block: Block, now: int) -> int:
        """Write the rows of a ring that the store lacks. Return how many."""
        return cast("int", self._ask("catch_up", key, block.tobytes(), now))

    def newest(self, key: StreamKey, count: int) -> Block:
        """Return the newest sound rows of a stream, at most `count`, oldest first."""
        return _block_of(self._ask("newest", key, count))

    def drop_older(self, keep: Mapping[str, float | None], now_ms: int) -> int:
        """Drop one step of the bars that are too old. Return how many versions."""
        return cast("int", self._ask("drop_older", dict(keep), now_ms))

    def drop_rows(self, key: StreamKey, first_kept: int | None) -> int:
        """Drop a stream's bars that open before a time. Return how many."""
        return cast("int", self._ask("drop_rows", key, first_kept))

    def kill(self) -> None:
        """End the process at once, even if its disk does not answer."""
        with suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """Close the store, and end the process."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                _pipe(pipe).close()
        try:
            process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_KILL_SECONDS)

    def _ask(self, operation: str, *arguments: object) -> Any:
        deadline = time.monotonic() + ANSWER_SECONDS
        try:
            self._write(_frame([operation, *arguments]), deadline)
            answer = self._read_answer(deadline)
        except TimeoutError:
            self.kill()
            raise StoreError(f"store {self.path!r} does not answer", "failed") from None
        except BrokenPipeError:
            answer = None
        except OSError as error:
            raise self._failed(error.strerror or str(error)) from error
        except msgspec.DecodeError as error:
            raise self._failed(str(error)) from error
        if answer is None:
            raise self._failed(f"its process {self._process.pid} has ended")
        kind, value = answer
        if kind:
            raise StoreError(value, kind)
        return value

    def _write(self, data: bytes, deadline: float) -> None:
        pipe = _pipe(self._process.stdin)
        rest = memoryview(data)
        while rest:
            _await(pipe, select.POLLOUT, deadline)
            rest = rest[pipe.write(rest) or 0 :]

    def _read_answer(self, deadline: float) -> Any:
        """Return the answer, None at the end of the pipe."""
        head = self._read(_LENGTH.size, deadline)
        if len(head) < _LENGTH.size:
            return None
        size = _LENGTH.unpack(head)[0]
        data = self._read(size, deadline)
        return _decode(data) if len(data) == size else None

    def _read(self, size: int, deadline: float) -> bytes:
        pipe = _pipe(self._process.stdout)
        data = b""
        while len(data) < size:
            _await(pipe, select.POLLIN, deadline)
            piece = pipe.read(size - len(data))
            if not piece:
                break
            data += piece
        return data

    def _failed(self, reason: str) -> StoreError:
        return StoreError(f"store {self.path!r} cannot be used: {reason}", "failed")


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    file: StoreFile | None = None
    path = ""
    while (request := _receive(requests)) is not None:
        operation, *arguments = request
        kind: StoreFailure | str = ""
        value: Any = None
        try:
            if file is None:  # the first request opens it
                name, identity, replace = arguments
                path = os.fsdecode(name)
                file = StoreFile(path, _identity_of(identity), replace)
            else:
                value = _OPERATIONS[operation](file, *arguments)
        except StoreError as error:
            kind, value = error.kind, str(error)
        except Exception as error:  # noqa: BLE001 # rows that no feeder hands over
            kind, value = "defect", f"store {path!r} cannot be used: {error!r}"
        _send(answers, [kind, value])
    if file is not None:
        file.close()


def main() -> None:
    """Serve the feeder that started this process."""
    # The feeder decides when the last version is written.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(_NICE)
    # A reader of the feeder's output would wait for this process too.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _STANDARD_ERROR)
    os.close(null)
    with suppress(BrokenPipeError):  # the feeder was killed
        serve(sys.stdin.buffer, sys.stdout.buffer)
    # The interpreter's last flush would meet the broken pipe again.
    os._exit(0)


def _write(file: StoreFile, data: bytes) -> None:
    batches = _decode_batches(data)
    file.write_batches([RowBatch(*cast("Any", batch)) for batch in batches])


def _catch_up(file: StoreFile, key: list[str], data: bytes, now: int) -> int:
    return file.catch_up(_key_of(key), _block_of(data), now)


def _newest(file: StoreFile, key: list[str], count: int) -> bytes:
    return file.newest(_key_of(key), count).tobytes()


def _drop_older(file: StoreFile, keep: dict[str, float | None], now: int) -> int:
    return file.drop_older(keep, now)


def _drop_rows(file: StoreFile, key: list[str], first_kept: int | None) -> int:
    return file.drop_rows(_key_of(key), first_kept)


_OPERATIONS: dict[str, Any] = {
    "write": _write,
    "catch_up": _catch_up,
    "newest": _newest,
    "drop_older": _drop_older,
    "drop_rows": _drop_rows,
}


def _key_of(key: list[str]) -> StreamKey:
    return cast("StreamKey", tuple(key))


def _block_of(data: bytes) -> Block:
    return np.frombuffer(data).reshape(len(COLUMNS), -1).copy()


def _identity_of(text: str) -> FeedIdentity:
    return cast("FeedIdentity", parse_identity(text))  # the feeder has written it


def _send(pipe: BinaryIO, message: object) -> None:
    pipe.write(_frame(message))
    pipe.flush()


def _frame(message: object) -> bytes:
    data = _encode(message)
    return _LENGTH.pack(len(data)) + data


def _pipe(pipe: object) -> io.FileIO:
    return cast("io.FileIO", pipe)  # Popen makes it, unbuffered


def _await(pipe: io.FileIO, event: int, deadline: float) -> None:
    """Wait until a pipe can be read or written, or the other end has closed it.

    Raises TimeoutError at the deadline, in seconds of the monotonic clock.
    """
    poll = select.poll()
    poll.register(pipe, event)
    left = max(0.0, deadline - time.monotonic())
    if not poll.poll(left * 1000):
        raise TimeoutError


def _receive(pipe: BinaryIO) -> Any:
    """Return the next message, None at the end of the pipe or in a frame's midst."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    size = _LENGTH.unpack(head)[0]
    data = pipe.read(size)
    return _decode(data) if len(data) == size else None


def _plain(value: Any) -> Any:
    """Return a number of numpy as one of Python."""
    return value.item()


_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
_decode = msgspec.msgpack.Decoder().decode
_decode_batches = msgspec.msgpack.Decoder(_Batches).decode

if __name__ == "__main__":
    main()
