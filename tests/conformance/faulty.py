"""Implementations with one fault each, and the cases that must find it.

Each wraps a sound implementation. The suite is known to see a fault if the named cases
fail with it and pass without.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from conformance.adapter import Adapter
from conformance.market import Market

HOUR = 3_600_000

Wrapper = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class Fault(NamedTuple):
    """A fault: how a call goes wrong, and the cases that must find it."""

    name: str
    wrap: Wrapper
    found_by: list[str]
    ahead: int = 0  # ms by which the strategy's moment is too late


class Faulty:
    """A sound adapter with one fault."""

    def __init__(self, sound: Adapter, fault: Fault) -> None:
        self.ways: Sequence[str] = sound.ways
        self._sound = sound
        self._fault = fault

    def function(self, name: str) -> Callable[..., Any]:
        sound = self._sound.function(name)
        return lambda *args, **keywords: self._fault.wrap(sound, args, keywords)

    def choices(self, given: Mapping[str, object]) -> AbstractContextManager[object]:
        return self._sound.choices(given)

    def play(
        self,
        way: str,
        market: Market,
        moments: Sequence[int],
        probe: Callable[[int], None],
    ) -> None:
        ahead = self._fault.ahead
        late = [moment + ahead for moment in moments]
        self._sound.play(way, market, late, lambda moment: probe(moment - ahead))


FAULTS: list[Fault] = []


def fault(name: str, *found_by: str, ahead: int = 0) -> Callable[[Wrapper], Wrapper]:
    """Register a fault, and the cases that must find it."""

    def add(wrap: Wrapper) -> Wrapper:
        FAULTS.append(Fault(name, wrap, list(found_by), ahead))
        return wrap

    return add


@fault(
    "An index holds open times",
    "labels: hours have their close by default",
    "counts_and_ranges: count gives the newest bars",
)
def _(call, args, keywords):
    frame = call(*args, **keywords)
    frame.index -= pd.Timedelta(hours=1)
    return frame


@fault(
    "The bar under way counts as closed",
    "forming: it is no row by default",
    "forming: get_bars has it not, by default",
)
def _(call, args, keywords):
    return call(*args, **{**keywords, "include_now": True})


@fault(
    "A read sees one bar of the future",
    "counts_and_ranges: the strategy's time bounds a count",
    "counts_and_ranges: the strategy's time bounds a list",
    "get_bars: the strategy's time bounds it",
    "other_calls: at the strategy's time",
    ahead=HOUR,
)
def _(call, args, keywords):
    return call(*args, **keywords)


@fault(
    "A list is sorted by name",
    "lists: a long frame in the order asked",
    "lists: a tuple is a list",
)
def _(call, args, keywords):
    listed = sorted(keywords.pop("security"))
    return call(*args, **keywords, security=listed)


@fault("Duplicates of a list come twice", "lists: duplicates come once")
def _(call, args, keywords):
    listed = keywords.pop("security")
    parts = [call(*args, **keywords, security=[symbol]) for symbol in listed]
    return pd.concat(parts, ignore_index=True)


@fault(
    "A date without a time is its midnight for days too",
    "dates: a date without a time includes the end day, text",
    "dates: a date without a time is the whole day of days, text",
)
def _(call, args, keywords):
    end = keywords.pop("end_date")
    return call(*args, **keywords, end_date=f"{end} 00:00")


@fault(
    "A naive time is Beijing's",
    "dates: naive times are UTC, not Beijing's",
    "dates: text with a time, as start and end",
)
def _(call, args, keywords):
    dates = {name: keywords[name] for name in keywords if name.endswith("_date")}
    moved = {name: f"{text}+08:00" for name, text in dates.items()}
    return call(*args, **{**keywords, **moved})


@fault("Prices are rounded", "ignored: round=true changes nothing")
def _(call, args, keywords):
    return call(*args, **keywords).round(2)


@fault(
    "Too few bars are padded",
    "counts_and_ranges: fewer bars than asked for are never padded",
    "lists: each has the last bars that it has",
)
def _(call, args, keywords):
    frame = call(*args, **keywords)
    attrs, lacking = frame.attrs, keywords["count"] - len(frame)
    index = frame.index[:1].repeat(max(0, lacking)).append(frame.index)
    padded = pd.DataFrame(
        np.resize(frame.to_numpy(), (len(index), frame.shape[1])),
        index=index,
        columns=frame.columns,
    )
    padded.attrs.update(attrs)
    return padded


@fault("Money that is not known is 0", "fields: money is not invented")
def _(call, args, keywords):
    return call(*args, **keywords).fillna(0.0)


@fault(
    "A range turned round is an empty frame",
    "counts_and_ranges: start after end is an error",
)
def _(call, args, keywords):
    try:
        return call(*args, **keywords)
    except ValueError:
        keywords.pop("end_date")
        return call(*args, **{**keywords, "start_date": "2199-01-01"})


@fault("A count of 0 counts as not given", "counts_and_ranges: count 0 is an error")
def _(call, args, keywords):
    return call(*args, **{**keywords, "count": keywords.get("count") or None})


@fault(
    "JoinQuant's columns come by default",
    "fields: without fields open high low close volume come",
)
def _(call, args, keywords):
    fields = ["open", "close", "high", "low", "volume", "money"]
    return call(*args, **{"fields": fields, **keywords})


@fault("Volumes are integers", "fields: without fields open high low close volume come")
def _(call, args, keywords):
    return call(*args, **keywords).astype({"volume": "int64"})


@fault(
    "An aligned read is not aligned",
    "lists: aligned rows are those that all have",
    "lists: wide and aligned",
)
def _(call, args, keywords):
    return call(*args, **{**keywords, "align": False})


@fault(
    "A choice of the process is not obeyed",
    "labels: the whole process can choose JoinQuant's label",
)
def _(call, args, keywords):
    return call(*args, **{"label": "close", **keywords})
