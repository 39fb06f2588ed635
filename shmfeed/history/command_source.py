"""History from a program of the user: JSON on its input, JSON lines on its output.

The request is one object, `{"symbol", "timeframe", "start_ms", "end_ms"}`, with open
times in ms UTC, both included. Each line of the answer is a bar: an object with
`open_time`, `open`, `high`, `low`, `close`, `volume` and maybe `money`, or an array of
them in this order. The program runs without a shell, and without those variables of the
feeder's environment that may hold a token.
"""

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from math import nan

import msgspec

from shmfeed.bar import StreamKey
from shmfeed.history.blocks import Row, check_rows, empty_block
from shmfeed.history.interface import (
    Block,
    HistoryError,
    HistoryPage,
    HistoryRequest,
    SymbolState,
)
from shmfeed.history.windows import page_of, window_of
from shmfeed.text import one_line
from shmfeed.wire.closing import ClosingPipe

PAGE_BARS = 5000  # bars of one request
TIMEOUT = 10.0  # s, of a request; then the program is killed
MAX_BYTES = 16 << 20  # of its output
_TAIL = 2000  # bytes of its standard error that are kept
_PIECE = 1 << 16
_PAUSE = 0.1  # s
_OWN_VARIABLES = ("WEBSOCKET_", "SHMFEED_")  # may hold a token


class _Request(msgspec.Struct):
    symbol: str
    timeframe: str
    start_ms: int
    end_ms: int


class _Bar(msgspec.Struct, gc=False):
    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    money: float | None = None
    close_time: int = 0


class _BarArray(_Bar, array_like=True, gc=False):
    """A bar as an array."""


_decode_bar = msgspec.json.Decoder(_Bar, strict=False).decode
_decode_array = msgspec.json.Decoder(_BarArray, strict=False).decode


class CommandSource:
    """A source of history that runs a program for each page.

    Thread safety: any thread may call any method; the program runs once at a time.
    """

    is_own = False

    def __init__(
        self,
        words: Sequence[str],
        *,
        timeout: float = TIMEOUT,
        redact: Callable[[str], str] = str,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Take the program and its arguments; nothing is started yet.

        Args:
            words: The program, and its arguments.
            timeout: Seconds for which it may run.
            redact: Takes secrets out of what it writes to standard error.
            now: This host's time in seconds since 1970.
        """
        self.name = f"the command {os.path.basename(words[0])}"  # noqa: PTH119
        self._words = list(words)
        self._timeout = timeout
        self._redact = redact
        self._now = now
        self._turn = threading.Lock()
        self._closing = ClosingPipe()

    def fetch(self, request: HistoryRequest) -> HistoryPage:
        now = int(self._now() * 1000)
        window = window_of(request, now, PAGE_BARS)
        if window is None:
            return HistoryPage(empty_block(), 0, None)
        asked = msgspec.json.encode(_Request(*request.key, *window)) + b"\n"
        with self._turn:
            output = self._run(asked)
        return page_of(request, window, self._block(output, request.key), now)

    def symbols(self, wanted: Collection[str]) -> dict[str, SymbolState] | None:
        del wanted
        return None

    def close(self) -> None:
        self._closing.close()

    def _run(self, asked: bytes) -> bytes:
        if self._closing.is_set:
            raise HistoryError("the feeder is stopping", "away")
        try:
            process = subprocess.Popen(  # noqa: S603 # the user's own, without a shell
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=clean_environment(),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise HistoryError(
                f"{self.name} cannot be started: {reason}", "away"
            ) from None
        with process:
            try:
                return self._talk(process, asked)
            finally:
                _kill(process)

    def _talk(self, process: "subprocess.Popen[bytes]", asked: bytes) -> bytes:
        """Return the output of a program that has ended well."""
        assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018
        end = time.monotonic() + self._timeout
        with suppress(BrokenPipeError):  # it may not want to know
            process.stdin.write(asked)  # fits into the pipe
            process.stdin.close()
        output, errors = bytearray(), bytearray()
        sinks = {process.stdout.fileno(): output, process.stderr.fileno(): errors}
        waiting = select.poll()
        for fd in (*sinks, self._closing.fd):
            waiting.register(fd, select.POLLIN)
        while sinks:
            self._check(end, len(output))
            for fd, _ in waiting.poll(max(0.0, end - time.monotonic()) * 1000 + 1):
                if fd in sinks and not _read_into(sinks[fd], fd):
                    waiting.unregister(fd)
                    del sinks[fd]
            del errors[:-_TAIL]
        self._check_end(process, end, bytes(errors))
        return bytes(output)

    def _check(self, end: float, size: int) -> None:
        if self._closing.is_set:
            raise HistoryError("the feeder is stopping", "away")
        if time.monotonic() > end:
            raise self._late()
        if size > MAX_BYTES:
            raise HistoryError(
                f"{self.name} was killed: it wrote more than {MAX_BYTES} bytes",
                "malformed",
            )

    def _check_end(
        self, process: "subprocess.Popen[bytes]", end: float, errors: bytes
    ) -> None:
        code = None
        while code is None:  # it may have closed its output, and go on
            self._check(end, 0)
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(_PAUSE)
        if code:
            words = one_line(self._redact(errors.decode("utf-8", "replace"))[-600:])
            if code < 0:
                raise HistoryError(f"{self.name} was ended by signal {-code}", "away")
            raise HistoryError(
                f"{self.name} ended with {code}: {words or 'no words'}", "away"
            )

    def _late(self) -> HistoryError:
        return HistoryError(
            f"{self.name} was killed after {self._timeout:g} s without an end", "away"
        )

    def _block(self, output: bytes, key: StreamKey) -> Block:
        rows: list[Row] = []
        for number, line in enumerate(output.splitlines(), 1):
            if not line.strip():
                continue
            try:
                rows.append(_row_of(line))
            except (ValueError, RecursionError) as error:
                reason = error if isinstance(error, msgspec.MsgspecError) else "no JSON"
                raise HistoryError(
                    f"line {number} of {self.name} is no bar: {reason}", "malformed"
                ) from None
        return check_rows(rows, key[1])


def clean_environment() -> dict[str, str]:
    """Return the environment without the variables that may hold a token."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_OWN_VARIABLES)
    }


def _row_of(line: bytes) -> Row:
    is_array = line.lstrip()[:1] == b"["
    bar: _Bar = _decode_array(line) if is_array else _decode_bar(line)
    return (
        bar.open_time,
        bar.close_time,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume,
        nan if bar.money is None else bar.money,
        0,
    )


def _read_into(sink: bytearray, fd: int) -> bool:
    """Take some bytes, and return False at the end."""
    data = os.read(fd, _PIECE)
    sink += data
    return bool(data)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if process.returncode is None:  # until `wait` its number is its own
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # its children, too
        process.wait()
