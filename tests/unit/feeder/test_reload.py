"""Settings read again by a running feeder: some take effect, others do not."""

import itertools
import json
import logging
import threading

import pytest
from support.feeding import feeder, settings, tell
from support.waiting import until

import shmfeed
from shmfeed.errors import BadArgumentError, WebSocketSubscriptionError
from shmfeed.feeder.reload import (
    FIXED,
    OF_A_CONNECTION,
    OF_A_MANAGER,
    compare,
)
from shmfeed.settings.model import Settings, to_json
from shmfeed.settings.schema import SETTINGS
from shmfeed.settings.secret_files import read_secret
from shmfeed.simulator import Venue

TOKEN, NEW = "canary-of-the-token", "canary-of-the-new-token"


class TestCompare:
    def test_what_takes_effect_and_what_needs_a_restart(self) -> None:
        old = Settings(symbols=["A"], resolutions=["1m"])
        new = Settings(
            symbols=["B"],
            resolutions=["1m"],
            history=5,
            csrf_token=TOKEN,
            log_level="ERROR",
            launch="never",
        )
        found = compare(old, new)
        assert found.changed == ("symbols", "csrf_token", "log_level")
        assert found.fixed == ("history",)
        assert found.needs_connections
        assert found.changes_streams
        assert found.settings == Settings(
            symbols=["B"], resolutions=["1m"], csrf_token=TOKEN, log_level="ERROR"
        )
        words = "symbols, csrf_token, log_level changed; history needs a restart"
        assert found.summary() == words

    def test_nothing(self) -> None:
        found = compare(Settings(), Settings(launch="never"))
        assert found == (Settings(), (), ())
        assert found.summary() == "no change"
        assert not found.needs_connections

    def test_streams_of_a_manager_stay(self) -> None:
        old, new = Settings(symbols=["A"]), Settings(symbols=["B"], history=5)
        found = compare(old, new, frozenset({"symbols"}))
        assert (found.changed, found.fixed) == ((), ("history",))

    def test_what_does_not_go_together_with_the_rest(self) -> None:
        old = Settings(max_streams=2)
        new = Settings(symbols=["A", "B", "C"], resolutions=["1m"], max_streams=3)
        with pytest.raises(BadArgumentError, match="more than max_streams 2"):
            compare(old, new)

    def test_the_sets_name_settings_once(self) -> None:
        sets = (FIXED, OF_A_CONNECTION, OF_A_MANAGER)
        assert sum(map(len, sets)) == len(frozenset().union(*sets))
        assert frozenset().union(*sets) >= {"csrf_token", "history", "launch"}
        assert "log_level" in SETTINGS


@pytest.fixture
def venue():
    with Venue(speed=None, symbols=["BTCUSDT", "ETHUSDT"]) as running:
        yield running


class Source:
    """The settings that a reload reads."""

    def __init__(self, feed, venue) -> None:
        self.feed, self.venue = feed, venue
        self.given = {}
        self.error = None

    def __call__(self) -> Settings:
        if self.error is not None:
            raise self.error
        return settings(self.feed, self.venue, **self.given)


@pytest.fixture
def source(feed_name, venue):
    return Source(feed_name, venue)


@pytest.fixture
def running(feed_name, venue, source):
    with feeder(feed_name, venue, source=source, csrf_token=TOKEN) as one:
        venue.wait_subscribed()
        with shmfeed.attach(feed_name) as feed:
            until(lambda: feed.status()["state"] == "connected")
        yield one


def test_a_new_token_is_used_on_a_new_connection(
    feed_name, venue, source, running, caplog
) -> None:
    caplog.set_level(logging.INFO)
    source.given = {"csrf_token": NEW, "history": 200}
    answer = tell(feed_name, "reload")
    assert answer == {
        "changed": ["csrf_token"],
        "fixed": ["history"],
        "summary": "csrf_token changed; history needs a restart",
    }
    until(lambda: len(venue.subscriptions) == 2)
    tokens = [one["csrf_token"] for one in venue.subscriptions]
    assert tokens == [TOKEN, NEW]
    text = caplog.text
    assert "settings reloaded: csrf_token changed; history needs a restart" in text
    assert NEW not in text
    assert "lost" not in text


