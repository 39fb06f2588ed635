"""Frames and arrays beside a writer that never pauses, on either core.

Permitted outcomes: a frame of the rows as written; a shared frame whose `valid` is
False; BusyRingError.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import payload

from shmfeed.errors import BusyRingError
from wealthdata import get_bars, get_price

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.LappedWarning")

WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from support import payload
from shmfeed.writer import create

with create(sys.argv[1], history=200, guard=16) as writer:
    ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
    writer.set_state("connected")
    number = 0
    while True:
        number += 1
        payload.update_forming(ring, number, 1)
        payload.append(ring, number, wake=False)
        if number % 1000 == 0:
            writer.beat()
        if number == 1000:
            print("ready", flush=True)
"""
SECONDS = 1.0
ROWS = 200  # a full view: 16 more bars overwrite its oldest row


@pytest.fixture(params=["", "1"], ids=["serving", "pure"])
def racing(request, strategy: str, child) -> Iterator[None]:
    environ = os.environ | ({"SHMFEED_PURE": "1"} if request.param else {})
    process = child(WRITER, strategy, Path(payload.__file__).parents[1], env=environ)
    assert process.stdout.readline() == "ready\n"
    yield
    assert process.poll() is None, process.stderr.read()


def bad_rows(frame: pd.DataFrame) -> int:
    """Count the rows that differ from what was written; read each value once."""
    values = frame.to_numpy().copy()
    closes = frame.index.astype("M8[ms]").astype("int64").to_numpy()
    number = closes // payload.STEP - 1
    mark = number.copy()
    if frame.attrs["shmfeed"].forming:
        mark[-1] = mark[-1] * payload.REVISIONS + 1
    good = (values == mark[:, None] * np.arange(1.0, 6.0)).all(axis=1)
    good[1:] &= np.diff(number) == 1
    return len(values) - int(np.count_nonzero(good))


def race(**arguments: object) -> Counter:
    tally = Counter()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            frame = get_price(payload.SYMBOL, **arguments)
        except BusyRingError:
            tally["busy"] += 1
            continue
        bad = bad_rows(frame)
        verdict = "accepted" if frame.attrs["shmfeed"].valid else "refused"
        tally[verdict] += 1
        tally[f"{verdict} bad rows"] += bad
        assert len(frame) == arguments["count"]
    print(arguments, dict(tally), file=sys.stderr)
    return tally


def test_a_valid_shared_frame_holds_the_rows_as_written(racing: None) -> None:
    tally = race(frequency="1m", count=100)
    assert tally["accepted"] > 20
    assert tally["accepted bad rows"] == 0


def test_control_an_invalid_frame_has_overwritten_rows(racing: None) -> None:
    tally = race(frequency="1m", count=ROWS)
    assert tally["accepted bad rows"] == 0
    assert tally["refused bad rows"] > 0


@pytest.mark.parametrize("arguments", [{"copy": True}, {"include_now": True}], ids=str)
def test_a_private_frame_holds_the_rows_as_written(
    racing: None, arguments: dict
) -> None:
    tally = race(frequency="1m", count=100, **arguments)
    assert tally["accepted"] > 20
    assert tally["accepted bad rows"] == tally["refused"] == 0


def bad_array_rows(array: np.ndarray) -> int:
    number = array["date"].astype("M8[ms]").astype("int64") // payload.STEP - 1
    values = np.stack([array[name] for name in array.dtype.names[1:]], axis=1)
    good = (values == number[:, None] * np.arange(1.0, 6.0)).all(axis=1)
    good[1:] &= np.diff(number) == 1
    return len(values) - int(np.count_nonzero(good))


def test_an_array_holds_the_rows_as_written(racing: None) -> None:
    tally: Counter = Counter()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            array = get_bars(payload.SYMBOL, ROWS, "1m", df=False)
        except BusyRingError:
            tally["busy"] += 1
            continue
        tally["arrays"] += 1
        tally["bad rows"] += bad_array_rows(array)
    print(dict(tally), file=sys.stderr)
    assert tally["arrays"] > 20
    assert tally["bad rows"] == 0
