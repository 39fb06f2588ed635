"""An hour of a venue's traffic makes exactly its rows."""

import random
from typing import NamedTuple

import pytest
from support.ledger_stream import GIVEN_UP, MINUTE, START, Sink, Stream, event

from shmfeed.bar import AFTER_GAP, CLOSED_BY_VENUE, Bar
from shmfeed.codecs.interface import BarEvent

UPDATES = 120  # a minute, evenly
LOST_FROM, LOST_TO = 30 * 60 + 20, 33 * 60 + 10  # seconds without a connection


class Frame(NamedTuple):
    time: float  # of its arrival, seconds since the start
    event: BarEvent


def an_hour(rng: random.Random) -> list[list[Frame]]:
    """Return sixty bars, each as its frames in order, the last one final."""
    bars = []
    price = 100.0
    for minute in range(60):
        first = high = low = price
        volume = 0.0
        frames = []
        for number in range(1, UPDATES + 1):
            price += rng.choice((-0.5, 0.0, 0.5))
            high, low = max(high, price), min(low, price)
            volume += rng.random()
            values = {"open": first, "high": high, "low": low, "volume": volume}
            said = event(minute, number == UPDATES, price, money=price, **values)
            frames.append(Frame((minute + number / UPDATES) * 60, said))
        bars.append(frames)
    return bars


def row(said: BarEvent, flags: int = CLOSED_BY_VENUE) -> Bar:
    ends = said.open_time + MINUTE
    prices = (said.open, said.high, said.low, said.close)
    return Bar(said.open_time, ends, *prices, said.volume, said.money, flags)


def disordered(rng: random.Random, bars: list[list[Frame]]) -> list[Frame]:
    """Return all frames as they arrive: finals up to three frames late, some twice."""
    arrivals = []
    for frames in bars:
        *updates, final = frames
        late = rng.randrange(4) * 60 / UPDATES + 0.1
        arrivals += [*updates, final._replace(time=final.time + late)]
    arrivals += rng.sample(arrivals, 200)
    return sorted(arrivals, key=lambda frame: frame.time)


def deliver(stream: Stream, arrivals: list[Frame], cut: float | None = None) -> Sink:
    for time, said in arrivals:
        if cut is not None and time >= cut:
            stream.ledger.reconnected()
            cut = None
        venue = START + int(time * 1000)
        stream.apply(said, venue, time)
        stream.tick(venue=venue, now=time)
    return stream.sink


@pytest.mark.parametrize("seed", range(3))
def test_disorder_and_duplicates_change_no_row(seed):
    rng = random.Random(seed)
    bars = an_hour(rng)
    arrivals = disordered(rng, bars)
    stream = Stream()
    sink = deliver(stream, arrivals)
    assert sink.rows == [row(frames[-1].event) for frames in bars]
    counted = stream.counted()
    assert counted.keys() <= {"duplicates", "late"}
    assert sum(counted.values()) <= 200
    assert counted["duplicates"] > 0


def test_control_without_a_grace_disorder_changes_rows():
    rng = random.Random(0)
    bars = an_hour(rng)
    sink = deliver(Stream(close_grace_ms=0), disordered(rng, bars))
    assert sink.rows != [row(frames[-1].event) for frames in bars]


def test_a_broken_connection_costs_what_it_hid():
    rng = random.Random(7)
    bars = an_hour(rng)
    received = [f for f in disordered(rng, bars) if not LOST_FROM <= f.time < LOST_TO]
    stream = Stream()
    sink = deliver(stream, received, LOST_TO)

    truth = [row(frames[-1].event) for frames in bars]
    cut = [f.event for f in bars[30] if f.time < LOST_FROM][-1]
    behind = truth[33]._replace(flags=CLOSED_BY_VENUE | AFTER_GAP)
    assert sink.rows == [*truth[:30], row(cut, GIVEN_UP), behind, *truth[34:]]
    assert stream.sink.tally["gaps"] == 2


def test_duplicates_alone_publish_the_same_rows():
    bars = an_hour(random.Random(1))
    twice = [frame for frames in bars for frame in frames for _ in range(2)]
    stream = Stream()
    assert deliver(stream, twice).rows == [row(frames[-1].event) for frames in bars]
    assert stream.counted() == {"duplicates": 60}
