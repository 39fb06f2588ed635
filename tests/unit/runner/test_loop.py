"""The runner calls a strategy's functions in the order that it promises."""

import pytest
from support.runs import HOUR, MINUTE, START, Runs, bar, minutes

pytest_plugins = ["support.runs_fixture"]

NOTES = """
def note(context, *words):
    print(f"{context.current_dt:%d %H:%M}", *words)
"""


def test_the_order_of_a_day(runs: Runs) -> None:
    source = (
        NOTES
        + """
def initialize(context):
    note(context, "initialize")
    run_daily(lambda c: note(c, "every bar"), "every_bar")
    run_daily(lambda c: note(c, "open"), "open")

def process_initialize(context):
    note(context, "process")

def before_trading_start(context):
    note(context, "before")

def after_trading_end(context):
    note(context, "after")

def handle_bar(context, bar):
    note(context, "bar", bar.symbol, bar.close)

def handle_data(context, data):
    note(context, "data", *data)

def on_strategy_end(context):
    note(context, "end")
"""
    )
    late = START + 24 * HOUR - MINUTE
    bars = [(s, "1m", bar(n, start=late)) for s in ("B", "A") for n in range(2)]
    found = runs.backtest(source, symbols="A,B", bars=bars)
    assert found.code == 0
    assert found.output == [
        "01 23:59 initialize",
        "01 23:59 process",
        "02 00:00 before",
        "02 00:00 open",
        "02 00:00 every bar",
        "02 00:00 bar A 11.0",
        "02 00:00 bar B 11.0",
        "02 00:00 data A B",
        "02 00:01 every bar",
        "02 00:01 bar A 12.0",
        "02 00:01 bar B 12.0",
        "02 00:01 data A B",
        "02 00:01 end",
    ]


def test_a_day_ends_before_the_next_one_begins(runs: Runs) -> None:
    source = """
        def after_trading_end(context): print(context.current_dt, "after")
        def before_trading_start(context): print(context.current_dt, "before")
        def handle_bar(context, bar): pass
    """
    bars = [("AAA", "1h", bar(number, "1h")) for number in (5, 6, 23, 70)]
    found = runs.backtest(source, frequency="1h", bars=bars)
    assert found.output == [
        "2026-01-01 06:00:00 before",
        "2026-01-02 00:00:00 after",
        "2026-01-02 00:00:00 before",
        "2026-01-03 23:00:00 after",
        "2026-01-03 23:00:00 before",
    ]


def test_bars_of_a_close_time_come_in_the_order_of_the_symbols(runs: Runs) -> None:
    """Holes, a symbol that begins late, and a file in another order."""
    source = """
        def handle_data(context, data):
            print(context.current_dt.minute, *data, "CCC" in data)
    """
    bars = [*minutes(2, ["CCC"], first=2), *minutes(4, ["AAA"]), *minutes(1, ["BBB"])]
    bars = [one for one in bars if one[:1] != ("AAA",) or one[2] != bar(2)]
    found = runs.backtest(source, symbols="BBB,CCC,AAA", bars=bars)
    assert found.output == [
        "1 BBB AAA False",
        "2 AAA False",
        "3 CCC True",
        "4 CCC AAA True",
    ]
    assert "AAA 1m: 1 bar missing in 1 hole" in found.errors


def test_several_timeframes_the_shortest_first(runs: Runs) -> None:
    source = """
        def handle_bar(context, bar):
            if context.current_dt.minute == 0:
                print(bar.symbol, bar.timeframe, bar.open, bar.close)

        def handle_data(context, data):
            if context.current_dt.minute == 0:
                print(data["B"].timeframe, data["B", "1h"].close, len(data))
    """
    bars = minutes(60, ["A", "B"])
    found = runs.backtest(source, symbols="B,A", frequency="1h,1m", bars=bars)
    assert found.output == [
        "B 1m 69.0 70.0",
        "A 1m 69.0 70.0",
        "B 1h 10.0 70.0",
        "A 1h 10.0 70.0",
        "1m 70.0 2",
    ]


def test_a_bar_has_its_stream_and_says_what_it_has(runs: Runs) -> None:
    source = """
        import copy, pickle
        from wealthdata import Bar

        def handle_data(context, data):
            bar = data["AAA"]
            assert isinstance(bar, Bar) and bar == tuple(bar)
            assert (bar.symbol, bar.security, bar.timeframe) == ("AAA", "AAA", "1m")
            for same in (copy.deepcopy(bar), pickle.loads(pickle.dumps(bar))):
                assert same == bar and same.symbol == "AAA"
            wrongs = lambda: bar.mavg(20), lambda: data["BBB"], lambda: data[1, 2]
            for wrong in wrongs:
                try:
                    wrong()
                except (AttributeError, KeyError) as error:
                    print(error)
    """
    found = runs.backtest(source, bars=minutes(1))
    assert found.code == 0, found.errors
    fields = "open_time close_time open high low close volume money flags"
    instead = "attribute_history() reads earlier bars"
    assert found.output == [
        f"a bar has no mavg; it has symbol timeframe {fields}, and {instead}",
        "no bar of BBB closes at this time; there are: AAA",
        "no bar of (1, 2) closes at this time; there are: AAA",
    ]


