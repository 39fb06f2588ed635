"""Values of attrs that are found out when they are asked for, as of the read."""

import gc
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from support.numbered_bars import (
    HOUR,
    SYMBOL,
    append,
    listed,
    opens,
    prices,
    when,
)

from shmfeed import kept_bytes
from shmfeed.bar import POLLED, REVISED, UNCONFIRMED
from shmfeed.memory.holes import HoleRecord
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter
from wealthdata import BehindWarning, Context, facts, get_price, set_context, use

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

FLAGS = {
    30: UNCONFIRMED | POLLED,
    31: REVISED,
    35: UNCONFIRMED | REVISED,
    36: POLLED | REVISED,
    39: UNCONFIRMED,
}
COUNTS = (3, 2, 3)  # unconfirmed, polled, revised of rows 30 to 39


@pytest.fixture
def marked(writer: FeedWriter, ring: RingWriter) -> RingWriter:
    """Give a ring of 40 bars, some with flags, and prepared reads of it."""
    writer.set_state("connected")
    for other in (ring, writer.add_stream("ETHUSDT", "1h")):
        for number in range(40):
            other.append(opens(number), *prices(number), flags=2 | FLAGS.get(number, 0))
    for read in READS.values():
        read()
    return ring


def price(security: Any = SYMBOL, **given: Any) -> pd.DataFrame:
    return get_price(security, **{"count": 10, **given})


PAIR = [SYMBOL, "ETHUSDT"]
READS: dict[str, Callable[[], pd.DataFrame]] = {
    "the usual call": price,
    "two columns": lambda: price(fields=["close", "flags"]),
    "private": lambda: price(copy=True),
    "up to a time": lambda: price(end_date=when(39)),
    "a range": lambda: price(count=None, start_date=when(30)),
    "a list of one": lambda: price([SYMBOL]),
}
LISTS: dict[str, Callable[[], pd.DataFrame]] = {
    "a list": lambda: price(PAIR),
    "aligned": lambda: price(PAIR, align=True),
    "wide": lambda: price(PAIR, wide=True),
    "a list by range": lambda: price(PAIR, count=None, start_date=when(30)),
}


def counts(attrs: Any) -> tuple[int | None, ...]:
    return attrs["unconfirmed"], attrs.polled, dict(attrs)["revised"]


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_the_rows_of_a_frame_are_counted_by_flag(
    marked: RingWriter, read: Callable[[], pd.DataFrame]
) -> None:
    frame = read()
    append(marked, *range(40, 45))  # later bars change nothing
    assert counts(frame.attrs["shmfeed"]) == COUNTS


@pytest.mark.parametrize("read", LISTS.values(), ids=LISTS)
def test_those_of_a_list_are_summed(
    marked: RingWriter, read: Callable[[], pd.DataFrame]
) -> None:
    frame = read()
    append(marked, *range(40, 45))
    assert counts(frame.attrs["shmfeed"]) == tuple(2 * count for count in COUNTS)


def test_a_window_of_older_rows_counts_its_own(marked: RingWriter) -> None:
    with pytest.warns(BehindWarning):
        attrs = price(count=5, end_date=when(35)).attrs["shmfeed"]
    assert counts(attrs) == (1, 0, 2)
    assert attrs.behind == 4 * 3600
    assert price(end_date=when(50)).attrs["shmfeed"].behind == 0


def test_released_rows_are_counted_in_the_ring(marked: RingWriter) -> None:
    attrs = price().attrs["shmfeed"]
    append(marked, *range(40, 80))
    assert counts(attrs) == COUNTS


def overwrite(writer: FeedWriter, ring: RingWriter) -> None:
    append(ring, *range(40, 300))


def replace(writer: FeedWriter, ring: RingWriter) -> None:
    """As a repair does: the numbers may now be those of other rows."""
    rows = ring.reader.snapshot(100)
    writer.replace_rows(SYMBOL, "1h", rows.block)


def remove(writer: FeedWriter, ring: RingWriter) -> None:
    writer.close(unlink=True)


@pytest.mark.parametrize("lose", [overwrite, replace], ids=lambda lose: lose.__name__)
@pytest.mark.parametrize("security", [SYMBOL, [SYMBOL], PAIR], ids=str)
def test_what_can_no_longer_be_known_is_none(
    writer: FeedWriter,
    marked: RingWriter,
    security: Any,
    lose: Callable[[FeedWriter, RingWriter], None],
) -> None:
    attrs = price(security).attrs["shmfeed"]
    gc.collect()
    lose(writer, marked)
    assert counts(attrs) == (None, None, None)
    assert attrs.due is not None


