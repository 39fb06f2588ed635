"""Steps: complete, overdue, in order; a late bar belongs to none."""

import itertools
import math

import hypothesis
import hypothesis.strategies as st
from support.replaying import START, make_bar

from wealthdata.events import Closed
from wealthdata.runner.step_assembly import StepAssembly

MINUTE = 60_000


def closed(symbol, number, timeframe="1m"):
    return Closed(symbol, timeframe, make_bar(number, timeframe))


def brief(step):
    return None if step is None else ([c.symbol for c in step.closed], step.lacking)


def test_a_step_waits_for_each_symbol():
    assembly = StepAssembly(["A", "B"], ["1m"], 5.0)
    assembly.add(closed("B", 0), 10.0)
    assert assembly.take(15.0) is None
    assert assembly.deadline == 15.0
    assembly.add(closed("A", 0), 12.0)
    step = assembly.take(12.0)
    assert brief(step) == (["A", "B"], ())
    assert step.close_time == assembly.last == START + MINUTE
    assert assembly.take(99.0) is None
    assert assembly.deadline == math.inf


def test_an_overdue_step_names_the_symbols_that_it_lacks():
    assembly = StepAssembly(["A", "B", "C"], ["1m"], 5.0)
    assembly.add(closed("B", 0), 10.0)
    assert brief(assembly.take(15.1)) == (["B"], ("A", "C"))


def test_a_late_bar_belongs_to_no_step():
    assembly = StepAssembly(["A", "B"], ["1m"], 5.0)
    assert assembly.add(closed("A", 0), 0.0)
    assert assembly.take(6.0) is not None
    assert not assembly.add(closed("B", 0), 6.5)
    assert assembly.take(99.0) is None
    assert assembly.add(closed("B", 1), 7.0)


def test_bars_up_to_the_begin_belong_to_no_step():
    assembly = StepAssembly(["A"], ["1m"], 5.0, after=START + MINUTE)
    assert not assembly.add(closed("A", 0), 0.0)
    assert assembly.add(closed("A", 1), 0.0)


def test_a_symbol_that_can_close_none_is_not_waited_for():
    assembly = StepAssembly(["A", "B"], ["1m"], 5.0, lambda symbol, _: symbol != "B")
    assembly.add(closed("A", 0), 0.0)
    assert brief(assembly.take(0.0)) == (["A"], ("B",))


def test_a_symbol_with_a_newer_bar_is_not_waited_for():
    assembly = StepAssembly(["A", "B"], ["1m"], 5.0)
    assembly.add(closed("A", 0), 0.0)
    assembly.add(closed("B", 1), 0.5)
    assert brief(assembly.take(0.5)) == (["A"], ("B",))
    assert assembly.take(0.5) is None  # A may still close its second bar


def test_steps_are_taken_in_the_order_of_their_times():
    assembly = StepAssembly(["A", "B"], ["1m"], 5.0)
    for symbol, number in (("A", 1), ("B", 1), ("A", 0)):
        assembly.add(closed(symbol, number), 0.0)
    steps = [assembly.take(0.0), assembly.take(0.0)]
    assert [s.close_time for s in steps] == [START + MINUTE, START + 2 * MINUTE]
    assert brief(steps[0]) == (["A"], ("B",))


def test_the_shortest_timeframe_comes_first():
    assembly = StepAssembly(["A", "B"], ["1m", "5m"], 5.0)
    for symbol in "AB":
        assembly.add(closed(symbol, 0, "5m"), 0.0)
        assembly.add(closed(symbol, 4), 0.0)
    step = assembly.take(0.0)
    assert [c[:2] for c in step.closed] == [
        ("A", "1m"),
        ("B", "1m"),
        ("A", "5m"),
        ("B", "5m"),
    ]
    assembly.add(closed("A", 5), 1.0)  # no bar of 5m ends there
    assembly.add(closed("B", 5), 1.0)
    assert brief(assembly.take(1.0)) == (["A", "B"], ())


@hypothesis.given(st.data())
def test_each_bar_is_in_one_step_or_late(data):
    """Whatever the order between streams, time never goes back and no bar is lost."""
    symbols = ["A", "B", "C"]
    left = {symbol: list(range(data.draw(st.integers(0, 6)))) for symbol in symbols}
    assembly = StepAssembly(symbols, ["1m"], data.draw(st.sampled_from([0.0, 2.0])))
    handed, late, now, last = [], [], 0.0, 0
    while any(left.values()):
        symbol = data.draw(st.sampled_from([s for s in symbols if left[s]]))
        number = left[symbol].pop(0)
        now += data.draw(st.sampled_from([0.0, 1.0, 3.0]))
        if not assembly.add(closed(symbol, number), now):
            late.append((symbol, number))
        for _ in itertools.count():
            step = assembly.take(now)
            if step is None:
                break
            assert step.close_time > last
            last = step.close_time
            handed += [
                (c.symbol, (c.bar.open_time - START) // MINUTE) for c in step.closed
            ]
    while (step := assembly.take(math.inf)) is not None:
        handed += [(c.symbol, (c.bar.open_time - START) // MINUTE) for c in step.closed]
    assert len(handed) == len(set(handed))
    assert set(handed).isdisjoint(late)
