"""A feeder's, or a manager's, end of the process that tells events.

`tell` never waits: it hands one datagram to the kernel, or drops it where the process
has not read for long. The process is started again if it ends.
"""

import json
import logging
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from shmfeed.bar import StreamKey
from shmfeed.child_modules import module_command, module_environment
from shmfeed.events.event import make_event
from shmfeed.forks import ForkRegistry

if TYPE_CHECKING:
    from shmfeed.settings.model import Settings

log = logging.getLogger(__name__)

RESTART_SECONDS = 5.0
CLOSE_SECONDS = 1.0  # that the end of a feeder waits for events under way
_LINE_BYTES = 4096
_BUFFER_BYTES = 1 << 20


class EventSender:
    """The events of one feed, on their way to `on_event`.

    Thread safety: any thread may call `tell`.
    """

    def __init__(
        self,
        feed: str,
        on_event: str | tuple[str, ...],
        *,
        watches: bool,
        ca_file: str | None = None,
        redact: Callable[[str], str] = str,
    ) -> None:
        """Take the settings; nothing runs before `start`.

        With `watches` the process looks for outages in the feed's status. `redact`
        takes secrets out of messages.
        """
        self._feed = feed
        self._redact = redact
        self._settings = json.dumps(
            {
                "feed": feed,
                "on_event": on_event,
                "watches": watches,
                "ca_file": ca_file,
            }
        ).encode()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._is_full = False
        self._thread = threading.Thread(
            target=self._supervise, name="shmfeed-events", daemon=True
        )

    @classmethod
    def of(cls, settings: "Settings", *, watches: bool) -> Self | None:
        """Return the sender that the settings ask for, None without `on_event`."""
        if settings.on_event is None:
            return None
        return cls(
            settings.feed,
            settings.on_event,
            watches=watches,
            ca_file=settings.ca_file,
            redact=settings.redact,
        )

    def start(self) -> None:
        """Start the process, and the thread that logs its lines."""
        self._begin()
        self._thread.start()
        _senders.add(self)

    def tell(self, event: str, message: str, streams: Sequence[StreamKey] = ()) -> None:
        """Hand over an event of this moment."""
        made = make_event(event, self._redact(message), streams)
        data = json.dumps(made._asdict()).encode()
        outbox = self._socket
        if outbox is None:
            return
        try:
            outbox.send(data, socket.MSG_DONTWAIT)
            self._is_full = False
        except BlockingIOError:
            if not self._is_full:
                self._is_full = True
                log.warning("feed %s: an event is dropped: %s", self._feed, event)
        except OSError:  # the process has ended, or the event is too long
            log.debug("feed %s: an event is lost: %s", self._feed, event)

    def close(self) -> None:
        """End the process once it has told what waits; it may outlive this call."""
        self._closing.set()
        outbox = self._socket
        if outbox is not None:
            with suppress(OSError):
                outbox.shutdown(socket.SHUT_WR)
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def disown(self) -> None:
        """Tell nothing from now on, in a forked child."""
        outbox, self._socket = self._socket, None
        if outbox is not None:
            outbox.close()

    def _begin(self) -> None:
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        try:
            # In a session of its own: Ctrl-C ends the feeder, which ends it.
            self._process = subprocess.Popen(  # noqa: S603 # our own module
                module_command("shmfeed.events.process"),
                stdin=other.fileno(),
                stdout=subprocess.DEVNULL,
                env=module_environment(),
                start_new_session=True,
            )
            own.send(self._settings, socket.MSG_DONTWAIT)
        except OSError as error:
            own.close()
            reason = error.strerror or str(error)
            log.warning("feed %s: on_event cannot be started: %s", self._feed, reason)
            return
        finally:
            other.close()
        self._socket = own

    def _supervise(self) -> None:
        """Log the lines of the process, and start it again where it ends."""
        while True:
            self._log_lines()
            if self._closing.wait(RESTART_SECONDS):
                return
            self._begin()

    def _log_lines(self) -> None:
        inbox, process = self._socket, self._process
        if inbox is None or process is None:
            return
        with suppress(OSError):
            while line := inbox.recv(_LINE_BYTES):
                text = line.decode(errors="replace")
                log.warning("feed %s: on_event: %s", self._feed, text)
        self._socket = None
        inbox.close()
        code = process.wait()
        if not self._closing.is_set():
            log.warning("feed %s: on_event ended with code %d", self._feed, code)


_senders: ForkRegistry[EventSender] = ForkRegistry()
