"""Health as a table: each row of docs/health.md, on a segment with these marks."""

import itertools
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import pytest

import shmfeed
import wealthdata
from shmfeed.bar import StreamKey
from shmfeed.cli import status as _loaded  # noqa: F401  loading takes time
from shmfeed.cli.main import main
from shmfeed.core import RingReader
from shmfeed.health import HEALTHS, stream_status
from shmfeed.layout import (
    E_AWAY,
    E_BACK,
    E_COMPARED,
    E_REASON,
    E_RECOVERING,
    E_SINCE,
    E_SUBSCRIBED,
    E_UPDATED,
    H_ALIVE,
    H_STATE,
    H_TICK,
    REASONS,
    STATES,
    UNCOMPARED,
    Reason,
    State,
)
from shmfeed.memory.words import boot_ns
from shmfeed.writer import FeedWriter
from wealthdata import freshness

pytest_plugins = ["support.strategy_process"]

PAGE = Path(__file__).parents[3] / "docs/health.md"
HEAD = (
    "state", "health", "when", "`status` begins", "exit", "why", "the ring's verbs",
    "`ring.wait()`", "`get_price`",
)  # fmt: skip
KEY: StreamKey = ("A", "1s")  # whose limit of silence is 30 s
SECOND = 1_000_000_000
HOLE = "…"


class Marks(NamedTuple):
    """The marks of a stream and its feeder. Times are seconds ago, None for never."""

    updated: float | None = 0.5
    since: float = 60.0
    reason: Reason = ""
    is_subscribed: bool = True
    is_held: bool = False
    back: float | None = None
    is_uncompared: bool = False
    beat: float = 0.0
    tick: float = 0.0


# The texts of the column `when`, as marks.
MARKS = {
    "an update came within one bar and 2 s": Marks(),
    "nothing came for longer, within the limit of silence": Marks(updated=10.0),
    "nothing came for longer, and the comparison with REST is due": (
        Marks(updated=10.0, is_uncompared=True)
    ),
    "within the limit of silence": Marks(updated=10.0),
    "nothing came beyond the limit of silence": Marks(updated=60.0),
    "no bar has come yet": Marks(updated=None, since=1.0),
    "no bar has come beyond the limit of silence": Marks(updated=None),
    "the warm-up is under way": Marks(reason="warming"),
    "newer bars are held back": Marks(is_held=True),
    "the connection came back within `repair_grace`": Marks(updated=2.0, back=1.0),
    "closed bars come by REST": Marks(reason="polled"),
    "closed bars came by REST, and none beyond the limit of silence": Marks(
        updated=60.0, reason="polled"
    ),
    "the venue refused it": Marks(reason="refused"),
    "all of its messages are dropped": Marks(reason="dropped"),
    "it was unsubscribed": Marks(is_subscribed=False),
    "the feeder's main loop stands still": Marks(tick=6.0),
    "the symbol does not trade": Marks(reason="closed"),
    "the symbol does not trade, and nothing came beyond the limit of silence": Marks(
        updated=60.0, reason="closed"
    ),
    "the feeder sends no heartbeat": Marks(beat=10.0, tick=10.0),
}


class Row(NamedTuple):
    """A row of the page, its cells without backticks."""

    state: str
    health: str
    when: str
    status: str
    exit: str
    why: str
    verbs: str
    wait: str
    price: str


