"""Thousands of damaged segments under readers and under the next feeder.

Permitted to a reader: a ShmfeedError, or bars that were written. Forbidden: a signal,
any other exception, a bar that was never written, a change of the file, its removal.
Permitted to a feeder: a ShmfeedError that leaves the file as it was, or a feed that
works and has all bars of the streams whose own words are intact. Each batch runs in a
forked child, so that a signal is seen; the board says at which case.
"""

import faulthandler
import io
import json
import logging
import warnings
from contextlib import redirect_stderr, redirect_stdout

import pytest
from support import damage_cases, forks
from support.damage_cases import GEOMETRY, ROWS, STREAMS, TRUTH, Case

import shmfeed
import wealthdata
from shmfeed.cli.main import main
from shmfeed.errors import ShmfeedError
from shmfeed.layout import Geometry
from shmfeed.memory import bound_entry, catalog, integrity, words
from shmfeed.segment import mapping, ownership, recovery
from shmfeed.segment import stream_check as looks
from shmfeed.segment.mapping import place
from shmfeed.segment.recovery import Inspection
from wealthdata import attachment, choices

SCALE = max(1, int(forks.SCALE))
CASES = 10_000 * SCALE  # of readers
BATCH = 2_500
BOUND_CASES = 800 * SCALE  # of readers that were there before the damage
FEEDER_CASES = 1_500 * SCALE
MUTANT_CASES = 300
LIMIT_NS = 100_000  # of a read that is never valid, as many are here
SIZES = GEOMETRY.history, GEOMETRY.guard, GEOMETRY.max_streams
PRICES_EVERY = 4
COMMANDS_EVERY = 50


class Walk:
    """All calls of a reader, and their outcomes."""

    def __init__(self, name: str, case: Case | None, bound: bool) -> None:
        self.name = name
        self.refused = self.done = 0
        self.untyped: list[str] = []
        self._truthful = not bound and not (
            case and {region for region, _ in case.regions} & {"rows", "forming"}
        )

    def attempt(self, call, *arguments, **options):
        """Return the result of a call, None if it refuses."""
        try:
            found = call(*arguments, **options)
        except ShmfeedError:
            self.refused += 1
            return None
        except Exception as error:  # noqa: BLE001 # the test checks it
            what = getattr(call, "__qualname__", call)
            self.untyped.append(f"{what}{arguments}: {error!r}")
            return None
        self.done += 1
        return found

    def feed(self, feed) -> None:
        for call in (feed.streams, feed.connection, feed.alive):
            self.attempt(call)
        self.attempt(lambda: json.dumps(feed.status()))
        for symbol, timeframe in STREAMS:
            self.attempt(lambda s=symbol, t=timeframe: feed.ring(s, t).status())

    def ring(self, stream: int, ring) -> None:
        for n in (1, 3, 99):
            self.rows(stream, self.attempt(ring.view, n))
            self.rows(stream, self.attempt(ring.snapshot, n, include_now=True))
        self.attempt(lambda: (ring.count, ring.epoch, ring.history, ring.capacity))
        self.attempt(lambda: ring.wait(ring.count - 1, timeout=0))
        for call in (ring.forming, ring.status):
            self.attempt(call)
        self.attempt(ring.latest, "close")

    def rows(self, stream: int, rows) -> None:
        if rows is None:
            return
        self.attempt(lambda: (rows.values.sum(), rows.copy(), rows.valid))
        bars = self.attempt(lambda: [rows.bar(row) for row in range(len(rows))])
        if self._truthful and bars and not set(bars) <= TRUTH[stream]:
            self.untyped.append(f"bars that were never written: {bars}")

    def prices(self) -> None:
        wealthdata.use(feed=self.name)
        get = wealthdata.get_price
        quiet = {"on_stale": "ignore", "fields": ["close", "open_time"]}
        for symbol, timeframe in STREAMS:
            for _ in range(2):  # the long way, then the short one
                self.attempt(get, symbol, None, None, timeframe, on_stale="ignore")
            self.attempt(
                get, symbol, "2024-01-01", None, timeframe, include_now=True, **quiet
            )

    def commands(self) -> None:
        symbol, timeframe = STREAMS[1]
        for line in (
            ["status", "--json"],
            ["status"],
            ["tail", symbol, timeframe],
            ["tail", symbol, timeframe, "--json"],
        ):
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err):
                code = self.attempt(main, [*line, "--feed", self.name])
            said = err.getvalue()
            if line[0] == "tail" and bool(code) != said.startswith("shmfeed: "):
                self.untyped.append(f"{line} exits {code} and says {said!r}")


