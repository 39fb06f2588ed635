"""The reports of a publisher to the feeder of its feed, on one held connection."""

import itertools
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from shmfeed.control.client import is_closed, open_claim, request_line
from shmfeed.errors import BadArgumentError, ShmfeedError

RETRY_SECONDS = 1.0  # after a feeder that is not there, or has not accepted
ANSWER_SECONDS = 0.5  # for the first report, which the main loop answers
LEAST_SECONDS = 0.2  # between two reports
_OP = "relay"
_ids = itertools.count(1)


class RelayReporter:
    """The way of a publisher's status to the feeder: `tell` it again and again.

    Thread safety: one thread at a time.

    Attributes:
        refusal: The words of a feeder that takes no reports, "" if it does.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Connect to nothing yet. `path` is the feeder's control socket."""
        self.refusal = ""
        self._path = path
        self._connection: socket.socket | None = None
        self._told: dict[str, object] = {}
        self._not_before = 0.0

    def tell(self, report: Mapping[str, object]) -> None:
        """Tell the feeder, if that is news; never raise, and seldom wait.

        A call that comes too soon after the last one is left out, so a publisher tells
        its status at each beat. A feeder that has ended, or is new, is found at a later
        call.

        Args:
            report: The keys of the status key `relay`.
        """
        now, told = time.monotonic(), dict(report)
        if self._connection is not None and is_closed(self._connection):
            self.close()
        if now < self._not_before or told == self._told:
            return
        self._not_before = now + LEAST_SECONDS
        if self._connection is None:
            self._connect(told)
        else:
            self._send(self._connection, told)

    def close(self) -> None:
        """End the connection, so that the feeder publishes the status no longer."""
        connection, self._connection = self._connection, None
        self._told = {}
        if connection is not None:
            connection.close()

    def _connect(self, told: dict[str, object]) -> None:
        try:
            self._connection = open_claim(self._path, _OP, ANSWER_SECONDS, relay=told)
        except ShmfeedError as error:
            self._not_before += RETRY_SECONDS
            self.refusal = str(error) if isinstance(error, BadArgumentError) else ""
        else:
            self._told, self.refusal = told, ""

    def _send(self, connection: socket.socket, told: dict[str, object]) -> None:
        line = request_line(next(_ids), _OP, {"relay": told})
        with suppress(OSError):  # it has ended meanwhile, or reads nothing
            if connection.send(line, socket.MSG_DONTWAIT) == len(line):
                self._told = told
                return
        self.close()
