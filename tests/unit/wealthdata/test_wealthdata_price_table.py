"""The usual call, served by the C core, gives what Python gives, and nothing else."""

import gc
import os
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.numbered_bars import (
    SYMBOL,
    append,
    listed,
    numbers,
    opens,
    prices,
    shares,
    when,
)

import wealthdata
from shmfeed import core
from shmfeed.errors import (
    BadArgumentError,
    BusyRingError,
    LappedWarning,
    ShmfeedError,
)
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create
from wealthdata import (
    Context,
    api,
    attachment,
    choices,
    freshness,
    get_bars,
    get_price,
    price_table,
    query_cache,
    times,
)
from wealthdata.request import ReadArguments

pytest_plugins = ["support.strategy_process"]
pytestmark = [
    pytest.mark.skipif(core.build != "C", reason="only the C core has a table"),
    pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning"),
]

SEED = int(os.environ.get("TEST_SEED", "20260101"))


@pytest.fixture
def live(writer: FeedWriter, ring: RingWriter) -> Iterator[RingWriter]:
    """Give a ring of 130 bars of a connected feed, and a prepared read of it."""
    freshness.outages.clear()
    writer.set_state("connected")
    append(ring, *range(130))
    get_price(SYMBOL)
    yield ring
    freshness.outages.clear()


def usual(
    security: object = SYMBOL, count: object = None, **given: object
) -> pd.DataFrame | None:
    """Return what the C core alone gives."""
    with suppress(BadArgumentError):
        choices.current_choices()  # pytest changes the environment between phases
    asked = ReadArguments(security, limit=count, **given)
    arguments, dates = tuple(asked[:-2]), asked[-2:]
    table = price_table._Opened.table
    if asked.has_dates:
        return table.read_range(arguments, *dates)
    found: pd.DataFrame | None = table.read(arguments)
    return found


@contextmanager
def without_table() -> Iterator[None]:
    """Let Python serve each call."""
    reads = api._usual_read, api._usual_range
    api._usual_read = api._usual_range = price_table.NoTable().read
    try:
        yield
    finally:
        api._usual_read, api._usual_range = reads


def outcome(call: Callable[[], pd.DataFrame]) -> tuple[Any, ...]:
    """Return the frame, or the error, and the warnings of a call."""
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        freshness.outages.clear()
        try:
            found: Any = call()
        except (ShmfeedError, TypeError) as error:
            return None, without_changes(repr(error)), texts(given)
    return found, None, texts(given)


def texts(given: list[warnings.WarningMessage]) -> list[str]:
    return [without_changes(str(one.message)) for one in given]


def without_changes(text: str) -> str:
    """Two calls one after the other may tell other ages, and other tests' feeds."""
    text = re.sub(r"last update \d+\.\d s", "last update some s", text)
    return re.sub(r"this user's feeds are: [^)]*", "some feeds", text)


def check_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    (frame, *rest), (expected, *others) = one, other
    assert rest == others
    if expected is None:
        return
    pd.testing.assert_frame_equal(
        frame, expected, check_freq=True, check_flags=True, check_exact=True
    )
    assert "code" in frame or shares(frame) == shares(expected)
    both = frame.attrs["shmfeed"], expected.attrs["shmfeed"]
    assert type(both[0]) is type(both[1])
    assert both[0].valid == both[1].valid
    attrs, wanted = map(dict, both)
    assert list(attrs) == list(wanted)
    assert abs((attrs.pop("age") or 0) - (wanted.pop("age") or 0)) < 5
    assert attrs == wanted
    assert vars(frame._mgr.axes[1]).keys() == vars(expected._mgr.axes[1]).keys()


def test_the_usual_call_is_served_by_the_core(live: RingWriter) -> None:
    found = usual(count=5)
    assert found is not None
    assert numbers(found) == [125, 126, 127, 128, 129]
    assert found.attrs["shmfeed"].valid
    append(live, *range(130, 330))
    assert not found.attrs["shmfeed"].valid


