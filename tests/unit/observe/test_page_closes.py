"""The last closes that a page shows, of feeds that change, vanish and come back."""

from collections.abc import Iterator

import pytest
from support.command_line import append

from shmfeed.observe.page.closes import LastCloses
from shmfeed.observe.sample import Sampler
from shmfeed.writer import create


class Reader:
    """Sampler and closes together, as the hub has them."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self.sampler = Sampler([feed])
        self.closes = LastCloses()

    def read(self) -> dict[str, float] | None:
        """Return the closes by symbol, None without a feed."""
        found = self.closes.read(self.sampler.sample()).get(self._feed)
        return None if found is None else {key[0]: found[key] for key in found}


@pytest.fixture
def reader(feed_name: str) -> Iterator[Reader]:
    one = Reader(feed_name)
    yield one
    one.sampler.close()
    one.closes.close()


def test_closes_follow_the_bars(feed_name: str, reader: Reader) -> None:
    with create(feed_name, history=20, guard=16, max_streams=4) as writer:
        ring = writer.add_stream("BTCUSDT", "1m")
        writer.add_stream("ETHUSDT", "1m")
        assert reader.read() == {}
        append(ring, 0, 1)
        assert reader.read() == {"BTCUSDT": 2.125}
        append(ring, *range(2, 60))  # more than the ring holds
        assert reader.read() == {"BTCUSDT": 60.125}
        writer.unsubscribe("BTCUSDT", "1m")
        assert reader.read() == {}
        writer.close(unlink=True)


def test_a_feed_that_vanishes_and_comes_back(feed_name: str, reader: Reader) -> None:
    """The census sees a mapping that is kept of the segment that has gone."""
    assert reader.read() is None
    with create(feed_name, history=20, guard=16, max_streams=4) as writer:
        append(writer.add_stream("BTCUSDT", "1m"), 0)
        assert reader.read() == {"BTCUSDT": 1.125}
        writer.close(unlink=True)
    assert reader.read() is None
    with create(feed_name, history=30, guard=16, max_streams=4) as writer:
        append(writer.add_stream("ETHUSDT", "1m"), 4)
        assert reader.read() == {"ETHUSDT": 5.125}
        writer.close(unlink=True)


def test_a_feed_that_is_replaced_at_once(feed_name: str, reader: Reader) -> None:
    with create(feed_name, history=20, guard=16, max_streams=4) as writer:
        append(writer.add_stream("BTCUSDT", "1m"), 0)
        assert reader.read() == {"BTCUSDT": 1.125}
    with create(feed_name, history=30, guard=16, max_streams=4) as writer:
        append(writer.add_stream("ETHUSDT", "1m"), 4)
        assert reader.read() == {"BTCUSDT": 1.125, "ETHUSDT": 5.125}  # carried over
        writer.close(unlink=True)
