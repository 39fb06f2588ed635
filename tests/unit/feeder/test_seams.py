"""The seam of history and live messages, with outages at any moment, beside the truth.

A venue sends each minute's updates and its end, of which outages lose some. History
answers late, and repair asks until nothing is missing. The rows must be the truth's:
each bar once, in order, with its last values.
"""

import math
import random
import time

import numpy as np
import pytest

import shmfeed
from shmfeed.bar import AFTER_GAP, UNCONFIRMED, Bar
from shmfeed.codecs.interface import BarEvent
from shmfeed.feeder import history_ledger, intake
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.row_merge import merge, opens_of
from shmfeed.history.interface import HistoryAnswer, HistoryRequest
from shmfeed.memory.rows import ROW
from shmfeed.writer import create

MINUTE = 60_000
T0 = 1_700_000_040_000 // MINUTE * MINUTE
KEY = ("BTCUSDT", "1m")
MINUTES, HISTORY, GRACE = 30, 100, 5.0
UPDATES = (1.0, 20.0, 40.0, 59.0)  # seconds after a bar's open
END = 60.3
FINAL = len(UPDATES)


def price(minute, update=FINAL):
    return 100.0 + minute + update / 10


class Venue:
    """The messages of a venue, in order, with the seconds at which they come."""

    def __init__(self, flagged):
        self.frames = []
        for minute in range(MINUTES):
            for update, at in enumerate(UPDATES):
                closed = False if flagged else None
                # Without a flag the last update has the final values.
                value = price(minute, update if flagged or update < 3 else FINAL)
                self.frames.append((60 * minute + at, minute, closed, value))
            if flagged:
                self.frames.append((60 * minute + END, minute, True, price(minute)))
        self.frames.sort()


