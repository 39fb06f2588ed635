"""A strategy written for JoinQuant finds its names, and is told what they do here."""

import pytest
from support.runs import Runs, minutes

import wealthdata
from wealthdata import unavailable

pytest_plugins = ["support.runs_fixture"]


def test_joinquants_style_runs_without_an_import(runs: Runs) -> None:
    source = """
        from jqdata import *

        def initialize(context):
            set_benchmark("000300.XSHG")
            set_option("use_real_price", True)
            set_option("avoid_future_data", True)
            set_order_cost(OrderCost(open_tax=0, close_tax=0.001), type="stock")
            set_slippage(FixedSlippage(0.02))
            log.set_level("order", "error")
            g.security = "AAA"
            g.days = 2
            run_daily(market_open, time="every_bar", reference_security="000300.XSHG")

        def market_open(context):
            data = attribute_history(g.security, g.days, "1m", ["close"])
            average = data["close"].mean()
            price = get_current_data()[g.security].last_price
            log.info("%s: %.2f %.2f", g.security, average, price)
    """
    found = runs.backtest(source)
    assert found.code == 0, found.errors
    assert found.output == [
        "2026-01-01 00:01:00 - INFO - AAA: 11.00 11.00",
        "2026-01-01 00:02:00 - INFO - AAA: 11.50 12.00",
        "2026-01-01 00:03:00 - INFO - AAA: 12.50 13.00",
    ]
    for name in ("set_benchmark", "set_order_cost", "set_slippage"):
        assert (
            found.errors.count(f"strategy.py: {name}(): it changes nothing here") == 1
        )
    assert "use_real_price" not in found.errors


def test_a_call_without_effect_is_told_once(runs: Runs) -> None:
    source = """
        def handle_data(context, data):
            record(price=1)
            set_option("order_volume_ratio", 0.1)
            set_option("use_real_price", False)
    """
    found = runs.backtest(source)
    assert found.errors.count("record(): nothing is drawn here") == 1
    assert found.errors.count("set_option('order_volume_ratio', 0.1): ") == 1
    assert "set_option('use_real_price', False): prices are the venue's" in found.errors


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ("set_option('use_real_prices', True)", "; did you mean use_real_price?"),
        ("set_option(3, True)", "option 3 is not accepted; one of: use_real_price"),
        (
            "log.set_level('strategy', 'loud')",
            "level of set_level is 'loud'; it must be",
        ),
        (
            "log.set_level('mine', 'info')",
            "name of set_level is 'mine'; it must be one",
        ),
        ("order('AAA', 100)", "order() has no answer here"),
        ("get_fundamentals(None)", "get_fundamentals() has no answer here"),
        ("g.missing", "AttributeError: 'GlobalVariables' object has no attribute"),
    ],
)
def test_what_cannot_be_answered_raises_in_its_line(
    runs: Runs, call: str, wanted: str
) -> None:
    found = runs.backtest(f"def handle_bar(context, bar):\n    {call}\n")
    assert found.code == 1
    assert wanted in found.errors
    assert "strategy.py line 2: " in found.errors


def test_star_imports_keep_the_names_of_the_runner(runs: Runs) -> None:
    source = """
        from wealthdata import *
        import jqdata
        from jqdata import *
        import wealthdata

        def handle_bar(context, bar):
            g.seen = log.info("seen")
            assert run_daily.__self__ is not None
            assert get_price is wealthdata.get_price is jqdata.get_price
    """
    found = runs.backtest(source, bars=minutes(1))
    assert (found.code, found.output) == (0, ["2026-01-01 00:01:00 - INFO - seen"])


def test_names_of_the_file_count_before_the_runners(runs: Runs) -> None:
    source = """
        from collections import namedtuple
        order = namedtuple("order", "symbol")
        log = print
        def record(value): print("own", value)

        def handle_bar(context, bar):
            record(order("A"))
            log("log")
    """
    found = runs.backtest(source, bars=minutes(1))
    assert found.output == ["own order(symbol='A')", "log"]


def test_a_jqdata_beside_the_strategy_is_its_own(runs: Runs) -> None:
    runs.write("jqdata.py", "NAME = 'mine'\n")
    source = "from jqdata import NAME\ndef handle_bar(c, b): print(NAME)\n"
    found = runs.backtest(source, bars=minutes(1))
    assert found.output == ["mine"]


def test_every_public_name_is_there(runs: Runs) -> None:
    names = [*wealthdata.__all__, *("order", "order_target", "get_open_orders")]
    assert all(hasattr(unavailable, name) for name in names[-3:])
    source = f"def handle_bar(c, b): [eval(name) for name in {names}]\n"
    assert runs.backtest(source, bars=minutes(1)).code == 0


def test_log_formats_levels_and_times(runs: Runs) -> None:
    source = """
        log.info("loading")

        def initialize(context):
            log.debug("d")
            log.set_level("strategy", "warn")
            log.info("left out")

        def handle_bar(context, bar):
            log.warn("a %s %d", "b", 3)
            log.warning("50%, of", 7)
            log.error("%", "x")
            log.error(None, 1.5)
            try:
                1 / 0
            except ZeroDivisionError:
                log.exception("caught")
    """
    found = runs.backtest(source, bars=minutes(1))
    assert found.output[:6] == [
        "2026-01-01 00:00:00 - INFO - loading",
        "2026-01-01 00:00:00 - DEBUG - d",
        "2026-01-01 00:01:00 - WARNING - a b 3",
        "2026-01-01 00:01:00 - WARNING - 50%, of 7",
        "2026-01-01 00:01:00 - ERROR - % x",
        "2026-01-01 00:01:00 - ERROR - None 1.5",
    ]
    assert found.output[-1] == "ZeroDivisionError: division by zero"
