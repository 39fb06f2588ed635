"""A backtest reads its file up to `current_dt`, and nothing else, whatever reads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.runs import START, Outcome, Runs, bar, minutes

import shmfeed
import wealthdata
from shmfeed.bar import AFTER_GAP, CLOSED_BY_VENUE, UNCONFIRMED, Bar
from wealthdata.runner import loop
from wealthdata.runner.running import moment_of

pytest_plugins = ["support.runs_fixture", "support.strategy_process"]

LIVE = 9999.0  # a close that only the feed has

# Reads of every kind; `closes` are those of AAA, the newest last.
READS = """
from concurrent.futures import ThreadPoolExecutor
import wealthdata

def newest(frame):
    return frame["close"].iloc[-1]

def reads():
    yield newest(wealthdata.get_price("AAA", count=5, frequency="1m"))
    yield newest(wealthdata.get_price("AAA", end_date="2030-01-01", frequency="1m"))
    yield newest(wealthdata.get_price("AAA", start_date="2020-01-01", frequency="1m"))
    yield newest(wealthdata.get_price("AAA", count=5, frequency="1m", include_now=True))
    yield newest(wealthdata.get_price(["AAA"], count=5, frequency="1m"))
    yield newest(wealthdata.get_bars("AAA", 5, unit="1m"))
    yield wealthdata.get_bars("AAA", 5, unit="1m", df=False)["close"][-1]
    yield wealthdata.history(5, "1m", "close", ["AAA"])["AAA"].iloc[-1]
    yield newest(wealthdata.attribute_history("AAA", 5, "1m"))
    yield wealthdata.get_current_data()["AAA"].last_price
"""


EACH_READ = (
    READS
    + """
def handle_bar(context, bar):
    found = {*reads(), context.history("AAA", 5, "1m")[-1].close}
    assert found == {bar.close}, found

def before_trading_start(context):
    with ThreadPoolExecutor(1) as pool:
        found = set(pool.submit(lambda: list(reads())).result())
    assert found == {11.0}, found
"""
)


@pytest.fixture
def feed(strategy: str) -> Iterator[str]:
    """Write a live feed of AAA whose bars no backtest may see."""
    with shmfeed.create(strategy, history=50) as writer:
        ring = writer.add_stream("AAA", "1m")
        for number in range(20):
            one = bar(number)
            ring.append(one.open_time, 1.0, LIVE, 0.5, LIVE, 1.0)
        yield strategy


@pytest.mark.usefixtures("feed")
class TestNothingElse:
    def test_each_read_sees_the_newest_bar_of_the_file(self, runs: Runs) -> None:
        found = runs.backtest(EACH_READ, bars=minutes(5))
        assert found.code == 0, found.errors

    def test_a_clock_that_is_ahead_would_be_seen(
        self, runs: Runs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Control of the one above."""
        monkeypatch.setattr(loop, "moment_of", lambda at: moment_of(at + 60_000))
        found = runs.backtest(EACH_READ, bars=minutes(5))
        assert found.code == 1
        assert "AssertionError" in found.errors
        assert "12.0" in found.errors

    def test_threads_timers_tasks_and_processes(self, runs: Runs) -> None:
        """Those that have lost the context read nothing, and never the feed."""
        child = runs.write(
            "child.py",
            """
            import wealthdata
            try:
                print(wealthdata.get_price("AAA", count=1, frequency="1m"))
            except RuntimeError as error:
                print(type(error).__name__)
            """,
        )
        source = f"""
            import asyncio, subprocess, sys, threading
            from concurrent.futures import ThreadPoolExecutor

            def newest(_=None):
                return get_price("AAA", count=1, frequency="1m").close.iloc[-1]

            def handle_bar(context, bar):
                with ThreadPoolExecutor(2) as pool:
                    found = set(pool.map(newest, range(4)))
                timer = threading.Timer(0, lambda: found.add(newest()))
                timer.start()
                timer.join()

                async def task():
                    found.add(await asyncio.to_thread(newest))
                    found.add(newest())

                asyncio.run(task())
                clear_context()
                try:
                    print(newest())
                except RuntimeError as error:
                    print(type(error).__name__)
                set_context(context)
                assert found == {{bar.close}}, found
                run = [sys.executable, {child!r}]
                print(subprocess.check_output(run, text=True).strip())
        """
        found = runs.backtest(source, bars=minutes(1))
        assert found.code == 0, found.errors
        assert found.output == ["NoDataError", "NoDataError"]

    def test_the_feed_would_be_seen(self, feed: str) -> None:
        """Control: without the backtest the same reads return the live bar."""
        wealthdata.use(feed=feed)
        frame = wealthdata.get_price("AAA", count=1, frequency="1m", on_stale="ignore")
        assert frame.close.iloc[-1] == LIVE

    def test_the_process_reads_its_feed_again_afterwards(
        self, runs: Runs, feed: str
    ) -> None:
        runs.backtest("def handle_bar(context, bar): pass\n")
        self.test_the_feed_would_be_seen(feed)