class Feed:
    """An intake on a segment, with a venue's clock, and history that comes late."""

    def __init__(self, name, monkeypatch, flagged, seed, has_history=True):
        self.random = random.Random(seed)
        self.now = 0.0
        monkeypatch.setattr(intake, "boot_seconds", lambda: 1000.0 + self.now)
        wall = lambda: (T0 + int(self.now * 1000)) * 1_000_000  # noqa: E731
        monkeypatch.setattr(time, "time_ns", wall)
        self.writer = create(name, history=HISTORY, guard=40, max_streams=2)
        options = {"history": has_history, "repair_grace": GRACE, "rest_settle": 0.0}
        self.intake = Intake(self.writer, 2.0, flagged, **options)
        self.intake.set_streams([KEY])
        self.intake.connected()
        self.feed = shmfeed.attach(name)
        self.ring = self.feed.ring(*KEY)
        self.has_history = has_history
        self.answers = []  # (when it comes, first minute, last minute)
        self.seen = []

    def close(self):
        self.feed.close()
        self.writer.close(unlink=True)

    def advance(self, until):
        """Let time pass, with ticks and answers, and look as a reader does."""
        while self.now < until:
            self.now = min(until, self.now + 0.5)
            self.intake.tick()
            for found in self.intake.drain_found():
                first = getattr(found, "first", getattr(found, "open_time", T0))
                self.ask((first - T0) // MINUTE)
            due = [one for one in self.answers if one[0] <= self.now]
            self.answers = [one for one in self.answers if one[0] > self.now]
            for _, first in due:
                self.answer(first)
            self.look()

    def ask(self, first):
        delay = self.random.choice((0.1, 0.4, 2.0, 9.0))
        self.answers.append((self.now + delay, first))

    def answer(self, first):
        if not self.has_history:
            return
        last = int(self.now // 60) - 1
        bars = [truth(minute) for minute in range(max(0, first - 3), last + 1)]
        if bars:
            cells = [np.frombuffer(ROW.pack(*bar)) for bar in bars]
            request = HistoryRequest(KEY, bars[0].open_time, bars[-1].open_time)
            block = np.ascontiguousarray(np.array(cells).T)
            now = 1000.0 + self.now
            answer = HistoryAnswer(request, block, True, "REST", 0, now)
            self.intake.take_history(answer, how="repair")

    def look(self):
        """Check that no row of before is gone, and that rows are in order."""
        rows = self.ring.snapshot(HISTORY)
        times = rows.open_time.tolist()
        assert times == sorted(set(times))
        assert set(self.seen) <= set(times)
        self.seen = times

    def rows(self):
        rows = self.ring.snapshot(HISTORY)
        minutes = (rows.open_time - T0) // MINUTE
        return list(zip(minutes.tolist(), rows["close"].tolist(), strict=True))

    def play(self, venue):
        """Receive the venue's frames, between outages."""
        lost_until = -1.0
        for at, minute, closed, value in venue.frames:
            if self.random.random() < 0.04 and at > lost_until:
                self.advance(at - 0.2)
                self.intake.disconnected()
                lost_until = at + self.random.choice((0.5, 30.0, 70.0, 200.0))
            if at < lost_until:
                continue
            if lost_until > 0:
                self.advance(max(self.now, lost_until))
                self.intake.connected()
                last = self.ring.forming() or self.ring.snapshot(1)
                if isinstance(last, Bar):
                    self.ask((last.open_time - T0) // MINUTE)
                lost_until = -1.0
            self.advance(at)
            values = (value, value, value, value)
            opened = T0 + minute * MINUTE
            self.intake.take([BarEvent(*KEY, opened, 0, *values, 1.0, closed=closed)])
        self.advance(60.0 * MINUTES + 30)


def truth(minute):
    opened = T0 + minute * MINUTE
    return Bar(opened, opened + MINUTE, *[price(minute)] * 4, 1.0, math.nan, 0)


@pytest.mark.parametrize("flagged", [True, False], ids=["flagged", "plain"])
@pytest.mark.parametrize("seed", range(15))
def test_the_rows_are_the_truth(feed_name, monkeypatch, flagged, seed):
    feed = Feed(feed_name, monkeypatch, flagged, seed)
    try:
        feed.play(Venue(flagged))
        found = feed.rows()
        first, last = found[0][0], found[-1][0]
        assert last >= MINUTES // 2
        assert found == [(n, price(n)) for n in range(first, last + 1)]
        flags = feed.ring.snapshot(HISTORY)["flags"]
        assert not (flags[1:] & (AFTER_GAP | UNCONFIRMED)).any()
        status = feed.feed.status()
        assert status["gaps"] == status["streams"][0]["gaps"] == 0
    finally:
        feed.close()


@pytest.mark.parametrize("flagged", [True, False], ids=["flagged", "plain"])
def test_control_without_history_bars_are_missing(feed_name, monkeypatch, flagged):
    feed = Feed(feed_name, monkeypatch, flagged, 1, has_history=False)
    try:
        feed.play(Venue(flagged))
        found = feed.rows()
        assert found != [(n, price(n)) for n in range(found[0][0], MINUTES)]
        assert feed.feed.status()["gaps"] > 0
    finally:
        feed.close()


def test_control_a_history_that_skips_a_bar_is_noticed(feed_name, monkeypatch):
    take = history_ledger.HistoryLedger.take_history

    def take_less(ledger, rows, now, may_end):
        return take(ledger, rows[1:], now, may_end)

    monkeypatch.setattr(history_ledger.HistoryLedger, "take_history", take_less)
    monkeypatch.setattr("shmfeed.feeder.history_taking.merge", keep_rows)
    feed = Feed(feed_name, monkeypatch, False, 1)
    try:
        feed.play(Venue(False))
        found = feed.rows()
        assert found != [(n, price(n)) for n in range(found[0][0], found[-1][0] + 1)]
    finally:
        feed.close()


def keep_rows(rows, history, rule):
    """Merge nothing: a mutant."""
    return merge(rows, history[:, opens_of(history) > opens_of(rows)[-1]], rule)