def walk_all(walk: Walk, feed, rings, number: int) -> None:
    if feed is None:
        feed = walk.attempt(shmfeed.attach, walk.name)
    if feed is not None:
        walk.feed(feed)
        for stream, names in enumerate(STREAMS):
            ring = rings[stream] if rings else walk.attempt(feed.ring, *names)
            if ring is not None:
                walk.ring(stream, ring)
    if number % PRICES_EVERY == 0:
        walk.prices()
    if number % COMMANDS_EVERY == 0:
        walk.commands()


def read_batch(name, seed, numbers, bound, mutant, board):
    """Read each of these cases with all calls; return the sum of outcomes."""
    warnings.simplefilter("ignore")  # stale data are not the point here
    words.READ_LIMIT_NS = LIMIT_NS
    if mutant:
        faulthandler.disable()  # a control dies on purpose
        MUTANTS[mutant]()
    path = place(name).segment
    sound = path.read_bytes()
    total = {"refused": 0, "done": 0, "untyped": [], "changed": []}
    for number in range(*numbers):
        board[0] = number
        case = damage_cases.generate(seed, number, sound)
        walk, feed, rings = Walk(name, case, bound), None, None
        attachment.detach()
        if bound:
            damage_cases.write(path, sound)
            feed = shmfeed.attach(name)
            rings = [feed.ring(*key) for key in STREAMS]
            walk.prices()
        content = damage_cases.write(path, sound, case)
        walk_all(walk, feed, rings, number)
        total["refused"] += walk.refused
        total["done"] += walk.done
        total["untyped"] += [f"case {number} {case}: {text}" for text in walk.untyped]
        if path.read_bytes() != content:
            total["changed"].append(number)
    attachment.detach()
    damage_cases.write(path, sound)
    return total


def run(work, name, seed, cases, *rest):
    """Return the sums of all batches, each run in a child of its own."""
    totals = []
    batches = [(n, min(n + BATCH, cases)) for n in range(0, cases, BATCH)]
    for numbers in batches:
        board = forks.board()
        with forks.Fork(work, name, seed, numbers, *rest, board) as child:
            try:
                totals.append(child.result(60))
            except (ValueError, AssertionError):
                pytest.fail(f"a child ended with {child.wait()} at case {board[0]}")
    return {
        key: sum((total[key] for total in totals), type(value)())
        for key, value in totals[0].items()
    }


def trust(*_):
    return None


def trust_the_stream():
    integrity.describe_slot_damage = trust
    looks.describe_times_damage = looks.describe_bar_damage = trust
    catalog.describe_key_damage = catalog.describe_keys_damage = trust


def trust_the_header():
    def read_geometry(where, words, size):
        return Geometry(*words.ints[2:5].tolist())

    mapping.read_geometry = read_geometry

    def entry_word(words, geometry, index):
        return geometry.entry_word(index)

    bound_entry.check_entry = integrity.check_entry = entry_word


MUTANTS = {"stream": trust_the_stream, "header": trust_the_header}


@pytest.fixture
def sound(feed_name) -> bytes:
    return damage_cases.make(feed_name)


