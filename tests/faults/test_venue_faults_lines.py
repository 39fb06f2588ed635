"""Two lines: either may die, lag or lie, and readers notice nothing."""

import time
from contextlib import contextmanager

import pytest
from support.feeding import STREAM, T0, feeder
from support.waiting import until

import shmfeed
from shmfeed.simulator import Venue, verify

SEED = 5
MINUTE = 60_000
SECOND = ("BTCUSDT", "1s")


@contextmanager
def two_venues(feed_name, **options):
    """Yield two venues that send the same bars, and a feed with a line to each."""
    given = {"seed": SEED, "update_interval": 0.05, **options}
    with Venue(**given) as first, Venue(**given) as second:
        urls = [first.url, second.url]
        with feeder(feed_name, urls, lines=2, resolutions=["1s", "1m"]):
            with shmfeed.attach(feed_name) as feed:
                first.wait_subscribed()
                second.wait_subscribed()
                yield first, second, feed


@pytest.mark.parametrize("dying", [0, 1])
def test_either_line_may_die_without_a_bar_late_or_lost(feed_name, dying):
    with two_venues(feed_name) as (*venues, feed):
        ring = feed.ring(*SECOND)
        assert ring.wait(1, timeout=10)
        venues[dying].refuse()
        venues[dying].drop_connections()
        lateness, states = [], set()
        for _ in range(3):
            assert ring.wait(ring.count, timeout=5)
            lateness.append(time.time() - ring.view(1).close_time[-1] / 1000)
            states.add(feed.status()["state"])
        assert states == {"connected"}
        assert max(lateness) < 0.9  # before the next bar
        rows = ring.snapshot(50)
        assert verify(SEED, *SECOND, rows) == 0
        assert set((rows.open_time[1:] - rows.open_time[:-1]).tolist()) == {1000}
        assert feed.status()["gaps"] == feed.status()["disagreements"] == 0


@pytest.mark.parametrize("faults", ["", "lag:300ms:odd", "lag:300ms:even"])
def test_a_line_that_lags_changes_nothing(feed_name, faults):
    options = {"speed": None, "seed": SEED, "faults": faults}
    with Venue(**options) as venue, feeder(feed_name, venue, lines=2):
        with shmfeed.attach(feed_name) as feed:
            venue.wait_subscribed(2)
            ring = feed.ring(*STREAM)
            for number in range(5):
                for step in (3, 8):
                    assert venue.push_market(*STREAM, T0 + number * MINUTE, step) == 2
            until(lambda: feed.status()["messages"] >= 20)
            rows = ring.snapshot(5)
            assert (len(rows), verify(SEED, *STREAM, rows)) == (5, 0)
            status = feed.status()
            assert status["disagreements"] == status["gaps"] == status["revisions"] == 0


@pytest.mark.parametrize("line", ["odd", "even"])
def test_lines_that_disagree_are_counted_and_the_first_stands(feed_name, line):
    options = {"speed": None, "seed": SEED, "faults": f"disagree:{line}"}
    with Venue(**options) as venue, feeder(feed_name, venue, lines=2):
        with shmfeed.attach(feed_name) as feed:
            venue.wait_subscribed(2)
            ring = feed.ring(*STREAM)
            for number in range(5):
                assert venue.push_market(*STREAM, T0 + number * MINUTE) == 2
            until(lambda: feed.status()["disagreements"] == 5)
            assert ring.count == 5
            assert feed.status()["revisions"] == 0
