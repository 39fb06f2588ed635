"""The ledger beside simple models of it, and under arbitrary messages."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ledger_stream import (
    GIVEN_UP,
    MINUTE,
    START,
    Sink,
    Stream,
    event,
    row,
    writes_of,
)

from shmfeed.bar import (
    AFTER_GAP,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    UNCONFIRMED,
    Bar,
)
from shmfeed.codecs.interface import BarEvent
from shmfeed.feeder.ledger_events import Anomaly, PastFinal, RowRevised, RowWrite

COUNTED = Anomaly | PastFinal | RowRevised
FOREVER = 1e9
GRACE = 2.0
SECOND = 1000


@pytest.mark.parametrize("closed", [True, False])
def test_control_the_sink_refuses_a_bar_not_newer_than_the_rows(closed):
    sink = Sink()
    sink.write([RowWrite(True, row(0, flags=CLOSED_BY_NEXT))])
    with pytest.raises(AssertionError):
        sink.write([RowWrite(closed, row(0, flags=CLOSED_BY_NEXT if closed else 0))])


# Flagged: each frame lost, delayed less than the grace, doubled

delays = st.lists(st.floats(0, 1.9), max_size=2)  # one a copy; none: it is lost
flagged_bars = st.lists(st.tuples(delays, delays, delays), min_size=1, max_size=12)


def one_second_event(number: int, closed: bool, price: float) -> BarEvent:
    opened = START + number * SECOND
    return BarEvent("X", "1s", opened, 0, price, price, price, price, 1.0, 1.0, closed)


def arrivals(bars) -> list[tuple[float, int, bool, float]]:
    """Return (time, bar, final, price) in the order of arrival; bars last a second."""
    frames = []
    for number, copies in enumerate(bars):
        for part, times in enumerate(copies):
            sent = number + (part + 1) / 3
            frames += [(sent + t, number, part == 2, number + sent) for t in times]
    return sorted(frames)


def expected_rows(received, count: int) -> list[tuple[int, float, int]]:
    """Return each bar's final message or, unconfirmed, its last update."""
    rows = []
    missing = False
    newest = max((number for _, number, _, _ in received), default=-1)
    for number in range(count):
        updates = [p for _, n, final, p in received if n == number and not final]
        finals = [p for _, n, final, p in received if n == number and final]
        gap = AFTER_GAP if missing else 0
        if finals:
            rows.append((number, finals[0], CLOSED_BY_VENUE | gap))
        elif updates and number != newest:
            rows.append((number, updates[-1], GIVEN_UP | gap))
        missing = not (finals or updates)
    return rows


