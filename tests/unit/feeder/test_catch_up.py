"""Messages that two feeders have had: each is applied once, in the venue's order."""

import random
import time

import numpy as np
import pytest
from support.forks import SCALE

import shmfeed
from shmfeed.bar import CLOSED_BY_NEXT, UNCONFIRMED
from shmfeed.codecs.interface import BarEvent
from shmfeed.feeder import intake as intake_module
from shmfeed.feeder.catch_up import CatchUp
from shmfeed.feeder.intake import Intake
from shmfeed.wire.events import Received
from shmfeed.writer import create

SECOND = 1000
T0 = 1_700_000_040_000
STREAMS = [("BTCUSDT", "1s"), ("ETHUSDT", "1s")]
RUNS = int(60 * SCALE)
HISTORY = 50


class Side:
    """A feeder's intake with its writer."""

    def __init__(self, name, flagged):
        self.writer = create(name, history=HISTORY, max_streams=4)
        self.intake = Intake(self.writer, 2.0, flagged)
        self.intake.set_streams(STREAMS)
        self.intake.connected()

    def take(self, messages):
        for message in messages:
            self.intake.take([message])

    def close(self, unlink=False):
        self.writer.close(unlink=unlink)


def message(key, number, volume, closed=None, **more):
    """Return a message about bar `number`, whose values follow from its volume."""
    opened = T0 + number * SECOND
    close = 100.0 + volume % 7
    values = {"open": 100.0, "high": 200.0, "low": 50.0, "close": close}
    return BarEvent(
        *key, opened, opened + SECOND, **values, volume=volume, closed=closed, **more
    )


def venue(rng, flagged, numbered, length=40):
    """Return the messages of a venue: bars of two streams, some of them revised."""
    told, state = [], dict.fromkeys(STREAMS, (0, 1.0))
    for _ in range(length):
        key = rng.choice(STREAMS)
        number, volume = state[key]
        if rng.random() < 0.3:
            if flagged:
                told.append(message(key, number, volume, closed=True))
                if number and rng.random() < 0.2:
                    told.append(message(key, number - 1, 1000.0 + volume, closed=True))
            number, volume = number + 1, 1.0
        else:
            volume += rng.choice([0.0, 1.0, 2.0])
        told.append(message(key, number, volume, closed=False if flagged else None))
        state[key] = number, volume
    if numbered:
        for number, one in enumerate(told):
            one.sequence = number
    return told


def state_of(feed_name):
    """Return the rows and the forming bar of each stream."""
    with shmfeed.attach(feed_name) as feed:
        found = {}
        for key in STREAMS:
            ring = feed.ring(*key)
            rows = ring.snapshot(HISTORY)
            forming = ring.forming()
            newest = None if forming is None else forming[:7]
            found[key] = rows.open_time.tolist(), rows.values.tolist(), newest
        return found


def flags_of(feed_name):
    with shmfeed.attach(feed_name) as feed:
        flags = [feed.ring(*key).snapshot(HISTORY)["flags"] for key in STREAMS]
        return np.concatenate(flags).tolist()


def counters(feed_name):
    with shmfeed.attach(feed_name) as feed:
        status = feed.status()
    return {name: status[name] for name in ("revisions", "gaps", "missed", "malformed")}


def hand_over(feed_name, told, cuts, flagged, find=None):
    """Let one feeder take `told` up to a cut, and a second one go on.

    The second one's connection begins at the first cut, the first feeder ends at the
    second one, and the messages up to the third are held.
    """
    begins, ends, held_to = cuts
    old = Side(feed_name, flagged)
    old.take(told[:ends])
    carried = old.intake.carry()
    old.close()
    new = Side(feed_name, flagged)
    held = [Received([one], 1) for one in told[begins:held_to]]
    catch_up = new.intake.catch_up(carried if find is None else {}, held)
    for received in held:
        catch_up.take(received)
    for one in told[held_to:]:
        new.intake.take([one], 1)
    return new


@pytest.fixture(autouse=True)
def still(monkeypatch):
    """Let no time pass, so that the clock ends no bar."""
    monkeypatch.setattr(intake_module, "boot_seconds", lambda: 1000.0)
    monkeypatch.setattr(time, "time_ns", lambda: T0 * 1_000_000)


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("flagged", [False, True])
def test_the_rows_are_those_of_one_feeder(feed_name, flagged, numbered) -> None:
    rng = random.Random(7)
    for _ in range(RUNS):
        told = venue(rng, flagged, numbered)
        begins, ends, held_to = sorted(rng.randrange(len(told) + 1) for _ in range(3))
        one = Side(feed_name, flagged)
        one.take(told)
        expected, counted = state_of(feed_name), counters(feed_name)
        flags = flags_of(feed_name)
        one.close(unlink=True)
        new = hand_over(feed_name, told, (begins, ends, held_to), flagged)
        try:
            assert state_of(feed_name) == expected, (told, begins, ends, held_to)
            assert counters(feed_name) == counted
            assert flags_of(feed_name) == flags
        finally:
            new.close(unlink=True)


def test_a_connection_that_lags_ends_with_the_same_rows(feed_name) -> None:
    rng = random.Random(8)
    for _ in range(RUNS):
        told = venue(rng, True, False)
        begins, held_to, ends = sorted(rng.randrange(len(told) + 1) for _ in range(3))
        one = Side(feed_name, True)
        one.take(told)
        expected = state_of(feed_name)
        one.close(unlink=True)
        new = hand_over(feed_name, told, (begins, ends, held_to), True)
        try:
            assert state_of(feed_name) == expected
        finally:
            new.close(unlink=True)


def test_without_the_comparison_rows_are_revised(feed_name, monkeypatch) -> None:
    monkeypatch.setattr(CatchUp, "_is_known", lambda *_: False)
    with pytest.raises(AssertionError):
        test_the_rows_are_those_of_one_feeder(feed_name, True, False)


def test_a_bar_whose_last_message_came_before_is_not_in_doubt(feed_name) -> None:
    key = STREAMS[0]
    told = [message(key, 0, 1.0), message(key, 0, 2.0), message(key, 1, 1.0)]
    new = hand_over(feed_name, told, (2, 2, 2), flagged=False)
    assert flags_of(feed_name) == [CLOSED_BY_NEXT]
    new.close(unlink=True)


def test_after_a_death_only_a_bar_whose_message_is_held_is_known(feed_name) -> None:
    key = STREAMS[0]
    told = [message(key, 0, 1.0), message(key, 0, 2.0), message(key, 1, 1.0)]
    for begins, flags in ((1, CLOSED_BY_NEXT), (2, CLOSED_BY_NEXT | UNCONFIRMED)):
        new = hand_over(feed_name, told, (begins, 2, 3), flagged=False, find={})
        assert flags_of(feed_name) == [flags]
        new.close(unlink=True)
