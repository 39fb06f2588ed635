"""A replay of bars: lock-step, at the replay's time, through a feed of its own."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from support.replaying import START, make_bar, run_steps, write_bars
from support.waiting import until

import shmfeed
import wealthdata
from shmfeed.errors import (
    BadArgumentError,
    ContextError,
    FeedChangedError,
    NoDataError,
)
from shmfeed.segment import removal
from shmfeed.segment.mapping import place
from wealthdata.attachment import detach
from wealthdata.events import Gap
from wealthdata.followed_stream import FollowedStream
from wealthdata.runner.replay import ReplayMode
from wealthdata.runner.steps import RunRequest
from wealthdata.stand_ins import stand_ins

MINUTE = 60_000


@pytest.fixture(autouse=True)
def own_choices(monkeypatch):
    monkeypatch.delenv("SHMFEED_FEED", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    wealthdata.choices.forget_choices()
    detach()


def files_of(pid):
    mine = f"*replay-{pid}-*"
    return [*Path("/dev/shm").glob(mine), *Path("/dev/shm").glob(f"*/{mine}")]


def replays():
    return files_of(os.getpid())


@pytest.fixture
def two(tmp_path):
    bars = [make_bar(n) for n in range(12)]
    other = [make_bar(n, price=500.0) for n in range(12) if n != 7]
    return write_bars(tmp_path / "b.csv", {("AAA", "1m"): bars, ("BBB", "1m"): other})


def test_a_strategy_sees_the_bars_up_to_its_time(two):
    items = []
    mode = ReplayMode(RunRequest(("BBB", "AAA"), ("1m",)), two)
    assert mode.start == START
    seen = dict(run_steps(mode, items.append, count=3))
    assert list(seen) == [START + n * MINUTE for n in range(1, 13)]
    for number, (close, each) in enumerate(seen.items()):
        lines = each.rows.splitlines()
        assert len(lines) == 1 + min(3, number + 1)
        assert each.closes == [("AAA", "1m")] if number == 7 else ("BBB", "AAA")
        assert each.attrs["source"] == "live"
        assert each.attrs["feed"] == "default"
        assert each.attrs["due"] == 0
        assert each.attrs["health"] == "live"
        assert close == START + (number + 1) * MINUTE
    (gap,) = (item for item in items if isinstance(item, Gap))
    assert gap == ("BBB", "1m", START + 7 * MINUTE, START + 7 * MINUTE, False)
    assert seen[START + 8 * MINUTE].lacking == ("BBB",)
    assert replays() == []
    assert stand_ins() is None


def test_the_ring_has_no_bar_of_a_later_step(two):
    """Without a context's bound, too: rows come when their step is asked for."""
    mode = ReplayMode(RunRequest(("AAA",), ("1m",)), two)
    counts = []
    with mode:
        with shmfeed.attach(next(iter(stand_ins().values()))) as feed:
            ring = feed.ring("AAA", "1m")
            counts = [ring.count for _step in mode.steps()]
            # A mode that plays ahead would have shown these numbers.
            assert counts != [*range(2, 13), 12]
    assert counts == list(range(1, 13))


def test_money_and_flags_are_kept(two):
    mode = ReplayMode(RunRequest(("AAA",), ("1m",)), two)
    *_, (_, last) = run_steps(mode, count=1)
    money, flags = last.rows.splitlines()[1].split(",")[6::2]
    assert (money, flags) == ("11.0", "1")


def test_a_timeframe_is_rolled_up(two):
    mode = ReplayMode(RunRequest(("AAA",), ("5m",)), two)
    seen = dict(run_steps(mode, count=2))
    assert list(seen) == [START + 5 * MINUTE, START + 10 * MINUTE]
    assert seen[START + 10 * MINUTE].attrs["rolled"] == "1m"


def test_several_timeframes_step_together(tmp_path):
    path = write_bars(
        tmp_path / "b.csv",
        {
            ("AAA", "5m"): [make_bar(n, "5m") for n in range(2)],
            ("AAA", "1m"): [make_bar(n) for n in range(10)],
        },
    )
    mode = ReplayMode(RunRequest(("AAA",), ("1m", "5m")), path)
    seen = dict(run_steps(mode))
    assert seen[START + 5 * MINUTE].closes == [("AAA", "1m"), ("AAA", "5m")]
    assert seen[START + 6 * MINUTE].closes == [("AAA", "1m")]
    assert len(seen) == 10


