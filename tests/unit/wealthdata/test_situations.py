"""Each row of docs/situations.md, made with real feeds and read as a strategy reads."""

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from support.situations import (
    COUNT,
    KEY,
    NEWEST,
    SITUATIONS,
    SPOT,
    Arguments,
    World,
    append,
    close_of,
    when,
)
from support.situations import (
    world as make_world,
)
from support.sleeping import InThread

import shmfeed
import wealthdata
from shmfeed.errors import ContextError, ShmfeedError
from wealthdata import attachment, wait_bar

pytest_plugins = ["support.strategy_process"]

PAGE = Path(__file__).parents[3] / "docs/situations.md"
HEAD = (
    "situation",
    "`get_price`",
    "`attrs`",
    "warns",
    "all four `raise`",
    "`wait_bar`",
)
FIRST = "nothing is wrong"
REACTIONS = ("on_stale", "on_gap", "on_short", "on_unconfirmed")
ALL_RAISE = dict.fromkeys(REACTIONS, "raise")
STRICT_ERRORS = {"StaleFeedError", "GapError", "ShortError", "UnconfirmedError"}
EACH_READ = {"age", "valid"}  # keys that have their own checks


class Row(NamedTuple):
    """A row of the page."""

    situation: str
    returns: str
    attrs: str
    warns: str
    raises: str
    waits: str

    def facts(self) -> dict[str, Any]:
        """Return the keys and values that the cell of attrs names."""
        found = re.findall(r"`(\w+)=([^`]+)`", self.attrs)
        return {key: ast.literal_eval(value) for key, value in found}


def rows_of(page: str) -> dict[str, Row]:
    _, table = page.split("| " + " | ".join(HEAD) + " |\n")
    lines = table.split("\n\n")[0].splitlines()[1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: Row(*row) for row in cells}


ROWS = rows_of(PAGE.read_text())


@pytest.fixture
def world(strategy: str) -> Iterator[World]:
    with make_world(strategy) as made:
        yield made
        attachment.detach()


@pytest.fixture(params=ROWS.values(), ids=lambda row: row.situation)
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


def read(given: Arguments, **more: Any) -> tuple[object, list[str]]:
    """Return the frame, or the error's name, and the names of the warnings."""
    asked = {"security": KEY[0], "frequency": KEY[1], "count": COUNT} | given | more
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found: object = wealthdata.get_price(**asked)
        except ShmfeedError as error:
            found = type(error).__name__
    return found, [one.category.__name__ for one in caught]


def closes_of(frame: pd.DataFrame) -> list[float]:
    rows = frame[frame["code"] == KEY[0]] if "code" in frame else frame
    found: list[float] = rows["close"].tolist()
    return found


def words(found: object) -> str:
    """Return a read's result in the words of the page."""
    if isinstance(found, str):
        return f"`{found}`"
    assert isinstance(found, pd.DataFrame)
    return "an empty frame" if found.empty else f"{len(closes_of(found))} bars"


def usual_facts(name: str) -> dict[str, Any]:
    """Return what attrs say where nothing is wrong."""
    return {
        "source": "live",
        "feed": name,
        "identity": str(SPOT),
        "rolled": None,
        "relay_age": None,
        "state": "connected",
        "health": "live",
        "due": 0,
        "behind": 0,
        "late": {},
        "forming": False,
        "short": 0,
        "gaps": 0,
        "unconfirmed": 0,
        "polled": 0,
        "revised": 0,
        "absent": [],
    }


def check_attrs(found: pd.DataFrame, row: Row, name: str) -> None:
    about, facts = found.attrs["shmfeed"], row.facts()
    told = {key: about[key] for key in about if key not in EACH_READ}
    age = facts.pop("age", "a number")
    for key in [key for key, value in facts.items() if value is ...]:
        assert told[key] > 0
        facts[key] = told[key]
    assert told == usual_facts(name) | facts
    assert about.valid is True
    assert (about.age is None) if age is None else about.age >= 0


def test_the_page_has_each_situation() -> None:
    assert set(ROWS) == set(SITUATIONS)
    assert next(iter(ROWS)) == FIRST


def test_a_read(world: World, row: Row) -> None:
    given = SITUATIONS[row.situation](world)
    found, warned = read(given)
    assert words(found) == row.returns
    assert ", ".join(f"`{name}`" for name in warned) == row.warns
    if isinstance(found, pd.DataFrame):
        check_attrs(found, row, world.name)
        expected = [
            close_of(number) for number in range(NEWEST - COUNT + 1, NEWEST + 1)
        ]
        if len(found) == COUNT and not row.attrs:
            assert closes_of(found) == expected
    else:
        assert row.attrs == ""


def test_a_read_that_raises(world: World, row: Row) -> None:
    given = SITUATIONS[row.situation](world)
    expected = row.returns if row.raises == "(rows)" else row.raises
    assert words(read(given, **ALL_RAISE)[0]) == expected
    with pytest.MonkeyPatch.context() as patched:
        for name in REACTIONS:
            patched.setenv(f"SHMFEED_{name.upper()}", "raise")
        assert words(read(given)[0]) == expected
    wealthdata.use(**ALL_RAISE)
    assert words(read(given)[0]) == expected


def _last_price(security: str, _count: int, _unit: str) -> object:
    return wealthdata.get_current_data()[security].last_price