def test_the_streams_of_a_run(feed_name, venue, source, running) -> None:
    source.given = {"csrf_token": TOKEN, "symbols": ["ETHUSDT"], "log_level": "ERROR"}
    assert tell(feed_name, "reload")["changed"] == ["symbols", "log_level"]
    assert venue.subscriptions[-1]["symbols"] == ["ETHUSDT"]
    assert tell(feed_name, "reload")["summary"] == "no change"


def test_streams_that_the_venue_refuses_change_nothing(
    feed_name, venue, source, running, caplog
) -> None:
    source.given = {"csrf_token": NEW, "symbols": ["XRP"]}
    with pytest.raises(WebSocketSubscriptionError):
        tell(feed_name, "reload")
    assert "the settings were not reloaded, the old ones stay" in caplog.text
    source.given = {"csrf_token": TOKEN}
    assert tell(feed_name, "reload")["summary"] == "no change"
    assert all(one["csrf_token"] == TOKEN for one in venue.subscriptions)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"history": "x"}, "history 'x' is not accepted"),
        ({"symbols": []}, "no streams to subscribe"),
        ({"csrf_token": NEW, "resolutions": ["7m"]}, "'7m' is not accepted"),
    ],
)
def test_a_wrong_setting_changes_nothing(
    feed_name, venue, source, running, caplog, given, message
) -> None:
    source.given = given
    with pytest.raises(BadArgumentError, match=message):
        tell(feed_name, "reload")
    assert message in caplog.text
    source.given = {"csrf_token": TOKEN}
    assert tell(feed_name, "reload")["summary"] == "no change"
    assert len(venue.subscriptions) == 1


@pytest.mark.parametrize("failing", [1, 2])
def test_a_token_file_that_goes_while_it_is_read_changes_nothing(
    feed_name, venue, tmp_path, monkeypatch, failing
) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    given = {"csrf_token_file": str(path)}
    new = settings(feed_name, venue, **given, dials_per_minute=7, origin="https://a.b")
    old = settings(feed_name, venue, **given)
    sources = iter([new, old, new])
    with feeder(feed_name, venue, source=lambda: next(sources), **given):
        venue.wait_subscribed()
        reads = itertools.count(1)

        def read(*args):
            if next(reads) == failing:
                raise BadArgumentError("the file is gone")
            return read_secret(*args)

        monkeypatch.setattr("shmfeed.settings.model.read_secret", read)
        with pytest.raises(BadArgumentError, match="the file is gone"):
            tell(feed_name, "reload")
        assert tell(feed_name, "reload")["summary"] == "no change"
        assert tell(feed_name, "reload")["changed"] == ["origin", "dials_per_minute"]


def test_settings_that_are_refused_change_no_manager_that_is_asked(
    feed_name, venue
) -> None:
    with feeder(feed_name, venue, manager="m", csrf_token=TOKEN) as one:
        venue.wait_subscribed()
        tell(feed_name, "token", token=TOKEN, asks=True)
        given = json.loads(to_json(settings(feed_name, venue)))
        with pytest.raises(BadArgumentError, match="histroy"):
            tell(feed_name, "reload", settings=given | {"histroy": 5})
        assert one._gate._managers
        tell(feed_name, "reload", settings=given)
        assert not one._gate._managers


def test_a_token_that_is_corrected_is_tried_at_once(feed_name, source) -> None:
    rare = {"reconnect_delay_base": 60.0, "reconnect_delay_max": 60.0}
    rare["max_reconnect_attempts"] = 1
    with (
        Venue(speed=None, symbols=["BTCUSDT"], token=NEW) as venue,
        feeder(feed_name, venue, source=source, csrf_token=TOKEN, **rare),
        shmfeed.attach(feed_name) as feed,
    ):
        source.venue = venue
        until(lambda: feed.status()["state"] == "error")
        assert feed.status()["next_attempt_in"] > 25
        source.given = {"csrf_token": NEW, **rare}
        tell(feed_name, "reload")
        until(lambda: feed.status()["state"] == "connected")


