"""An intake that has history, in a segment, with a clock of the test's own."""

import math
import time

import numpy as np

import shmfeed
from shmfeed.bar import Bar
from shmfeed.codecs.interface import BarEvent
from shmfeed.feeder import intake
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.row_events import RowVersion
from shmfeed.history.interface import HistoryAnswer, HistoryRequest
from shmfeed.memory.rows import ROW
from shmfeed.store.file import RowBatch
from shmfeed.writer import create

MINUTE = 60_000
T0 = 1_700_000_040_000 // MINUTE * MINUTE
KEY = ("BTCUSDT", "1m")
GRACE = 5.0
HISTORY = 50


def event(minute, closed=True, price=None, volume=1.0):
    price = 100.0 + minute if price is None else price
    values = (price, price, price, price)
    return BarEvent(*KEY, T0 + minute * MINUTE, 0, *values, volume, closed=closed)


def past(minute, price=None, flags=0):
    price = 100.0 + minute if price is None else price
    opened = T0 + minute * MINUTE
    values = (price, price, price, price)
    return Bar(opened, opened + MINUTE, *values, 1.0, math.nan, flags)


class Recorder:
    def __init__(self):
        self.versions = []

    def record(self, rows, now, published):
        batch = RowBatch(rows, now, published)
        self.versions += [RowVersion(*version) for version in batch.versions()]

    def told(self):
        return [
            ((one.bar.open_time - T0) // MINUTE, one.bar.close, one.cause)
            for one in self.versions
        ]


class Bench:
    """An intake that has history, with a clock of the test's own."""

    def __init__(self, name, monkeypatch):
        self.name, self.now, self.minute = name, 1000.0, 0
        monkeypatch.setattr(intake, "boot_seconds", lambda: self.now)
        monkeypatch.setattr(time, "time_ns", lambda: self.wall * 1_000_000)
        self.writer = None

    @property
    def wall(self):
        return T0 + self.minute * MINUTE + round((self.now - 1000.0) * 1000)

    def start(self, flagged=True, minute=100, **options):
        self.minute = minute  # of the venue's clock
        if self.writer is not None:
            self.feed.close()
            self.writer.close()
        self.writer = create(self.name, history=HISTORY, guard=10, max_streams=4)
        self.recorder = Recorder()
        given = {"history": True, "repair_grace": GRACE, "recorder": self.recorder}
        self.intake = Intake(self.writer, 2.0, flagged, **(given | options))
        self.intake.set_streams([KEY])
        self.intake.connected()
        self.feed = shmfeed.attach(self.name)
        self.ring = self.feed.ring(*KEY)
        return self

    def take(self, *events, line=0):
        self.intake.take(events, 0, line)

    def wait(self, seconds):
        self.now += seconds
        self.intake.tick()

    def history(self, *bars, first=None, last=None, how="repair", **more):
        block = np.array([np.frombuffer(ROW.pack(*bar)) for bar in bars]).T
        if not bars:
            block = np.empty((9, 0))
        first = bars[0].open_time if first is None else T0 + first * MINUTE
        last = bars[-1].open_time if last is None else T0 + last * MINUTE
        given = {"is_own": True, "source": "REST of binance spot", "venue_now": 0}
        given |= {"asked_at": self.now} | more
        request = HistoryRequest(KEY, first, last)
        answer = HistoryAnswer(request, np.ascontiguousarray(block), **given)
        return self.intake.take_history(answer, how=how)

    def rows(self):
        rows = self.ring.snapshot(HISTORY)
        return [
            ((bar.open_time - T0) // MINUTE, bar.close, bar.flags)
            for bar in (rows.bar(row) for row in range(len(rows)))
        ]

    def minutes(self):
        return [minute for minute, _, _ in self.rows()]

    def flags(self, minute):
        return {minute: flags for minute, _, flags in self.rows()}[minute]

    def gaps(self):
        status = self.feed.status()
        return status["gaps"], status["streams"][0]["gaps"]

    def count(self, *names):
        status = self.feed.status()
        return tuple(status[name] for name in names)

    def close(self):
        self.feed.close()
        self.writer.close(unlink=True)
