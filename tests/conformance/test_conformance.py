"""The golden cases, each in each way to run a strategy."""

from functools import cache

import pytest
from conformance import __main__ as command
from conformance import adapter, case, decided, market, suite
from conformance.faulty import FAULTS, Fault, Faulty

TESTED = adapter.find()
CASES = case.load()
BY_NAME = {one.name: one for one in CASES}


@cache
def verdicts(way: str, topic: str) -> dict[str, list[str]]:
    """Run the cases of one file in one way. Return the faults of each."""
    chosen = [one for one in CASES if topic_of(one) == topic]
    return {v.case.name: v.faults for v in suite.run(TESTED, way, chosen)}


def topic_of(one: case.Case) -> str:
    return one.name.partition(":")[0]


@pytest.mark.parametrize("topic", sorted({topic_of(one) for one in CASES}))
@pytest.mark.parametrize("way", TESTED.ways)
def test_no_case_differs(way: str, topic: str) -> None:
    found = verdicts(way, topic)
    expected = [c.name for c in CASES if topic_of(c) == topic and way in c.ways]
    assert sorted(found) == sorted(expected)
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_every_way_is_tested() -> None:
    assert set(TESTED.ways) == set(case.WAYS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_control_a_fault_is_found_by_the_cases_that_are_named(fault: Fault) -> None:
    named = [BY_NAME[name] for name in fault.found_by]
    ways = [way for way in TESTED.ways if all(way in one.ways for one in named)]
    faulty = Faulty(TESTED, fault)
    for way in ways if len(ways) == 1 else ("live", "replay", "backtest"):
        found = {v.case.name: v.faults for v in suite.run(faulty, way, named)}
        assert sorted(found) == sorted(fault.found_by)
        assert [name for name, faults in found.items() if not faults] == []


@pytest.mark.parametrize("one", decided.load(), ids=lambda one: one.name)
@pytest.mark.parametrize("way", TESTED.runs)
def test_each_strategy_decides_as_it_must(way: str, one: decided.StrategyCase) -> None:
    assert decided.judge(TESTED, way, one) == []


@pytest.mark.parametrize("way", TESTED.runs)
def test_control_other_bars_or_another_order_are_other_decisions(way: str) -> None:
    by_name = {one.name: one for one in decided.load()}
    ordered = by_name["order_of_calls on holes"]
    turned = ordered._replace(symbols=ordered.symbols[::-1])
    assert "handle_bar" in str(decided.judge(TESTED, way, turned))
    whole = by_name["cross_section on holes"]._replace(bars="four_hours")
    assert decided.judge(TESTED, way, whole) != []
    cut = by_name["schedules on days"]
    cut = cut._replace(decides=cut.decides[:-1])
    assert "decisions, not" in str(decided.judge(TESTED, way, cut))


def test_a_moment_that_never_comes_is_a_fault() -> None:
    class Lazy(Faulty):
        def play(self, *_: object) -> None:
            pass

    (verdict,) = suite.run(Lazy(TESTED, FAULTS[0]), "live", CASES[:1])
    assert verdict.faults == ["its moment never came"]


def test_the_given_bars_are_as_an_export_has_them() -> None:
    for name in {one.bars for one in CASES}:
        bars = market.load(name).bars
        assert bars == sorted(bars, key=lambda bar: bar.close_time)
        for bar in bars:
            assert bar.low <= min(bar.open, bar.close)
            assert bar.high >= max(bar.open, bar.close)
            assert bar.open_time < bar.close_time
        keys = [(bar.symbol, bar.timeframe, bar.open_time) for bar in bars]
        assert len(set(keys)) == len(keys)


SOUND = "case: a, row: b, bars: hours, now: '2026-01-01', call: c"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SOUND, "nothing is"),
        (f"{SOUND}, gvies: 1", "unknown keys"),
        (f"{SOUND}, row: b c, raises: X", "no name of a row"),
        (f"{SOUND}, raises: X, ways: [x]", "unknown ways"),
    ],
)
def test_a_malformed_case_names_itself(tmp_path, text: str, words: str) -> None:
    path = tmp_path / "topic.yaml"
    path.write_text(f"cases:\n  - {{{text}}}\n")
    with pytest.raises(ValueError, match=f"topic: a: .*{words}"):
        case.read_file(path)


def test_the_command_prints_a_table_and_tells_faults(capsys, monkeypatch) -> None:
    asked = ["--case", "counts_and_ranges: count", "--way", "live", "--way", "backtest"]
    assert command.main(asked) == 0
    printed = capsys.readouterr().out
    assert "one-security" in printed
    assert " 0 faults" in printed
    monkeypatch.setattr(adapter, "find", lambda _: Faulty(TESTED, FAULTS[0]))
    assert command.main([*asked, "--row", "one-security"]) == 1
    assert "count of one (live): the index: " in capsys.readouterr().out
