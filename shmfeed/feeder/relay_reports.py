"""The reports of publishers, which tell a feeder how its relay does, for readers."""

from typing import Any, Protocol

import msgspec

from shmfeed.control.messages import RelayReport
from shmfeed.relay_status import RELAY


class TextMarks(Protocol):
    """The part of a FeedWriter that publishes texts."""

    def set_text(self, key: str, value: object) -> None: ...


class RelayReports:
    """The reports of the publishers that are connected. Only the main loop uses it.

    Readers see the report of the publisher that has been connected longest.
    """

    def __init__(self, marks: TextMarks) -> None:
        self._marks = marks
        self._told: dict[int, dict[str, Any]] = {}  # by connection

    def take(self, report: RelayReport, connection: int) -> None:
        """Publish a report that has come on a connection."""
        self._told[connection] = msgspec.to_builtins(report)
        if next(iter(self._told)) == connection:
            self._publish()

    def disconnected(self, connection: int) -> None:
        """Publish no longer the report of a connection that has ended."""
        if self._told.pop(connection, None) is not None:
            self._publish()

    def _publish(self) -> None:
        self._marks.set_text(RELAY, next(iter(self._told.values()), None))
