"""Repair: what the streams of a feed lack, and what becomes of history's answers.

    rows, due bars --> Repair, RepairRequests --HistoryJob--> worker's threads
    readers' marks <-- Repair <--------------HistoryOutcome--'
                         '--HistoryAnswer--> intake, which changes the rows

A stream is asked for

- at its start, `warmup` bars, while its newer bars wait for them; where an earlier
  feeder left rows, the same request brings what the stream missed since;
- after a reconnect, from the last closed bar on, before newer bars are published;
- where its rows have a defect (see defects.py), the newest first;
- where a closed bar is due and the socket gives nothing (see polling.py).
"""

from collections.abc import Iterable

from shmfeed.bar import LAST_TIME, POLLED, StreamKey
from shmfeed.feeder.defects import (
    MOST_SECONDS,
    StreamDefects,
    find_defects,
    retry_delay,
)
from shmfeed.feeder.polling import PollEffect, Polling
from shmfeed.feeder.reasons import Reasons
from shmfeed.feeder.repair_log import RepairLog
from shmfeed.feeder.repair_marks import RepairMarks
from shmfeed.feeder.repair_ports import (
    HoleMarks,
    JobQueue,
    RepairIntake,
    RepairLimits,
)
from shmfeed.feeder.repair_requests import TURN_SECONDS, RepairRequests
from shmfeed.feeder.repair_stream import (
    Asked,
    Kind,
    RepairStream,
    is_behind,
    seconds_to_close,
)
from shmfeed.feeder.row_events import (
    DisagreementFound,
    Found,
    HistoryEffect,
    HistoryUse,
    HoleFound,
    RevisionFound,
)
from shmfeed.feeder.row_news import changed_rows, has_later, has_news, is_abreast
from shmfeed.feeder.warmup import WarmupProgress, Warmups
from shmfeed.history.interface import (
    HistoryAnswer,
    HistoryOutcome,
)
from shmfeed.layout import HoleReason
from shmfeed.memory.rows import Rows

SCAN_SECONDS = 2.0  # holes that the ring has left behind are looked for that often
MARK_SECONDS = 0.25
AGAIN_SECONDS = 1.0  # a bar that has just closed may not be in the history yet

_USES: dict[Kind, HistoryUse] = {
    "warmup": "warmup",
    "reconnect": "repair",
    "defect": "repair",
    "poll": "poll",
    "recheck": "repair",
}


