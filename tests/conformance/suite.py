"""Run golden cases against an implementation."""

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

from conformance import market
from conformance.adapter import Adapter
from conformance.case import Case
from conformance.expected import Demand, differences, look_at, plain_value
from conformance.market import Market
from conformance.values import to_python

# In these ways the time of the given bars is the only one: nothing is ever stale.
NEVER_STALE = ("replay", "backtest")
# The warnings that a read gives of its rows; of others a case says nothing.
WARNINGS = ("GapWarning", "ShortWarning", "UnconfirmedWarning", "BehindWarning")


class Verdict(NamedTuple):
    """One case in one way: what was otherwise than demanded, in words."""

    case: Case
    way: str
    faults: list[str]


def run(adapter: Adapter, way: str, cases: Iterable[Case]) -> list[Verdict]:
    """Run the cases that hold in this way. Return a verdict for each."""
    verdicts: list[Verdict] = []
    by_bars: dict[str, list[Case]] = {}
    for case in cases:
        if way in case.ways:
            by_bars.setdefault(case.bars, []).append(case)
    for name, group in by_bars.items():
        verdicts += _run_market(adapter, way, market.load(name), group)
    return verdicts


def _run_market(
    adapter: Adapter, way: str, given: Market, cases: list[Case]
) -> list[Verdict]:
    verdicts: list[Verdict] = []
    left = list(cases)

    def probe(moment: int) -> None:
        for case in [case for case in left if case.now == moment]:
            left.remove(case)
            verdicts.append(Verdict(case, way, judge(adapter, way, given, case)))

    adapter.play(way, given, sorted({case.now for case in cases}), probe)
    verdicts += [Verdict(case, way, ["its moment never came"]) for case in left]
    return verdicts


def judge(adapter: Adapter, way: str, given: Market, case: Case) -> list[str]:
    """Make the call of a case. Return what is otherwise than demanded, in words."""
    expected = case.expected(way)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = _call(adapter, case, case.args, case.keywords)
        except Exception as error:  # noqa: BLE001 # its type is a part of the outcome
            return _judge_error(error, expected)
    if "raises" in expected:
        return [f"nothing was raised, not {expected['raises']}"]
    faults = _judge_warnings(
        {type(one.message).__name__ for one in caught}, way, expected
    )
    if "same_as" in expected:
        faults += _judge_same(adapter, case, result, expected["same_as"])
    if "gives" in expected:
        faults += _judge_result(case, given, result, expected["gives"])
    return faults + _judge_attrs(result, expected.get("attrs", {}))


def _judge_warnings(names: set[str], way: str, expected: dict[str, Any]) -> list[str]:
    faults = []
    if way in NEVER_STALE and "StaleFeedWarning" in names:
        faults.append("it warned of stale bars")
    found = names & {*WARNINGS}
    if "warns" in expected and found != {*expected["warns"]}:
        faults.append(f"the warnings: {sorted(found)}, not {expected['warns']}")
    return faults


def _call(
    adapter: Adapter, case: Case, args: list[Any], keywords: dict[str, Any]
) -> Any:
    with adapter.choices(case.choices):
        result = adapter.function(case.call)(*to_python(args), **to_python(keywords))
        for step in case.then:
            if "item" in step:
                result = result[step["item"]]
            elif "attribute" in step:
                result = getattr(result, step["attribute"])
            elif "method" in step:
                name, *given = step["method"]
                result = getattr(result, name)(*to_python(given))
            elif step == "list":
                result = list(result)
        return result


def _judge_error(error: Exception, expected: dict[str, Any]) -> list[str]:
    kind, words = type(error).__name__, " ".join(map(str, error.args))
    if "raises" not in expected:
        return [f"raised {kind}: {words}"]
    kinds = [one.__name__ for one in type(error).__mro__]
    if expected["raises"] not in kinds:
        return [f"raised {kind}, not {expected['raises']}: {words}"]
    said = expected.get("says", [])
    missing = [word for word in said if word not in words]
    return [f"the error does not say {missing}: {words}"] if missing else []


def _judge_same(
    adapter: Adapter, case: Case, result: Any, other: dict[str, Any]
) -> list[str]:
    """Compare with the result of the same function, called with other arguments."""
    same = _call(adapter, case, other.get("args", []), other.get("with", {}))
    return differences(look_at(result), look_at(same), exact=True)


def _judge_result(
    case: Case, given: Market, result: Any, gives: dict[str, Any]
) -> list[str]:
    if "value" in gives:
        found, wanted = plain_value(result), gives["value"]
        return [] if found == wanted else [f"{found!r}, not {wanted!r}"]
    if "columns_of" in gives:
        return _judge_table(result, gives)
    demand = Demand(case, given, gives)
    exact = not gives.get("summed", False)
    return differences(look_at(result), demand.seen(), exact)


def _judge_table(result: Any, gives: dict[str, Any]) -> list[str]:
    """Compare a small frame with the index and the columns that stand in the case."""
    found = {name: plain_value(list(result[name])) for name in result.columns}
    wanted = gives["columns_of"]
    index = [str(label) for label in result.index]
    if [*found] != [*wanted] or index != gives["index"]:
        return [f"{[*found]} of {index}, not {[*wanted]} of {gives['index']}"]
    return [
        f"{name}: {found[name]}, not {wanted[name]}"
        for name in wanted
        if found[name] != wanted[name]
    ]


def _judge_attrs(result: Any, wanted: dict[str, Any]) -> list[str]:
    if not wanted:
        return []
    said = result.attrs["shmfeed"]
    return [
        f"attrs {name}: {said[name]!r}, not {value!r}"
        for name, value in wanted.items()
        if said[name] != value
    ]
