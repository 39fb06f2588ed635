"""The reactions to gaps, to few rows, and to a newest row that may change."""

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from support.numbered_bars import SYMBOL, append, listed, opens, prices, when

import wealthdata
from shmfeed import core
from shmfeed.bar import UNCONFIRMED
from shmfeed.errors import GapError, ShmfeedError, ShortError, UnconfirmedError
from shmfeed.memory.holes import HoleRecord
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter
from wealthdata import (
    Context,
    GapWarning,
    ShortWarning,
    StaleFeedWarning,
    UnconfirmedWarning,
    choices,
    completeness,
    freshness,
    get_price,
    price_table,
    set_context,
)
from wealthdata.request import ReadArguments

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")


@pytest.fixture(autouse=True)
def no_earlier_trouble() -> Iterator[None]:
    for known in (completeness.troubles, completeness._holes, freshness.outages):
        known.clear()
    yield
    completeness.troubles.clear()


@pytest.fixture
def live(writer: FeedWriter, ring: RingWriter) -> RingWriter:
    writer.set_state("connected")
    return ring


def gap(ring: RingWriter) -> None:
    append(ring, *range(10), *range(12, 21))


def few(ring: RingWriter) -> None:
    append(ring, *range(12))


def unconfirmed(ring: RingWriter) -> None:
    append(ring, *range(19))
    ring.append(opens(19), *prices(19), flags=UNCONFIRMED)


TROUBLES: dict[str, tuple[Callable[[RingWriter], None], Any, Any, str]] = {
    "on_gap": (
        gap,
        GapWarning,
        GapError,
        "2 bars missing .*from 2024-01-01T10:00:00Z to",
    ),
    "on_short": (few, ShortWarning, ShortError, "12 rows of 15 asked for"),
    "on_unconfirmed": (
        unconfirmed,
        UnconfirmedWarning,
        UnconfirmedError,
        "which closed at 2024-01-01T20:00:00Z, is not",
    ),
}
READS: dict[str, dict[str, Any]] = {
    "one": {},
    "private": {"copy": True},
    "with the forming bar": {"include_now": True},
    "up to a time": {"end_date": "2030-01-01"},
    "integers": {"fields": ["flags"]},
    "a list of one": {"security": [SYMBOL]},
    "a list": {"security": [SYMBOL, "ETHUSDT"]},
    "an aligned list": {"security": [SYMBOL, "ETHUSDT"], "align": True},
    "a wide list": {"security": [SYMBOL, "ETHUSDT"], "wide": True},
    "a list up to a time": {"security": [SYMBOL], "end_date": "2030-01-01"},
}