def rows_of(page: str) -> list[Row]:
    _, table = page.split("| " + " | ".join(HEAD) + " |\n")
    lines = table.split("\n\n")[0].splitlines()[1:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [Row(*(_plain(row, n) for n in range(len(HEAD)))) for row in rows]


def _plain(row: list[str], number: int) -> str:
    # In `when`, backticks are a name's.
    return row[number] if HEAD[number] == "when" else row[number].replace("`", "")


ROWS = rows_of(PAGE.read_text())


class World:
    """A feed of one stream, held at some marks while it is looked at."""

    def __init__(self, feeder: FeedWriter, state: str, marks: Marks) -> None:
        self.feeder, self._state, self._marks = feeder, state, marks
        self.writer = feeder.add_stream(*KEY)
        if marks.updated is not None:
            for number in range(3):
                self.writer.append(number * 1000, *[number + 1.0] * 5)
            self.writer.update_forming(3000, *[4.0] * 5)
        feeder.set_repair_grace(5.0)
        feeder.set_state(cast("State", state))
        feeder.explain(KEY, marks.reason, "")
        feeder.mark_stream(KEY, gaps=0, recovering=marks.is_held)
        feeder.set_compared(KEY, 0.0 if marks.is_uncompared else None)
        if not marks.is_subscribed:
            feeder.unsubscribe(*KEY)
        self.hold()

    def hold(self) -> None:
        """Store the times again, so that none passes while the test looks."""
        ints, now = self.feeder._words.ints, boot_ns()
        at, marks = self.feeder.geometry.entry_word(0), self._marks
        is_away = self._state != "connected" and not marks.beat
        for word, age in (
            (H_ALIVE, marks.beat),
            (H_TICK, marks.tick),
            (at + E_UPDATED, marks.updated),
            (at + E_SINCE, marks.since),
            (at + E_AWAY, 3.0 if is_away else None),
            (at + E_BACK, marks.back),
        ):
            ints[word] = 0 if age is None else now - round(age * SECOND)


@pytest.fixture(autouse=True)
def no_earlier_outage() -> None:
    freshness.outages.clear()


@pytest.fixture
def feeder(strategy: str) -> Iterator[FeedWriter]:
    with shmfeed.create(strategy, history=9, streams=[KEY]) as feeder:
        yield feeder


@pytest.fixture(params=ROWS, ids=lambda row: f"{row.state}-{row.health}-{row.when}")
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture
def world(feeder: FeedWriter, row: Row) -> World:
    return World(feeder, row.state, MARKS[row.when])


@pytest.fixture
def ring(world: World) -> Iterator[shmfeed.Ring]:
    with shmfeed.attach(world.feeder.name) as feed:
        yield feed.ring(*KEY)


def is_of(text: str, template: str) -> bool:
    pattern = "[0-9.]+".join(map(re.escape, template.split(HOLE)))
    return re.fullmatch(pattern, text) is not None


def test_the_stream_has_this_state_and_health(
    world: World, ring: shmfeed.Ring, row: Row
) -> None:
    world.hold()
    assert ring.status()[1:] == (row.state, row.health)
    assert is_of(ring.why(), row.why), ring.why()


def test_what_status_says(
    world: World, row: Row, capsys: pytest.CaptureFixture[str]
) -> None:
    name = world.feeder.name
    world.hold()
    code = main(["status", "--feed", name])
    output = capsys.readouterr().out
    assert output.startswith(f"feed {name}: {row.status}")
    assert code == int(row.exit)
    is_listed = world._marks.is_subscribed
    assert (row.health in output.partition("\n\n")[2]) is is_listed


def test_what_the_verbs_give(ring: shmfeed.Ring, row: Row) -> None:
    found = (
        ring.count,
        ring.view(9)["close"].tolist(),
        ring.snapshot(9, include_now=True)["close"].tolist(),
        ring.latest("close"),
        ring.forming(),
    )
    if row.verbs == "its bars":
        assert found[:4] == (3, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], 4.0)
        assert found[4] is not None
    else:
        assert row.verbs == "no bar yet"
        assert repr(found) == repr((0, [], [], float("nan"), None))


def test_what_a_wait_does(world: World, ring: shmfeed.Ring, row: Row) -> None:
    found: list[int | None] = []
    after = ring.count
    world.hold()
    waiter = threading.Thread(target=lambda: found.append(ring.wait(after)))
    waiter.start()
    waiter.join(0.03 if row.wait == "sleeps" else 10.0)
    if row.wait == "sleeps":
        assert waiter.is_alive()
        world.writer.append(9000, *[9.0] * 5)
        waiter.join(10.0)
    assert found == {"sleeps": [after + 1], "returns None": [None]}[row.wait]


def test_what_get_price_gives(world: World, row: Row) -> None:
    frame = row.price.partition(",")[0]
    closes = {"its bars": [1.0, 2.0, 3.0], "an empty frame": []}[frame]
    is_stale = row.price == f"{frame}, StaleFeedWarning"
    assert is_stale or row.price == frame
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        world.hold()
        found = wealthdata.get_price(KEY[0], frequency="1s")
    assert found["close"].tolist() == closes
    expected = [wealthdata.StaleFeedWarning] if is_stale else []
    assert [one.category for one in given] == expected
    about = found.attrs["shmfeed"]
    assert (about["state"], about["health"]) == (row.state, row.health)


