"""The requests of a repair: for which bars history is asked, and when.

Of each kind at most one request of a stream is under way.
"""

from collections.abc import Mapping

from shmfeed.bar import StreamKey
from shmfeed.feeder.polling import Polling
from shmfeed.feeder.repair_ports import JobQueue, RepairIntake, RepairLimits
from shmfeed.feeder.repair_stream import (
    MOST_BESIDE,
    Asked,
    Kind,
    RepairStream,
    bars_of,
    due_range,
    missed_range,
    restart_range,
    settled_range,
    with_comparable_rows,
    with_rows_beside,
)
from shmfeed.feeder.warmup import Warmups
from shmfeed.history.interface import HistoryJob, HistoryRequest, Purpose

TURN_SECONDS = 0.1
# Between two retries of any streams: after a suspend of the host all may be due.
RETRY_DISTANCE = 0.5


class RepairRequests:
    """The requests of one feed's streams. Only the main loop uses them.

    `streams`, `warmups` and `polling` are those of the repair. They say when a request
    is due.
    """

    def __init__(
        self,
        intake: RepairIntake,
        limits: RepairLimits,
        worker: JobQueue,
        streams: Mapping[StreamKey, RepairStream],
        warmups: Warmups,
        polling: Polling,
    ) -> None:
        self._intake = intake
        self._limits = limits
        self._worker = worker
        self._streams = streams
        self._warmups = warmups
        self._polling = polling
        self._next_retry = 0.0

    def ask_due(self, now: float) -> None:
        """Ask for the bars that are due now."""
        for key in self._warmups.due(now):
            self._ask_warmup(key, now)
        for key, stream in self._streams.items():
            if stream.catch_up_at is not None and now >= stream.catch_up_at:
                self._ask_missed(key, stream, now)
            if now >= stream.defects.next_at:
                self._ask_defects(key, stream, now)
            if stream.recheck_at is not None and now >= stream.recheck_at:
                self._ask_settled(key, stream, now)
        if self._polling.is_due(now):
            self._poll(now)

    def _ask_warmup(self, key: StreamKey, now: float) -> None:
        stream, history = self._streams[key], self._limits.history
        warmup = min(self._limits.warmup, history)
        request = HistoryRequest(key, 0, 0, warmup)
        purpose: Purpose = "warmup"
        rows = self._intake.reader(key).snapshot(history)
        if len(rows):
            venue_now = self._intake.venue_now(now)
            request = restart_range(key, rows, venue_now, warmup, history)
            purpose = "reconnect"  # newer bars wait for it
        if not request.newest:
            request = request._replace(first=stream.defects.reach(request.first, now))
        self._warmups.asked(key, bars_of(request))
        self._ask("warmup", stream, request, purpose, now)

    def _ask_missed(self, key: StreamKey, stream: RepairStream, now: float) -> None:
        stream.catch_up_at = None
        last = self._intake.reader(key).last_closed()
        if last is None:
            self._ask_first(key, stream, now)
            return
        venue_now = self._intake.venue_now(now)
        request = missed_range(key, last, venue_now, self._limits.history)
        self._ask("reconnect", stream, request, "reconnect", now)

    def _ask_first(self, key: StreamKey, stream: RepairStream, now: float) -> None:
        """Ask for what a stream without rows missed since its warm-up was asked for."""
        if "warmup" in stream.asked:
            stream.catch_up_at = now + TURN_SECONDS
        elif self._limits.warmup:
            request = HistoryRequest(key, 0, 0, self._limits.warmup)
            self._ask("reconnect", stream, request, "reconnect", now)
        else:
            stream.release(key, self._intake)

    def _ask_defects(self, key: StreamKey, stream: RepairStream, now: float) -> None:
        if self._is_catching_up(key, stream, now):
            return
        wanted = stream.defects.request(now, retries=now >= self._next_retry)
        if wanted is None:
            return
        if wanted.purpose == "retry":
            self._next_retry = now + RETRY_DISTANCE
        request = HistoryRequest(key, wanted.first, wanted.last)
        last = self._intake.reader(key).last_closed()
        newest = wanted.last if last is None else last.open_time
        request = with_rows_beside(request, newest)
        self._ask("defect", stream, request, wanted.purpose, now)

    def _ask_settled(self, key: StreamKey, stream: RepairStream, now: float) -> None:
        stream.recheck_at = None
        last = self._intake.reader(key).last_closed()
        if last is not None:
            venue_now = self._intake.venue_now(now)
            request = settled_range(
                key, last, venue_now, self._limits.settle, stream.recheck_from
            )
            self._ask("recheck", stream, request, "confirm", now)

    def _poll(self, now: float) -> None:
        due = [
            bars
            for bars in self._intake.due(now)
            if (stream := self._streams.get(bars.key)) is not None
            and stream.trades
            and bars.key not in self._warmups
            and "reconnect" not in stream.asked
            and stream.expects(bars.key, bars.first)
        ]
        for bars in self._polling.choose(due, now):
            last = self._intake.reader(bars.key).last_closed()
            request = due_range(bars, last, self._limits.history)
            self._ask("poll", self._streams[bars.key], request, "poll", now)

    def _is_catching_up(self, key: StreamKey, stream: RepairStream, now: float) -> bool:
        # A request under way, or soon to come, may bring the missing bars.
        return "reconnect" in stream.asked or self._warmups.is_said(key, now)

    def _ask(
        self,
        kind: Kind,
        stream: RepairStream,
        request: HistoryRequest,
        purpose: Purpose,
        now: float,
    ) -> None:
        if not request.newest:
            rows = self._intake.reader(request.key).snapshot(MOST_BESIDE)
            request = with_comparable_rows(request, rows.open_time, rows["flags"])
        asked = stream.asked[kind] = Asked(request.key, kind, request, now)
        self._worker.ask(HistoryJob(request, purpose, asked))
