"""Recorded messages of a venue, written to a feed as a feeder writes them.

Codec, ledger, repair and ring are the feeder's own. Time is the recording's: it stands
still until the next event is played, so that a reader sees the same rows however slow
it is.
"""

import logging
import time
from collections.abc import Collection, Sequence
from typing import cast

from shmfeed.bar import StreamKey
from shmfeed.codecs.interface import Codec
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.reasons import Reasons
from shmfeed.feeder.repair import Repair
from shmfeed.feeder.repair_log import RepairLog
from shmfeed.feeder.repair_ports import RepairLimits
from shmfeed.feeder.row_events import RecordedRow
from shmfeed.feeder.sequence import Mode
from shmfeed.history.recorded import RecordedAnswer, RecordedHistory
from shmfeed.settings.model import Settings
from shmfeed.writer import FeedWriter

# Their lines tell of a feed of today; without a handler Python would print them.
logging.getLogger("shmfeed").addHandler(logging.NullHandler())


class Playback:
    """A feed that is written from a recording. One thread uses it.

    Args:
        writer: The feed's writer.
        codec: The venue's codec.
        settings: Those of the feeder; of them the graces and `sequence` are used.
        streams: All streams of the recording.
        begin: The time at which the recording begins, in seconds UTC.
        has_history: True if the recording has answers of REST.

    Attributes:
        now: The time of the recording, in seconds UTC.
        changed: The streams whose closed rows have changed since it was cleared.
        has_reconnected: True if a connection has begun or ended since it was set to
            False.
    """

    def __init__(
        self,
        writer: FeedWriter,
        codec: Codec,
        settings: Settings,
        streams: Sequence[StreamKey],
        begin: float,
        *,
        has_history: bool,
    ) -> None:
        self.now = begin
        self.changed: set[StreamKey] = set()
        self.has_reconnected = False
        self._writer, self._codec = writer, codec
        self._connections: dict[int, frozenset[StreamKey]] = {}
        self._history: RecordedHistory | None = None
        if has_history:
            self._history = RecordedHistory(codec.market_type, lambda: self.now)
        reasons = Reasons(writer)
        grace = settings.repair_grace
        self._intake = Intake(
            writer,
            settings.close_grace,
            codec.flags_closed,
            numbers_trades=codec.numbers_trades,
            sequence=cast("Mode", settings.sequence),
            history=has_history,
            repair_grace=grace,
            rest_settle=settings.rest_settle,
            recorder=self,
            reasons=reasons,
            clock=lambda: self.now,
        )
        name = "" if self._history is None else self._history.name
        rows = writer.geometry.history
        self._repair = Repair(
            self._intake,
            writer,
            reasons,
            RepairLimits(grace, settings.warmup_bars, rows, settings.rest_settle),
            RepairLog(writer.name, name),
            self._history,
            name,
        )
        self._intake.set_streams(streams)
        self._repair.set_streams(writer.streams(), begin)
        writer.set_repair_grace(grace)

    def record(
        self,
        rows: Sequence[RecordedRow],
        now: float,  # noqa: ARG002 # the intake's recorder
        published: int,  # noqa: ARG002
    ) -> None:
        """Note that closed rows have changed."""
        self.changed.update(row[0] for row in rows)

    @property
    def venue_now(self) -> int:
        """The venue's time, ms UTC."""
        return self._intake.venue_now(self.now)

    def date(self, ms: int) -> None:
        """Take the `Date` of a handshake, in ms UTC."""
        self._intake.venue_time(ms, time.monotonic())

    def subscribed(self, connection: int, streams: Collection[StreamKey]) -> None:
        """Record that a connection carries these streams from now on."""
        before = self._covered()
        self.has_reconnected = True
        self._connections[connection] = frozenset(streams)
        new = self._covered() - before
        self._writer.set_state("connected")
        self._writer.mark_connection(new, True)
        self._intake.connected(new)
        self._repair.connected(new, self.now)

    def message(self, connection: int, payload: bytes) -> None:
        """Take a message of the venue."""
        self._intake.take(self._codec.decode(payload), connection)

    def answer(self, answer: RecordedAnswer) -> None:
        """Take an answer of REST."""
        if self._history is not None:
            self._history.deliver(answer)

    def closed(self, connection: int) -> None:
        """Record the end of a connection."""
        before = self._covered()
        self.has_reconnected = True
        self._connections.pop(connection, None)
        lost = before - self._covered()
        self._intake.connection_lost(connection, lost)
        self._writer.mark_connection(lost, False)
        self._repair.disconnected(lost)
        if not self._connections:
            self._writer.set_state("reconnecting")

    def end(self) -> None:
        """Record the end of the recording: the clock closes no bar that it cuts off."""
        self._intake.disconnected()
        self._repair.disconnected(self._covered())

    def turn(self) -> None:
        """Do what is due now, as the feeder's main loop after each batch."""
        self._intake.tick(self.now)
        self._repair.tick(self.now)

    def _covered(self) -> frozenset[StreamKey]:
        return frozenset().union(*self._connections.values())
