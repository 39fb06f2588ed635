"""A feeder takes only a feed of its own identity."""

import pytest
from support.feeding import STREAM, feeder, settings, tell

import shmfeed
from shmfeed.codecs.identity import identity_of
from shmfeed.errors import BadArgumentError, FeedBusyError
from shmfeed.feeder.feeder import Feeder
from shmfeed.simulator import Venue
from shmfeed.writer import create

OTHERS = {
    "market": {"market_type": "binance"},
    "venue": {"venue": "elsewhere"},
    "protocol": {"protocol": "binance", "market_type": "spot"},
}
HERE = "wealthai/binance-testnet/127.0.0.1"


@pytest.fixture
def venue():
    with Venue(speed=None, symbols=["BTCUSDT"]) as venue:
        yield venue


def leave_bar(feed_name, venue):
    identity = identity_of(settings(feed_name, venue))
    with create(feed_name, 100, streams=[STREAM], identity=identity) as writer:
        writer.add_stream(*STREAM).append(0, 1, 2, 1, 2, 5)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_feeder_of_another_identity_is_refused_while_one_runs(
    feed_name, venue, other
):
    with feeder(feed_name, venue), pytest.raises(FeedBusyError) as caught:
        Feeder(settings(feed_name, venue, **other), replace=True)
    assert f"with {HERE}, and these settings are of" in str(caught.value)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_bars_of_another_identity_are_refused_or_replaced(
    feed_name, venue, other, caplog
):
    leave_bar(feed_name, venue)
    elsewhere = settings(feed_name, venue, **other)
    with pytest.raises(BadArgumentError) as caught:
        Feeder(elsewhere)
    assert f"holds bars of {HERE}, and these settings are of" in str(caught.value)
    with shmfeed.attach(feed_name) as feed:
        assert len(feed.ring(*STREAM).view(5)) == 1
        assert feed.status()["identity"] == HERE
        one = Feeder(elsewhere, replace=True)
        try:
            assert feed.status()["identity"] == str(identity_of(elsewhere))
            assert len(feed.ring(*STREAM).view(5)) == 0
            said = f"the bars of {HERE} are dropped, as replace says"
            assert caplog.messages.count(said) == 1
        finally:
            one.stop(unlink=True)
            one.run()


def test_one_host_in_common_is_enough(feed_name, venue):
    leave_bar(feed_name, venue)
    endpoint = ["ws://127.0.0.2:9", venue.url]
    with feeder(feed_name, venue, endpoint=endpoint):
        with shmfeed.attach(feed_name) as feed:
            assert len(feed.ring(*STREAM).view(5)) == 1
            assert feed.status()["venue"] == "127.0.0.2,127.0.0.1"


def test_a_feeder_answers_with_its_identity(feed_name, venue):
    with feeder(feed_name, venue, venue="Mine"):
        venue.wait_subscribed()
        answer = tell(feed_name, "status")
        assert answer["identity"] == "wealthai/binance-testnet/mine"
