"""A strategy on a feed whose venue falls mute and hangs up, and whose feeder is killed.

The venue's own clock and market judge each action of the strategy: its rows must be the
venue's, and end at the newest bar that the venue had closed. Beside it acts one that
looks at nothing.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

import wealthdata
from shmfeed.errors import ShmfeedError
from shmfeed.simulator import Venue

pytest_plugins = ["shmfeed.testing"]

SYMBOL, SECOND, COUNT = "BTCUSDT", 1000, 2
# Error of the feeder's estimate of the venue's clock, on a busy machine.
SLACK = 500
STRICT: Any = dict.fromkeys(
    ("on_stale", "on_gap", "on_short", "on_unconfirmed"), "raise"
)
LOOSE: Any = dict.fromkeys(STRICT, "ignore")


def careful() -> pd.DataFrame | None:
    try:
        frame = wealthdata.get_price(SYMBOL, count=COUNT, frequency="1s", **STRICT)
    except ShmfeedError:
        return None
    about = frame.attrs["shmfeed"]
    whole = about.due == about.behind == about.unconfirmed == 0
    return frame if whole and about.health in {"live", "quiet", "polled"} else None


def careless() -> pd.DataFrame | None:
    return wealthdata.get_price(SYMBOL, count=COUNT, frequency="1s", **LOOSE)


class Judge:
    """The judge of one strategy's actions.

    Attributes:
        right: The number of actions on the venue's newest rows.
        wrong: The other actions: the newest row's close, and the venue's time.
    """

    def __init__(
        self, venue: Venue, strategy: Callable[[], pd.DataFrame | None]
    ) -> None:
        self._venue, self._strategy = venue, strategy
        self.right = 0
        self.wrong: list[tuple[int, int]] = []

    def step(self) -> None:
        """Let the strategy read, and judge its action."""
        before = self._venue.now()
        frame = self._strategy()
        if frame is None:
            return
        opens = (frame.index.as_unit("ms").asi8 - SECOND).tolist()
        bars = self._venue.truth(SYMBOL, "1s", opens[0], opens[-1])
        is_whole = [bar.open_time for bar in bars] == opens
        is_newest = opens[-1] + SECOND >= (before - SLACK) // SECOND * SECOND
        closes = [bar.close for bar in bars]
        if is_whole and is_newest and closes == frame["close"].tolist():
            self.right += 1
        else:
            self.wrong.append((opens[-1] + SECOND, before))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_action_on_other_rows_than_the_venues_newest(
    shmfeed_feed: Callable[..., Any],
) -> None:
    feed = shmfeed_feed(SYMBOL, "1s", history=50)
    judge, control = Judge(feed.venue, careful), Judge(feed.venue, careless)

    def until(reached: Callable[[], bool]) -> None:
        deadline = feed.venue.now() + 30 * SECOND
        while not reached():
            assert feed.venue.now() < deadline
            wealthdata.wait_bar(SYMBOL, "1s", timeout=0.1)
            judge.step()
            control.step()

    def acts_again() -> None:
        right = judge.right
        until(lambda: judge.right > right)

    def misleads_the_control() -> None:
        wrong = len(control.wrong)
        until(lambda: len(control.wrong) > wrong)

    acts_again()
    feed.venue.mute()
    misleads_the_control()
    feed.venue.mute(on=False)
    acts_again()
    feed.venue.drop_connections()
    acts_again()
    killed = feed.status()["pid"]
    feed.kill()
    until(lambda: feed.status()["pid"] not in {killed, None})
    acts_again()
    assert judge.wrong == []