def test_control_numbers_alone_would_count_other_rows(
    writer: FeedWriter, marked: RingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the epoch, rows that a repair has put there would be taken for them."""
    attrs = price().attrs["shmfeed"]
    epoch = attrs._record.epoch
    monkeypatch.setattr(facts.Ring, "epoch", property(lambda _: epoch), raising=False)
    replace(writer, marked)
    assert counts(attrs) == COUNTS


@pytest.mark.parametrize("security", [SYMBOL, PAIR], ids=str)
def test_values_once_asked_for_stay(
    writer: FeedWriter, marked: RingWriter, security: Any
) -> None:
    attrs = price(security).attrs["shmfeed"]
    before = dict(attrs)
    replace(writer, marked)
    overwrite(writer, marked)
    remove(writer, marked)
    assert dict(attrs) == before


def test_attrs_keep_no_row_in_memory(marked: RingWriter) -> None:
    attrs = price().attrs["shmfeed"]
    gc.collect()
    append(marked, *range(40, 300))
    price()  # sets aside what is held
    assert kept_bytes() == 0
    assert attrs.valid


@pytest.mark.parametrize("security", [SYMBOL, [SYMBOL]], ids=str)
@pytest.mark.parametrize(
    ("offset", "due"), [(None, 2), (-3_600_000, 1), (7_200_000, 4)]
)
def test_due_is_counted_by_the_clock_of_the_venue(
    writer: FeedWriter, ring: RingWriter, security: Any, offset: int | None, due: int
) -> None:
    """By this host's clock two hours have gone by since the newest bar closed."""
    newest = int(time.time() * 1000) // HOUR * HOUR - 3 * HOUR
    ring.append(newest, *prices(0))
    writer.set_clock_offset(offset)
    for _ in range(2):
        frame = get_price(security, count=1)
    ring.append(newest + HOUR, *prices(1))  # it came after the read
    assert frame.attrs["shmfeed"].due == due
    assert get_price(security, count=1).attrs["shmfeed"].due == due - 1


def test_bars_of_a_stream_without_rows_are_due_since_its_subscription(
    ring: RingWriter,
) -> None:
    assert get_price(SYMBOL).attrs["shmfeed"].due in (0, 1)  # an hour may just begin


def test_a_closed_stream_lacks_nothing(writer: FeedWriter, marked: RingWriter) -> None:
    late = price().attrs["shmfeed"].due
    assert late > 0
    writer.explain((SYMBOL, "1h"), "closed", "delisted")
    assert price().attrs["shmfeed"].due == 0
    for more in ({}, {"max_age": 60, "on_stale": "ignore"}, {"fields": "flags"}):
        for _ in range(2):
            assert get_price([SYMBOL], **more).attrs["shmfeed"].due == 0
    assert get_price([SYMBOL, "ETHUSDT"]).attrs["shmfeed"].due >= late > 0


@pytest.mark.parametrize("source", ["context", "mixed"])
def test_rows_of_a_context_have_no_flags(ring: RingWriter, source: str) -> None:
    if source == "mixed":
        append(ring, 20, 21)
    set_context(Context([listed(*range(20))], current_dt=when(25)))
    attrs = price().attrs["shmfeed"]
    assert (attrs.source, *counts(attrs)) == (source, 0, 0, 0)


@pytest.mark.parametrize(
    ("given", "short"),
    [
        ({}, 0),
        ({"count": 41}, 1),
        ({"count": 100, "copy": True}, 60),
        ({"count": 100, "end_date": when(9)}, 90),
        ({"count": None, "start_date": when(0)}, 0),
        ({"security": PAIR, "count": 50}, 20),
        ({"security": PAIR, "count": 50, "align": True}, 20),
        ({"security": [SYMBOL], "count": 50}, 10),
    ],
)
def test_short_counts_the_rows_that_lack(
    marked: RingWriter, given: dict[str, Any], short: int
) -> None:
    for _ in range(2):
        assert price(**given).attrs["shmfeed"].short == short


def test_a_backtest_has_no_clock_and_no_health(marked: RingWriter) -> None:
    set_context(Context([listed(*range(5))], current_dt=when(9)))
    use(context_only=True)
    attrs = price().attrs["shmfeed"]
    assert (attrs.source, attrs.short, attrs.gaps) == ("context", 5, 0)
    assert [attrs[key] for key in ("due", "state", "health")] == [None] * 3
    assert attrs.age == 5 * 3600  # to the time of the context


def test_gaps_that_the_venue_has_too_are_still_missing(
    writer: FeedWriter, ring: RingWriter
) -> None:
    append(ring, 0, 1, 5)
    hole = HoleRecord(opens(2), opens(4), 3, "none_at_venue", "absent")
    writer.set_holes((SYMBOL, "1h"), [hole])
    assert price().attrs["shmfeed"].gaps == 3