def _history_of_context(security: str, count: int, unit: str) -> object:
    try:
        context = wealthdata.get_context()
    except ContextError:
        context = wealthdata.Context()
    return context.history(security, count, unit)


# The other calls that read, each as a function of security, count and timeframe.
CALLS: dict[str, Callable[[str, int, str], object]] = {
    "get_bars": wealthdata.get_bars,
    "get_bars(df=False)": lambda *given: wealthdata.get_bars(*given, df=False),
    "get_bars of a list": lambda one, *more: wealthdata.get_bars([one], *more),
    "get_price of a list": lambda one, count, unit: wealthdata.get_price(
        [one], count=count, frequency=unit
    ),
    "wide": lambda one, count, unit: wealthdata.get_price(
        [one], count=count, frequency=unit, wide=True, align=True
    ),
    "with integer fields": lambda one, count, unit: wealthdata.get_price(
        one, count=count, frequency=unit, fields=["close", "flags"]
    ),
    "by date": lambda one, count, unit: wealthdata.get_price(
        one, end_date=when(NEWEST), count=count, frequency=unit
    ),
    "copy": lambda one, count, unit: wealthdata.get_price(
        one, count=count, frequency=unit, copy=True
    ),
    "history": lambda one, count, unit: wealthdata.history(
        count, unit, security_list=[one]
    ),
    "attribute_history": wealthdata.attribute_history,
    "last_price": _last_price,
    "Context.history": _history_of_context,
}
# A last price is one row: it is never short, and has no gap.
ONE_ROW = {"last_price"}
STRICT = [
    row
    for row in ROWS.values()
    if row.raises.strip("`") in STRICT_ERRORS and not row.situation.startswith("a list")
]


@pytest.mark.filterwarnings("ignore::wealthdata.MissingBarsWarning")
@pytest.mark.parametrize("row", STRICT, ids=lambda row: row.situation)
def test_each_call_that_reads_raises_the_same(world: World, row: Row) -> None:
    feed = SITUATIONS[row.situation](world).get("feed", world.name)
    wealthdata.use(feed=feed, **ALL_RAISE)
    asked = KEY[0], COUNT, KEY[1]
    for name, call in CALLS.items():
        if name in ONE_ROW and row.raises in {"`ShortError`", "`GapError`"}:
            continue
        with pytest.raises(ShmfeedError) as error:
            call(*asked)
        assert f"`{type(error.value).__name__}`" == row.raises, name


def waited_for(given: Arguments) -> str:
    """Return the symbol that a wait is for: of a list the last one."""
    named = given.get("security", KEY[0])
    symbol: str = named if isinstance(named, str) else named[-1]
    return symbol


def wait_of(world: World, given: Arguments) -> InThread:
    """Return a wait for A and B in a thread that has had all bars but B's newest."""
    securities = [waited_for(given), world.written]
    frequency = given.get("frequency", KEY[1])
    options = {"feed": given.get("feed")}

    def wait() -> object:
        try:
            wait_bar(securities, frequency, 0, **options)
            append(world.companion, NEWEST + 1, NEWEST + 2)
            return wait_bar(securities, frequency, **options)
        except ShmfeedError as error:
            return type(error).__name__

    return InThread(wait)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_wait(world: World, row: Row) -> None:
    given = SITUATIONS[row.situation](world)
    waiter = wait_of(world, given)
    if row.waits == "sleeps":
        feed = attachment.attached_feed(given.get("feed"))
        assert feed is not None
        symbol = waited_for(given)
        waiter.asleep(feed.ring((symbol, KEY[1])))
        assert world.ring is not None
        append(world.ring, NEWEST + 1, NEWEST + 2)
        assert waiter.result()[0] == [symbol, world.written]
        return
    found = waiter.result()
    if isinstance(found, str):
        assert f"`{found}`" == row.waits
        return
    ready, missing = found
    assert {"ready": ready, "missing": missing}[row.waits] == [waited_for(given)]
    if row.waits == "missing":
        assert ready == [world.written]


def test_each_error_and_warning_of_the_page_exists() -> None:
    page = PAGE.read_text()
    for name in set(re.findall(r"`(\w+(?:Error|Warning))`", page)):
        assert name in shmfeed.__all__ or name in wealthdata.__all__


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("column", ["returns", "attrs", "warns", "raises", "waits"])
def test_a_wrong_cell_is_found(world: World, column: str) -> None:
    """Control: the first row with another row's cell fails one of the checks."""
    other = ROWS["the feeder is dead"]._replace(returns="2 bars")
    wrong = ROWS[FIRST]._replace(**{column: getattr(other, column)})
    given = SITUATIONS[FIRST](world)
    found, warned = read(given)
    strict, _ = read(given, **ALL_RAISE)
    waiter = wait_of(world, given)
    feed = attachment.attached_feed()
    assert feed is not None
    waits = "sleeps"
    waiter.asleep(feed.ring(KEY))
    append(world.ring, NEWEST + 1)
    waiter.result()
    with pytest.raises(AssertionError):
        assert words(found) == wrong.returns
        assert warned == ([] if wrong.warns == "" else [wrong.warns])
        assert isinstance(found, pd.DataFrame)
        check_attrs(found, wrong, world.name)
        assert words(strict) == (
            wrong.returns if wrong.raises == "(rows)" else wrong.raises
        )
        assert waits == wrong.waits
