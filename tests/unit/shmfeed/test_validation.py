"""Each public function refuses each odd value of each argument with a typed error."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest

import shmfeed
import wealthdata
from shmfeed.errors import BadArgumentError, ShmfeedError
from shmfeed.text import repr_short
from shmfeed.validation import (
    check_choice,
    check_feed_name,
    check_flag,
    check_int,
    check_seconds,
    check_timeout,
)
from shmfeed.writer import FeedWriter
from wealthdata import attachment, choices

HUGE = 10**5000  # more digits than Python makes a text of
ODD = [
    *(None, True, False, -1, 0, 1, 3, 2**70, -(2**70), HUGE),
    *(1.5, math.nan, math.inf, -math.inf, 1j, Fraction(1, 3)),
    *("", " ", "x", "no", "1", "BTCUSDT", "\0", "é", "\ud800", "a" * 100, "../../x"),
    *(b"x", bytearray(b"a"), [], ["x"], [1], (), ("x",), {}, {"a": 1}, set(), iter([])),
    *(object(), len, int, Exception, Ellipsis, range(3)),
    *(datetime(2024, 1, 1), date.max, np.datetime64("NaT", "ns")),
    *(np.int64(3), np.float64(2.5), np.bool_(True), np.str_("x")),
    *(np.array([1, 2]), np.array([]), np.array(3), np.array("close")),
]
STREAM = {"symbol": "BTCUSDT", "timeframe": "1m"}
T0 = 1_700_000_040_000
BARS = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 1.0}


class Surface(NamedTuple):
    """The objects whose methods are called."""

    writer: FeedWriter
    feed: Any
    name: str


@pytest.fixture
def surface(feed_name: str, request: pytest.FixtureRequest) -> Iterator[Surface]:
    with shmfeed.create(feed_name, history=20, max_streams=64) as writer:
        ring = writer.add_stream(**STREAM)
        for number in range(5):
            ring.append(T0 + number * 60_000, **BARS)
        wealthdata.use(feed=feed_name)
        with shmfeed.attach(feed_name) as feed:
            yield Surface(writer, feed, feed_name)
        choices.forget_choices()
        attachment.detach()
        writer.close(unlink=True)
    request.node.funcargs.clear()  # pytest would keep the mapping


Call = Callable[..., object]


def writing(s: Surface) -> Iterator[tuple[Call, Mapping[str, object], str]]:
    """Yield functions, good arguments, and the names of those to be made odd."""
    ring = s.writer.add_stream("WRITTEN", "1m")
    times = iter(range(T0, T0 + 60_000_000_000, 60_000))
    for verb in (ring.append, ring.update_forming):

        def write(verb: Call = verb, **arguments: object) -> None:
            verb(**{"open_time": next(times), **arguments})

        yield write, BARS, "open_time open high low close volume money flags wake"
    yield s.writer.add_stream, STREAM, "symbol timeframe"
    yield s.writer.unsubscribe, STREAM, "symbol timeframe"
    yield s.writer.set_state, {}, "state"
    yield s.writer.count, {"counter": "late"}, "counter n"
    yield s.writer.close, {}, "unlink"


def making(s: Surface) -> Iterator[tuple[Call, Mapping[str, object], str]]:
    def create(name: Any, **sizes: Any) -> None:
        with suppress(BadArgumentError):
            check_feed_name(name)
            name = s.name + "b"  # an accepted name may be a real feed's
        shmfeed.create(name, **sizes).close(unlink=True)

    sizes = {"name": s.name + "b", "history": 5, "guard": 1, "max_streams": 1}
    yield create, sizes, "name history guard max_streams state streams"
    yield shmfeed.attach, {}, "name"


def reading(s: Surface) -> Iterator[tuple[Call, Mapping[str, object], str]]:
    ring = s.feed.ring(**STREAM)
    yield lambda timeout: shmfeed.attach(s.name, timeout).close(), {}, "timeout"
    yield s.feed.ring, STREAM, "symbol timeframe"
    yield ring.view, {}, "n"
    yield ring.snapshot, {"n": 2}, "n include_now"
    yield ring.latest, {}, "field"
    yield lambda field: ring.view(2)[field], {}, "field"
    yield ring.wait, {"after": 0, "timeout": 0.001}, "after"
    yield lambda timeout: ring.wait(0, timeout), {}, "timeout"
    yield shmfeed.wait, {"rings": [ring], "timeout": 0.001}, "rings"


def strategies(s: Surface) -> Iterator[tuple[Call, Mapping[str, object], str]]:
    price, one = wealthdata.get_price, {"security": "BTCUSDT", "frequency": "1m"}
    every = "security start_date end_date frequency fields skip_paused fq count panel"
    every += " fill_paused round include_now copy max_age on_stale"
    yield price, one, every
    rest = "start_date end_date fields count include_now copy max_age on_stale"
    yield price, {**one, "security": ["BTCUSDT"]}, rest
    yield price, {**one, "count": 2}, rest.replace("count ", "")
    context = wealthdata.Context([])
    yield context.history, {"symbol": "BTCUSDT", "timeframe": "1m"}, "symbol count"
    yield context.history, {"symbol": "BTCUSDT"}, "timeframe"
    yield wealthdata.bars_to_dataframe, {}, "bars"
    yield wealthdata.ContextDataAdapter, {}, "context"
    yield wealthdata.use, {}, "feed context_only"


def contexts(s: Surface) -> Iterator[tuple[Call, Mapping[str, object], str]]:
    """Contexts are foreign objects: their contents are input too."""
    bar = {"open_time": T0 - 60_000, "close_time": T0, **BARS}

    def read(context: object) -> None:
        wealthdata.set_context(context)
        wealthdata.get_price("BTCUSDT", frequency="1m", count=30)

    def hold(**attributes: Any) -> None:
        read(wealthdata.Context(**attributes))

    def entry(**changed: object) -> None:
        hold(market_data_context=[{**STREAM, "bars": [bar], **changed}])

    def cell(**changed: object) -> None:
        entry(bars=[{**bar, **changed}])
        wealthdata.bars_to_dataframe([{**bar, **changed}])

    class Foreign:
        def __init__(self, answer: object) -> None:
            self.answer = answer

        def history(self, *_: object) -> object:
            return self.answer

    yield read, {}, "context"
    yield hold, {}, "market_data_context current_dt run_params"
    yield entry, {}, "symbol timeframe bars"
    yield cell, {}, "open_time close_time open high low close volume money flags"
    yield lambda answer: read(Foreign(answer)), {}, "answer"
    yield wealthdata.register_data_adapter, {}, "adapter"


def managers(s: Surface) -> Iterator[tuple[Call, Mapping[str, object], str]]:
    name = s.name + "m"
    manager = shmfeed.get_websocket_manager(name)
    given = {"endpoint": "ws://127.0.0.1:1", "symbols": "A", "resolutions": "1m"}
    manager.configure(**given)
    yield shmfeed.get_websocket_manager, {}, "feed"
    yield manager.update_subscription, {"timeout": 1}, "symbols resolutions timeout"
    yield manager.on_state_change, {}, "callback"
    yield manager.stop, {}, "keep"
    wrong = {"timeout": -1}
    yield lambda **odd: manager.start(**{**wrong, **odd}), wrong, "wait"
    every = " ".join(["feed", *given])
    yield lambda **odd: manager.configure(**{**given, **odd}), given, every


def untyped_errors(
    cases: Iterator[tuple[Call, Mapping[str, object], str]],
) -> list[str]:
    """Return a line for each odd value that raises an error of no type of ours."""
    found = []
    for call, good, names in cases:
        for name in names.split():
            for value in ODD:
                try:
                    call(**{**good, name: value})
                except ShmfeedError:
                    pass
                except Exception as error:  # noqa: BLE001 # the errors looked for
                    found.append(f"{call} {name}={repr_short(value)}: {error!r:.80}")
    return found


AREAS = [writing, making, reading, strategies, contexts, managers]


@pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")
@pytest.mark.filterwarnings("ignore::wealthdata.MissingBarsWarning")
@pytest.mark.parametrize("area", AREAS)
def test_odd_values_are_refused_by_name(surface: Surface, area: Any) -> None:
    try:
        assert untyped_errors(area(surface)) == []
    finally:
        wealthdata.clear_context()
        wealthdata.clear_data_adapter()


def test_an_unchecked_function_is_found(surface: Surface) -> None:
    def unchecked(n: Any) -> list[int]:
        return [0] * n

    assert len(untyped_errors(iter([(unchecked, {}, "n")]))) > len(ODD) / 2


def test_a_refusal_changes_nothing(surface: Surface) -> None:
    ring = surface.writer.add_stream(**STREAM)
    before, count = ring.reader.snapshot(20).block.copy(), ring.reader.count
    with pytest.raises(BadArgumentError, match="high"):
        ring.append(T0 + 10 * 60_000, **{**BARS, "high": "x"})
    with pytest.raises(BadArgumentError, match="open_time"):
        ring.append(T0, **BARS)
    assert ring.reader.count == count
    assert ring.reader.snapshot(20).block.tobytes() == before.tobytes()
    ring.append(T0 + 10 * 60_000, **BARS)
    assert ring.reader.count == count + 1


class TestInt:
    @pytest.mark.parametrize("value", [1, 7, np.int64(7), np.uint8(1), HUGE], ids=type)
    def test_taken(self, value: Any) -> None:
        number = check_int("n", value)
        assert number == value
        assert type(number) is int

    @pytest.mark.parametrize("value", [0, True, 1.0, "1", None, np.array([1]), int])
    def test_refused(self, value: Any) -> None:
        with pytest.raises(BadArgumentError, match=r"^n is .*; it must be an int of a"):
            check_int("n", value)

    def test_the_message_has_the_range(self) -> None:
        assert check_int("n", 0, 0, 5) == 0
        with pytest.raises(BadArgumentError, match="n is 6; it must be an int from 0"):
            check_int("n", 6, 0, 5)

    def test_any_integer(self) -> None:
        assert check_int("after", np.int64(-3), None) == -3
        for value in (None, True, 0.0, "0"):
            with pytest.raises(BadArgumentError, match="after is"):
                check_int("after", value, None)


class TestSeconds:
    @pytest.mark.parametrize("value", [0, 1, 2.5, math.inf, np.float32(1), Fraction(2)])
    def test_taken(self, value: Any) -> None:
        assert check_seconds("timeout", value) == value
        assert check_timeout("timeout", value) == value

    @pytest.mark.parametrize(
        "value", [-1, math.nan, True, "1", b"1", HUGE, [], 1j], ids=type
    )
    def test_refused(self, value: Any) -> None:
        for check in (check_seconds, check_timeout):
            with pytest.raises(BadArgumentError, match=r"^timeout is .* seconds, at l"):
                check("timeout", value)

    def test_none_and_zero(self) -> None:
        assert check_timeout("timeout", None) is None
        with pytest.raises(BadArgumentError, match="timeout is None"):
            check_seconds("timeout", None)
        with pytest.raises(BadArgumentError, match="above 0"):
            check_seconds("timeout", 0, zero=False)


class TestFlag:
    @pytest.mark.parametrize("value", [True, 1, np.bool_(True), np.int8(1)])
    def test_taken(self, value: Any) -> None:
        assert check_flag("copy", value) is True
        assert check_flag("copy", type(value)(0)) is False

    @pytest.mark.parametrize("value", ["no", "", None, 2, 1.0, [], np.array([1])])
    def test_refused(self, value: Any) -> None:
        with pytest.raises(BadArgumentError, match=r"copy is .* True or False"):
            check_flag("copy", value)


def test_a_choice_is_one_of_a_few() -> None:
    assert check_choice("on_stale", "warn", ("warn", "raise")) == "warn"
    for value in ("WARN", None, np.array(["warn"]), ["warn"]):
        with pytest.raises(BadArgumentError, match=r"on_stale is .*: warn raise"):
            check_choice("on_stale", value, ("warn", "raise"))


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("value", [HUGE, [HUGE], Mute(), [Mute()]], ids=type)
def test_a_value_without_a_repr_is_refused_too(value: Any) -> None:
    with pytest.raises(BadArgumentError, match=r"n is .*it must be"):
        check_int("n", value, most=10)


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(BadArgumentError) as caught:
        check_int("n", "x" * 10_000)
    assert len(str(caught.value)) < 300
