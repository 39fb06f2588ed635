"""A feeder's, or a manager's, end of the process that tells events.

`tell` never waits: it hands one datagram to the kernel, or drops it where the process
has not read for long.
"""

import json
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

from shmfeed.bar import StreamKey
from shmfeed.events.event import make_event
from shmfeed.supervised_process import SupervisedProcess

if TYPE_CHECKING:
    from shmfeed.settings.model import Settings

log = logging.getLogger(__name__)


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
        self._is_full = False
        settings = {
            "feed": feed,
            "on_event": on_event,
            "watches": watches,
            "ca_file": ca_file,
        }
        first = json.dumps(settings).encode()
        self._process = SupervisedProcess(
            "shmfeed.events.process", feed, "on_event", first
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
