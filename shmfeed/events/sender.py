"""A feeder's, or a manager's, end of the process that tells events.

`tell` never waits: it hands one datagram to the kernel, or drops it where the process
has not read for long.
"""

import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from shmfeed.bar import StreamKey
from shmfeed.events.event import make_event
from shmfeed.supervised_process import SupervisedProcess

if TYPE_CHECKING:
    from shmfeed.settings.model import Settings

log = logging.getLogger(__name__)

# Settings that the process gets: the receiver, and the way to it.
_NAMES = (
    "feed",
    "on_event",
    "allow_insecure",
    "proxy",
    "proxy_password_file",
    "ca_file",
    "client_cert",
)


class EventSender:
    """The events of one feed, on their way to `on_event`.

    Thread safety: any thread may call `tell`.
    """

    def __init__(self, settings: "Settings", *, watches: bool) -> None:
        """Take settings that have `on_event`; nothing runs before `start`.

        With `watches` the process looks for outages in the feed's status.
        """
        self._feed = settings.feed
        self._redact = settings.redact
        self._is_full = False
        values = {name: getattr(settings, name) for name in _NAMES}
        first = json.dumps({**values, "watches": watches}).encode()
        self._process = SupervisedProcess(
            "shmfeed.events.process", self._feed, "on_event", first
        )

    @classmethod
    def of(cls, settings: "Settings", *, watches: bool) -> Self | None:
        """Return the sender that the settings ask for, None without `on_event`."""
        if settings.on_event is None:
            return None
        return cls(settings, watches=watches)

    def start(self) -> None:
        """Start the process, and the thread that logs its lines."""
        self._process.start()

    def tell(self, event: str, message: str, streams: Sequence[StreamKey] = ()) -> None:
        """Hand over an event of this moment."""
        made = make_event(event, self._redact(message), streams)
        try:
            self._process.send(json.dumps(made._asdict()).encode())
            self._is_full = False
        except BlockingIOError:
            if not self._is_full:
                self._is_full = True
                log.warning("feed %s: an event is dropped: %s", self._feed, event)
        except OSError:  # the process has ended, or the event is too long
            log.debug("feed %s: an event is lost: %s", self._feed, event)

    def close(self) -> None:
        """End the process once it has told what waits; it may outlive this call."""
        self._process.close()