def test_the_streams_of_a_moment_alone_are_looked_at(tmp_path, monkeypatch):
    looks = []
    look = FollowedStream.look

    def count_and_look(stream):
        looks.append(stream.id)
        return look(stream)

    monkeypatch.setattr(FollowedStream, "look", count_and_look)
    symbols = tuple(f"S{number:02}" for number in range(30))
    path = write_bars(
        tmp_path / "b.csv",
        {
            (symbol, "1m"): [make_bar(n) for n in range(60) if n % 30 == place]
            for place, symbol in enumerate(symbols)
        },
    )
    with ReplayMode(RunRequest(symbols, ("1m",)), path) as mode:
        steps = [item for item in mode.steps() if not isinstance(item, Gap)]
    assert [one.closed[0].symbol for one in steps] == [*symbols, *symbols]
    assert len(looks) == 60


def test_an_expected_identity_is_an_error_that_says_what_to_replay(two):
    with ReplayMode(RunRequest(("AAA",), ("1m",)), two) as mode:
        next(mode.steps())
        wealthdata.use(expect="binance/usdm")
        with pytest.raises(FeedChangedError, match="replay recorded frames, or"):
            wealthdata.get_price("AAA", count=1, frequency="1m")


def test_a_second_replay_begins_anew(two):
    with ReplayMode(RunRequest(("AAA",), ("1m",)), two) as mode:
        next(mode.steps())  # it ends after its first bar
    runs = [
        list(run_steps(ReplayMode(RunRequest(("AAA",), ("1m",)), two)))
        for _ in range(2)
    ]
    for (at, first), (again, second) in zip(*runs, strict=True):
        assert (at, first.rows) == (again, second.rows)


def test_two_feeds_are_played_side_by_side(tmp_path):
    spot = write_bars(
        tmp_path / "spot.csv", {("AAA", "1m"): [make_bar(n) for n in range(5)]}
    )
    perp = write_bars(
        tmp_path / "perp.csv",
        {("AAA", "1m"): [make_bar(n, price=900.0) for n in range(5)]},
    )
    request = RunRequest(("AAA@spot", "AAA@perp"), ("1m",))
    mode = ReplayMode(request, [f"spot={spot}", f"perp={perp}"])
    closes = []
    with mode:
        for step in mode.steps():
            assert [c.symbol for c in step.closed] == ["AAA@spot", "AAA@perp"]
            frame = wealthdata.get_price(
                ["AAA@spot", "AAA@perp"], count=1, frequency="1m", fields="close"
            )
            closes.append(tuple(frame["close"]))
    assert closes == [(100.0 + n, 900.0 + n) for n in range(5)]


def test_the_file_may_name_the_feed(two):
    with ReplayMode(RunRequest(("AAA",), ("1m",)), f"venue={two}") as mode:
        assert mode.feed == "venue"
        next(mode.steps())
        wealthdata.use(feed="venue")  # as a strategy may choose its feed itself
        assert len(wealthdata.get_price("AAA", frequency="1m")) == 1


def test_no_feed_of_this_host_is_read(two, feed_name):
    """A strategy that names a live feed itself gets no bar of it."""
    with shmfeed.create(feed_name) as writer:
        ring = writer.add_stream("AAA", "1m")
        ring.append(*(make_bar(50)[i] for i in (0, 2, 3, 4, 5, 6)))
        mode = ReplayMode(RunRequest(("AAA",), ("1m",)), two)
        with mode:
            for _step in mode.steps():
                with pytest.raises(NoDataError, match=f"this is a replay.*{feed_name}"):
                    wealthdata.get_price("AAA", frequency="1m", feed=feed_name)
                break
        found = wealthdata.get_price(  # the control: afterwards it is read
            "AAA", frequency="1m", feed=feed_name, on_stale="ignore"
        )
        assert len(found) == 1


@pytest.mark.parametrize("call", [wealthdata.wait_bar, wealthdata.follow])
def test_a_wait_is_refused_while_the_feed_stands_still(two, call):
    with ReplayMode(RunRequest(("AAA",), ("1m",)), two) as mode:
        next(mode.steps())
        with pytest.raises(ContextError, match="would wait for ever"):
            call("AAA", "1m")


def test_an_exception_leaves_nothing(two):
    with pytest.raises(ZeroDivisionError):
        for _ in run_steps(ReplayMode(RunRequest(("AAA",), ("1m",)), two)):
            raise ZeroDivisionError
    assert replays() == []
    assert stand_ins() is None


def test_a_slow_strategy_is_not_told_of_a_dead_feed(two):
    """The replay's feeder beats while a handler runs; without the beat it is dead."""
    mode = ReplayMode(RunRequest(("AAA",), ("1m",)), two)
    with mode:
        steps = mode.steps()
        next(steps)
        time.sleep(2.5)  # a feeder without a beat is dead after 2 s

        def attrs():
            frame = wealthdata.get_price(
                "AAA", count=1, frequency="1m", on_stale="ignore"
            )
            return frame.attrs["shmfeed"]

        until(lambda: attrs().health == "live")
        assert attrs().due == 0


