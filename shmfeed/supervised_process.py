"""A process of this package that serves this one, and is started again where it ends.

    this process --first datagram, others--> the other one's standard input
                 <--lines for the log-------

It ends with this one, however that ends: its standard input is then at its end.
"""

import logging
import socket
import subprocess
import threading
import time
from contextlib import suppress

from shmfeed.child_modules import module_command, module_environment
from shmfeed.forks import ForkRegistry

log = logging.getLogger(__name__)

FIRST_RESTART, LONGEST_RESTART = 0.5, 5.0  # s; each delay is twice the one before
STEADY_SECONDS = 30.0  # a process that has lived so long is restarted soon again
CLOSE_SECONDS = 1.0  # that the end of this process waits for the other one's
MOST_BYTES = 1 << 20  # of a datagram
_LINE_BYTES = 4096
_LEVELS = logging.getLevelNamesMapping()


class SupervisedProcess:
    """One process, the socket to it, and the thread that logs its lines.

    Thread safety: any thread may call any method.
    """

    def __init__(self, module: str, feed: str, name: str, first: bytes) -> None:
        """Start nothing yet.

        Args:
            module: The module that runs as the process.
            feed: The feed that it belongs to, for the log.
            name: Its name in the log.
            first: The datagram that it gets first, each time it is started.
        """
        self._module = module
        self._feed = feed
        self._name = name
        self._first = first
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._supervise, name=f"shmfeed-{name}", daemon=True
        )

    def start(self) -> None:
        """Start the process, and the thread."""
        self._begin()
        self._thread.start()
        _supervised.add(self)

    def send(self, data: bytes) -> None:
        """Send a datagram to the process, without waiting.

        Raises:
            BlockingIOError: It has not read for long.
            OSError: It has ended, or the datagram is too long.
        """
        outbox = self._socket
        if outbox is None:
            raise BrokenPipeError
        outbox.send(data, socket.MSG_DONTWAIT)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Have the process end once it has done what is left; wait so long at most.

        Idempotent.
        """
        self._closing.set()
        self._end_input()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _end_input(self) -> None:
        outbox = self._socket
        if outbox is not None:
            with suppress(OSError):
                outbox.shutdown(socket.SHUT_WR)

    def disown(self) -> None:
        """Leave the process to the parent, in a forked child."""
        outbox, self._socket = self._socket, None
        if outbox is not None:
            outbox.close()

    def _begin(self) -> None:
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_BYTES)
        try:
            # In a session of its own: Ctrl-C ends this process, which ends it.
            self._process = subprocess.Popen(  # noqa: S603 # our own module
                module_command(self._module),
                stdin=other.fileno(),
                stdout=subprocess.DEVNULL,
                env=module_environment(),
                start_new_session=True,
            )
            own.send(self._first, socket.MSG_DONTWAIT)
        except OSError as error:
            own.close()
            reason = error.strerror or str(error)
            log.warning(
                "feed %s: %s cannot be started: %s", self._feed, self._name, reason
            )
            return
        finally:
            other.close()
        self._socket = own
        if self._closing.is_set():  # by a thread that saw no socket yet
            self._end_input()

    def _supervise(self) -> None:
        """Log the lines of the process, and start it again where it ends."""
        delay = FIRST_RESTART
        while True:
            began = time.monotonic()
            self._log_lines()
            if time.monotonic() - began > STEADY_SECONDS:
                delay = FIRST_RESTART
            if self._closing.wait(delay):
                return
            delay = min(LONGEST_RESTART, 2 * delay)
            self._begin()

    def _log_lines(self) -> None:
        inbox, process = self._socket, self._process
        if inbox is None or process is None:
            return
        with suppress(OSError):
            while line := inbox.recv(_LINE_BYTES):
                self._log(line.decode(errors="replace"))
        self._socket = None
        inbox.close()
        code = process.wait()
        if not self._closing.is_set():
            log.warning("feed %s: %s ended with code %d", self._feed, self._name, code)

    def _log(self, line: str) -> None:
        """Log a line, at the level that it begins with, else as a warning."""
        name, _, text = line.partition(" ")
        level = _LEVELS.get(name)
        if level is None:
            log.warning("feed %s: %s: %s", self._feed, self._name, line)
        else:
            log.log(level, "feed %s: %s: %s", self._feed, self._name, text)


_supervised: ForkRegistry[SupervisedProcess] = ForkRegistry()