class Repair:
    """The repairs of one feed. Only the main loop uses it.

    Without a worker there is no source of history: holes are marked, and that is all.
    `source` names it. `compares` says that it is the venue's own, so that no stream is
    quiet before it was compared with it.
    """

    def __init__(
        self,
        intake: RepairIntake,
        marks: HoleMarks,
        reasons: Reasons,
        limits: RepairLimits,
        log: RepairLog,
        worker: JobQueue | None,
        source: str = "",
        *,
        compares: bool = False,
    ) -> None:
        self._intake = intake
        self._marks = marks
        self._limits = limits
        self._log = log
        self._worker = worker
        self._streams: dict[StreamKey, RepairStream] = {}
        self._warmups = Warmups(limits.grace)
        self._polling = Polling(limits.grace)
        self._lying: list[StreamKey] = []
        self._health = RepairMarks(marks, reasons, log, source)
        self._requests: RepairRequests | None = None
        if worker is not None:
            self._requests = RepairRequests(
                intake, limits, worker, self._streams, self._warmups, self._polling
            )
        self._next_turn = self._next_mark = 0.0
        self._compares = compares

    @property
    def progress(self) -> WarmupProgress | None:
        """The progress of the warm-up under way, None without one."""
        return self._warmups.progress if self._warmups else None

    @property
    def quiet(self) -> set[StreamKey]:
        """The silent streams of which nothing newer is to come.

        History has nothing either, or the venue says that the symbol does not trade.
        """
        closed = {key for key, stream in self._streams.items() if not stream.trades}
        return self._polling.quiet | closed

    def take_lying(self, now: float) -> tuple[StreamKey, ...]:
        """Return the streams whose connections must be left, once each."""
        if not self._lying:
            return ()
        lying, self._lying = self._lying, []
        self._log.lying(lying, now)
        return tuple(lying)

    # Streams and connections

    def set_streams(self, keys: Iterable[StreamKey], now: float) -> None:
        """Repair exactly these streams from now on; new ones warm up."""
        wanted = tuple(keys)
        gone = self._streams.keys() - set(wanted)
        for key in gone:
            del self._streams[key]
            if self._worker is not None:
                self._worker.cancel(key)
        self._warmups.drop(gone)
        self._polling.drop(gone)
        self._health.forget(gone)
        for key in wanted:
            if key not in self._streams:
                self._add(key, now)
        self._next_turn = self._next_mark = 0.0

    def connected(self, keys: Iterable[StreamKey], now: float) -> None:
        """Ask for the bars that these streams missed: a connection carries them now."""
        for key in keys:
            stream = self._streams.get(key)
            if stream is None or self._worker is None:
                continue
            stream.carried_from = self._intake.venue_now(now)
            self._polling.changed([key])
            self._mark_compared([key], now)
            stream.hold(key, self._intake, now, self._limits.grace)
            self._warmups.connected(key, now)
            if key not in self._warmups or "warmup" in stream.asked:
                # A warm-up that was asked for before may lack the newest bars.
                stream.catch_up_at, stream.failures = now, 0
        self._next_turn = 0.0

    def begin_again(self, keys: Iterable[StreamKey], now: float) -> None:
        """Repair streams as at a start, since rows of theirs were dropped."""
        again = {key for key in keys if key in self._streams}
        carried = [k for k in again if self._streams[k].carried_from is not None]
        wanted = list(self._streams)
        self.set_streams([key for key in wanted if key not in again], now)
        self.set_streams(wanted, now)
        self.connected(carried, now)

    @property
    def warming(self) -> set[StreamKey]:
        """The streams whose warm-up is under way."""
        return {key for key in self._streams if key in self._warmups}

    def carry_on(self, keys: Iterable[StreamKey]) -> None:
        """Ask for no history of these streams at a start: no bar of theirs is missing.

        An earlier feeder has warmed them up, and a connection has carried them since.
        """
        keys = [key for key in keys if key in self._streams]
        self._warmups.drop(keys)
        for key in keys:
            stream = self._streams[key]
            stream.catch_up_at, stream.is_restart = None, False
            stream.release(key, self._intake)

    def disconnected(self, keys: Iterable[StreamKey]) -> None:
        """Record that no connection carries these streams."""
        for key in keys:
            stream = self._streams.get(key)
            if stream is not None:
                stream.carried_from = None
                stream.catch_up_at = None

    def set_trading(self, key: StreamKey, trades: bool) -> None:
        """Expect no more closed bars of a stream whose symbol does not trade."""
        stream = self._streams.get(key)
        if stream is not None:
            stream.trades = trades

    def refuse(self, keys: Iterable[StreamKey]) -> None:
        """End the warm-up of streams that the venue does not know."""
        keys = [key for key in keys if key in self._streams]
        self._warmups.drop(keys)
        self._polling.drop(keys)
        self._log.unknown(keys)
        for key in keys:
            self._streams[key].trades = self._streams[key].is_restart = False

    def retry(self, keys: Iterable[StreamKey] | None, now: float) -> int:
        """Ask for the holes of these streams again, None for all. Return how many."""
        count = 0
        for stream in self._selected(keys):
            count += stream.defects.retry(now)
        if self._worker is None:
            self._give_up_all(now)
        self._next_turn = 0.0
        return count

    def accept(self, keys: Iterable[StreamKey] | None) -> int:
        """Accept the holes that are given up, of all streams by None.

        Return how many there were: the venue has no such bars.
        """
        count = 0
        for key in list(self._streams) if keys is None else keys:
            stream = self._streams.get(key)
            if stream is not None:
                count += stream.defects.accept()
                self._publish_holes(key, stream)
        return count

    def close(self) -> None:
        """Drop all requests, also those under way."""
        if self._worker is not None:
            self._worker.close()

    # Turns

    def tick(self, now: float) -> None:
        """Take findings and answers, and ask for the bars that are due.

        Call it after each batch of messages.
        """
        for found in self._intake.drain_found():
            self._take_found(found, now)
        if self._worker is not None:
            for outcome in self._worker.drain():
                self._take_outcome(outcome, now)
        if now < self._next_turn:
            return
        self._next_turn = now + TURN_SECONDS
        for key, stream in self._streams.items():
            if stream.next_scan <= now:
                self._scan(key, stream, now)
        if self._requests is not None and self._worker is not None:
            self._requests.ask_due(now)
            if now >= self._next_mark:
                self._next_mark = now + MARK_SECONDS
                self._polling.hear(self._intake.silences(), self._is_newer, now)
                self._health.mark_polled(self._polling, self._intake)
                self._mark_compared(self._streams, now)
                self._log.paused(self._worker.pause, now)
                self._health.mark_warming(self._warmups, self._streams, now)
        self._log.flush(now)

    def _add(self, key: StreamKey, now: float) -> None:
        marked = self._marks.holes(key)
        last = self._intake.reader(key).last_closed()
        begins = self._intake.venue_now(now) if last is None else 0
        stream = RepairStream(StreamDefects(key[1], marked), marked, begins)
        self._streams[key] = stream
        if self._worker is not None and self._limits.warmup:
            self._warmups.add(key, self._limits.warmup, now)
            stream.is_restart = last is not None
        self._mark_compared([key], now)
        self._scan(key, stream, now)

    def _take_found(self, found: Found, now: float) -> None:
        stream = self._streams.get(found.key)
        if stream is None or isinstance(found, RevisionFound):
            return  # the intake has logged a revision
        self._next_turn = 0.0
        at = found.first if isinstance(found, HoleFound) else found.open_time
        last = self._intake.reader(found.key).last_closed()
        if isinstance(found, DisagreementFound):
            stream.recheck(at, now + self._limits.settle)
        elif last is not None and at <= last.open_time:
            stream.next_scan = now
        elif self._worker is not None and not stream.is_catching_up:
            # The ring does not show it: newer bars wait for what is missing.
            stream.held_until = max(stream.held_until, now + self._limits.grace)
            stream.catch_up_at, stream.failures = now, 0

    def _selected(self, keys: Iterable[StreamKey] | None) -> list[RepairStream]:
        if keys is None:
            return list(self._streams.values())
        return [self._streams[key] for key in keys if key in self._streams]

    # Defects

    def _scan(self, key: StreamKey, stream: RepairStream, now: float) -> None:
        rows = self._rows(key)
        stream.defects.update(find_defects(rows, key[1]), now)
        if self._worker is None:
            stream.defects.give_up("no_source", now)
        has_defects = len(stream.defects) > 0
        stream.next_scan = now + SCAN_SECONDS if has_defects else float("inf")
        self._publish_holes(key, stream)

    def _give_up_all(self, now: float) -> None:
        for key, stream in self._streams.items():
            stream.defects.give_up("no_source", now)
            self._publish_holes(key, stream)

    def _publish_holes(self, key: StreamKey, stream: RepairStream) -> None:
        holes = stream.defects.holes
        if holes != stream.published:
            stream.published = holes
            self._marks.set_holes(key, holes)

    def _rows(self, key: StreamKey) -> Rows:
        return self._intake.reader(key).snapshot(self._limits.history)

    def _mark_compared(self, keys: Iterable[StreamKey], now: float) -> None:
        if self._compares:
            self._health.mark_compared(self._polling, keys, now)

    def _is_newer(self, key: StreamKey) -> bool:
        """Return True if the socket has given the stream's newest bar."""
        reader = self._intake.reader(key)
        last = reader.last_closed()
        return reader.forming() is not None or not (last and last.flags & POLLED)

    # Answers

    def _take_outcome(self, outcome: HistoryOutcome, now: float) -> None:
        asked = outcome.job.token
        assert isinstance(asked, Asked)  # noqa: S101 # it is this module's own
        stream = self._streams.get(asked.key)
        if stream is None or stream.asked.get(asked.kind) is not asked:
            return  # no longer carried
        del stream.asked[asked.kind]
        if outcome.error is not None:
            self._log.failed(asked.key, outcome.error, now)
            self._failed(asked, stream, outcome.error.kind, now)
        elif outcome.answer is not None:
            self._take_answer(asked, stream, outcome.answer, now)
        if asked.kind == "poll":
            self._health.mark_polled(self._polling, self._intake)
        self._mark_compared([asked.key], now)
        self._publish_holes(asked.key, stream)
        self._next_turn = 0.0

    def _take_answer(
        self, asked: Asked, stream: RepairStream, answer: HistoryAnswer, now: float
    ) -> None:
        reader = self._intake.reader(asked.key)
        before = reader.last_closed(), reader.forming()
        if asked.kind == "poll" and has_later(answer, before[0]):
            self._health.mark_polled(self._polling, self._intake, asked.key)
        effect = self._apply(asked, stream, answer, now)
        is_news = has_news(answer, *before, stream.carried_from)
        is_proof = is_abreast(answer, before[0]) and not effect.disbelieved
        self._log.answered(now)
        if effect.failed:
            self._failed(asked, stream, "no_room", now)
        elif asked.kind == "poll":
            poll = PollEffect(effect.appended, is_news, is_proof)
            if self._polling.answered(asked.key, poll, answer.is_own, now):
                self._lying.append(asked.key)
        else:
            self._answered(asked, stream, answer, effect, now)
            if is_proof and not is_news:
                self._compared(asked)

    def _compared(self, asked: Asked) -> None:
        """Record that a request that reached to its own time found nothing newer."""
        last = self._intake.reader(asked.key).last_closed()
        if asked.kind in {"warmup", "reconnect"} and last is not None:
            venue_then = self._intake.venue_now(asked.at)
            until = asked.at + seconds_to_close(asked.key, last, venue_then)
            self._polling.compared(asked.key, asked.at, until)

    def _apply(
        self, asked: Asked, stream: RepairStream, answer: HistoryAnswer, now: float
    ) -> HistoryEffect:
        key = asked.key
        old = self._rows(key) if answer.is_own else None
        effect = self._intake.take_history(answer, how=_USES[asked.kind])
        if effect.disbelieved:
            self._log.disbelieved(key, effect.disbelieved, now)
        if effect.corrected and old is not None:
            for pair in changed_rows(old, self._rows(key)):
                self._log.corrected(key, *pair, now)
        if effect.unsettled:
            stream.recheck_at = now + self._limits.settle
        if asked.kind != "warmup" or stream.is_restart:
            self._log.repaired(key, effect, now)
        self._scan(key, stream, now)
        return effect

    def _failed(
        self, asked: Asked, stream: RepairStream, reason: HoleReason, now: float
    ) -> None:
        match asked.kind:
            case "warmup":
                self._warmups.failed(asked.key, now, reason)
            case "defect":
                stream.defects.failed(reason, now)
            case "poll":
                self._polling.failed(asked.key, now)
            case "recheck":
                stream.recheck_at = now + MOST_SECONDS
            case "reconnect":
                stream.failures += 1
                self._catch_up_again(stream, now + retry_delay(stream.failures))

    def _answered(
        self,
        asked: Asked,
        stream: RepairStream,
        answer: HistoryAnswer,
        effect: HistoryEffect,
        now: float,
    ) -> None:
        key = asked.key
        if asked.kind == "warmup":
            bars = 0 if effect.disbelieved else answer.block.shape[1]
            self._warmups.done(key, bars)
            self._log.warming(self._warmups.progress, now)
            was_restart, stream.is_restart = stream.is_restart, False
            if stream.catch_up_at is None and "reconnect" not in stream.asked:
                self._caught_up(key, stream, was_restart, now)
        elif asked.kind == "defect":
            reason: HoleReason = "disbelieved" if effect.disbelieved else "absent"
            given_up = stream.defects.answered(reason, answer.is_own, now)
            why = effect.disbelieved or f"{answer.source} does not have them"
            self._log.given_up(key, given_up, why, now)
        elif asked.kind == "recheck":
            if asked.request.first <= stream.recheck_from:
                stream.recheck_from = LAST_TIME
        elif asked.kind == "reconnect":
            self._caught_up(key, stream, True, now)

    def _caught_up(
        self, key: StreamKey, stream: RepairStream, has_rows: bool, now: float
    ) -> None:
        """Publish the newer bars, or ask again if history lacks bars before them."""
        last, again = self._intake.reader(key).last_closed(), now + AGAIN_SECONDS
        # A bar that closed after the connection came is the socket's to tell.
        lacks = is_behind(last, key, stream.carried_from)
        lacks = lacks or self._intake.is_holding(key)
        if has_rows and last is not None and lacks and again < stream.held_until:
            self._catch_up_again(stream, again)
        else:
            stream.release(key, self._intake)

    def _catch_up_again(self, stream: RepairStream, at: float) -> None:
        # Once newer bars are published, what they left out is a hole.
        stream.catch_up_at = at if at < stream.held_until else None
