"""A manager that is set to Redis adopts a running follower of the same feed alone."""

import pytest
from support import redis_server
from support.feeding import feeder, managing
from support.redis_server import RedisServer
from support.waiting import until

import shmfeed
from shmfeed.errors import FeedBusyError
from shmfeed.simulator import Venue


@pytest.fixture
def address(tmp_path):
    reason = redis_server.missing()
    if reason:
        pytest.skip(reason)
    server = RedisServer(tmp_path)
    yield f"redis://127.0.0.1:{server.port}/0"
    server.stop()


def await_role(feed_name: str, role: str) -> None:
    with shmfeed.attach(feed_name, timeout=30) as feed:
        until(lambda: (feed.status()["relay"] or {}).get("role") == role, 40, role)


def test_a_follower_is_adopted_by_its_source(address, feed_name) -> None:
    lead = f"{feed_name}-b"
    given = {"protocol": "redis", "symbols": [], "resolutions": []}
    with (
        Venue(resolutions=["1m"], symbols=["BTCUSDT"]) as venue,
        feeder(lead, venue, publish_to=address),
    ):
        await_role(lead, "leader")
        with feeder(feed_name, address, source_feed=lead, **given) as follower:
            await_role(feed_name, "follower")
            with managing(feed_name, address, source_feed=lead, **given) as manager:
                manager.start(timeout=30)
                status = manager.get_status()
                assert status["identity"] == "wealthai/binance-testnet/127.0.0.1"
                assert status["relay"]["role"] == "follower"
                assert status["differs"] == []
            assert follower.thread.is_alive()
            with managing(feed_name, address, source_feed="x", **given) as manager:
                with pytest.raises(FeedBusyError, match="are of redis/x/"):
                    manager.start(timeout=30)
            assert follower.thread.is_alive()