def pythons(**given: Any) -> pd.DataFrame:
    with without_table():
        return get_price(**{"security": SYMBOL, **given})


FIELDS = [None, "close", ["open"], ("close", "open"), ("volume", "money"), ["flags"]]
VALUES: dict[str, list[Any]] = {
    "security": [SYMBOL, SYMBOL, [SYMBOL], [SYMBOL], "NONE", ["NONE"], "", 7, None],
    "align": [False, True, 0],
    "wide": [False, True, None],
    "frequency": ["1h", "1h", "1h", "60m", "1m", "2x", None, ["1h"]],
    "fields": [*FIELDS, ("high", "low", "close"), "clse", (), 5, ("close", ["open"])],
    "count": [None, 1, 20, 99, 100, 5000, 10**30, 0, -1, True, 2.0, "20"],
    "include_now": [False, False, False, True, 0, None, "no"],
    "copy": [False, False, False, True, 1, None],
    "max_age": [None, None, None, 0, 5, 1e9, -1, "5", float("nan")],
    "on_stale": [None, None, None, "warn", "ignore", "raise", "WARN".lower(), "", 1],
}


def test_calls_with_any_arguments_end_as_those_of_python(
    live: RingWriter, record_property: Callable[[str, object], None]
) -> None:
    record_property("seed", SEED)
    choose, served = random.Random(SEED), 0
    for fields in FIELDS:
        get_price(SYMBOL, fields=fields)
        get_price([SYMBOL], fields=fields)
    for _ in range(600):
        given = {
            name: choose.choice(values)
            for name, values in VALUES.items()
            if choose.random() < 0.4
        }
        given.setdefault("security", SYMBOL)
        named = {**given, "fields": as_tuple(given.get("fields"))}
        served += usual_or_none(named) is not None
        check_same(
            outcome(lambda given=given: get_price(**given)),
            outcome(lambda given=given: pythons(**given)),
        )
    assert 30 < served < 500


DATES: list[Any] = [
    *(None, None, None, None),
    *(when(number) for number in (-3, 31, 60, 100, 128, 129, 130, 900)),
    when(100) + pd.Timedelta(minutes=7),
    when(110).to_pydatetime(),
    when(110).to_pydatetime().replace(tzinfo=UTC),
    when(110).tz_localize("Asia/Kathmandu"),
    when(110).to_datetime64(),
    when(110).date(),
    str(when(105)),
    "2024-01-05",
    b"2024-01-05",
    "2024-01-05T08:00",
    "2024-01-05 08:30:59",
    "20240105",
    "20240105083000",
    str(opens(100)),
    20240105,
    20240105080000,
    opens(100),
    *("", "soon", 20, 1704067200, 1.5, True, pd.NaT, np.datetime64("NaT", "ms"), []),
]
LABELS = [None, None, None, "close", "open", "date", "Close", 5]


def test_ranges_with_any_arguments_end_as_those_of_python(
    live: RingWriter, record_property: Callable[[str, object], None]
) -> None:
    record_property("seed", SEED)
    choose, served = random.Random(SEED), 0
    for fields in FIELDS:
        get_price(SYMBOL, fields=fields)
    stream = wealthdata.choices.current_choices().feed, SYMBOL, "1h"
    for _ in range(500):
        given = {
            name: choose.choice(values)
            for name, values in VALUES.items()
            if choose.random() < 0.15
        }
        given |= {"security": SYMBOL, "label": choose.choice(LABELS)}
        given |= {name: choose.choice(DATES) for name in ("start_date", "end_date")}
        warned = choose.random() < 0.7

        def read(call: Any, given: Any = given, warned: Any = warned) -> Any:
            freshness.behind_warned.clear()
            if warned:
                freshness.behind_warned.add(stream)
            return outcome(lambda: call(**given))

        ours, pythons_own = read(get_price), read(pythons)
        check_same(ours, pythons_own)
        named = {**given, "fields": as_tuple(given.get("fields"))}
        served += usual_or_none(named) is not None
    assert 40 < served < 450


