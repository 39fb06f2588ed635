"""Frames of a stream whose rows are replaced while a strategy holds them."""

import pandas as pd
import pytest
from support.numbered_bars import SYMBOL, append, numbers

from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter
from wealthdata import get_price

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")


def replace(writer: FeedWriter, ring: RingWriter, money: float) -> None:
    rows = ring.reader.snapshot(50)
    rows["money"][:] = money
    writer.replace_rows(SYMBOL, "1h", rows.block)


def test_the_usual_call_reads_the_new_rows(writer: FeedWriter, ring: RingWriter):
    append(ring, *range(40))
    fields = ["open", "money"]
    for turn in range(3 * writer.geometry.slots):
        frame = get_price(SYMBOL, count=10, fields=fields)
        assert numbers(frame) == [*range(30, 40)]
        assert (frame["money"] == turn - 1).all() or not turn
        replace(writer, ring, float(turn))
    append(ring, 40)
    assert numbers(get_price(SYMBOL, count=2, fields=fields)) == [39, 40]


@pytest.mark.parametrize("reads", [True, False])
def test_a_frame_keeps_its_rows_or_says_that_it_does_not(
    writer: FeedWriter, ring: RingWriter, reads: bool
):
    append(ring, *range(40))
    held = get_price(SYMBOL, count=10, fields=["open", "money"])
    joined = held.join(held["open"].rename("again"))
    before = held.copy(deep=True), joined.copy(deep=True)
    for turn in range(2 * writer.geometry.slots):
        replace(writer, ring, float(turn))
        if reads:
            get_price(SYMBOL, count=1)
    # Without a read the slot was reused, which nothing could prevent.
    assert held.attrs["shmfeed"].valid == reads
    if reads:
        pd.testing.assert_frame_equal(held, before[0])
        pd.testing.assert_frame_equal(joined, before[1])
