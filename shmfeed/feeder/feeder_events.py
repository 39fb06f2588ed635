"""The events that a feeder tells by itself: those that its status does not show.

The process of `shmfeed.events` finds the outages of connections and streams in the
feed's status.
"""

from collections.abc import Mapping, Sequence
from typing import Self

from shmfeed.bar import StreamKey
from shmfeed.events.deaths import killed_writer
from shmfeed.events.sender import EventSender
from shmfeed.settings.model import Settings


class FeederEvents:
    """The events of one feeder, or none without `on_event`. Any thread may tell.

    A context manager: events are told within it.
    """

    def __init__(self, settings: Settings) -> None:
        self._feed = settings.feed
        self._sender = EventSender.of(settings, watches=True)
        self._killed = 0

    def note_predecessor(self, *, is_alive: bool) -> None:
        """Find out if the feed's last feeder was killed, before the feed is taken.

        With `is_alive` that feeder hands the feed over.
        """
        if self._sender is not None and not is_alive:
            self._killed = killed_writer(self._feed)

    def __enter__(self) -> Self:
        if self._sender is not None:
            self._sender.start()
            if self._killed:
                text = f"a feeder runs again; the last one, pid {self._killed}, died"
                self._sender.tell("restarted", text)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._sender is not None:
            self._sender.close()

    def tell_all(self, errors: Mapping[str, str], clock_error: str) -> None:
        """Tell new errors of the store, and one of the data if it is `clock_error`.

        Other errors of the data, such as a venue's message, are no event.
        """
        for kind, text in errors.items():
            if kind == "store":
                self.tell("store", text)
            elif text == clock_error:
                self.tell("clock", text)

    def tell(self, event: str, text: str, streams: Sequence[StreamKey] = ()) -> None:
        """Tell an event, unless its text is empty."""
        if self._sender is not None and text:
            self._sender.tell(event, text, streams)
