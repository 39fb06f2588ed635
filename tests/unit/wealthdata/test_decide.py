"""`decide`: what a decision may hold, and receipts of the bars that it was made on."""

import asyncio
import itertools
import json
import math
import pickle
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.numbered_bars import HOUR, START, SYMBOL, append, listed, opens, prices

from shmfeed.bar import Bar
from shmfeed.errors import BadArgumentError
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter
from wealthdata import (
    Closed,
    Context,
    Decision,
    Receipt,
    attribute_history,
    decide,
    decisions,
    follow,
    get_bars,
    get_current_data,
    get_price,
    history,
    read_log,
    set_context,
)
from wealthdata.decisions import acting_strategy, set_recorder
from wealthdata.handed import current_record
from wealthdata.kept_bars import Origin
from wealthdata.receipts import digest_of

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

NOW = datetime(2024, 1, 3, tzinfo=UTC)


class Side(IntEnum):
    BUY = 1


class Text(str):
    __slots__ = ()


HOLDS: list[tuple[object, object]] = [
    ("buy", "buy"),
    (None, None),
    (True, True),
    (3, 3),
    (0.1, 0.1),
    ((1, "a"), [1, "a"]),
    ({"side": "buy", "at": [1.5, None]}, {"side": "buy", "at": [1.5, None]}),
    (np.float64(0.1), 0.1),
    (np.float32(0.5), 0.5),
    (np.int32(7), 7),
    (np.bool_(True), True),
    (np.str_("x"), "x"),
    (Side.BUY, 1),
    (Text("t"), "t"),
    ({Text("k"): {}}, {"k": {}}),
    (2**70, 2**70),
    ("\ud800", "\ud800"),
]
LOOP: list[object] = []
LOOP.append(LOOP)
REFUSED: list[tuple[object, str]] = [
    (math.nan, r"what is nan, which JSON cannot hold"),
    ({"p": [1, -math.inf]}, r"what\['p'\]\[1\] is -inf"),
    (np.float64("nan"), r"what is nan"),
    ({1, 2}, r"what is \{1, 2\}, of type set; a decision may hold a str, a bool"),
    ({"a": b"x"}, r"what\['a'\] is b'x', of type bytes"),
    ([1, datetime(2024, 1, 1)], r"what\[1\] is datetime.*, of type datetime"),
    (np.datetime64(1, "s"), r"of type datetime"),
    (np.zeros(3), r"what is of type ndarray"),
    ({"f": pd.DataFrame()}, r"what\['f'\] is of type DataFrame"),
    ({1: 2}, r"what has the key 1, of type int; keys must be str"),
    ({"a": {None: 1}}, r"what\['a'\] has the key None"),
    (1j, r"what is 1j, of type complex"),
    (object, r"of type type"),
    (LOOP, r"levels deep; a decision may have at most 64"),
]


def test_an_int_is_as_long_as_json_readers_take(strategy: str):
    longest = 1 - 2**8192
    assert decide({"n": longest}).what == {"n": longest}
    assert json.loads(json.dumps(longest)) == longest
    with pytest.raises(BadArgumentError, match=r"what\['n'\] is an int of 16610 bits"):
        decide({"n": 10**5000})


@pytest.mark.parametrize(("given", "kept"), HOLDS, ids=repr)
def test_a_decision_is_what_json_gives_back(strategy: str, given: Any, kept: Any):
    found = decide(given).what
    assert found == kept
    assert type(found) is type(kept)
    assert json.loads(json.dumps(found)) == kept


class Noted(list[Decision]):
    """A recorder that keeps the decisions."""

    def note(self, decision: Decision) -> None:
        self.append(decision)


@pytest.fixture
def noted() -> Iterator[Noted]:
    recorder = Noted()
    set_recorder(recorder)
    yield recorder
    set_recorder(None)


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=lambda v: str(v)[:30])
def test_what_json_cannot_hold_is_refused_and_changes_nothing(
    ring: RingWriter, noted: Noted, given: Any, message: str
):
    append(ring, *range(5))
    get_price(SYMBOL, count=3)
    with pytest.raises(BadArgumentError, match=message):
        decide(given)
    assert noted == []
    assert windows(decide("a").receipts) == {(SYMBOL, "1h"): [[2, 3, 4]]}


