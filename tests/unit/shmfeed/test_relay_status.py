"""The relay in a feed's status, whatever the feeder has published."""

import json
from typing import Any

import pytest

import shmfeed
from shmfeed.cli.status import format_status
from shmfeed.cli.top import format_top
from shmfeed.observe.page.model import PageModel
from shmfeed.observe.page.render import render_page
from shmfeed.observe.page.static_files import addresses, load_files
from shmfeed.observe.sample import sample
from shmfeed.observe.top import compare
from shmfeed.relay_status import RelayStatus, describe_relay
from shmfeed.status import status_without_feed
from shmfeed.writer import FeedWriter, create

NOTHING = dict.fromkeys(("leader", "epoch", "since", "lag", "behind", "error"))
FOLLOWER: dict[str, Any] = {
    "role": "follower",
    "leader": "web1:77",
    "epoch": 1764500000000,
    "since": 1_764_500_000_123,
    "lag": 0.0032,
    "behind": 2,
    "error": "<b>",
}
WORDS = (
    "follower of web1:77 since 2025-11-30T10:53:20Z, epoch 1764500000000,"
    " lag 0.003 s, 2 flushes behind; <b>"
)


def status_of(feed_name: str, writer: FeedWriter, told: object) -> Any:
    writer.set_text("relay", told)
    with shmfeed.attach(feed_name) as feed:
        return feed.status()["relay"]


@pytest.fixture
def writer(feed_name):
    with create(feed_name, history=16, max_streams=2) as writer:
        yield writer
        writer.close(unlink=True)


def test_what_a_feeder_publishes_is_in_the_status(feed_name, writer) -> None:
    with shmfeed.attach(feed_name) as feed:
        assert feed.status()["relay"] is None
    assert status_of(feed_name, writer, FOLLOWER) == FOLLOWER
    assert status_of(feed_name, writer, {"role": "leader"}) == {
        "role": "leader",
        **NOTHING,
    }
    assert status_of(feed_name, writer, None) is None


@pytest.mark.parametrize("told", ["x", 5, [], {}, {"role": "king"}, {"role": []}])
def test_another_value_is_no_relay(feed_name, writer, told) -> None:
    assert status_of(feed_name, writer, told) is None


def test_a_value_of_another_type_is_not_known(feed_name, writer) -> None:
    odd = {"role": "standby", "leader": 5, "epoch": "x", "since": 1.5, "lag": True}
    found = status_of(feed_name, writer, {**odd, "behind": [], "error": "", "more": 1})
    assert found == {"role": "standby", **NOTHING}


def test_a_follower_that_has_not_joined_knows_no_leader(feed_name, writer) -> None:
    told = {"role": "follower", "leader": "", "epoch": 0, "since": 0, "lag": None}
    found = status_of(feed_name, writer, {**told, "behind": 0, "error": "no host"})
    assert found == {"role": "follower", **NOTHING, "behind": 0, "error": "no host"}
    assert describe_relay(found) == "follower of no leader; no host"


def test_a_dead_feeder_relays_nothing(feed_name, writer) -> None:
    writer.set_text("relay", FOLLOWER)
    with shmfeed.attach(feed_name) as feed:
        writer.close()
        assert feed.status()["relay"] is None
    assert status_without_feed("x")["relay"] is None


def relay(**values: Any) -> RelayStatus:
    found: Any = {**NOTHING, **values}
    return found


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (FOLLOWER, WORDS),
        (relay(role="leader", leader="a:1", behind=0), "leader a:1"),
        (relay(role="leader"), "leader"),
        (relay(role="standby"), "standby of no leader"),
        (relay(role="standby", behind=1), "standby of no leader, 1 flush behind"),
        (relay(role="standby", error="no host"), "standby of no leader; no host"),
    ],
)
def test_in_words(status, words) -> None:
    assert describe_relay(status) == words


def test_each_view_shows_it(feed_name, writer) -> None:
    writer.set_text("relay", FOLLOWER)
    samples = sample([feed_name])
    (one,) = samples
    assert f"\nrelay: {WORDS}\n" in format_status(one.status, coloured=False)
    top = compare([], samples, 0.0, {})
    assert top.feeds[0].relay == FOLLOWER
    assert f", relay {WORDS}" in format_top(top)
    model = PageModel()
    model.update(samples, {})
    assert model.feeds[feed_name]["relay"] == WORDS
    page = render_page(model, addresses(load_files()))
    assert f"<p>relay: {WORDS.replace('<b>', '&lt;b&gt;')}</p>" in page
    assert json.dumps(one.status)  # plain values
    writer.set_text("relay", None)
    samples = sample([feed_name])
    assert "relay" not in format_status(samples[0].status, coloured=False)
    model.update(samples, {})
    assert "relay:" not in render_page(model, addresses(load_files()))