def test_the_context_has_clock_and_data_and_no_account(runs: Runs) -> None:
    source = """
        from datetime import datetime

        def initialize(context):
            assert context.broker is None
            context.own = 3

        def handle_bar(context, bar):
            assert context is get_context()
            assert context.current_dt == datetime(2026, 1, 1, 0, 1)
            print(context.previous_date, context.run_params.type, context.universe,
                  context.own)
            try:
                context.portfolio.cash
            except AttributeError as error:
                print(error)
            print(getattr(context, "missing", "none"))
    """
    found = runs.backtest(source, bars=minutes(1))
    first, refusal, last = found.output
    assert first == "2025-12-31 backtest ['AAA'] 3"
    assert refusal.startswith(
        "the context has no portfolio: the runner makes no orders"
    )
    assert last == "none"


class TestExceptions:
    SOURCE = """
        def initialize(context):
            g.calls = 0

        def handle_bar(context, bar):
            g.calls += 1
            print("bar", g.calls)
            if g.calls in (2, 3):
                1 / 0

        def handle_data(context, data):
            print("data")

        def on_strategy_end(context):
            print("end")
    """

    def test_the_first_ends_the_strategy(self, runs: Runs) -> None:
        found = runs.backtest(self.SOURCE, bars=minutes(4))
        assert found.code == 1
        assert found.output == ["bar 1", "data", "bar 2"]
        assert (
            "strategy.py line 9: ZeroDivisionError: division by zero, in handle_bar at"
            " AAA 1m 2026-01-01T00:02:00Z; the strategy has ended\n"
        ) in found.errors
        assert "1 / 0" in found.errors  # the traceback
        assert "wealthdata/runner" not in found.errors

    def test_keep_going_counts_them(self, runs: Runs) -> None:
        found = runs.backtest(self.SOURCE, "--keep-going", bars=minutes(4))
        assert found.code == 1
        assert found.output[-5:] == ["bar 3", "data", "bar 4", "data", "end"]
        assert "2026-01-01T00:03:00Z; the run goes on" in found.errors
        assert "strategy.py: 2 failures" in found.errors

    @pytest.mark.parametrize("more", [(), ("--keep-going",)])
    def test_one_in_initialize_ends_it_always(
        self, runs: Runs, more: tuple[str, ...]
    ) -> None:
        source = """
            def initialize(context):
                raise RuntimeError("no\\nkey")

            def handle_bar(context, bar):
                print("bar")

            def on_strategy_end(context):
                print("end")
        """
        found = runs.backtest(source, *more)
        assert (found.code, found.output) == (1, [])
        assert (
            "strategy.py line 3: RuntimeError: no key, in initialize; " in found.errors
        )

    @pytest.mark.parametrize(("call", "code"), [("exit()", 0), ("sys.exit(3)", 1)])
    def test_sys_exit_ends_the_strategy_that_calls_it(
        self, runs: Runs, call: str, code: int
    ) -> None:
        source = f"""
            import sys

            def handle_bar(context, bar):
                print("bar")
                {call}
        """
        found = runs.backtest(source, "--keep-going")
        assert (found.code, found.output) == (code, ["bar"])
        assert "strategy.py has ended itself: sys.exit(" in found.errors

    def test_the_others_go_on(self, runs: Runs) -> None:
        runs.write("sound.py", "def handle_bar(c, b): print('sound', b.close)")
        sound = str(runs.folder / "sound.py")
        found = runs.backtest(self.SOURCE, sound, bars=minutes(3))
        assert found.code == 1
        assert [line for line in found.output if "sound" in line] == [
            "sound 11.0",
            "sound 12.0",
            "sound 13.0",
        ]
        assert found.output[:3] == ["bar 1", "data", "sound 11.0"]


def test_strategies_have_their_own_g_log_and_context(runs: Runs) -> None:
    source = """
        def initialize(context):
            g.name = context.name = {name!r}
            run_daily(tick, "every_bar")

        def tick(context):
            assert get_context() is context and context.name == g.name == {name!r}
            log.info("tick")
    """
    paths = [runs.write(f"{n}/s.py", source.format(name=n)) for n in ("one", "two")]
    bars = runs.write_bars(minutes(2))
    found = runs(
        ["run", *paths, "--symbols", "AAA", "--frequency", "1m", "--backtest", bars]
    )
    assert found.code == 0, found.errors
    assert found.output == [
        f"2026-01-01 00:0{minute}:00 - INFO - {path}: tick"
        for minute in (1, 2)
        for path in paths
    ]