@pytest.mark.parametrize("label", ["open", "date", "close"])
def test_the_core_serves_a_label(live: RingWriter, label: str) -> None:
    expected = pythons(label=label)
    check_same((usual(label=label),), (expected,))
    wealthdata.use(label=label)
    get_price(SYMBOL)
    check_same((usual(),), (expected,))
    assert usual(label="close").index[-1] == when(129)


def as_tuple(fields: object) -> object:
    return tuple(fields) if isinstance(fields, list) else fields


def usual_or_none(given: dict[str, Any]) -> pd.DataFrame | None:
    try:
        return usual(**given)
    except (ShmfeedError, TypeError):
        return None


class Adapter:
    def get_history(self, *_: object) -> list[Any]:
        return []

    def get_all_symbols(self) -> list[str]:
        return []


CHANGES: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "a context": lambda _: wealthdata.set_context(Context()),
    "an adapter": lambda _: wealthdata.register_data_adapter(Adapter()),
    "another feed": lambda patch: wealthdata.use(feed="another"),
    "no feed": lambda patch: wealthdata.use(context_only=True),
    "a private frame": lambda patch: patch.setenv("SHMFEED_COPY", "1"),
    "a variable off": lambda patch: patch.setenv("SHMFEED_FEED", "off"),
    "a wrong variable": lambda patch: patch.setenv("SHMFEED_LABEL", "/"),
    "detached": lambda _: attachment.detach(),
    "an outage": lambda _: freshness.outages.add((("f", "s", "1h"), None)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_python_decides_when_something_else_has_a_say(
    live: RingWriter, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    assert usual() is not None
    CHANGES[change](monkeypatch)
    assert usual() is None
    check_same(outcome(lambda: get_price(SYMBOL)), outcome(pythons))


class Params:
    type = "live"


LIVE_CONTEXTS: dict[str, Callable[[], Any]] = {
    "empty": Context,
    "with bars": lambda: Context([listed(*range(3))]),
    "with a time": lambda: Context(current_dt=when(129)),
    "a dict of params": lambda: Context(run_params={"type": "sim_trade"}),
    "an object of params": lambda: Context(run_params=Params()),
    "foreign": lambda: SimpleNamespace(current_dt=when(200), run_params=None),
}


@pytest.mark.parametrize("kind", LIVE_CONTEXTS)
def test_a_live_context_leaves_the_usual_call_to_the_core(
    live: RingWriter, kind: str
) -> None:
    wealthdata.set_context(LIVE_CONTEXTS[kind]())
    expected = get_price(SYMBOL)
    found = usual()
    assert found is not None
    check_same((found,), (expected,))


def changed(name: str, value: object) -> Callable[[Any], None]:
    return lambda context: setattr(context, name, value)


class OwnTime(datetime):
    """A datetime that may answer otherwise than its fields."""


CONTEXT_CHANGES: dict[str, Callable[[Any], object]] = {
    "an earlier time": changed("current_dt", when(100)),
    "a later Timestamp": changed("current_dt", when(150)),
    "a later time of its own type": changed("current_dt", OwnTime(2100, 1, 1)),
    "a later time with a zone": changed("current_dt", datetime(2100, 1, 1, tzinfo=UTC)),
    "a text for a time": changed("current_dt", "noon"),
    "a backtest": changed("run_params", {"type": "backtest"}),
    "other params": changed("run_params", {"type": "live"}),
    "a backtest in the same params": lambda one: one.run_params.update(type="backtest"),
    "no type in the same params": lambda one: one.run_params.clear(),
    "a wrong type in them": lambda one: one.run_params.update(type="backtst"),
    "params that are gone": lambda one: delattr(one, "run_params"),
    "a time that is gone": lambda one: delattr(one, "current_dt"),
    "cleared": lambda _: (wealthdata.clear_context(), attachment.detach()),
    "another context": lambda _: wealthdata.set_context(Context()),
    "an adapter": lambda _: wealthdata.register_data_adapter(Adapter()),
}


@pytest.mark.parametrize("change", CONTEXT_CHANGES)
def test_python_decides_when_the_context_has_changed(
    live: RingWriter, change: str
) -> None:
    context = Context(
        [listed(*range(3))], current_dt=when(129), run_params={"type": "live"}
    )
    wealthdata.set_context(context)
    get_price(SYMBOL)
    assert usual() is not None
    CONTEXT_CHANGES[change](context)
    assert usual() is None
    check_same(outcome(lambda: get_price(SYMBOL)), outcome(pythons))


def test_the_time_of_a_context_goes_on(live: RingWriter) -> None:
    """The core reads another time itself: a strategy has another one at each bar."""
    context = Context(current_dt=when(129))
    wealthdata.set_context(context)
    get_price(SYMBOL)
    for number in range(130, 140):
        append(live, number)
        assert usual() is None  # the row closes after the context's time
        closed = when(number).to_pydatetime()
        context.current_dt = closed + timedelta(microseconds=number % 3)
        found = usual()
        assert found is not None
        check_same((found,), (pythons(),))
        context.current_dt = closed - timedelta(microseconds=1)
        assert usual() is None
        check_same(outcome(lambda: get_price(SYMBOL)), outcome(pythons))


def test_python_decides_when_the_context_bounds_or_adds_rows(live: RingWriter) -> None:
    context = Context([listed(*range(3))], current_dt=when(129))
    wealthdata.set_context(context)
    get_price(SYMBOL)
    assert usual(count=100) is not None
    assert usual(count=101) is None  # the ring has fewer: the context may have more
    append(live, 130)
    assert usual() is None  # a row that closes after the context's time
    assert numbers(get_price(SYMBOL, count=2)) == [128, 129]


def test_arrays_lie_within_the_context_too(live: RingWriter) -> None:
    def closes(count: int) -> list[float]:
        return get_bars(SYMBOL, count, "1h", ["close"], df=False)["close"].tolist()

    context = Context([listed(*range(3))])
    wealthdata.set_context(context)
    newest = [prices(number)[3] for number in range(130)]
    for _ in range(2):  # the second by the C core
        assert closes(3) == newest[-3:]
    context.current_dt = when(100)
    assert closes(3) == newest[98:101]
    del context.current_dt
    assert closes(3) == newest[-3:]
    context.run_params = {"type": "backtest"}
    assert closes(3) == newest[:3]


def test_a_context_of_another_thread_is_pythons(live: RingWriter) -> None:
    with ThreadPoolExecutor(1) as other:
        other.submit(wealthdata.set_context, Context()).result()
        assert usual() is None
        other.submit(wealthdata.clear_context).result()
    assert usual() is not None


def test_an_error_of_a_context_is_the_reads(live: RingWriter) -> None:
    class Failing:
        failing = False

        @property
        def current_dt(self) -> None:
            if self.failing:
                raise OSError("no clock")

    context = Failing()
    wealthdata.set_context(context)
    get_price(SYMBOL)
    assert usual() is not None
    context.failing = True
    with pytest.raises(OSError, match="no clock"):
        get_price(SYMBOL)


def test_a_list_of_one_is_served_by_the_core(live: RingWriter) -> None:
    assert usual([SYMBOL]) is None
    expected = get_price([SYMBOL], count=7)
    found = usual([SYMBOL], count=7)
    assert found is not None
    check_same((found,), (expected,))
    assert found["code"].tolist() == [SYMBOL] * 7
    assert found["close"].tolist() == get_price(SYMBOL, count=7)["close"].tolist()
    blocks = [[type(b) for b in one._mgr.blocks] for one in (found, expected)]
    assert blocks[0] == blocks[1]
    found.iloc[0, 2:] = -1.0  # private, and its own
    found.loc[0, "code"] = "other"
    found.attrs["shmfeed"]["absent"].append("other")
    again = usual([SYMBOL], count=7)
    check_same((again,), (expected,))
    append(live, *range(130, 400))
    assert again.attrs["shmfeed"].valid
    check_same((again,), (expected,))


@pytest.mark.parametrize("fields", [("close", "open"), "flags", ("open", "money")])
def test_a_list_with_other_fields_is_served_by_python(
    live: RingWriter, fields: Any
) -> None:
    get_price([SYMBOL], fields=fields)
    assert usual([SYMBOL], fields=fields) is None


def test_lists_that_are_not_of_one_are_served_by_python(
    live: RingWriter, writer: FeedWriter
) -> None:
    append(writer.add_stream("ETHUSDT", "1h"), *range(20))
    empty = writer.add_stream("EMPTY", "1h")
    for symbols in ([SYMBOL, "ETHUSDT"], [SYMBOL, SYMBOL], ["EMPTY"], [SYMBOL, "NONE"]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            get_price(symbols)
        freshness.outages.clear()
        assert usual(symbols) is None
    append(empty, *range(5))
    assert len(usual(["EMPTY"])) == 5


def choose_another(patch: pytest.MonkeyPatch) -> None:
    wealthdata.use(feed="another")


@pytest.mark.parametrize("security", [SYMBOL, [SYMBOL]], ids=str)
@pytest.mark.parametrize(
    "choose",
    [
        choose_another,
        lambda patch: wealthdata.use(context_only=True),
        lambda patch: patch.setenv("SHMFEED_FEED", "off"),
        lambda patch: attachment.detach(),
    ],
    ids=["use", "context only", "environment", "detach"],
)
def test_a_choice_made_during_a_read_holds_for_the_next(
    live: RingWriter,
    monkeypatch: pytest.MonkeyPatch,
    security: Any,
    choose: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """As by another thread, after a read found its rows and before it is added."""
    attachment.detach()
    add = price_table.add

    def add_late(*given: Any) -> None:
        choose(monkeypatch)
        add(*given)

    monkeypatch.setattr(price_table, "add", add_late)
    assert len(get_price(security)) == 20
    assert usual(security) is None


def test_a_choice_made_again_is_served_again(live: RingWriter, strategy: str) -> None:
    wealthdata.use(feed=strategy)
    assert usual() is None
    get_price(SYMBOL)
    assert usual() is not None
    wealthdata.register_data_adapter(Adapter())
    wealthdata.clear_data_adapter()
    assert usual() is not None


@pytest.mark.parametrize("state", ["reconnecting", "error", "disconnected"])
def test_python_decides_what_to_do_about_a_stale_stream(
    live: RingWriter, writer: FeedWriter, state: str
) -> None:
    writer.set_state(state)
    assert usual() is None
    with pytest.warns(wealthdata.StaleFeedWarning):
        get_price(SYMBOL)
    writer.set_state("connected")
    assert usual() is None  # Python ends the outage
    get_price(SYMBOL)
    assert usual() is not None


def test_python_warns_of_a_frame_that_was_overwritten(live: RingWriter) -> None:
    found = usual()
    assert found is not None
    append(live, *range(130, 330))
    with pytest.warns(LappedWarning, match="1 frame"):
        get_price(SYMBOL)
    assert not found.attrs["shmfeed"].valid
    assert usual() is not None


def test_a_recreated_feed_is_followed(
    live: RingWriter, writer: FeedWriter, strategy: str
) -> None:
    writer.close(unlink=True)
    with create(strategy, history=100, guard=16, max_streams=8) as again:
        again.set_state("connected")
        append(again.add_stream(SYMBOL, "1h"), *range(7))
        assert usual() is None
        assert numbers(get_price(SYMBOL)) == list(range(7))
        assert numbers(usual()) == list(range(7))
        again.close(unlink=True)


def test_months_are_counted(writer: FeedWriter, live: RingWriter) -> None:
    ring = writer.add_stream(SYMBOL, "1M")
    months = np.arange("1970-01", "2041-01", dtype="M8[M]").astype("M8[ms]")
    held = random.Random(SEED).sample(months.astype(int).tolist(), 90)
    for opened in sorted(held):
        ring.append(opened, *prices(3))
    for count in (1, 2, 5, 60):
        for label in ("close", "open", "date"):
            given: Any = {"count": count, "frequency": "1M", "label": label}
            get_price(SYMBOL, **given)
            check_same((usual(**given),), (pythons(**given),))
    assert usual(count=60, frequency="1M").attrs["shmfeed"]["gaps"] > 10


TEXTS = [
    "2024-01-05",
    "2024-01-05 08:00",
    "2024-01-05T08:00",
    "2024-01-05 07:59:59",
    "20240105",
    "20240105080000",
    "1704441600000",
    "999999999999",
    "2024-02-29",
    "0001-01-01",
    "00010101",
    "9999-12-31",
]


def test_texts_are_read_as_python_reads_them(
    live: RingWriter, record_property: Callable[[str, object], None]
) -> None:
    """Also those of which one or two characters are others."""
    record_property("seed", SEED)
    choose, served = random.Random(SEED), 0
    wealthdata.use(on_stale="ignore")
    get_price(SYMBOL)
    stream = wealthdata.choices.current_choices().feed, SYMBOL, "1h"
    freshness.behind_warned.add(stream)
    for _ in range(800):
        text = [*choose.choice(TEXTS)]
        for _ in range(choose.choice((0, 1, 1, 2))):
            text[choose.randrange(len(text))] = choose.choice("0123456789-: T٣é")
        asked: Any = {"end_date": "".join(text), "count": 3}
        ours = outcome(lambda asked=asked: get_price(SYMBOL, **asked))
        served += usual_or_none({"security": SYMBOL, **asked}) is not None
        times.known_texts.clear()
        check_same(ours, outcome(lambda asked=asked: pythons(**asked)))
    assert served > 100


def test_gaps_are_counted(live: RingWriter) -> None:
    append(live, 132, 140)
    attrs = usual(count=4).attrs["shmfeed"]
    assert attrs["gaps"] == 2 + 7
    check_same((get_price(SYMBOL, count=4),), (pythons(count=4),))


def test_an_error_of_pandas_is_raised(
    live: RingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (SYMBOL, "1h", None, None)
    query = query_cache.queries[key]

    class Broken:
        def __init__(self, definition: Any) -> None:
            self.__dict__.update(vars(definition))

        def fail(self, *_: object) -> None:
            raise BusyRingError("of pandas")

    from wealthdata.frame import DirectFrameBuilder, block_spans, readonly_index

    definition = DirectFrameBuilder(readonly_index(("open",)), block_spans([0]))
    for part in ("_block", "_manager", "_references", "_array"):
        broken = Broken(definition)
        setattr(broken, part, broken.fail)
        compiled = core.extension.FrameBuilder(broken)
        price_table.add(key, query.prepared()._replace(builder=compiled))
        with pytest.raises(BusyRingError, match="of pandas"):
            usual()


def test_a_call_leaves_no_reference_behind(live: RingWriter) -> None:
    def counts() -> list[int]:
        gc.collect()
        ring = attachment.attached_feed().ring((SYMBOL, "1h"))
        held = (ring, ring._last_reader, usual, wealthdata.frame.TIME, None, 20)
        return [sys.getrefcount(one) for one in held]

    for arguments in ({}, {"count": 0}, {"fields": ("close", [])}, {"copy": True}):
        usual_or_none(arguments)
        before, blocks = counts(), sys.getallocatedblocks()
        for _ in range(1000):
            usual_or_none(arguments)
        assert all(b - a < 50 for a, b in zip(before, counts(), strict=True))
        assert sys.getallocatedblocks() - blocks < 200


def test_a_table_takes_only_what_it_knows() -> None:
    table = price_table._Opened.table
    for wrong in ((), (1, 2), ((), (1, 2, 3, 4, 5))):
        with pytest.raises(TypeError):
            table.add(*wrong)
    with pytest.raises(TypeError):
        table.read(SYMBOL)
    with pytest.raises(TypeError):
        core.extension.PriceTable({}, 1, 2, 3, (), dict, 4, 1.0)
    with pytest.raises((TypeError, AttributeError)):
        core.extension.FrameBuilder(object())
