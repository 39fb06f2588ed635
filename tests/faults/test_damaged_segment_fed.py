"""A segment damaged under its feeder is reported, and the next feeder recreates it."""

import os
import signal
import struct

import pytest
from support.feeding import STREAM, managing, push
from support.waiting import until

import shmfeed
from shmfeed.errors import SegmentFormatError
from shmfeed.layout import E_WORD, WORD
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue

OTHER = ("ETHUSDT", "1m")


@pytest.fixture
def venue():
    with Venue(speed=None, symbols=["BTCUSDT", "ETHUSDT"]) as venue:
        yield venue


def overwrite(name, geometry, index):
    """Store garbage into the entry of stream `index`."""
    with place(name).segment.open("r+b") as file:
        file.seek((geometry.entry_word(index) + E_WORD) * WORD)
        file.write(struct.pack("=q", 77))


def test_damage_is_reported_and_the_next_feeder_recreates_it(feed_name, venue):
    with managing(feed_name, venue, symbols=["BTCUSDT", "ETHUSDT"]) as manager:
        manager.start(timeout=20)
        for number in range(3):
            push(venue, number)
            push(venue, number, stream=OTHER)
        with shmfeed.attach(feed_name) as feed:
            intact, broken = feed.ring(*OTHER), feed.ring(*STREAM)
            until(lambda: intact.count == broken.count == 3, what="three bars of each")
            number = feed.streams().index(STREAM)
            overwrite(feed_name, feed.current().geometry, number)
            with pytest.raises(SegmentFormatError, match="catalog word 0x4d"):
                broken.view(1)
            assert len(intact.view(3)) == 3  # a bound reader works on
            status = manager.get_status()
            assert status["health"] == "stale"
            assert "catalog word 0x4d" in status["last_error"]
            os.kill(feed.connection()["pid"], signal.SIGKILL)
            until(lambda: connected(manager), timeout=20, what="mended")
            assert intact.count == 3
            assert broken.count == 0
            push(venue, 3)
            push(venue, 3, stream=OTHER)
            until(
                lambda: (intact.count, broken.count) == (4, 1), what="one more of each"
            )
            until(lambda: manager.get_status()["health"] == "live", what="live")


def connected(manager):
    status = manager.get_status()
    return status["health"] not in ("stale", "dead") and status["state"] == "connected"
