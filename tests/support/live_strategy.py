"""A live strategy that decides when it is told to, beside strategies that look less.

Each line of standard input is a JSON list: a verb of `Strategies` and its arguments.
`decide` prints what each strategy acts on: the closes and the close time in ms of the
newest, or null if it does not act. Run: python -m support.live_strategy NAME..
"""

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pandas as pd

import wealthdata
from shmfeed.errors import FeedChangedError, ShmfeedError

COUNT = 3
REACTIONS = ("on_stale", "on_gap", "on_short", "on_unconfirmed")
# Each holds for the attrs of a frame that the careful strategy acts on: as of its read,
# and once it has computed.
CHECKS: dict[str, Callable[[Any], bool]] = {
    "health": lambda about: about.health in {"live", "quiet", "polled"},
    "due": lambda about: about.due == 0,
    "behind": lambda about: about.behind == 0,
    "unconfirmed": lambda about: about.unconfirmed == 0,
}
VALID = "valid"
EVERYTHING = frozenset({*REACTIONS, *CHECKS, VALID, "identity"})
CAREFUL = "careful"
# The strategies, each with what it leaves out; "identity" stands for the market.
LEAVES_OUT: dict[str, frozenset[str]] = {
    CAREFUL: frozenset(),
    "ignores attrs": frozenset({*CHECKS, VALID}),
    "ignores age": frozenset({"on_stale", "health", "due"}),
    "ignores gaps": frozenset({"on_gap"}),
    "ignores short windows": frozenset({"on_short"}),
    "ignores unconfirmed rows": frozenset({"on_unconfirmed", "unconfirmed"}),
    "ignores what is due": frozenset({"due"}),
    "ignores what was left out": frozenset({"behind"}),
    "ignores what was overwritten": frozenset({VALID}),
    "ignores the market": frozenset({"identity"}),
    "ignores everything": EVERYTHING,
}


class Action(NamedTuple):
    """The rows that a strategy acts on."""

    closes: list[float]
    closed_at: int


class Strategies:
    """The strategies of one process: they share its choices and its context."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._feed = ""
        self._frames: dict[str, pd.DataFrame | None] = {}

    def use(self, feed: str) -> None:
        self._feed = feed
        wealthdata.use(feed=feed)

    def set_context(
        self, entries: list[Any], now: int | None = None, kind: str | None = None
    ) -> None:
        more: dict[str, Any] = {}
        if now is not None:
            more["current_dt"] = datetime.fromtimestamp(now / 1000, UTC)
        if kind is not None:
            more["run_params"] = {"type": kind}
        wealthdata.set_context(wealthdata.Context(entries, **more))

    def clear_context(self) -> None:
        wealthdata.clear_context()

    def read(self) -> None:
        """Let each strategy read.

        Those that rebind the feed come last, as the others would read the other market.
        """
        for name in self._names:
            self._frames[name] = self._read(LEAVES_OUT[name])

    def _read(self, left_out: frozenset[str]) -> pd.DataFrame | None:
        """Return the frame to compute on, None if the strategy refuses it."""
        try:
            frame = self._get_price(left_out)
        except ShmfeedError:
            return None
        about = frame.attrs["shmfeed"]
        checks = [holds for check, holds in CHECKS.items() if check not in left_out]
        accepted = not frame.empty and all(holds(about) for holds in checks)
        return frame if accepted else None

    def _get_price(self, left_out: frozenset[str]) -> pd.DataFrame:
        reactions: Any = {
            name: "ignore" if name in left_out else "raise" for name in REACTIONS
        }
        given = {"count": COUNT, "frequency": "1h", **reactions}
        try:
            return wealthdata.get_price("A", **given)
        except FeedChangedError:
            if "identity" not in left_out:
                raise
            wealthdata.use(feed=self._feed)  # whatever is there now
            return wealthdata.get_price("A", **given)

    def decide(self) -> dict[str, Action | None]:
        return {name: self._decide(name) for name in self._names}

    def _decide(self, name: str) -> Action | None:
        frame = self._frames[name]
        if frame is None:
            return None
        closes = frame["close"].tolist()
        if VALID not in LEAVES_OUT[name] and not frame.attrs["shmfeed"].valid:
            return None
        newest = frame.index[-1].tz_localize("UTC")
        return Action(closes, round(newest.timestamp() * 1000))


def main() -> None:
    """Do what standard input says, until it ends."""
    warnings.simplefilter("ignore")
    strategies = Strategies(sys.argv[1:])
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        print(json.dumps(getattr(strategies, verb)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