def test_what_get_price_raises(world: World, row: Row) -> None:
    world.hold()
    if "StaleFeedWarning" in row.price:
        with pytest.raises(shmfeed.StaleFeedError):
            wealthdata.get_price(KEY[0], frequency="1s", on_stale="raise")
    for on_stale in ("ignore",) if "Stale" in row.price else ("ignore", "raise"):
        wealthdata.get_price(KEY[0], frequency="1s", on_stale=on_stale)  # type: ignore[call-overload] # of the loop


def reachable(feeder: FeedWriter) -> set[tuple[str, str]]:
    """Return each pair of state and health that any marks of a stream give."""
    ints, at = feeder._words.ints, feeder.geometry.entry_word(0)
    reader = RingReader(feeder._words, feeder.geometry, 0)
    feeder.set_repair_grace(5.0)
    ages = (None, 0.5, 10.0, 60.0)
    found = set()
    for state, away, reason, is_on, held, updated, since, back, tick, beat, due in (
        itertools.product(
            range(len(STATES)), (0, 1), range(len(REASONS)), (0, 1), (0, 1),
            ages, ages[1:], (None, 1.0), (0.0, 6.0), (0.0, 10.0), (0, UNCOMPARED),
        )
    ):  # fmt: skip
        now = boot_ns()

        def ago(age: float | None, now: int = now) -> int:
            return 0 if age is None else now - round(age * SECOND)

        ints[H_STATE], ints[H_TICK], ints[H_ALIVE] = state, ago(tick), ago(beat)
        ints[at + E_AWAY] = ago(3.0) if away else 0
        ints[at + E_REASON], ints[at + E_SUBSCRIBED] = reason, is_on
        ints[at + E_RECOVERING], ints[at + E_UPDATED] = held, ago(updated)
        ints[at + E_SINCE], ints[at + E_BACK] = ago(since), ago(back)
        ints[at + E_COMPARED] = due
        found.add(stream_status(reader, KEY[1])[1:])
    return found


@pytest.mark.parametrize("bars", [0, 1])
def test_the_table_has_every_pair_that_can_be(feeder: FeedWriter, bars: int) -> None:
    for number in range(bars):
        feeder.add_stream(*KEY).append(number * 1000, *[1.0] * 5)
    listed = {(row.state, row.health) for row in ROWS}
    found = reachable(feeder)
    assert found <= listed
    if not bars:
        assert found == listed
    assert {health for _, health in listed} == {*HEALTHS, "closed"}
    assert {state for state, _ in listed} == set(STATES)


@pytest.mark.parametrize(
    "wrong",
    [
        ROWS[0]._replace(health="quiet"),
        ROWS[0]._replace(why="silent for … s, limit 30 s"),
        ROWS[0]._replace(status="quiet; connected"),
        ROWS[0]._replace(exit="1"),
        ROWS[0]._replace(verbs="no bar yet"),
        ROWS[0]._replace(wait="returns None"),
        ROWS[0]._replace(price="its bars, StaleFeedWarning"),
        ROWS[0]._replace(price="an empty frame"),
    ],
    ids=["health", "why", "status", "exit", "verbs", "wait", "warning", "frame"],
)
def test_a_wrong_cell_is_found(
    feeder: FeedWriter,
    wrong: Row,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Control: one of the looks above finds each wrong cell."""
    world = World(feeder, ROWS[0].state, MARKS[ROWS[0].when])
    monkeypatch.setattr(shmfeed.Ring, "wait", lambda ring, after: after + 1)
    with shmfeed.attach(feeder.name) as feed, pytest.raises(AssertionError):
        ring = feed.ring(*KEY)
        test_the_stream_has_this_state_and_health(world, ring, wrong)
        test_what_status_says(world, wrong, capsys)
        test_what_the_verbs_give(ring, wrong)
        if wrong.wait != ROWS[0].wait:
            test_what_a_wait_does(world, ring, wrong)
        test_what_get_price_gives(world, wrong)
