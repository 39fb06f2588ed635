"""The live mode: steps of what a feed closes, the waits, and what is told."""

import threading
import time
import warnings

import pytest
from support.replaying import make_bar
from support.runs import minutes
from support.waiting import until

import shmfeed
import wealthdata
from shmfeed.bar import floor
from shmfeed.errors import BadArgumentError
from wealthdata.attachment import detach
from wealthdata.events import Health
from wealthdata.runner import live
from wealthdata.runner.live import LiveMode
from wealthdata.runner.steps import RunRequest, Step

MINUTE = 60_000
GRACE = 0.4


@pytest.fixture(autouse=True)
def own_choices(monkeypatch):
    monkeypatch.delenv("SHMFEED_FEED", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    wealthdata.choices.forget_choices()
    detach()


class Begun:
    """Set once a live run follows its streams."""

    event = threading.Event()


@pytest.fixture(autouse=True)
def begun(monkeypatch):
    Begun.event = threading.Event()
    follow = live.follow

    def follow_and_tell(*args, **kwargs):
        found = follow(*args, **kwargs)
        Begun.event.set()
        return found

    monkeypatch.setattr(live, "follow", follow_and_tell)


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(live, "tell", lines.append)
    return lines


class Feed:
    """A feed of a test, whose bars are counted from the present minute on."""

    def __init__(self, name, symbols, timeframe="1m", grace=60.0):
        self.writer = shmfeed.create(name)
        self.writer.set_repair_grace(grace)
        self.rings = {s: self.writer.add_stream(s, timeframe) for s in symbols}
        self.first = floor(time.time_ns() // 1_000_000, timeframe)
        self.timeframe = timeframe
        for symbol in symbols:
            self.close(symbol, -1)

    def close(self, symbol, number, price=100.0):
        bar = make_bar(number, price=price)
        opened = self.first + number * MINUTE
        self.rings[symbol].append(opened, *bar[2:8], bar.flags)

    def time_of(self, number):
        return self.first + (number + 1) * MINUTE

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.writer.close(unlink=True)


def numbers(feed, step):
    return (
        (step.close_time - feed.first) // MINUTE - 1,
        [closed.symbol for closed in step.closed],
        step.lacking,
    )


def steps_of(mode):
    return (item for item in mode.steps() if isinstance(item, Step))


def test_a_step_has_the_bars_of_one_close_time(feed_name, told):
    with Feed(feed_name, ["B", "A"]) as feed:
        with LiveMode(RunRequest(("A", "B"), ("1m",), feed_name)) as mode:
            steps = steps_of(mode)
            first = _next_after(steps, lambda: [feed.close(s, 0) for s in "BA"])
            assert numbers(feed, first) == (0, ["A", "B"], ())
            # Bars that close while a handler runs come step by step, in order.
            for number in (1, 2, 3):
                for symbol in "AB":
                    feed.close(symbol, number)
            assert [numbers(feed, next(steps))[0] for _ in range(3)] == [1, 2, 3]
    assert told == []


def test_bars_that_close_before_the_first_step_is_asked_for_make_steps(feed_name, told):
    # The strategies are loaded and initialized meanwhile; one of the streams has no
    # bar as the run begins.
    with Feed(feed_name, ["A"]) as feed:
        feed.rings["B"] = feed.writer.add_stream("B", "1m")
        feed.writer.set_clock_offset(0)
        with LiveMode(RunRequest(("A", "B"), ("1m",), feed_name)) as mode:
            for number in (0, 1):
                for symbol in "AB":
                    feed.close(symbol, number)
            steps = steps_of(mode)
            found = [numbers(feed, next(steps)) for _ in range(2)]
    assert found == [(0, ["A", "B"], ()), (1, ["A", "B"], ())]


def test_a_strategy_that_waits_itself_goes_on_after_its_bars(feed_name, told):
    with Feed(feed_name, ["A"]) as feed:
        with LiveMode(RunRequest(("A",), ("1m",), feed_name)) as mode:
            wealthdata.get_price("A", count=1, frequency="1m")
            feed.close("A", 0)
            assert wealthdata.wait_bar("A", "1m", 0, feed=feed_name) == (["A"], [])
            feed.close("A", 1)
            assert numbers(feed, next(steps_of(mode))) == (1, ["A"], ())


def test_a_run_begins_at_the_venues_time(feed_name, told):
    days = 100 * 86_400_000
    with Feed(feed_name, ["A"]) as feed:
        feed.writer.set_clock_offset(-days)
        feed.rings["B"] = feed.writer.add_stream("B", "1m")
        feed.first -= days
        before = time.time_ns() // 1_000_000 - days
        with LiveMode(RunRequest(("B",), ("1m",), feed_name)) as mode:
            after = time.time_ns() // 1_000_000 - days
            assert before - 1 <= mode.start <= after + 1
            feed.close("B", 0)
            assert numbers(feed, next(steps_of(mode))) == (0, ["B"], ())
    assert told == []


def _next_after(steps, act):
    """Return the next step; `act` closes bars once the run follows its streams."""

    def act_then():
        assert Begun.event.wait(60)
        act()

    thread = threading.Thread(target=act_then)
    thread.start()
    try:
        return next(steps)
    finally:
        thread.join()


def test_a_symbol_that_lacks_its_bar_is_waited_for_no_longer_than_the_grace(
    feed_name, told
):
    with Feed(feed_name, ["A", "B"], grace=GRACE) as feed:
        with LiveMode(RunRequest(("A", "B"), ("1m",), feed_name)) as mode:
            steps = steps_of(mode)
            closed_at = []

            def act():
                closed_at.append(time.monotonic())
                feed.close("A", 0)

            step = _next_after(steps, act)
            assert numbers(feed, step) == (0, ["A"], ("B",))
            assert time.monotonic() - closed_at[0] >= GRACE
            feed.close("B", 0)  # late
            feed.close("A", 1)
            feed.close("B", 1)
            assert numbers(feed, next(steps)) == (1, ["A", "B"], ())
    assert len(told) == 1
    assert told[0].startswith("late: B 1m, the bar that closed at ")


def test_a_symbol_that_can_close_none_holds_up_nobody(feed_name, told):
    with Feed(feed_name, ["A", "B"]) as feed:
        feed.writer.explain(("B", "1m"), "closed", "halted")
        with LiveMode(RunRequest(("A", "B"), ("1m",), feed_name)) as mode:
            step = _next_after(steps_of(mode), lambda: feed.close("A", 0))
            assert numbers(feed, step) == (0, ["A"], ("B",))


def test_securities_of_two_feeds_make_one_step(feed_name, told):
    other = feed_name + "-other"
    with Feed(feed_name, ["A"]) as feed, Feed(other, ["A"]) as second:
        second.first = feed.first
        names = (f"A@{feed_name}", f"A@{other}")
        with LiveMode(RunRequest(names, ("1m",))) as mode:

            def act():
                second.close("A", 0)
                feed.close("A", 0)

            step = _next_after(steps_of(mode), act)
            assert numbers(feed, step) == (0, list(names), ())


def test_a_feed_that_is_not_there_is_waited_for(feed_name, told):
    request = RunRequest(("A",), ("1m",), feed_name)
    with LiveMode(request) as mode:
        feeds = []

        def act():
            until(lambda: told)
            feeds.append(feed := Feed(feed_name, ["A"]))
            ended = threading.Event()
            feed.ended = ended
            for number in range(200):
                if ended.wait(0.05):
                    return
                feed.close("A", number)

        thread = threading.Thread(target=act)
        thread.start()
        try:
            step = next(steps_of(mode))
            assert [closed.symbol for closed in step.closed] == ["A"]
            assert len(told) == 1
            waits = f"the run waits for feed {feed_name!r}, which is not on this host"
            assert told[0].startswith(waits)
        finally:
            feeds[0].ended.set()
            thread.join()
            feeds[0].writer.close(unlink=True)


def test_the_death_of_the_feeder_is_an_event(feed_name, told):
    with Feed(feed_name, ["A"]) as feed:
        with LiveMode(RunRequest(("A",), ("1m",), feed_name)) as mode:
            items = mode.steps()
            assert isinstance(_next_after(items, lambda: feed.close("A", 0)), Step)
            feed.writer.close()
            event = next(items)
            assert isinstance(event, Health)
            assert (event.symbol, event.new) == ("A", "dead")
    shmfeed.create(feed_name).close(unlink=True)


@pytest.mark.parametrize("choice", ["environment", "use"])
def test_a_process_that_reads_no_feed_is_refused(choice, monkeypatch):
    if choice == "environment":
        monkeypatch.setenv("SHMFEED_FEED", "off")
    else:
        wealthdata.use(context_only=True)
    with (
        pytest.raises(BadArgumentError, match="reads none"),
        LiveMode(RunRequest(("A",), ("1m",))),
    ):
        pass


def test_the_summary_names_the_feed_that_was_chosen(feed_name, runs, monkeypatch):
    strategy = runs.write(
        "leaves.py",
        "def initialize(context):\n    exit()\n\ndef handle_bar(context, bar): pass\n",
    )
    monkeypatch.setenv("SHMFEED_FEED", feed_name)
    with Feed(feed_name, ["A"]):
        found = runs(["run", strategy, "--symbols", "A", "--frequency", "1m"])
    assert found.code == 0
    assert f"wealthdata: live of feed {feed_name}: 0 close times" in found.errors


def test_a_misspelt_symbol_replaces_no_recording(feed_name, runs, monkeypatch):
    strategy = runs.write("ma.py", "def handle_bar(context, bar): pass\n")
    recorded = runs.folder / "d.jsonl"
    run = ["run", strategy, "--frequency", "1m", "--record", str(recorded)]
    bars = runs.write_bars(minutes(3))
    assert runs([*run, "--symbols", "AAA", "--backtest", bars]).code == 0
    before = recorded.read_bytes()
    monkeypatch.setenv("SHMFEED_FEED", feed_name)
    with Feed(feed_name, ["AAA"]):
        found = runs([*run, "--symbols", "AAB"])
    assert (found.code, recorded.read_bytes()) == (2, before)
    assert f"feed {feed_name!r} does not carry AAB 1m" in found.errors


def test_a_history_too_short_for_a_bar_is_told(feed_name, capsys):
    request = RunRequest(("A",), ("1d",), feed_name)
    with Feed(feed_name, ["A"]), LiveMode(request) as mode:
        mode._find_feeds()
    assert "the feed keeps 1000, so that no bar of it closes" in capsys.readouterr().err