def test_current_dt_bounds_every_read(runs: Runs) -> None:
    """In initialize no bar has closed; at each step only those up to it."""
    source = """
        def initialize(context):
            frame = get_price("AAA", count=5, frequency="1m")
            print(len(frame), get_price("AAA", frequency="1h").empty)

        def handle_bar(context, bar):
            frame = get_price("AAA", start_date="2026-01-01", frequency="1m")
            hours = get_price("AAA", count=9, frequency="1h")
            print(context.current_dt.minute, len(frame), len(hours),
                  frame.index[-1] == context.current_dt)
    """
    found = runs.backtest(source, frequency="30m", bars=minutes(100))
    assert found.output == ["0 True", "30 30 0 True", "0 60 1 True", "30 90 1 True"]


def test_attrs_say_what_the_file_has(runs: Runs) -> None:
    flags = CLOSED_BY_VENUE, CLOSED_BY_VENUE | UNCONFIRMED, CLOSED_BY_VENUE | AFTER_GAP
    numbers = 0, 1, 4
    bars = [
        ("AAA", "1m", bar(number)._replace(flags=flag))
        for number, flag in zip(numbers, flags, strict=True)
    ]
    source = """
        def handle_bar(context, bar):
            fields = ["close", "money", "flags", "open_time"]
            frame = get_price("AAA", count=5, frequency="1m", fields=fields)
            attrs = frame.attrs["shmfeed"]
            if bar.open == 14:
                print(frame["flags"].tolist(), frame["money"].tolist())
                wanted = ("source", "feed", "identity", "rolled", "age", "state",
                          "health", "due", "behind", "forming", "short", "gaps",
                          "unconfirmed", "polled", "revised", "absent", "valid")
                for key in wanted:
                    print(key, attrs[key])
    """
    found = runs.backtest(source, bars=bars)
    assert found.output == [
        f"{list(flags)} [11.0, 12.0, 15.0]",
        "source context",
        "feed None",
        "identity None",
        "rolled None",
        "age 0.0",
        "state None",
        "health None",
        "due None",
        "behind 0.0",
        "forming False",
        "short 2",
        "gaps 2",
        "unconfirmed 1",
        "polled 0",
        "revised 0",
        "absent []",
        "valid True",
    ]


def test_reactions_hold_in_a_backtest(runs: Runs) -> None:
    source = """
        def handle_bar(context, bar):
            for option in ("on_gap", "on_short", "on_unconfirmed"):
                try:
                    get_price("AAA", count=3, frequency="1m", **{option: "raise"})
                except Exception as error:
                    print(context.current_dt.minute, type(error).__name__)
    """
    bars = [one for one in minutes(5) if one[2].open != 12]
    found = runs.backtest(source, bars=bars)
    assert found.output == [
        "1 ShortError",
        "2 ShortError",
        "4 GapError",
        "5 GapError",
    ]


def test_a_frame_is_private_and_the_file_stays(runs: Runs) -> None:
    source = """
        def handle_bar(context, bar):
            frame = get_price("AAA", count=3, frequency="1m")
            frame.loc[:, "close"] = 0.0
            frame.iloc[0, 0] = -1.0
            again = get_price("AAA", count=3, frequency="1m")
            assert again.close.iloc[-1] == bar.close
            rolled = get_price("AAA", count=3, frequency="3m", fields=["close"])
            rolled.iloc[:, :] = 7.0
    """
    found = runs.backtest(source)
    assert found.code == 0, found.errors


def test_the_same_stream_twice_gives_the_same_run(runs: Runs) -> None:
    """A run is a function of its file: the output of two is the same."""
    source = """
        def handle_data(context, data):
            frame = get_price(["BBB", "AAA"], count=7, frequency="3m", align=True)
            print(context.current_dt, frame.to_csv())
    """
    bars = minutes(40, ["AAA", "BBB"])
    found = [
        runs.backtest(source, bars=bars, symbols="BBB,AAA", frequency="1m,3m")
        for _ in range(2)
    ]
    assert found[0].output == found[1].output
    assert len(found[0].output) > 100


