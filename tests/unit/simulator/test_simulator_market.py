"""The market's bars are pure, join up, and do not depend on how they are computed."""

import itertools
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.bar import LAST_TIME, TIMEFRAMES, close_time, floor
from shmfeed.simulator import STEPS, bar, expected, verify
from shmfeed.simulator.market import close_times, progress

MINUTES = np.arange(1000, dtype=np.int64) * 60_000 + 1_700_000_040_000

seeds = st.integers(0, 1 << 40)
symbols = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,11}", fullmatch=True)
timeframes = st.sampled_from(sorted(TIMEFRAMES))
moments = st.lists(st.integers(4 * 86_400_000, LAST_TIME - 1), min_size=1, max_size=20)


def floors(times: list[int], timeframe: str) -> np.ndarray:
    return np.array([floor(time, timeframe) for time in times], np.int64)


@given(seeds, symbols, timeframes, moments)
def test_expected_equals_bar(seed, symbol, timeframe, times):
    opened = floors(times, timeframe)
    values = expected(seed, symbol, timeframe, opened)
    ends = close_times(opened, timeframe)
    for i, open_time in enumerate(opened.tolist()):
        made = bar(seed, symbol, timeframe, open_time)
        assert list(made[2:7]) == values[:, i].tolist()
        assert made.close_time == ends[i] == close_time(open_time, timeframe)


@given(seeds, symbols, timeframes, moments)
def test_progress_equals_bar_at_each_step(seed, symbol, timeframe, times):
    opened = floors(times, timeframe)
    states = progress(seed, symbol, timeframe, opened)
    for i, open_time in enumerate(opened.tolist()):
        for step in range(1, STEPS + 1):
            made = bar(seed, symbol, timeframe, open_time, step)
            assert list(made[2:8]) == states[:, step - 1, i].tolist()


@given(seeds, symbols, timeframes, st.integers(4 * 86_400_000, LAST_TIME - 1))
def test_a_bar_grows_and_the_next_one_opens_where_it_closed(
    seed, symbol, timeframe, moment
):
    open_time = floor(moment, timeframe)
    steps = [bar(seed, symbol, timeframe, open_time, n) for n in range(STEPS + 1)]
    first = steps[0]
    assert first.open == first.high == first.low == first.close > 0
    assert first.volume == first.money == 0.0
    for before, after in itertools.pairwise(steps):
        assert after.open == before.open
        assert after.high == max(before.high, after.close)
        assert after.low == min(before.low, after.close)
        assert after.volume > before.volume
        assert after.money > before.money
    assert bar(seed, symbol, timeframe, first.close_time).open == steps[-1].close


@given(seeds, symbols, timeframes, st.integers(4 * 86_400_000, LAST_TIME - 1))
def test_decimals_on_the_wire_parse_to_the_same_float(seed, symbol, timeframe, moment):
    made = bar(seed, symbol, timeframe, floor(moment, timeframe))
    for value in (*made[2:6], made.money):
        assert float(f"{value:.2f}") == value
    assert float(f"{made.volume:.4f}") == made.volume


def test_another_process_computes_the_same():
    code = (
        "import json; from shmfeed.simulator import bar; "
        "print(json.dumps(bar(7, 'BTCUSDT', '1h', 1700002800000)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout) == list(bar(7, "BTCUSDT", "1h", 1_700_002_800_000))


def test_seeds_symbols_and_timeframes_differ():
    made = {
        tuple(expected(seed, symbol, timeframe, MINUTES[:1]).ravel())
        for seed in (1, 2)
        for symbol in ("A", "B", "a")
        for timeframe in ("1m", "3m")
    }
    assert len(made) == 12


@pytest.mark.parametrize("timeframe", ["1m", "1M", "1w"])
def test_verify_accepts_the_market_and_counts_each_wrong_row(timeframe):
    opened = np.unique(floors((MINUTES * 7 % LAST_TIME).tolist(), timeframe))
    values = expected(7, "A", timeframe, opened)
    rows = SimpleNamespace(
        open_time=opened, close_time=close_times(opened, timeframe), values=values
    )
    assert verify(7, "A", timeframe, rows) == 0
    assert verify(7, "A", timeframe, (opened, values)) == 0
    assert verify(8, "A", timeframe, rows) == len(opened)
    for field in range(5):
        torn = values.copy()
        torn[field, 0] = np.nextafter(torn[field, 0], np.inf)
        assert verify(7, "A", timeframe, (opened, torn)) == 1
    rows.close_time = rows.close_time.copy()
    rows.close_time[0] += 1
    assert verify(7, "A", timeframe, rows) == 1


def test_verify_accepts_any_int64_as_a_time():
    garbage = np.array([-(2**63), 2**63 - 1, -5, 0], np.int64)
    for timeframe in TIMEFRAMES:
        assert verify(7, "A", timeframe, (garbage, np.zeros((5, 4)))) == 4


def test_verify_accepts_no_rows():
    none = np.empty(0, np.int64)
    assert verify(7, "A", "1m", (none, np.empty((5, 0)))) == 0


def test_verify_is_fast_enough_for_every_read():
    values = expected(7, "A", "1m", MINUTES)
    best = 1.0
    for _ in range(50):
        began = time.perf_counter()
        assert verify(7, "A", "1m", (MINUTES, values)) == 0
        best = min(best, time.perf_counter() - began)
    assert best < 0.002