def test_a_decision_does_not_change_with_what_was_given(strategy: str):
    what = {"orders": [1]}
    made = decide(what)
    what["orders"].append(2)
    assert made.what == {"orders": [1]}


def test_its_time_is_that_of_the_context_or_the_clock(strategy: str):
    before = datetime.now(UTC).timestamp() * 1000
    assert before - 1 <= decide(1).time <= datetime.now(UTC).timestamp() * 1000
    set_context(Context(current_dt=NOW))
    assert decide(1).time == NOW.timestamp() * 1000


# Receipts.


def expected_digest(numbers: list[int]) -> str:
    values = np.array([prices(n) for n in numbers]).reshape(-1, 5).T
    return digest_of(np.array([opens(n) for n in numbers]), values)


def windows(receipts: tuple[Receipt, ...]) -> dict[tuple[str, str], list[list[int]]]:
    """Return the numbers of the bars by stream. Each receipt must be of these bars."""
    found: dict[tuple[str, str], list[list[int]]] = {}
    for receipt in receipts:
        numbers = ((receipt.open_time - START) // HOUR).tolist()
        assert receipt.rows == len(numbers)
        if receipt.timeframe == "1h":
            assert receipt.digest == expected_digest(numbers)
        assert receipt.valid
        assert receipt.unknown is None
        if numbers:
            assert [receipt.first, receipt.last] == [
                opens(numbers[0]),
                opens(numbers[-1]),
            ]
        found.setdefault((receipt.symbol, receipt.timeframe), []).append(numbers)
    return found


LAST3 = {(SYMBOL, "1h"): [[27, 28, 29]]}
PAIR = {("A", "1h"): [[27, 28]], ("B", "1h"): [[28, 29]]}
READS: dict[str, tuple[Callable[[], Any], dict[tuple[str, str], list[list[int]]]]] = {
    "single": (lambda: get_price(SYMBOL, count=3), LAST3),
    "one field": (lambda: get_price(SYMBOL, count=3, fields="close"), LAST3),
    "integers": (lambda: get_price(SYMBOL, count=3, fields=["flags", "close"]), LAST3),
    "copy": (lambda: get_price(SYMBOL, count=3, copy=True), LAST3),
    "range": (lambda: get_price(SYMBOL, start_date=START + 28 * HOUR), LAST3),
    "slice": (lambda: get_price(SYMBOL, count=3)[:1], LAST3),
    "column": (lambda: get_price(SYMBOL, count=3).close, LAST3),
    "changes": (lambda: get_price(SYMBOL, count=3).close.pct_change(), LAST3),
    "bars": (lambda: get_bars(SYMBOL, count=3), LAST3),
    "attributes": (lambda: attribute_history(SYMBOL, 3, "1h"), LAST3),
    "history": (lambda: history(3, "1h", "close", [SYMBOL]), LAST3),
    "rolled": (lambda: get_price(SYMBOL, count=2, frequency="2h"), {
        (SYMBOL, "2h"): [[26, 28]]}),
    "empty": (lambda: get_price(SYMBOL, start_date="2030-01-01"), {
        (SYMBOL, "1h"): [[]]}),
    "list": (lambda: get_price(["A", "B"], count=2), PAIR),
    "list of one": (lambda: get_price([SYMBOL], count=3), LAST3),
    "list of bars": (lambda: get_bars(["A", "B"], count=2), PAIR),
    "list of integers": (lambda: get_price(["A", "B"], count=2, fields="flags"), PAIR),
    "aligned": (lambda: get_price(["A", "B"], count=2, align=True, fields="close"), {
        ("A", "1h"): [[27, 28]], ("B", "1h"): [[27, 28]]}),
    "aligned range": (lambda: get_price(
        ["A", "B"], count=2, align=True, end_date=START + 100 * HOUR), {
        ("A", "1h"): [[27, 28]], ("B", "1h"): [[27, 28]]}),
    "wide": (lambda: get_price(["A", "B"], count=2, wide=True, fields="close"), {
        ("A", "1h"): [[28]], ("B", "1h"): [[28, 29]]}),
    "wide range": (lambda: get_price(
        ["A", "B"], count=2, wide=True, end_date=START + 100 * HOUR), {
        ("A", "1h"): [[28]], ("B", "1h"): [[28, 29]]}),
    "list rolled": (lambda: get_price(["A", "B"], count=1, frequency="2h"), {
        ("A", "2h"): [[26]], ("B", "2h"): [[28]]}),
}  # fmt: skip


@pytest.fixture
def filled(writer: FeedWriter, ring: RingWriter) -> FeedWriter:
    append(ring, *range(30))
    append(writer.add_stream("A", "1h"), *range(29))
    append(writer.add_stream("B", "1h"), *range(30))
    return writer


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("name", READS)
def test_a_frame_has_a_receipt_of_each_stream(
    filled: FeedWriter, name: str, times: int
):
    read, numbers = READS[name]
    for _ in range(times):  # the first read is prepared by Python, the third by C
        frame = read()
    found = decide("x", frame).receipts
    assert windows(found) == numbers
    assert {receipt.feed for receipt in found} == {filled.name}
    assert {receipt.source for receipt in found} == {"live"}


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("name", READS)
def test_without_frames_all_that_was_read_counts(
    filled: FeedWriter, name: str, times: int, tracked: bool
):
    if tracked:
        decide("before")
    read, numbers = READS[name]
    for _ in range(times):
        read()
    assert windows(decide("x").receipts) == numbers
    assert decide("again").receipts == ()


def test_any_decision_ends_the_reads_of_the_next_one(filled: FeedWriter):
    frame = get_price("A", count=2)
    for _ in range(3):
        get_price(SYMBOL, count=3)
    assert windows(decide("x", frame).receipts) == {("A", "1h"): [[27, 28]]}
    assert decide("y").receipts == ()


def test_arrays_and_last_prices_are_read_too(filled: FeedWriter):
    decide("tracked from here on")
    for _ in range(3):
        get_bars(SYMBOL, count=3, df=False)
        history(2, "1h", "close", ["A"], df=False)
    assert get_current_data()["B"].last_price == prices(29)[3]
    assert windows(decide("x").receipts) == {
        **LAST3,
        ("A", "1h"): [[27, 28]],
        ("B", "1h"): [[29]],
    }


def test_a_stream_that_is_read_twice_has_a_receipt_of_each_window(ring: RingWriter):
    append(ring, 0, 1)
    decide("tracked")
    get_price(SYMBOL, count=2)
    append(ring, 2)
    for _ in range(5):
        get_price(SYMBOL, count=2)
    assert windows(decide("x").receipts) == {(SYMBOL, "1h"): [[0, 1], [1, 2]]}


def test_bars_that_follow_has_handed_over_are_read(
    writer: FeedWriter, ring: RingWriter
):
    append(ring, 0)
    with follow(SYMBOL, "1h", timeout=30.0) as events:
        decide("tracked")
        append(ring, 1, 2)
        closed = (event for event in events if isinstance(event, Closed))
        assert [event.bar.open_time for event in itertools.islice(closed, 2)] == [
            opens(1),
            opens(2),
        ]
        assert windows(decide("x").receipts) == {(SYMBOL, "1h"): [[1, 2]]}
        append(ring, 3)
        next(closed)
        get_price(SYMBOL, count=2)  # it has bar 3 too
        assert windows(decide("y").receipts) == {(SYMBOL, "1h"): [[2, 3]]}


def test_the_forming_bar_stands_beside_the_closed_ones(ring: RingWriter):
    append(ring, 0, 1)
    ring.update_forming(opens(2), *prices(2))
    frame = get_price(SYMBOL, count=2, include_now=True)
    ring.update_forming(opens(2), *prices(5))
    (receipt,) = decide("x", frame).receipts
    assert windows((receipt,)) == {(SYMBOL, "1h"): [[1]]}
    assert receipt.forming == (opens(2), *prices(2))
    assert decide("y", get_price(SYMBOL, count=1)).receipts[0].forming is None


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("by_frame", [True, False])
def test_a_prepared_read_has_the_forming_bar_as_it_was(
    writer: FeedWriter, ring: RingWriter, count: int, by_frame: bool
):
    writer.set_state("connected")
    append(ring, 0, 1)
    ring.update_forming(opens(2), *prices(2))
    asked = {"count": count, "include_now": True}
    for _ in range(3):
        frame = get_price(SYMBOL, **asked)
    frame.iloc[:] = 0.0  # its memory is its own
    ring.append(opens(2), *prices(5))
    receipts = decide("x", frame).receipts if by_frame else decide("x").receipts
    forming = [receipt for receipt in receipts if receipt.forming]
    assert [receipt.forming for receipt in forming] == [(opens(2), *prices(2))]
    closed = [0, 1][2 - (count - 1) :]
    assert forming[0].digest == expected_digest(closed)
    assert forming[0].rows == len(closed)


def test_bars_of_a_context_have_the_same_digest_as_the_feeds(filled: FeedWriter):
    bars = [
        list(zip(("open", "high", "low", "close", "volume"), prices(n), strict=True))
        for n in range(30)
    ]
    entry = listed(*range(30))
    for bar, values in zip(entry["bars"], bars, strict=True):
        bar |= dict(values)
    live = decide("x", get_price(SYMBOL, count=3)).receipts
    now = pd.Timestamp(opens(30), unit="ms")
    run = {"type": "backtest"}
    set_context(Context([entry], current_dt=now, run_params=run))
    frame = get_price(SYMBOL, count=3)
    backtest = decide("x", frame).receipts
    assert [
        (r.symbol, r.timeframe, r.first, r.last, r.rows, r.digest) for r in live
    ] == [(r.symbol, r.timeframe, r.first, r.last, r.rows, r.digest) for r in backtest]
    assert (backtest[0].source, backtest[0].feed) == ("context", None)
    get_price(SYMBOL, count=3)
    assert decide("y").receipts == backtest


def test_mixed_rows_have_one_receipt(ring: RingWriter):
    append(ring, *range(10, 20))
    set_context(Context([listed(*range(12))]))
    frame = get_price(SYMBOL, count=12)
    (receipt,) = decide("x", frame).receipts
    assert (receipt.source, receipt.first, receipt.rows) == ("mixed", opens(8), 12)
    assert receipt.values[4].tolist() == [8.5, 9.5, *map(float, range(10, 20))]


# Bars that change between the read and the decision.


def revise(writer: FeedWriter, ring: RingWriter) -> None:
    """Replace the values of the last two bars but one."""
    rows = ring.reader.snapshot(50)
    rows["close"][-3:-1] += 0.25
    key = ring.symbol, ring.timeframe
    writer.replace_rows(*key, rows.block)


REVISED_READS = sorted(READS)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("name", READS)
def test_a_revised_bar_shows_as_it_was_read(
    writer: FeedWriter, ring: RingWriter, name: str, times: int
):
    rings = {SYMBOL: ring, "A": writer.add_stream("A", "1h")}
    rings["B"] = writer.add_stream("B", "1h")
    for symbol, each in rings.items():
        append(each, *range(29 if symbol == "A" else 30))
    decide("tracked from here on")
    read, numbers = READS[name]
    for _ in range(times):
        frame = read()
    for symbol, each in rings.items():
        rows = each.reader.snapshot(50)
        rows["close"][-4:] += 0.25
        writer.replace_rows(symbol, "1h", rows.block)
    as_read = decide("x").receipts
    assert windows(as_read) == numbers
    assert decide("y", frame).receipts == as_read
    again = decide("z", read()).receipts  # the control: another read sees it
    if any(receipt.rows for receipt in again):
        assert [r.digest for r in again] != [r.digest for r in as_read]


def test_an_untracked_frame_over_the_ring_shows_its_bars_as_they_were(
    writer: FeedWriter, ring: RingWriter
):
    append(ring, *range(30))
    for _ in range(3):
        frame = get_price(SYMBOL, count=3)
    rows = ring.reader.snapshot(50)
    rows["close"][-2] += 0.25
    writer.replace_rows(SYMBOL, "1h", rows.block)
    assert windows(decide("x", frame).receipts) == LAST3
    get_price(SYMBOL, count=3)
    assert len(decide("x", frame).receipts) == 1


def test_an_untracked_list_says_that_its_bars_are_not_known(
    writer: FeedWriter, ring: RingWriter
):
    append(ring, *range(30))
    append(writer.add_stream("A", "1h"), *range(30))
    for _ in range(2):
        frame = get_price([SYMBOL, "A"], count=3)
    rows = ring.reader.snapshot(50)
    writer.replace_rows(SYMBOL, "1h", rows.block)
    lost, kept = decide("x", frame).receipts
    assert (lost.symbol, lost.digest, lost.rows) == (SYMBOL, None, 0)
    assert "an earlier decide() without frames" in (lost.unknown or "")
    assert windows((kept,)) == {("A", "1h"): [[27, 28, 29]]}


def test_a_frame_that_was_overwritten_says_so(ring: RingWriter):
    append(ring, *range(30))
    for _ in range(3):
        frame = get_price(SYMBOL, count=30)
    append(ring, *range(30, 200))
    (receipt,) = decide("x", frame).receipts
    assert not receipt.valid
    assert receipt.digest is None
    assert "overwritten" in (receipt.unknown or "")


# The frames that decide is given.


def test_frames_that_have_no_receipt_are_refused(ring: RingWriter, noted: Noted):
    append(ring, *range(5))
    frame = get_price(SYMBOL, count=3)
    given: list[tuple[object, str]] = [
        (frame.to_numpy(), "frame 2 of decide is of type ndarray; pass the frames"),
        ("BTCUSDT", "frame 2 of decide is 'BTCUSDT', of type str"),
        (None, "frame 2 of decide is None, of type NoneType"),
        (
            pd.DataFrame({"close": [1.0]}),
            r"frame 2 of decide has no attrs\['shmfeed'\]",
        ),
        (pickle.loads(pickle.dumps(frame)), "frame 2 of decide comes from a pickle"),
    ]
    plain = frame.copy()
    plain.attrs = {"shmfeed": dict(frame.attrs["shmfeed"])}
    given.append((plain, "comes from a pickle or a file"))
    for wrong, message in given:
        with pytest.raises(BadArgumentError, match=message):
            decide("x", frame, wrong)
    assert noted == []
    assert windows(decide("x").receipts) == {(SYMBOL, "1h"): [[2, 3, 4]]}


# The digest.

ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        *[st.sampled_from([0.0, -0.0, 1.5, -1.5, math.nan, math.inf, 1e-300])] * 5,
    ),
    max_size=3,
)


