"""The running feeder that settings may adopt, or take over from."""

from typing import Any

import pytest

from shmfeed.errors import BadArgumentError, FeedBusyError
from shmfeed.identity import FeedIdentity, make_identity
from shmfeed.segment.identity import check_running, check_stored
from shmfeed.segment.mapping import place
from shmfeed.writer import create

SPOT = make_identity("binance", "spot", ["a.b"])
USDM = make_identity("binance", "usdm", ["a.b"])
OF_SPOT = make_identity("redis", "spot", [])  # a follower of the feed `spot`


def answer(identity: FeedIdentity | None, source: str | None = None) -> dict[str, Any]:
    return {"pid": 77, "identity": str(identity), "source_feed": source}


def store_bar(feed_name: str, identity: FeedIdentity) -> None:
    with create(feed_name, 16, streams=[("A", "1m")], identity=identity) as writer:
        writer.add_stream("A", "1m").append(0, 1, 2, 1, 2, 5)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (answer(SPOT), SPOT),
        (answer(SPOT, "spot"), SPOT),  # a follower's rows are the leader's
        (answer(SPOT, "spot"), OF_SPOT),
        (answer(USDM, "spot"), OF_SPOT),  # whatever the leader's market is
        (answer(None), SPOT),  # of an earlier version, without stored bars
        ({"pid": 77}, SPOT),
    ],
)
def test_one_of_the_same_source_is_accepted(feed_name, told, wanted) -> None:
    check_running(place(feed_name), told, wanted)


@pytest.mark.parametrize(
    ("told", "wanted", "words"),
    [
        (
            answer(SPOT),
            USDM,
            "with binance/spot/a.b, and these settings are of binance",
        ),
        (
            answer(SPOT),
            OF_SPOT,
            "binance/spot/a.b, and these settings are of redis/spot/",
        ),
        (answer(SPOT, "other"), OF_SPOT, "these settings are of redis/spot/"),
        (answer(SPOT, "spot"), USDM, "these settings are of binance/usdm/a.b"),
        ({"pid": 77}, OF_SPOT, "rows of no known identity"),
    ],
)
def test_another_one_is_refused(feed_name, told, wanted, words) -> None:
    with pytest.raises(FeedBusyError, match="process 77") as caught:
        check_running(place(feed_name), told, wanted)
    assert words in str(caught.value)
    assert caught.value.pid == 77


def test_one_of_an_earlier_version_is_known_by_its_bars(feed_name) -> None:
    store_bar(feed_name, SPOT)
    where = place(feed_name)
    check_running(where, {"pid": 77}, SPOT)
    with pytest.raises(FeedBusyError, match="binance/spot"):
        check_running(where, {"pid": 77}, USDM)


def test_stored_bars_are_no_follower_s_to_refuse_before_it_runs(feed_name) -> None:
    where = place(feed_name)
    check_stored(where, USDM, replace=False)  # without bars
    store_bar(feed_name, SPOT)
    check_stored(where, SPOT, replace=False)
    check_stored(where, OF_SPOT, replace=False)
    with pytest.raises(BadArgumentError, match=r"holds bars of binance/spot/a\.b"):
        check_stored(where, USDM, replace=False)
    check_stored(where, USDM, replace=True)
