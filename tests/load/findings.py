"""The findings of a load, and the limits that are judged."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from load.abuse import Abuse
from load.size import Size, symbols_of
from load.stage import SEED
from soak.usage import Usage

from shmfeed.bar import duration
from shmfeed.simulator import expected

_CLOSE = 3  # the row of the close in the venue's values
_HEALTHY = {"live", "quiet"}
NOISE_MIB = 1.5  # of a process's memory
_MS_OF_DRIFT = 50.0  # that a busy machine may add to a median


class Probe(NamedTuple):
    """One look of an observer: its name, its seconds, True with a stopped reader."""

    name: str
    seconds: float
    stopped: bool


@dataclass
class Findings:
    """The findings of a load; it is good if `violations` is empty.

    Attributes:
        closes: By close time, ms: the ms after it at which a reader had seen the last
            bar, at which the last strategy was awake, and had read ten symbols.
        each: The ms after the close at which each strategy had read, of all closes.
        stopped: The close times at which a reader was stopped.
        missed: By close time, the number of strategies that did not see it in time.
        healths: The healths of the feed, and how often each was seen.
        taken, sized: Bytes of /dev/shm a stream: those in use, those of the size.
    """

    closes: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    each: list[float] = field(default_factory=list)
    stopped: set[int] = field(default_factory=set)
    probes: list[Probe] = field(default_factory=list)
    missed: dict[int, int] = field(default_factory=dict)
    healths: Counter[str] = field(default_factory=Counter)
    abuses: list[Abuse] = field(default_factory=list)
    taken: float = 0.0
    sized: float = 0.0
    violations: list[str] = field(default_factory=list)


def take_closes(
    found: Findings, size: Size, results: Sequence[Any], span: tuple[float, float]
) -> None:
    """Add the closes in a span that the strategies tell, and what is wrong with them.

    In the span, ms UTC, all strategies were there.
    """
    every, *others = ({row[0]: row for row in one["closes"]} for one in results)
    for number, one in enumerate(results):
        found.violations += [f"strategy {number - 1}: {f}" for f in one["failures"]]
    for close in sorted(every):
        if not span[0] <= close <= span[1]:
            continue
        rows = [one.get(close) for one in others]
        if None in rows:
            found.missed[close] = rows.count(None)
            continue
        awake, read = (max(row[n] for row in rows) - close for n in (1, 2))
        found.closes[close] = every[close][1] - close, awake, read
        found.each += [row[2] - close for row in rows]
        found.violations += _wrong(size, close, rows)


def _wrong(size: Size, close: int, rows: Sequence[Any]) -> Iterator[str]:
    """Yield the strategies whose prices are not the venue's."""
    timeframe = size.timeframes[0]
    opened = np.array([close - duration(timeframe)])
    wanted = {
        name: expected(SEED, name, timeframe, opened)[_CLOSE, 0] for name in size.names
    }
    for number, row in enumerate(rows):
        symbols = symbols_of(size.names, number)
        if row[3] != [wanted[name] for name in symbols]:
            yield f"strategy {number} read {row[3]} at {close}"


def judge(found: Findings, usage: Usage) -> None:
    """Add the limits that the figures exceed to the violations."""
    if not found.closes:
        found.violations.append("no close was seen by all strategies")
    for close, count in found.missed.items():
        found.violations.append(f"{count} strategies missed the close {close}")
    for health in found.healths.keys() - _HEALTHY:
        found.violations.append(f"the feed was {health}")
    if found.taken > found.sized:
        found.violations.append("more of /dev/shm is taken than the file's size")
    found.violations += [*_abuses(found), *usage.excesses(NOISE_MIB), *_drift(found)]


def _abuses(found: Findings) -> Iterator[str]:
    for one in found.abuses:
        if one.cut_seconds is None:
            yield f"control client, {one.name}: not cut off"
        if one.answer_seconds is None:
            yield f"control client, {one.name}: another client got no answer"


def _drift(found: Findings) -> Iterator[str]:
    if (by := drift(found)) > _MS_OF_DRIFT:
        yield f"the last strategy has read {by:.0f} ms later in the last third"


def drift(found: Findings) -> float:
    """Return the ms by which the median of the last third is above the first's."""
    reads = [found.closes[close][2] for close in sorted(found.closes)]
    third = len(reads) // 3
    if not third:
        return 0.0
    return float(np.median(reads[-third:]) - np.median(reads[:third]))