@given(ROWS, ROWS)
def test_digests_are_equal_if_and_only_if_the_rows_are(one: Any, other: Any):
    digests, keys = [], []
    for rows in (one, other):
        table = np.array(rows, float).reshape(-1, 6)
        digests.append(digest_of(table[:, 0].astype(np.int64), table[:, 1:].T))
        keys.append([tuple("nan" if v != v else v for v in row) for row in rows])
    assert (digests[0] == digests[1]) == (keys[0] == keys[1])


def test_digests_are_the_same_on_each_platform():
    values = np.array(
        [[1.0, 2.0], [3.0, -0.0], [0.5, math.nan], [1.5, 4.0], [10.0, 0.1]]
    )
    opened = np.array([1_704_067_200_000, 1_704_067_260_000])
    assert digest_of(opened, values) == DIGEST
    assert digest_of(opened.astype(">i8"), values.astype(">f8")) == DIGEST
    assert digest_of(opened, np.asfortranarray(values)) == DIGEST
    assert digest_of(opened[:0], values[:, :0]) == EMPTY_DIGEST


DIGEST = "407d12d0ac9fcaeae3e63dd9b4673fa4"
EMPTY_DIGEST = "cae66941d9efbd404e4d88758ea67670"


# Threads and tasks.


def test_each_thread_has_its_own_reads(filled: FeedWriter):
    decide("tracked")
    found: dict[str, Any] = {}
    barrier = threading.Barrier(3)

    def act(symbol: str) -> None:
        for _ in range(20):
            get_price(symbol, count=2)
            barrier.wait()
            found.setdefault(symbol, []).append(decide(symbol).receipts)
            barrier.wait()

    threads = [threading.Thread(target=act, args=(s,)) for s in (SYMBOL, "A", "B")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for symbol, each in found.items():
        assert [[r.symbol for r in receipts] for receipts in each] == [[symbol]] * 20


def test_each_task_has_its_own_reads(filled: FeedWriter):
    decide("tracked")

    async def act(symbol: str) -> list[str]:
        names = []
        for _ in range(5):
            get_price(symbol, count=2)
            await asyncio.sleep(0)
            await asyncio.to_thread(get_price, symbol, count=3)
            names += [receipt.symbol for receipt in decide(symbol).receipts]
        return names

    async def main() -> list[list[str]]:
        return list(await asyncio.gather(*map(act, ("A", "B"))))

    assert asyncio.run(main()) == [["A"] * 10, ["B"] * 10]


def test_a_read_in_the_executor_before_all_others_counts_for_the_task(
    filled: FeedWriter,
):
    decide("tracked")

    async def main() -> Decision:
        await asyncio.to_thread(get_price, "A", count=2)
        return decide("x")

    assert windows(asyncio.run(main()).receipts) == {("A", "1h"): [[27, 28]]}


def test_each_acting_strategy_has_its_own_reads(filled: FeedWriter):
    decide("tracked")
    with acting_strategy("a.py"):
        get_price("A", count=2)
    with acting_strategy("b.py"):
        get_price("B", count=2)
        of_b = decide("b")
    with acting_strategy("a.py"):
        of_a = decide("a")
    assert (of_a.strategy, [r.symbol for r in of_a.receipts]) == ("a.py", ["A"])
    assert (of_b.strategy, [r.symbol for r in of_b.receipts]) == ("b.py", ["B"])
    assert decide("none").strategy is None


# The limits of what is kept.


def test_reads_without_a_decision_do_not_grow_without_bound(
    ring: RingWriter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(read_log, "TRACKED", read_log._Limit(4, 1 << 20, 9))
    append(ring, 0)
    decide("tracked")
    for number in range(1, 11):
        append(ring, number)
        get_price(SYMBOL, count=1)
        get_price(SYMBOL, count=1)
    made = decide("x")
    assert windows(made.receipts) == {(SYMBOL, "1h"): [[7], [8], [9], [10]]}
    assert made.truncated == 6
    assert decide("y").truncated == 0


def test_the_bytes_of_reads_are_limited(
    ring: RingWriter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(read_log, "TRACKED", read_log._Limit(100, 1000, 9))
    append(ring, *range(50))
    decide("tracked")
    for count in range(1, 21):
        get_price(SYMBOL, count=count)
    made = decide("x")
    assert [receipt.rows for receipt in made.receipts] == [20]  # 48 bytes a bar
    assert made.truncated == 19


def test_the_bars_that_are_handed_over_are_limited(
    strategy: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(read_log, "TRACKED", read_log._Limit(9, 1 << 20, 3))
    decide("tracked")
    origin = Origin(strategy, None, "live", None, SYMBOL, "1h")
    for number in (0, 1, 2, 3, 4, 4):
        bar = Bar(opens(number), opens(number + 1), *prices(number))
        current_record().hand_bar(origin, bar)
    made = decide("x")
    assert windows(made.receipts) == {(SYMBOL, "1h"): [[2, 3, 4]]}
    assert made.truncated == 2


def test_a_process_that_does_not_decide_keeps_few_reads(filled: FeedWriter):
    for count in range(1, 100):
        get_price(SYMBOL, count=count % 30 + 1, copy=True)
        get_price(SYMBOL, start_date=START + count * 1000)
    log = current_record().log
    assert 0 < len(log._latest) <= read_log.UNTRACKED.reads
    assert log._bytes <= read_log.UNTRACKED.bytes


# The recorder.


def test_the_recorder_has_each_decision_and_tracks_reads(
    writer: FeedWriter, ring: RingWriter, noted: Noted
):
    append(ring, *range(30))
    assert read_log.tracked == {"recorder"}
    for _ in range(3):
        get_price(SYMBOL, count=3)
    rows = ring.reader.snapshot(50)
    rows["close"][:] += 1
    writer.replace_rows(SYMBOL, "1h", rows.block)
    made = decide("x")
    assert windows(made.receipts) == LAST3
    assert noted == [made]
    set_recorder(None)
    assert decide("y") not in noted


def test_a_recorder_that_cannot_write_tells_the_strategy(strategy: str):
    class Full:
        def note(self, _decision: Decision) -> None:
            raise OSError(28, "No space left on device")

    set_recorder(Full())
    try:
        with pytest.raises(OSError, match="No space left"):
            decide("x")
    finally:
        decisions.set_recorder(None)