@pytest.mark.parametrize("by_file", [False, True])
def test_a_token_that_the_venue_refuses_gives_way_to_the_old_one(
    feed_name, source, tmp_path, caplog, by_file
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    given = {"csrf_token_file": str(file)} if by_file else {"csrf_token": TOKEN}
    with (
        Venue(speed=None, symbols=["BTCUSDT"], token=TOKEN) as venue,
        feeder(feed_name, venue, source=source, **given) as one,
        shmfeed.attach(feed_name) as feed,
    ):
        source.venue, source.given = venue, given
        until(lambda: feed.status()["state"] == "connected")
        file.write_text(NEW)
        if not by_file:
            source.given = {"csrf_token": NEW}
        tell(feed_name, "reload")
        until(lambda: "and the old ones stay" in caplog.text)
        assert "csrf_token is not accepted" in feed.status()["last_error"]
        assert feed.status()["state"] == "connected"
        assert one._codec.csrf_token == TOKEN
        venue.drop_connections()
        venue.wait_received(3)
        until(lambda: feed.status()["state"] == "connected")
        requests = [json.loads(text)["csrf_token"] for text in venue.received]
        assert requests == [TOKEN, NEW, TOKEN]
        assert NEW not in caplog.text


def test_a_signal_does_the_same(feed_name, venue, source, running, caplog) -> None:
    caplog.set_level(logging.INFO)
    source.given = {"csrf_token": NEW}
    running.reload_soon()
    until(lambda: "settings reloaded: csrf_token changed" in caplog.text)
    source.error = BadArgumentError("config_file '/x': is not well-formed json")
    running.reload_soon()
    until(lambda: "the old ones stay: config_file '/x'" in caplog.text)
    assert running.thread.is_alive()


def test_settings_in_a_request(feed_name, venue, caplog) -> None:
    """As a manager sends them; its streams are not changed by them."""
    with feeder(feed_name, venue, manager="m", csrf_token=TOKEN):
        venue.wait_subscribed()
        new = settings(feed_name, venue, csrf_token=NEW, symbols=["ETHUSDT"])
        given = json.loads(to_json(new))
        assert tell(feed_name, "reload", settings=given)["changed"] == ["csrf_token"]
        until(lambda: len(venue.subscriptions) == 2)
        assert venue.subscriptions[-1]["symbols"] == ["BTCUSDT"]
        wrong = given | {"histroy": 5}
        with pytest.raises(BadArgumentError, match="histroy"):
            tell(feed_name, "reload", settings=wrong)
        assert tell(feed_name, "reload")["summary"] == "no change"
    assert NEW not in caplog.text


def test_without_a_connection_the_next_one_asks_for_the_new_streams(
    feed_name, source
) -> None:
    with Venue(speed=None, symbols=["BTCUSDT", "ETHUSDT"]) as venue:
        pass  # it has ended, and its port stays known
    source.venue = venue
    with feeder(feed_name, venue, source=source, max_reconnect_attempts=None):
        source.given = {"symbols": ["ETHUSDT"], "max_reconnect_attempts": None}
        until(lambda: _answers(feed_name))
        assert tell(feed_name, "reload")["changed"] == ["symbols"]
        with Venue(
            speed=None, symbols=["BTCUSDT", "ETHUSDT"], port=venue.port
        ) as later:
            until(lambda: later.subscriptions)
            assert later.subscriptions[-1]["symbols"] == ["ETHUSDT"]


def _answers(feed: str) -> bool:
    try:
        tell(feed, "status")
    except shmfeed.ShmfeedError:
        return False
    return True


def test_control_a_request_during_the_stop_is_answered(
    feed_name, source, running
) -> None:
    answers = []

    def ask() -> None:
        try:
            answers.append(tell(feed_name, "reload"))
        except shmfeed.ShmfeedError as error:
            answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    running.stop()
    for thread in threads:
        thread.join(10)
    assert len(answers) == 4
