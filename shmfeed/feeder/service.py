"""The feeder as a service: what it tells a service manager such as systemd.

The service manager names a datagram socket in NOTIFY_SOCKET, and in WATCHDOG_USEC the
time after which it takes a silent process for a hung one. Each message is one datagram
of lines `NAME=value`, as sd_notify(3) describes them. Without the variable nothing is
sent.

READY says that the feed can be read and the feeder answers, not that the venue has
acknowledged: a feeder that waits out a ban must not be restarted for it. The state of
the connection is the text of STATUS. The watchdog is fed by the main loop, so one that
hangs is found.
"""

import logging
import os
import socket
import time
from collections.abc import MutableMapping

from shmfeed.feeder.requests import PendingRequest
from shmfeed.text import printable

log = logging.getLogger(__name__)

_SOCKET, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
_STATUS_CHARACTERS = 200
_BEATS = 3  # in the time of the watchdog


class ServiceManager:
    """The service manager that started this process, or none.

    Only the main loop uses it. No call waits or raises.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        """Take the variables out of the environment: children are not the service."""
        environ = os.environ if environ is None else environ
        address = environ.pop(_SOCKET, "")
        self._watchdog = _watchdog_seconds(environ)
        self._socket: socket.socket | None = None
        self._address: str | bytes = ""
        self._status = ""
        self._beat_due = 0.0
        if address[:1] in {"/", "@"}:
            # A leading @ stands for the zero byte of the abstract namespace.
            self._address = "\0" + address[1:] if address[0] == "@" else address
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)
        elif address:
            log.warning("%s=%r is no socket of a service manager", _SOCKET, address)

    def ready(self) -> None:
        """Say that the feed can be read and the feeder answers requests."""
        self._send("READY=1")

    def announce(self, reload: PendingRequest) -> PendingRequest:
        """Say that settings are read again, until this request is answered."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")
        reload.answer.add_done_callback(lambda _: self.ready())
        return reload

    def stopping(self) -> None:
        """Say that the feeder ends, and close the socket."""
        self._send("STOPPING=1")
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def show(self, state: str, last_error: str) -> None:
        """Tell the state of the connection, for `systemctl status`."""
        is_well = state == "connected" or not last_error
        status = state if is_well else f"{state}: {last_error}"
        if status != self._status:
            self._status = status
            self._send(f"STATUS={printable(status)[:_STATUS_CHARACTERS]}")

    def beat(self, now: float) -> None:
        """Feed the watchdog. The main loop calls it in each turn, with its clock."""
        if self._watchdog and now >= self._beat_due:
            self._beat_due = now + self._watchdog / _BEATS
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:  # its buffer is full, or it is gone
            log.debug("the service manager was not told %s: %s", lines[0], error)


def _watchdog_seconds(environ: MutableMapping[str, str]) -> float:
    """Return the time that the watchdog gives this process, 0.0 for none."""
    microseconds = environ.pop(_WATCHDOG, "")
    pid = environ.pop(_WATCHDOG_PID, "")
    is_meant = pid in {"", str(os.getpid())}
    if not (is_meant and microseconds.isascii() and microseconds.isdigit()):
        return 0.0
    return int(microseconds) / 1e6
