"""The load of a soak, and its incidents: the kind and moment of each."""

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

KILL, CUT, FAULT, MUTE = "kill", "cut", "fault", "mute"
# Seconds before and after a kill that is left alone: a fault has its aftermath.
_BEFORE, _AFTER = 4.0, 5.0
# Faults of the venue's bars last for the whole soak, so that its truth stays the same.
BAR_FAULTS = "hole:0.002,rest-corrects:2s:0.01"
# Faults of REST that come one after the other, each for a while.
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
    "rest-prices:1.01",
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
        mute_every: Seconds between two silences of the sockets, of which each lasts a
            fifth; 0: none.
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
    mute_every: float = 40.0
    history: int = 300
    bar_faults: str = BAR_FAULTS

    @property
    def names(self) -> list[str]:
        """The symbols."""
        return [f"S{number:02}USDT" for number in range(self.symbols)]


class Incident(NamedTuple):
    """One incident.

    Attributes:
        begin: Seconds since the soak began.
        kind: Its kind.
        faults: The faults of REST from then on, "" ends them.
        on: False if a silence of the sockets ends.
    """

    begin: float
    kind: str
    faults: str = ""
    on: bool = True


def incidents(load: Load, seed: int) -> list[Incident]:
    """Return the incidents of a soak in order, ends of faults and silences too.

    Every other kill is left alone by all else: its recovery is the feed's own.
    """
    rng = random.Random(seed)
    kills = [_about(kill, load.kill_every, rng) for kill in _moments(load, "kill")]
    cuts = [_about(cut, load.cut_every, rng) for cut in _moments(load, "cut")]
    alone = [(kill - _BEFORE, kill + _AFTER) for kill in kills[::2]]
    found = [Incident(kill, KILL) for kill in kills]
    found += [Incident(_past(alone, cut, cut), CUT) for cut in cuts]
    faults = itertools.cycle(rng.sample(REST_FAULTS, len(REST_FAULTS)))
    for begin in _moments(load, "fault"):
        end = begin + load.fault_every / 2
        if _past(alone, begin, end) == begin:
            found.append(Incident(begin, FAULT, next(faults)))
            found.append(Incident(end, FAULT))
    length = load.mute_every / 5
    for moment in _moments(load, "mute"):
        begin = _past(alone, moment, moment + length)
        found.append(Incident(begin, MUTE))
        found.append(Incident(begin + length, MUTE, on=False))
    return sorted(found)


def _moments(load: Load, kind: str) -> Iterator[float]:
    every, number = getattr(load, f"{kind}_every"), 1
    while every and number * every < load.seconds:
        yield number * every
        number += 1


def _about(moment: float, every: float, rng: random.Random) -> float:
    return moment + rng.uniform(-0.2, 0.2) * every


def _past(spans: list[tuple[float, float]], begin: float, end: float) -> float:
    """Return `begin`, or the end of the span that begin to end overlaps."""
    over = (span for span in spans if begin < span[1] and end > span[0])
    return next((after for _, after in over), begin)