def test_the_pace_is_that_of_the_speed(two):
    mode = ReplayMode(RunRequest(("AAA",), ("1m",)), two, speed=6000.0)
    begun = time.monotonic()
    list(run_steps(mode))
    assert time.monotonic() - begun >= 11 * 60 / 6000.0


KILLED = """
import sys
from wealthdata.runner.replay import ReplayMode
from wealthdata.runner.steps import RunRequest
with ReplayMode(RunRequest(("AAA",), ("1m",)), sys.argv[1]) as mode:
    steps = mode.steps()
    next(steps)
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_the_next_replay_sweeps_what_a_killed_one_has_left(two):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, two],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "begun\n"
    mine = f"*replay-{child.pid}-*"
    request = RunRequest(("AAA",), ("1m",))
    with ReplayMode(request, two):  # one that runs stays
        assert len([*Path("/dev/shm").glob(mine)]) == 1
    child.send_signal(signal.SIGKILL)
    child.communicate()
    with ReplayMode(request, two):
        # The replay of another process may be at the same removal.
        until(lambda: not files_of(child.pid))


def test_a_sweep_makes_no_lock_of_a_replay_that_ends_meanwhile(two, monkeypatch):
    """Its segment is there when the sweep looks, and gone when it takes the lock."""
    name = f"replay-{os.getpid()}-999-ffff"
    where = place(name)
    shmfeed.create(name, 16).close()
    acquire = removal.acquire_lock_file

    def end_first(at, create=True):
        if at == where:
            where.segment.unlink()
            where.lock.unlink()
        return acquire(at, create=create)

    monkeypatch.setattr(removal, "acquire_lock_file", end_first)
    with ReplayMode(RunRequest(("AAA",), ("1m",)), two):
        assert not where.segment.exists()
        assert not where.lock.exists()


def test_a_replay_leaves_feeds_with_a_similar_name(two, feed_name):
    name = f"replay-{feed_name}"
    shmfeed.create(name, 16).close()
    with ReplayMode(RunRequest(("AAA",), ("1m",)), two):
        shmfeed.attach(name).close()
    shmfeed.create(name, 16).close(unlink=True)


@pytest.mark.parametrize(
    ("history", "timeframe", "lacks"),
    [
        ("59", "1h", "AAA 1h is made of 60 bars of 1m, and the feed keeps 59"),
        ("60", "1h", ""),
        ("1000", "1d", "AAA 1d is made of 1440 bars of 1m, and the feed keeps 1000"),
        ("59", "1m", ""),
    ],
)
def test_a_history_too_short_for_a_bar_is_told(
    two, capsys, monkeypatch, history, timeframe, lacks
):
    monkeypatch.setenv("SHMFEED_HISTORY", history)
    with ReplayMode(RunRequest(("AAA",), (timeframe,)), two) as mode:
        list(mode.steps())
    told = capsys.readouterr().err
    assert lacks in told
    assert ("no bar of it closes" in told) == bool(lacks)


@pytest.mark.parametrize(
    ("symbols", "files", "message"),
    [
        (("AAA@x", "AAA@y"), ["{}"], "one file for each feed"),
        (("AAA@y",), ["x={}"], "one file for each feed"),
        (("AAA",), ["no good={}"], "no good"),
        (("AAA",), ["{}", "{}"], "one file for each feed"),
        (("AAA@x",), ["x={}", "x={}"], "twice"),
        (("CCC",), ["{}"], "no bar of CCC"),
        (("AAA",), ["/no/such.csv"], "no/such.csv"),
        (("AAA",), ["/no/such.frames"], "no/such.frames"),
    ],
)
def test_wrong_arguments_are_named(two, symbols, files, message):
    given = [text.replace("{}", two) for text in files]
    with pytest.raises(BadArgumentError, match=message):
        ReplayMode(RunRequest(symbols, ("1m",)), given)


def test_a_timeframe_that_cannot_be_made_is_named(two):
    with pytest.raises(BadArgumentError, match="no bars of AAA that make 1s"):
        ReplayMode(RunRequest(("AAA",), ("1s",)), two)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b"hello\n", "neither a file of bars"),
        ("x.frames", b"", "neither a file of bars"),
        ("x.csv", b"ws://x\n1.0: {}\n", "begins as a recording"),
        ("x.frames", b"ws://x\n", "without a bar"),
        ("x.frames", b"ws://x\n1.0: {}\n", "without a bar"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadArgumentError, match=message):
        ReplayMode(RunRequest(("AAA",), ("1m",)), str(path))


@pytest.mark.parametrize("variable", ["SHMFEED_FEED"])
def test_a_process_that_reads_no_feed_is_refused(two, monkeypatch, variable):
    monkeypatch.setenv(variable, "off")
    with pytest.raises(BadArgumentError, match="reads none"):
        ReplayMode(RunRequest(("AAA",), ("1m",)), two)