def play_flagged(bars, grace_seconds: float):
    """Return the rows as (number, price, flags), and the stream."""
    before = Bar(START - SECOND, START, 1.0, 1.0, 1.0, 1.0, 1.0)
    grace = int(grace_seconds * 1000)
    stream = Stream("1s", last_closed=before, close_grace_ms=grace)
    for time, number, final, price in arrivals(bars):
        stream.apply(one_second_event(number, final, price), START, time)
        stream.tick(venue=START, now=time)
    stream.tick(venue=START, now=FOREVER)
    written = stream.sink.rows
    rows = [((r.open_time - START) // SECOND, r.close, r.flags) for r in written]
    return rows, stream


@settings(deadline=None)  # the machine is shared
@given(flagged_bars)
def test_flagged_rows_are_the_received_ones(bars):
    rows, stream = play_flagged(bars, GRACE)
    assert rows == expected_rows(arrivals(bars), len(bars))
    written = {number for number, _, _ in rows}
    missing = max(written) + 1 - len(written) if written else 0
    assert stream.sink.tally["gaps"] == missing
    assert not stream.ledger.is_recovering
    assert not stream.counted().keys() & {"malformed", "revisions"}


def test_control_the_model_notices_a_short_grace():
    bars = [([0.0], [], [1.9]), ([0.0], [], [0.0])]
    assert play_flagged(bars, GRACE)[0] == expected_rows(arrivals(bars), 2)
    assert play_flagged(bars, 0.5)[0] != expected_rows(arrivals(bars), 2)


# Without flags

prices = st.sampled_from((1.0, 2.0, 3.0))
plain_commands = st.lists(
    st.one_of(
        st.tuples(st.just("bar"), st.integers(0, 8), prices),
        st.tuples(st.just("time"), st.integers(1, 90)),
        st.tuples(st.just("reconnected")),
    ),
    max_size=40,
)


class PlainModel:
    """The shortest model of an unflagged stream's rows."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[float, int]] = {}
        self.forming: tuple[int, float] | None = None
        self.doubt = 0
        self.time = 0  # seconds since the start
        self.last_message_at = -GRACE
        self.ahead = False  # more came of what the clock had closed

    def past_its_time(self, minute: int) -> bool:
        return self.time >= (minute + 1) * 60 + GRACE

    def bar(self, minute: int, price: float) -> None:
        self.last_message_at = self.time
        if minute <= max(self.rows, default=-1):
            row, flags = self.rows.get(minute, (price, 0))
            self.ahead |= bool(flags & CLOSED_BY_CLOCK) and row != price
            return
        if self.forming is None or minute >= self.forming[0]:
            if self.forming is not None and minute > self.forming[0]:
                self.close(CLOSED_BY_NEXT | self.doubt)
            self.forming, self.doubt = (minute, price), 0
            if not self.ahead:
                self.tick()
        elif self.past_its_time(minute):
            self.rows[minute] = price, CLOSED_BY_CLOCK

    def tick(self) -> None:
        if self.ahead and self.time < self.last_message_at + GRACE:
            return
        if self.forming is not None and self.past_its_time(self.forming[0]):
            self.close(CLOSED_BY_CLOCK | self.doubt)
            self.ahead = False

    def close(self, flags: int) -> None:
        minute, price = self.forming
        self.rows[minute] = price, flags
        self.forming = None


@settings(deadline=None)
@given(plain_commands)
def test_unflagged_rows_are_the_models(commands):
    model, stream = PlainModel(), Stream()
    sink = stream.sink
    for command, *values in commands:
        venue = START + model.time * 1000
        if command == "bar":
            minute, price = values
            model.bar(minute, price)
            said = event(minute, None, price)
            stream.apply(said, venue, float(model.time))
        elif command == "time":
            model.time += values[0]
            model.tick()
            stream.tick(venue=START + model.time * 1000, now=float(model.time))
        else:
            model.doubt = UNCONFIRMED
            stream.ledger.reconnected()
    rows = [((r.open_time - START) // MINUTE, r.close) for r in sink.rows]
    assert rows == [(minute, price) for minute, (price, _) in model.rows.items()]
    flags = [r.flags & ~AFTER_GAP for r in sink.rows]
    assert flags == [flags for _, flags in model.rows.values()]
    holes = [b[0] - a[0] - 1 for a, b in pairwise(rows)]
    assert [bool(r.flags & AFTER_GAP) for r in sink.rows[1:]] == [h > 0 for h in holes]
    assert sink.tally["gaps"] == sum(holes)
    assert not stream.ledger.is_recovering
    forming = sink.forming and ((sink.forming.open_time - START) // MINUTE)
    assert forming == (model.forming and model.forming[0])


# Anything at all

flags = st.sampled_from((True, False, None))
anything = st.lists(
    st.one_of(
        st.tuples(st.just("bar"), st.integers(-1, 8), flags, prices, st.just(1.0)),
        st.tuples(st.just("bar"), st.integers(-1, 8), flags, prices, st.just(-1.0)),
        st.tuples(st.just("time"), st.sampled_from((0.5, 1.0, 2.0, 60.0))),
        st.tuples(st.just("reconnected")),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(anything, st.integers(0, 3000))
def test_every_message_ends_in_one_place(commands, grace):
    stream = Stream(close_grace_ms=grace)
    ledger, sink = stream.ledger, stream.sink
    time, waiting = 0.0, set()
    for command, *values in commands:
        venue = START + int(time * 1000)
        if command == "bar":
            minute, closed, price, volume = values
            said = event(minute, closed, price, volume=volume)
            events = stream.apply(said, venue, time)
            counted = sum(isinstance(one, COUNTED) for one in events)
            published = [s for s in writes_of(events) if s[1:3] == (minute, price)]
            assert counted in (0, 1)
            if not counted and not published:
                assert ledger.is_recovering
                waiting.add(minute)
        elif command == "time":
            time += values[0]
            stream.tick(venue=START + int(time * 1000), now=time)
        else:
            ledger.reconnected()
    stream.tick(venue=START, now=FOREVER)
    assert not ledger.is_recovering
    written = [*sink.rows, *([sink.forming] if sink.forming else [])]
    assert waiting <= {(bar.open_time - START) // MINUTE for bar in written}


times = st.one_of(st.integers(), st.integers(0, 9).map(lambda n: START + n * MINUTE))
numbers = st.one_of(st.floats(), st.just(1.0))
words = st.builds(
    BarEvent,
    symbol=st.just("X"),
    timeframe=st.just("1m"),
    open_time=times,
    close_time=st.one_of(st.just(0), times),
    open=numbers,
    high=numbers,
    low=numbers,
    close=numbers,
    volume=numbers,
    money=numbers,
    closed=flags,
)


@settings(deadline=None)
@given(st.lists(words, max_size=20), st.sampled_from(("1m", "1h", "1w", "1M")))
def test_nothing_raises_and_no_invalid_row_is_written(said, timeframe):
    stream = Stream(timeframe)
    for number, message in enumerate(said):
        stream.apply(message, START, number)
        stream.tick(venue=START, now=number)
    stream.tick(venue=START, now=FOREVER)
    for bar in stream.sink.rows:
        assert all(map(math.isfinite, bar[2:7]))
        assert bar.low <= min(bar.open, bar.close)
        assert max(bar.open, bar.close) <= bar.high
        assert bar.volume >= 0
        assert math.isnan(bar.money) or bar.money >= 0