def test_an_intact_segment_refuses_nothing(feed_name, sound):
    damage_cases.write(place(feed_name).segment, sound)
    walk = Walk(feed_name, None, bound=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        walk_all(walk, None, None, 0)
    attachment.detach()
    choices.forget_choices()
    assert (walk.refused, walk.untyped) == (0, [])
    assert walk.done > 50


def test_readers_of_damaged_segments(feed_name, sound, seed):
    before = identity(feed_name)
    total = run(read_batch, feed_name, seed, CASES, False, None)
    print(CASES, "cases:", total["refused"], "refusals,", total["done"], "reads")
    assert total["untyped"] == []
    assert total["changed"] == []
    assert total["refused"] > CASES / 2
    assert total["done"] > CASES
    assert identity(feed_name) == before


def test_readers_attached_before_the_damage(feed_name, sound, seed):
    """Their arrays and sizes are bound already, and the words may be nonsense now."""
    total = run(read_batch, feed_name, seed, BOUND_CASES, True, None)
    print(BOUND_CASES, "cases:", total["refused"], "refusals,", total["done"], "reads")
    assert total["untyped"] == []
    assert total["changed"] == []
    assert total["refused"] > BOUND_CASES / 10


@pytest.mark.parametrize("mutant", MUTANTS)
def test_without_the_checks_the_same_walk_breaks(feed_name, sound, seed, mutant):
    """The control."""
    board = forks.board()
    work = feed_name, seed, (0, MUTANT_CASES), False, mutant, board
    with forks.Fork(read_batch, *work) as child:
        try:
            untyped = child.result(60)["untyped"]
        except (ValueError, AssertionError):
            print("a signal at case", board[0], child.wait())
            return
    print(len(untyped), "untyped, the first:", untyped[0])


def identity(name):
    return mapping.identity_at(place(name).segment)


def feed_batch(name, seed, numbers, mutant, board):
    """Start a feeder on each of these cases, then read its feed."""
    logging.disable()
    if mutant:
        FEEDER_MUTANTS[mutant]()
    path = place(name).segment
    sound = path.read_bytes()
    total = {"stays": 0, "goes on": 0, "kept": 0, "wrong": []}
    for number in range(*numbers):
        board[0] = number
        case = damage_cases.generate(seed, number, sound)
        path.touch(0o600)
        content = damage_cases.write(path, sound, case)
        try:
            outcome = take(name, case, content)
        except Exception as error:  # noqa: BLE001 # the test checks it
            total["wrong"].append(f"case {number} {case}: {error!r}")
        else:
            total[outcome] += 1
        path.unlink(missing_ok=True)
    path.touch(0o600)
    damage_cases.write(path, sound)
    return total


def take(name: str, case: Case, content: bytes) -> str:
    """Become the feeder and write. Return whether it worked; else the file stays."""
    path = place(name).segment
    try:
        feeder = shmfeed.create(name, *SIZES)
    except ShmfeedError:
        assert path.read_bytes() == content
        return "stays"
    kept = 0
    with feeder, shmfeed.attach(name) as feed:
        for stream, names in enumerate(STREAMS):
            ring = feeder.add_stream(*names)
            had = ring.reader.count
            assert had == ROWS or not is_intact(case, stream), f"{names} lost its bars"
            kept += had == ROWS
            new = damage_cases.truth(stream, ROWS)
            ring.append(new.open_time, *new[2:8])
            ring.update_forming(
                damage_cases.opens(names[1], ROWS + 1),
                *damage_cases.prices(stream, ROWS + 1),
            )
            rows = feed.ring(*names).view(99)
            bars = [rows.bar(row) for row in range(len(rows))]
            assert bars[-1] == new
            if len(case.words) == 1 and case.regions == {("rows", stream)}:
                assert len(bars) > 2, "the longer side of one bad bar is kept"
            assert set(bars) <= TRUTH[stream] or not is_intact(case, stream)
        feeder.note({"endpoint": "e"})
        feeder.count("messages")
        feeder.beat()
        assert feed.status()["health"] == "live"
    assert [*path.parent.glob(f"{path.name}*")] == [path]
    return "kept" if kept == len(STREAMS) else "goes on"


def is_intact(case: Case, stream: int) -> bool:
    """Return whether all words that a stream's bars depend on are unchanged."""
    return not any(region == "header" or who == stream for region, who in case.regions)


def adopt_blindly():
    ownership._is_reusable = lambda mapping, geometry: mapping.geometry == geometry


def begin_anew():
    ownership._is_reusable = lambda mapping, geometry: False
    recovery.inspect_segment = lambda words, geometry: Inspection([], [])


FEEDER_MUTANTS = {"adopt": adopt_blindly, "recreate": begin_anew}


def test_feeders_of_damaged_segments(feed_name, sound, seed):
    total = run(feed_batch, feed_name, seed, FEEDER_CASES, None)
    wrong = total.pop("wrong")
    print(FEEDER_CASES, "cases:", total)
    assert wrong == []
    assert sum(total.values()) == FEEDER_CASES
    assert total["kept"] > FEEDER_CASES / 2
    assert total["stays"] > 0
    assert total["goes on"] > 0


@pytest.mark.parametrize("mutant", FEEDER_MUTANTS)
def test_without_the_inspection_feeders_break(feed_name, sound, seed, mutant):
    """The control."""
    work = feed_name, seed, (0, MUTANT_CASES), mutant, forks.board()
    with forks.Fork(feed_batch, *work) as child:
        wrong = child.result(60)["wrong"]
    print(len(wrong), "wrong, the first:", wrong[0])
    assert len(wrong) > MUTANT_CASES / 100
