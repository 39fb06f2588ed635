"""A list has the rows of its securities, and its attrs are the sums of theirs."""

import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.numbered_bars import opens, prices, when

from shmfeed.bar import POLLED, REVISED, UNCONFIRMED
from shmfeed.writer import FeedWriter
from wealthdata import Context, get_bars, get_price, set_context

pytest_plugins = ["support.strategy_process"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::wealthdata.BehindWarning"),
    pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning"),
]

NAMES = ["A", "B", "C"]
NUMBERS = range(40)
SUMS = ("short", "gaps", "unconfirmed", "polled", "revised")
FLAGS = [1, 1, 1, 4 | UNCONFIRMED, 1 | REVISED, 1 | POLLED, 2 | UNCONFIRMED | REVISED]


def fill(writer: FeedWriter, chance: random.Random) -> None:
    for symbol in NAMES:
        ring = writer.add_stream(symbol, "1h")
        kept = [n for n in NUMBERS if chance.random() > 0.1]
        kept = kept[chance.choice([0, 0, 20]) : chance.choice([0, 30, 99, 99])]
        for number in kept:
            ring.append(opens(number), *prices(number), flags=chance.choice(FLAGS))
        if chance.random() < 0.5 and kept:
            ring.update_forming(opens(40), *prices(40))


def requests(chance: random.Random) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    kind = chance.choice(["count", "end", "start", "both"])
    if kind in {"count", "end"}:
        asked["count"] = chance.choice([1, 3, 7, 60])
    if kind in {"end", "both"}:
        asked["end_date"] = when(chance.randrange(-2, 45))
    if kind in {"start", "both"}:
        end = asked.get("end_date", when(45))
        back = pd.Timedelta(hours=chance.randrange(0, 50))
        asked["start_date"] = end - back
    fields = chance.choice([None, "close", ["close", "flags"], ["money", "open"]])
    if fields is not None:
        asked["fields"] = fields
    if chance.random() < 0.3:
        asked["include_now"] = True
    if chance.random() < 0.3:
        asked["label"] = chance.choice(["open", "date"])
    return asked


def joined(singles: dict[str, pd.DataFrame]) -> pd.DataFrame:
    parts = [
        frame.reset_index(names="time").assign(code=name)
        for name, frame in singles.items()
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("seed", range(12))
def test_of_random_rings_and_ranges(writer: FeedWriter, seed: int) -> None:
    chance = random.Random(seed)
    fill(writer, chance)
    for _ in range(12):
        asked = requests(chance)
        if chance.random() < 0.3:
            set_context(Context(current_dt=when(chance.randrange(0, 45))))
        singles = {name: get_price(name, **asked) for name in NAMES}
        about = [frame.attrs["shmfeed"] for frame in singles.values()]
        expected = joined(singles)
        for _ in range(2):
            found = get_price(NAMES, **asked)
            attrs = found.attrs["shmfeed"]
            pd.testing.assert_frame_equal(
                found, expected[found.columns], check_dtype=False
            )
            assert {key: attrs[key] for key in SUMS} == {
                key: sum(one[key] for one in about) for key in SUMS
            }
            assert attrs.behind == max(one.behind for one in about)
            assert attrs.forming == any(one.forming for one in about)
            assert attrs.absent == [n for n in NAMES if singles[n].empty]
        check_other_shapes(asked, singles)


def check_other_shapes(asked: dict[str, Any], singles: dict[str, pd.DataFrame]) -> None:
    times = set.intersection(
        *(set(frame.index) for frame in singles.values() if len(frame)),
        *([set()] if all(frame.empty for frame in singles.values()) else []),
    )
    if "count" not in asked:  # else older rows than those of the singles count too
        aligned = get_price(NAMES, **asked, align=True)
        for name, frame in singles.items():
            rows = aligned[aligned["code"] == name]["time"]
            assert set(rows) == (times if len(frame) else set())
    named = {"start_date": "start_dt", "end_date": "end_dt"}
    arrays = get_bars(
        NAMES, df=False, **{named.get(key, key): value for key, value in asked.items()}
    )
    assert list(arrays) == [name for name, frame in singles.items() if len(frame)]
    for name, array in arrays.items():
        for field in set(array.dtype.names) - {"date"}:
            assert np.array_equal(array[field], singles[name][field], equal_nan=True)
