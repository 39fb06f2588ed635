"""Random calls: each way to run a strategy answers them as live does."""

import random
import warnings
from typing import Any

import pytest
from conformance import adapter, market
from conformance.expected import Seen, look_at, plain_value

TESTED = adapter.find()
OTHERS = [way for way in TESTED.ways if way != "live"]
# A hybrid's bars are rolled up of the feed alone, so that it has fewer of them.
TIMEFRAMES = {
    "hours": ["1h", "60m", "2h", "4h", "1d"],
    "minutes": ["1m", "minute", "5m", "15m", "1h"],
}
OWN = {"hours": {"1h", "60m"}, "minutes": {"1m", "minute"}}
SAID = ("rolled", "short", "gaps", "absent", "forming", "unconfirmed", "revised")
CALLS = 160
SEED = 20260130

Call = tuple[int, str, dict[str, Any]]


def made_calls(bars: str) -> list[Call]:
    """Return random calls, each with the strategy's moment, oldest first."""
    choose = random.Random(f"{SEED} {bars}")
    given = market.load(bars).bars
    moments = sorted({bar.close_time for bar in given})
    symbols = sorted({bar.symbol for bar in given}, reverse=True)
    calls = []
    for _ in range(CALLS):
        now = choose.choice(moments)
        calls.append((now, *made_call(choose, bars, moments, symbols)))
    return sorted(calls, key=lambda call: call[0])


def made_call(
    choose: random.Random, bars: str, moments: list[int], symbols: list[str]
) -> tuple[str, dict[str, Any]]:
    name = choose.choice(["get_price", "get_price", "get_bars", "history"])
    timeframe = choose.choice(TIMEFRAMES[bars])
    several = choose.sample([*symbols, "DOGEUSDT"], choose.randint(1, 3))
    count = choose.choice([1, 2, 5, 30, 0])
    if name == "history":
        field = choose.choice(["close", "volume", "flags"])
        asked = {"count": count, "unit": timeframe, "field": field}
        return name, {**asked, "security_list": several}
    start, end = ("start_dt", "end_dt") if name == "get_bars" else DATES
    asked = {"security": choose.choice([several, *symbols])}
    asked["unit" if name == "get_bars" else "frequency"] = timeframe
    if choose.random() < 0.5:
        asked["count"] = count
    elif choose.random() < 0.8:
        asked[start] = choose.choice(moments) - choose.choice([0, 1])
    if choose.random() < 0.4:
        asked[end] = choose.choice(moments) + choose.choice([0, 30_000])
    if choose.random() < 0.4:
        asked["fields"] = choose.sample(FIELDS, choose.randint(1, 4))
    for flag in ("align", "include_now", "copy"):
        if choose.random() < 0.25:
            asked[flag] = True
    if choose.random() < 0.3:
        asked["label"] = choose.choice(["open", "close", "date"])
    return name, asked


DATES = ("start_date", "end_date")
FIELDS = ["open", "close", "high", "volume", "money", "open_time", "close_time"]


def answers(way: str, bars: str) -> list[Any]:
    """Return the outcome of each call: its result taken apart, or its error's type."""
    calls = made_calls(bars)
    found: list[Any] = [None] * len(calls)

    def probe(moment: int) -> None:
        for number, (now, name, keywords) in enumerate(calls):
            if now == moment:
                found[number] = answer(name, keywords)

    moments = sorted({now for now, _, _ in calls})
    TESTED.play(way, market.load(bars), moments, probe)
    return found


def answer(name: str, keywords: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = TESTED.function(name)(**keywords)
        except (ValueError, KeyError) as error:
            return type(error).__name__
    said = result.attrs["shmfeed"]
    return without_nan(look_at(result)), [said[key] for key in SAID]


def without_nan(seen: Seen) -> Seen:
    return seen._replace(values=[plain_value(column) for column in seen.values])


@pytest.mark.parametrize("bars", sorted(TIMEFRAMES))
def test_each_way_answers_as_live_does(bars: str) -> None:
    calls, live = made_calls(bars), answers("live", bars)
    errors = [one for one in live if isinstance(one, str)]
    assert 5 < len(errors) < CALLS / 2
    for way in OTHERS:
        for call, wanted, found in zip(calls, live, answers(way, bars), strict=True):
            timeframe = call[2].get("unit") or call[2].get("frequency")
            is_rolled = timeframe not in OWN[bars]
            if way == "hybrid" and is_rolled:
                continue
            if way == "ahead" and is_rolled:
                assert without_gaps(found) == without_gaps(wanted), (way, call)
            else:
                assert found == wanted, (way, call)


def without_gaps(found: Any) -> Any:
    """Leave the gaps out: only a feed that is ahead knows of a hole at the end."""
    if isinstance(found, str):
        return found
    seen, said = found
    return seen, [one for name, one in zip(SAID, said, strict=True) if name != "gaps"]
