"""A venue, an intake and a worker in memory, for repairs by the test's own clock.

The venue closes a bar each second. The intake keeps rows by their numbers, and holds
newer bars as a real one does: for as long as it is told to, or until it is released.
"""

from support.blocks import bar_block

from shmfeed.bar import (
    AFTER_GAP,
    BACKFILLED,
    CLOSED_BY_VENUE,
    POLLED,
    UNCONFIRMED,
)
from shmfeed.feeder.row_events import (
    DueBars,
    HistoryEffect,
    HoleFound,
    UnconfirmedFound,
)
from shmfeed.history.interface import (
    HistoryAnswer,
    HistoryError,
    HistoryOutcome,
)
from shmfeed.memory.rows import Rows

SECOND = 1000
KEY = ("BTCUSDT", "1s")


class FakeVenue:
    """A venue with bars 0, 1, 2, ..; `lacks` are the numbers of those it never had."""

    def __init__(self, lacks=()):
        self.lacks = set(lacks)
        self.is_away = False
        self.lag = 0  # seconds by which its history is behind
        self.requests = []

    def newest(self, now):
        return int(now) - 1

    def fetch(self, request, now):
        """Return the numbers of the bars that answer a request."""
        self.requests.append((now, request))
        if self.is_away:
            raise HistoryError("no answer", "away")
        newest = self.newest(now - self.lag)
        first, last = request.first // SECOND, min(newest, request.last // SECOND)
        if request.newest:
            first, last = max(0, newest - request.newest + 1), newest
        return [n for n in range(first, last + 1) if n not in self.lacks]


class FakeReader:
    """The reading half of a fake intake's rows."""

    def __init__(self, rows):
        self._rows = rows

    def snapshot(self, count):
        numbers = sorted(self._rows)[-count:]
        flags = [self._rows[n] for n in numbers]
        return Rows(bar_block(numbers, flags, "1s"), 0)

    def last_closed(self):
        rows = self.snapshot(1)
        return rows.bar(0) if len(rows) else None

    def forming(self):
        return None


class FakeIntake:
    """The rows of one stream, number -> flags."""

    def __init__(self):
        self.rows = {}
        self.held = {}
        self.until = 0.0
        self.heard = 0.0
        self.is_carried = False
        self.found = []
        self.now = 0.0

    def reader(self, key):
        return FakeReader(self.rows)

    def venue_now(self, now):
        return int(now * SECOND)

    def hold(self, keys, until):
        self.until = until

    def release(self, keys):
        self.until = 0.0
        self._publish()

    def is_holding(self, key):
        return bool(self.held)

    def turn(self, now):
        self.now = now
        if now >= self.until:
            self._publish()

    def close(self, number, flags=CLOSED_BY_VENUE):
        """Take a closing message."""
        self.heard = self.now
        if number > max(self.rows, default=-1):
            self.held[number] = flags
            if self.now >= self.until:
                self._publish()

    def drain_found(self):
        found, self.found = self.found, []
        return found

    def due(self, now):
        last = max(self.rows, default=-1)
        newest = int(now) - 1
        if last < 0 or newest <= last:
            return []
        late = now - (last + 2)
        times = (last + 1) * SECOND, newest * SECOND
        return [DueBars(KEY, *times, late, now - self.heard)]

    def silences(self):
        return {KEY: self.now - self.heard} if self.is_carried else {}

    def take_history(self, answer, *, how):
        numbers = (Rows(answer.block, 0).open_time // SECOND).tolist()
        last, effect = max(self.rows, default=-1), HistoryEffect()
        filled = [n for n in numbers if n < last and n not in self.rows]
        newer = [n for n in numbers if n > last]
        doubtful = [n for n in numbers if self.rows.get(n, 0) & UNCONFIRMED]
        for number in doubtful:
            self.rows[number] &= ~UNCONFIRMED
        for number in filled:
            self.rows[number] = CLOSED_BY_VENUE | BACKFILLED
        flag = POLLED if how == "poll" else BACKFILLED
        for number in newer:
            self.held.pop(number, None)
            self.rows[number] = CLOSED_BY_VENUE | flag
        self._flag_gaps()
        effect = HistoryEffect(len(newer), len(filled), 0, 0, len(doubtful))
        span = range(answer.request.first // SECOND, answer.request.last // SECOND + 1)
        have = self.rows.keys() | self.held.keys()
        missing = sum(n not in have for n in span if n < int(self.now))
        return effect._replace(missing=missing if not answer.request.newest else 0)

    def _publish(self):
        for number in sorted(self.held):
            last = max(self.rows, default=number - 1)
            if number <= last:
                continue
            self.rows[number] = self.held[number]
            if number > last + 1:
                missing = number - last - 1
                times = (last + 1) * SECOND, (number - 1) * SECOND
                self.found.append(HoleFound(KEY, *times, missing))
            if self.held[number] & UNCONFIRMED:
                self.found.append(UnconfirmedFound(KEY, number * SECOND))
        self.held.clear()
        self._flag_gaps()

    def _flag_gaps(self):
        for number in self.rows:
            is_after = number - 1 not in self.rows and number > min(self.rows)
            flags = self.rows[number] & ~AFTER_GAP
            self.rows[number] = flags | AFTER_GAP * is_after


class FakeMarks:
    """The marks of one stream: its holes, and each reason of its health."""

    def __init__(self):
        self.records = []
        self.reasons = []
        self.compared = []

    def explain(self, *reason):
        self.reasons.append(reason)

    def holes(self, key):
        return self.records

    def set_holes(self, key, holes):
        self.records = list(holes)

    def set_compared(self, key, at):
        self.compared.append(at)


class FakeWorker:
    """A worker that answers after `delay` seconds of the test's clock."""

    def __init__(self, venue, delay=0.1, is_own=True):
        self.venue = venue
        self.delay = delay
        self.delays = {}  # of some purposes
        self.is_own = is_own
        self.now = 0.0
        self.jobs = []
        self.asked = []
        self.is_closed = False
        self.pause = ""

    def ask(self, job):
        self.asked.append((self.now, job))
        delay = self.delays.get(job.purpose, self.delay)
        self.jobs.append((self.now + delay, job))

    def cancel(self, key):
        self.jobs = [(at, job) for at, job in self.jobs if job.request.key != key]

    def drain(self):
        ended = [(at, job) for at, job in self.jobs if at <= self.now]
        self.jobs = [(at, job) for at, job in self.jobs if at > self.now]
        return [self._outcome(job, at) for at, job in ended]

    def close(self):
        self.is_closed = True

    def _outcome(self, job, at):
        try:
            numbers = self.venue.fetch(job.request, at)
        except HistoryError as error:
            return HistoryOutcome(job, None, error)
        block = bar_block(numbers, CLOSED_BY_VENUE, "1s")
        answer = HistoryAnswer(job.request, block, self.is_own, "REST", 0, at)
        return HistoryOutcome(job, answer, None)
