"""The events that a manager tells: the deaths of its feeder, which cannot tell them."""

from collections.abc import Callable

from shmfeed.events.deaths import killed_writer
from shmfeed.events.sender import EventSender
from shmfeed.settings.model import Settings


class ManagerEvents:
    """The events of one manager, or none without `on_event`.

    The process that tells them starts with the first one. One thread uses it.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        """Take a function that returns the settings in force."""
        self._settings = settings
        self._sender: EventSender | None = None

    def adopted_gone(self, pid: int) -> None:
        """Tell that an adopted feeder is gone, if it did not end by itself."""
        if self._settings().on_event and killed_writer(self._settings().feed) == pid:
            self.tell("dead", f"feeder {pid} died; this manager starts another one")

    def tell(self, event: str, text: str) -> None:
        """Tell an event."""
        if self._sender is None:
            self._sender = EventSender.of(self._settings(), watches=False)
            if self._sender is None:
                return
            self._sender.start()
        self._sender.tell(event, text)

    def close(self) -> None:
        """Tell what waits, and end the process."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()