def test_wait_bar_answers_at_once_and_follow_names_the_runner(runs: Runs) -> None:
    source = """
        import wealthdata

        def handle_bar(context, bar):
            print(wealthdata.wait_bar(["AAA", "BBB"], "1m"))
            try:
                next(iter(wealthdata.follow("AAA", "1m")))
            except wealthdata.ContextError if False else RuntimeError as error:
                print("--backtest" in str(error) or error)
    """
    bars = [*minutes(2), ("BBB", "1m", bar(1))]
    found = runs.backtest(source, bars=bars)
    assert found.output == [
        "(['AAA'], ['BBB'])",
        "True",
        "(['AAA', 'BBB'], [])",
        "True",
    ]


def test_years_of_months_and_weeks(runs: Runs) -> None:
    """Timeframes of a calendar are stepped and rolled up as elsewhere."""
    days = [("AAA", "1d", bar(number, "1d")) for number in range(90)]
    source = """
        def handle_bar(context, bar):
            print(bar.timeframe, context.current_dt.date(), bar.close)
    """
    found = runs.backtest(source, frequency="1M,1w", bars=days)
    assert [line for line in found.output if line.startswith("1M")] == [
        "1M 2026-02-01 41.0",
        "1M 2026-03-01 69.0",
        "1M 2026-04-01 100.0",
    ]
    assert found.output[0] == "1w 2026-01-12 21.0"
    assert START == 1_767_225_600_000


class TestSeveralFeeds:
    SOURCE = """
        def handle_data(context, data):
            both = get_price(["AAA@spot", "AAA@perp"], count=1, frequency="1m")
            print(*data, *both["close"], get_price("AAA@perp", count=1, frequency="1m")
                  .close.iloc[0], *wait_bar(["AAA@perp", "AAA@spot"], "1m"))
    """

    def run(
        self, runs: Runs, *files: str, symbols: str = "AAA@spot,AAA@perp"
    ) -> Outcome:
        path = runs.write("strategy.py", self.SOURCE)
        return runs(
            ["run", path, "--symbols", symbols, "--frequency", "1m"]
            + [word for file in files for word in ("--backtest", file)]
        )

    def files(self, runs: Runs) -> tuple[str, str]:
        """Write two minutes of both feeds, those of perp higher by 7."""
        times = [bar(number)[:2] for number in range(2)]
        perp = [("AAA", "1m", Bar(*times[n], *bar(n + 7)[2:])) for n in range(2)]
        high = Path(runs.write_bars(perp)).rename(runs.folder / "perp.csv")
        return f"spot={runs.write_bars(minutes(2))}", f"perp={high}"

    def test_each_feed_has_a_file(self, runs: Runs) -> None:
        found = self.run(runs, *self.files(runs))
        assert found.code == 0, found.errors
        assert found.output == [
            f"AAA@spot AAA@perp {spot} {perp} {perp} ['AAA@perp', 'AAA@spot'] []"
            for spot, perp in ((11.0, 18.0), (12.0, 19.0))
        ]

    def test_a_feed_without_a_file_is_named(self, runs: Runs) -> None:
        spot, perp = self.files(runs)
        plain = spot.removeprefix("spot=")
        for files in ([spot], [plain], [spot, spot], [perp, plain, plain]):
            found = self.run(runs, *files)
            assert (found.code, found.output) == (2, [])
            assert "--backtest" in found.errors

    def test_another_feed_is_not_taken_for_it(self, runs: Runs) -> None:
        """Never the bars of one market under the name of another."""
        source = """
            def handle_bar(context, bar):
                for symbol in ("AAA", "AAA@perp"):
                    try:
                        print(get_price(symbol, count=1, frequency="1m").close.iloc[0])
                    except KeyError as error:
                        print(error)
        """
        path = runs.write("strategy.py", source)
        bars = f"spot={runs.write_bars(minutes(1))}"
        options = ["--symbols", "AAA@spot", "--frequency", "1m", "--backtest", bars]
        found = runs(["run", path, *options])
        assert found.code == 0, found.errors
        lacks = "the context has no AAA 1m; it has: AAA@spot 1m"
        assert len(found.output) == 2
        assert all(lacks in line for line in found.output)
