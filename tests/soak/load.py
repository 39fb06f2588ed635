"""The load of a soak, and its incidents: the kind and moment of each."""

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

KILL, CUT, FAULT = "kill", "cut", "fault"
# Faults of the venue's bars last for the whole soak, so that its truth stays the same.
BAR_FAULTS = "hole:0.002,rest-corrects:2s:0.01"
# Faults of REST that come one after the other, each for a while. `rest-prices` is left
# out: a hole of one bar gives no row to compare, so such a lie can be believed.
REST_FAULTS = (
    "rest-status:429:2s",
    "rest-status:503:0.5",
    "rest-away",
    "rest-slow:500ms",
    "rest-truncated:0.5",
    "rest-html:0.5",
    "rest-unordered:0.5",
    "rest-doubled:0.5",
    "rest-overlap:0.5",
    "rest-rubbish:0.5",
    "rest-empty:0.3",
    "rest-behind:5s",
    "rest-cut:0.5",
    "rest-forming",
    "rest-grid:0.3",
    "rest-redirect:0.5",
    "rest-hang:0.1",
)


class Load(NamedTuple):
    """The size of a soak.

    Attributes:
        seconds: Its length.
        symbols: Symbols, each with bars of one second.
        messages: Messages of the venue a second.
        readers: Processes that read and keep frames.
        reads: Reads of each of them a second.
        kill_every: Seconds between two kills of the feeder; 0: none.
        cut_every: Seconds between two cuts of its connections; 0: none.
        fault_every: Seconds between two faults of REST, of which each lasts half; 0:
            none.
        history: Rows of a stream.
        bar_faults: Faults of the venue's bars, in force all the time.
    """

    seconds: float = 600.0
    symbols: int = 50
    messages: int = 2000
    readers: int = 6
    reads: int = 50
    kill_every: float = 20.0
    cut_every: float = 15.0
    fault_every: float = 10.0
    history: int = 300
    bar_faults: str = BAR_FAULTS

    @property
    def names(self) -> list[str]:
        """The symbols."""
        return [f"S{number:02}USDT" for number in range(self.symbols)]


class Incident(NamedTuple):
    """One incident: `begin` in seconds since the soak began."""

    begin: float
    kind: str
    faults: str = ""


def incidents(load: Load, seed: int) -> list[Incident]:
    """Return the incidents of a soak in order; the end of each fault is one too."""
    rng = random.Random(seed)
    found: list[Incident] = []
    for kind, every in ((KILL, load.kill_every), (CUT, load.cut_every)):
        for moment in _moments(every, load.seconds):
            begin = moment + rng.uniform(-0.2, 0.2) * every
            found.append(Incident(begin, kind))
    faults = itertools.cycle(rng.sample(REST_FAULTS, len(REST_FAULTS)))
    for moment in _moments(load.fault_every, load.seconds):
        found.append(Incident(moment, FAULT, next(faults)))
        found.append(Incident(moment + load.fault_every / 2, FAULT))
    return sorted(found)


def _moments(every: float, seconds: float) -> Iterator[float]:
    number = 1
    while every and number * every < seconds:
        yield number * every
        number += 1