def read(**given: Any) -> tuple[pd.DataFrame, list[Any]]:
    """Return the frame and the warnings of a read."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = get_price(**{"security": SYMBOL, "count": 15, **given})
    assert all(warning.filename == __file__ for warning in caught)
    # A busy machine may stall for longer than a feeder without heartbeats lives.
    return frame, [one for one in caught if one.category is not StaleFeedWarning]


@pytest.mark.parametrize("on", TROUBLES)
@pytest.mark.parametrize("given", READS.values(), ids=READS)
def test_each_way_to_read_heeds_them(
    live: RingWriter, writer: FeedWriter, on: str, given: dict[str, Any]
) -> None:
    make, warning, error, words = TROUBLES[on]
    make(live)
    make(writer.add_stream("ETHUSDT", "1h"))
    streams = 2 if len(given.get("security", "1")) == 2 else 1
    for _ in range(2):
        assert read(**given)[1] == []
        with pytest.raises(error, match=f"BTCUSDT 1h of feed .*{words}"):
            read(**given, **{on: "raise"})
    seen = read(**given, **{on: "warn"})[1]
    assert [w.category for w in seen] == [warning] * streams
    assert read(**given, **{on: "warn"})[1] == []
    assert issubclass(error, ShmfeedError)


@pytest.mark.parametrize("on", TROUBLES)
def test_use_and_the_environment_choose_for_all_reads(
    live: RingWriter, monkeypatch: pytest.MonkeyPatch, on: str
) -> None:
    make, warning, error, _ = TROUBLES[on]
    make(live)
    read()
    monkeypatch.setenv(f"SHMFEED_{on.upper()}", "raise")
    for given in READS["private"], READS["one"], READS["a list of one"]:
        with pytest.raises(error):
            read(**given)
    wealthdata.use(**{on: "warn"})
    assert [w.category for w in read()[1]] == [warning]
    with pytest.raises(error):
        read(**{on: "raise"})
    wealthdata.use(**{on: "raise"})
    with pytest.raises(error):
        Context().history(SYMBOL, 15)
    assert read(**{on: "ignore"})[1] == []


@pytest.mark.parametrize("on", TROUBLES)
def test_a_backtest_heeds_them(strategy: str, on: str) -> None:
    rows = {"on_gap": (0, 1, 4), "on_short": (0, 1)}.get(on, range(20))
    context = Context([listed(*rows)], run_params={"type": "backtest"})
    set_context(context)
    if on == "on_unconfirmed":
        assert read(on_unconfirmed="raise", on_stale="raise")[1] == []
        return
    with pytest.raises(TROUBLES[on][2], match="1h of the context: "):
        read(**{on: "raise"})
    assert len(read(**{on: "warn"})[1]) == 1


class TestOnce:
    def test_each_hole_is_told_once(self, live: RingWriter) -> None:
        append(live, 0, 1, 3)
        assert len(read(on_gap="warn")[1]) == 1
        append(live, 4, 5)
        assert read(on_gap="warn")[1] == []
        append(live, 9, 11)
        (told,) = read(on_gap="warn")[1]
        assert "4 bars missing inside the window, in 2 holes, the first from" in str(
            told.message
        )
        assert read(on_gap="warn")[1] == read(count=3, on_gap="warn")[1] == []

    def test_few_rows_are_told_again_once_there_were_enough(
        self, live: RingWriter, writer: FeedWriter
    ) -> None:
        append(live, 0, 1)
        assert len(read(count=3, on_short="warn")[1]) == 1
        assert read(count=3, on_short="warn")[1] == []
        append(live, 2)
        assert read(count=3, on_short="warn")[1] == []
        rows = live.reader.snapshot(1)
        writer.replace_rows(SYMBOL, "1h", rows.block)
        assert len(read(count=3, on_short="warn")[1]) == 1
        assert len(read(count=4, on_short="warn")[1]) == 1  # another number

    def test_an_unconfirmed_row_is_told_again_after_a_final_one(
        self, live: RingWriter
    ) -> None:
        told = []
        for number, flags in enumerate((8, 8, 8, 2, 8, 2, 2, 8)):
            live.append(opens(number), *prices(number), flags=flags)
            told.append(len(read(on_unconfirmed="warn")[1]))
        assert told == [1, 0, 0, 0, 1, 0, 0, 1]


def test_bars_that_the_venue_lacks_are_no_gap_to_react_to(
    writer: FeedWriter, live: RingWriter
) -> None:
    append(live, 0, 1, 5, 6, 9)
    key, state = (SYMBOL, "1h"), "none_at_venue"
    first, second = (opens(2), opens(4), 3), (opens(7), opens(8), 2)
    writer.set_holes(key, [HoleRecord(*first, state), HoleRecord(*second)])
    with pytest.raises(GapError, match=r": 2 bars missing .*from 2024-01-01T07:00:00Z"):
        read(on_gap="raise")
    writer.set_holes(key, [HoleRecord(*hole, state) for hole in (first, second)])
    assert read(on_gap="raise")[0].attrs["shmfeed"].gaps == 5


def test_the_forming_bar_may_change_of_course(live: RingWriter) -> None:
    append(live, *range(20))
    live.update_forming(opens(20), *prices(20))
    frame, told = read(include_now=True, on_unconfirmed="raise")
    assert frame.attrs["shmfeed"].forming
    assert told == []


def test_a_range_is_never_short(live: RingWriter) -> None:
    few(live)
    assert read(count=None, start_date="2020-01-01", on_short="raise")[1] == []


def test_months_have_gaps_too(live: RingWriter, writer: FeedWriter) -> None:
    months = writer.add_stream(SYMBOL, "1M")
    for month in ("2024-01", "2024-02", "2024-05"):
        months.append(pd.Timestamp(month).value // 1_000_000, *prices(1))
    with pytest.raises(GapError, match=r"2 bars missing .*2024-03-01T.* 2024-04-01"):
        read(frequency="1M", on_gap="raise")


@pytest.mark.skipif(core.build != "C", reason="only the C core has a table")
class TestTheCore:
    """It serves whole rows of a live stream, whatever the reactions are."""

    @staticmethod
    def served(**given: Any) -> bool:
        choices.current_choices()
        asked = ReadArguments(SYMBOL, limit=15, **given)
        return price_table._Opened.table.read(tuple(asked[:-2])) is not None

    def test_whole_rows(self, live: RingWriter) -> None:
        append(live, *range(20))
        read()
        words = (None, "warn", "raise", "ignore")
        names = ("on_stale", "on_gap", "on_short", "on_unconfirmed")
        for values in itertools.product(words, repeat=4):
            assert self.served(**dict(zip(names, values, strict=True)))
        assert self.served(max_age=60, on_stale="raise")
        assert self.served(max_age=60.0)
        for wrong in ({"on_gap": "rasie"}, {"on_stale": 1}, {"max_age": -1}):
            assert not self.served(**wrong)
        assert not self.served(max_age=0.0)
        assert not self.served(max_age=10**400)

    @pytest.mark.parametrize("on", TROUBLES)
    def test_rows_that_are_not_whole(self, live: RingWriter, on: str) -> None:
        TROUBLES[on][0](live)
        read()
        for other in TROUBLES:
            for word in ("warn", "raise"):
                assert self.served(**{other: word}) is (other != on)
        wealthdata.use(**{on: "raise"})
        assert read(**{on: "ignore"})[1] == []
        assert not self.served()
        assert self.served(**{on: "ignore"})

    def test_use_leaves_whole_rows_to_it(self, live: RingWriter) -> None:
        append(live, *range(20))
        wealthdata.use(max_age=60, on_gap="raise", on_short="warn", on_stale="raise")
        read()
        assert self.served()
        wealthdata.use(max_age=0)
        read(on_stale="ignore")
        assert not self.served()
        assert self.served(max_age=60)

    def test_python_ends_what_was_told(self, live: RingWriter) -> None:
        append(live, *range(14))
        assert len(read(on_short="warn")[1]) == 1
        append(live, 14)
        assert not self.served()
        read(on_short="warn")
        assert self.served()


def test_all_troubles_at_once_name_the_first(live: RingWriter) -> None:
    append(live, 0, 2)
    live.append(opens(4), *prices(4), flags=UNCONFIRMED)
    told = read(**dict.fromkeys(TROUBLES, "warn"))[1]
    assert [w.category for w in told] == [GapWarning, ShortWarning, UnconfirmedWarning]
    with pytest.raises(GapError):
        read(**dict.fromkeys(TROUBLES, "raise"), end_date=when(5))
