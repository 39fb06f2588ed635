"""One stream of the feeder: its ledger, its ring, and the account of its messages."""

import math

from shmfeed.bar import LAST_TIME, StreamKey, close_time
from shmfeed.core import RingWriter
from shmfeed.feeder.history_ledger import HistoryLedger
from shmfeed.feeder.ledger_events import Anomaly
from shmfeed.feeder.row_events import DueBars
from shmfeed.layout import STREAM_COUNTERS
from shmfeed.text import counted
from shmfeed.writer import FeedWriter

LATE_SECONDS = 10.0  # a venue that repeats its history is done sooner
MOST_DISPUTED = 1024
_RUN = 3  # messages dropped in a row, until they are the stream's state
AHEAD = "begins too far ahead of the venue's clock"
LATE = "older than the newest closed bar"
OLDER = "older than the last update, or repeated"


class StreamState:
    """A stream's ledger and the ring that it writes to.

    Attributes:
        carriers: The connection of the last message, by line, where there are several.
        disputed: The bars whose finals differ between lines, newest `MOST_DISPUTED`.
        clock_from: When the clock may close the stream's bars; inf while no connection
            carries it.
        connected_at: The venue's time in ms UTC at which a connection began to carry
            it, 0 before. Bars that had closed by then cannot come as they close.
        heard: When the last message about the stream came.
        messages: Messages that are not written to the stream's counters yet.
        dropped: Those of them that changed nothing.
        accepts: True if the last message was accepted.
        was_accepted: True once one was.
        gaps: Bars that are missing between rows, as the stream's counter has it.
        missed: Messages that were lost before they came, not written yet either.
    """

    __slots__ = (
        "_explained",
        "_explains_silence",
        "_reason",
        "_run",
        "_run_from",
        "accepts",
        "carriers",
        "clock_from",
        "connected_at",
        "disputed",
        "dropped",
        "gaps",
        "heard",
        "key",
        "ledger",
        "messages",
        "missed",
        "ring",
        "was_accepted",
    )

    def __init__(self, ring: RingWriter, ledger: HistoryLedger, now: float) -> None:
        self.key: StreamKey = (ring.symbol, ring.timeframe)
        self.ring = ring
        self.ledger = ledger
        self.clock_from = math.inf
        self.connected_at = 0
        self.carriers: dict[int, int] = {}
        self.disputed: set[int] = set()
        self.heard = now
        self.messages = self.dropped = self.missed = self.gaps = 0
        self.accepts = self.was_accepted = False
        self._run = 0  # dropped for a fault since a message was accepted
        self._run_from = now
        self._reason = ""
        self._explained = ""
        self._explains_silence = False

    def flush_counts(self, writer: FeedWriter) -> None:
        """Write the counts to the stream's counters in the segment."""
        for counter in STREAM_COUNTERS:
            number = getattr(self, counter)
            if number:
                writer.count_stream(self.key, counter, number)
        self.messages = self.dropped = self.missed = 0

    def due(self, venue_now: int, grace_ms: int, now: float) -> DueBars | None:
        """Return the newest closed bars that should be there, None if they are."""
        ledger = self.ledger
        last = ledger.latest_closed(venue_now - grace_ms)
        first = min(ledger.next_open, last)
        if last < 0 or ledger.is_recovering or last < ledger.next_open < LAST_TIME:
            return None
        late = (venue_now - close_time(first, self.key[1])) / 1000
        return DueBars(self.key, first, last, late, now - self.heard)

    def dispute(self, open_time: int) -> None:
        """Record that the finals of two lines differ: neither tells what is right."""
        self.disputed.add(open_time)
        if len(self.disputed) > MOST_DISPUTED:
            self.disputed.remove(min(self.disputed))

    def accept(self) -> None:
        """Record that a message changed the stream's rows or its forming bar."""
        self.accepts = self.was_accepted = True
        self._run = 0

    def drop(self, anomaly: Anomaly, now: float) -> None:
        """Record that a message changed nothing, and why."""
        self.dropped += 1
        self.accepts = False
        reason = _drop_reason(anomaly)
        if not reason:  # a final bar that is repeated is no fault
            return
        if not self._run:
            self._run_from = now
        self._run += 1
        self._reason = reason

    def explanation(self, now: float) -> str | None:
        """Return why all messages are dropped, "" if they are not, None as before."""
        text = self._why_dropped(now)
        is_told = bool(self._explained) and not self._explains_silence
        if text == self._explained or (text and is_told):
            return None
        self._explained = text
        self._explains_silence = False
        return text

    def explain_silence(self, text: str) -> bool:
        """Record why no message comes. Return False if that is not the stream's state.

        A stream whose messages are dropped is not silent. The next message ends the
        explanation.
        """
        if self._explained and not self._explains_silence:
            return False
        self._explained, self._explains_silence = text, True
        return True

    def _why_dropped(self, now: float) -> str:
        if self._run < (_RUN if self.was_accepted else 1):
            return ""
        is_late = self._reason in (LATE, OLDER)
        if is_late and (self._run < _RUN or now < self._run_from + LATE_SECONDS):
            return ""
        return f"{counted(self._run, 'message')} dropped: {self._reason}"


def _drop_reason(anomaly: Anomaly) -> str:
    if anomaly.kind == "ahead":
        return AHEAD
    if anomaly.kind == "late":
        return LATE
    if anomaly.is_older:
        return OLDER
    return anomaly.reason
