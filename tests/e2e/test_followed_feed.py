"""follow on a real feeder: a hole that REST fills later, a correction of the venue."""

import threading
import time

import pytest
from support.waiting import until

from shmfeed.manager import WebSocketManager
from shmfeed.simulator import Venue
from wealthdata import Closed, Gap, Revised, follow

pytest_plugins = ["support.strategy_process"]
SYMBOL, TIMEFRAME = "BTCUSDT", "1s"


@pytest.fixture
def manager(strategy):
    manager = WebSocketManager(strategy)
    yield manager
    manager.stop()


class Strategy:
    """A thread that follows a feed, and keeps what it is told, in order."""

    def __init__(self, feed):
        self._loop = follow(SYMBOL, TIMEFRAME, feed=feed)
        self.told = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        for event in self._loop:
            self.told.append(event)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._loop.close()
        self._thread.join()

    def of(self, kind):
        return [event for event in self.told if isinstance(event, kind)]

    def holes(self, filled):
        gaps = [event for event in self.of(Gap) if event.filled is filled]
        return {(event.start, event.end) for event in gaps}


def test_a_hole_is_told_twice_and_a_correction_once(manager, feed_name):
    with Venue(protocol="binance") as venue:
        manager.configure(
            symbols=[SYMBOL], resolutions=[TIMEFRAME], protocol="binance",
            market_type="spot", endpoint=venue.url, rest_endpoint=venue.rest_url,
            history=200, warmup=10, reconnect_delay_base=0.1, reconnect_delay_max=0.3,
            dials_per_minute=0, repair_grace=1,
        )  # fmt: skip
        manager.start(timeout=20)
        with Strategy(feed_name) as strategy:
            until(lambda: len(strategy.of(Closed)) >= 2)
            venue.set_faults("rest-status:503")
            venue.refuse(503)
            venue.drop_connections()
            time.sleep(3)  # bars close meanwhile
            venue.refuse(False)
            until(lambda: strategy.holes(filled=False), timeout=60, what="a hole")
            venue.set_faults("")
            until(
                lambda: strategy.holes(filled=False) == strategy.holes(filled=True),
                timeout=60,
                what="each hole is filled",
            )
            bar = strategy.of(Closed)[-1].bar
            close = bar.close + 1000.0

            def corrections():
                venue.push_bar(
                    SYMBOL, TIMEFRAME, bar.open_time, bar.open, close, bar.low, close,
                    closed=True, event_time=bar.close_time + 1,
                )  # fmt: skip
                return [e for e in strategy.of(Revised) if e.new.close == close]

            until(corrections, timeout=60, what="the correction")
        assert corrections()[0].old.open_time == bar.open_time
        opens = [event.bar.open_time for event in strategy.of(Closed)]
        assert opens == sorted(set(opens))
        for first, last in strategy.holes(filled=True):
            assert not [at for at in opens if first <= at <= last]
