"""The venue's own grid: computed by other means than the feeder's, and with phases."""

import itertools
import random
from datetime import UTC, datetime

import pytest
from support.venue_client import ask, client, receive

from shmfeed import bar as believed
from shmfeed.simulator import Venue, grid
from shmfeed.simulator.options import venue_options
from shmfeed.simulator.schedule import full_speed, open_times_before
from shmfeed.simulator.wealthai import WealthaiDialect

DAY = 86_400_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT")


@pytest.mark.parametrize("timeframe", [t for t in believed.TIMEFRAMES if t != "3d"])
def test_all_grids_but_one_are_the_feeders(timeframe):
    rng = random.Random(timeframe)
    for _ in range(200):
        time = rng.randrange(2_000_000_000_000)
        begin = grid.begin(time, "A", timeframe, None)
        assert begin == believed.floor(time, timeframe)
        end = grid.end(begin, timeframe)
        assert begin <= time < end == believed.close_time(begin, timeframe)


def test_weeks_begin_on_monday_and_months_on_the_first():
    def date(time):
        return datetime.fromtimestamp(time / 1000, UTC)

    time = 1_767_000_000_000  # 2025-12-29, a Monday, 09:20
    assert date(grid.begin(time, "A", "1w", None)) == datetime(2025, 12, 29, tzinfo=UTC)
    month = grid.begin(time, "A", "1M", None)
    assert date(month) == datetime(2025, 12, 1, tzinfo=UTC)
    assert date(grid.end(month, "1M")) == datetime(2026, 1, 1, tzinfo=UTC)
    leap = grid.begin(1_709_200_000_000, "A", "1M", None)
    assert grid.end(leap, "1M") - leap == 29 * DAY


def test_each_symbol_has_its_own_phase_of_3_days():
    phases = {
        symbol: grid.begin(1_767_000_000_000, symbol, "3d", None) // DAY % 3
        for symbol in SYMBOLS
    }
    assert set(phases.values()) == {0, 1, 2}
    for symbol, phase in phases.items():
        assert grid.phase(symbol.lower(), "3d", None) == phase * DAY
        assert grid.begin(1_767_000_000_000, symbol, "3d", 1) // DAY % 3 == 1


@pytest.mark.parametrize("phase", [0, 1, 2])
@pytest.mark.parametrize("speed", ["max", 10_000])
def test_the_option_sets_the_phase_of_what_is_sent(phase, speed):
    options = {"speed": speed, "bars": 3, "history": 2, "grid_phase": phase}
    with Venue(**options) as venue, client(venue) as connection:
        ask(connection, resolutions=["3d"])
        begins = [receive(connection)["open_time"] for _ in range(3)]
    assert {begin // DAY % 3 for begin in begins} == {phase}
    assert all(begin % DAY == 0 for begin in begins)


def test_a_run_at_full_speed_follows_the_symbols_phase():
    options = venue_options({"speed": "max", "bars": 4})
    dialect = WealthaiDialect(options)
    found = {}
    for symbol in SYMBOLS:

        def encode(key, states):
            found.setdefault(key[0], set()).update(
                state[0] // DAY % 3 for state in states
            )
            return dialect.encode(key, states)

        list(full_speed(options, encode, [(symbol, "3d")], 1_767_000_000_000))
    assert found == {s: {grid.phase(s, "3d", None) // DAY} for s in SYMBOLS}


def test_months_before_a_month_are_months():
    end = grid.begin(1_767_000_000_000, "A", "1M", None)
    times = open_times_before(end, "1M", 14)
    assert all(grid.end(a, "1M") == b for a, b in itertools.pairwise(times))
