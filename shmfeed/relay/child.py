"""The publisher as a child of the feeder whose feed it publishes.

    feeder --settings--> this process --flushes--> Redis
           <--lines for the log--

Its standard input is a socket of datagrams, of which the first has the settings, the
password among them. At its end the publisher resigns, so that another one leads.
"""

import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from shmfeed.errors import ShmfeedError
from shmfeed.relay.process import publish
from shmfeed.settings.model import Settings, from_json
from shmfeed.supervised_process import MOST_BYTES
from shmfeed.text import one_line

log = logging.getLogger(__name__)

_LINE = 1000  # characters


class SocketHandler(logging.Handler):
    """A handler that hands records to the process at the other end of a socket."""

    def __init__(self, outbox: socket.socket, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._outbox = outbox
        self._redact = redact

    def emit(self, record: logging.LogRecord) -> None:
        text = one_line(self._redact(record.getMessage()), _LINE)
        line = f"{record.levelname} {text}"
        with suppress(OSError):  # it has ended, or does not read
            self._outbox.send(line.encode(errors="replace"), socket.MSG_DONTWAIT)


def serve(inbox: socket.socket) -> int:
    """Publish until the other end is closed; return the process's exit code."""
    order = inbox.recv(MOST_BYTES)
    if not order:
        return 0  # it ended before it began
    settings = from_json(order)
    _log_to(inbox, settings)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    watch = threading.Thread(target=_await_end, args=(inbox, stop), daemon=True)
    watch.start()
    try:
        publish(settings, settings.publish_to or "", settings.feed, stop)
    except ShmfeedError as error:
        log.error("%s", error)  # noqa: TRY400 # a fact about Redis, not a defect
        return 1
    return 0


def _log_to(outbox: socket.socket, settings: Settings) -> None:
    package = logging.getLogger("shmfeed")
    package.addHandler(SocketHandler(outbox, settings.redact))
    package.setLevel(settings.log_level)
    package.propagate = False


def _await_end(inbox: socket.socket, stop: threading.Event) -> None:
    with suppress(OSError):
        while inbox.recv(MOST_BYTES):
            pass
    stop.set()


def main() -> int:
    """Serve the socket that is standard input."""
    return serve(socket.socket(fileno=0))


if __name__ == "__main__":
    sys.exit(main())
