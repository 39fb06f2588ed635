"""The token of each connection: from a file that changes, or is gone for a while."""

import logging
import os
import subprocess
import sys

import pytest
from support.feeding import feeder, settings, tell
from support.waiting import until

import shmfeed
from shmfeed.codecs import get_codec
from shmfeed.errors import BadArgumentError
from shmfeed.feeder.credentials import (
    RETRY_SECONDS,
    SHORT_WAIT,
    TOKEN_SECONDS,
    DialGate,
)
from shmfeed.settings.loading import load
from shmfeed.settings.model import Settings
from shmfeed.simulator import Venue
from shmfeed.wire.dial_budget import DialBudget

TOKEN, NEW, NEWEST = "canary-of-the-token", "canary-new", "canary-newest"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    return path


class TestSettings:
    def test_the_variable(self, path) -> None:
        loaded = load({}, {"WEBSOCKET_CSRF_TOKEN_FILE": str(path)})
        assert loaded.csrf_token_file == str(path)
        assert loaded.csrf_token == ""
        assert loaded.read_token() == TOKEN
        assert TOKEN not in repr(loaded)

    def test_both_are_refused(self, path) -> None:
        environ = {"WEBSOCKET_CSRF_TOKEN_FILE": str(path), "WEBSOCKET_CSRF_TOKEN": "x"}
        with pytest.raises(BadArgumentError, match="leave one of them out") as caught:
            load({}, environ)
        assert "environment WEBSOCKET_CSRF_TOKEN_FILE" in str(caught.value)

    def test_what_was_read_is_redacted(self, path) -> None:
        loaded = Settings(csrf_token_file=path)
        path.write_text(NEW)
        assert loaded.read_token() == NEW
        assert loaded.redact(f"{TOKEN} or {NEW}") == "*** or ***"
        assert Settings().redact(NEW) == "***"

    def test_a_file_that_others_may_read_is_warned_of_once(self, path, caplog) -> None:
        path.chmod(0o644)
        for _ in range(2):
            load({}, {"WEBSOCKET_CSRF_TOKEN_FILE": str(path)})
        (line,) = caplog.messages
        assert "others may read it; chmod 600 it" in line

    def test_a_token_from_elsewhere_takes_the_place_of_the_file(self, path) -> None:
        changed = Settings(csrf_token_file=path).with_token("other")
        assert (changed.read_token(), changed.csrf_token_file) == ("other", None)


class TestTheGate:
    @pytest.fixture
    def codec(self):
        return get_codec("wealthai", "m", "")

    def test_the_file_is_read_at_each_dial(self, path, codec, caplog) -> None:
        given = Settings(csrf_token_file=path)
        gate = DialGate(DialBudget(None, 0), codec, lambda: given)
        assert gate.reserve("h", 1) == 0
        assert codec.csrf_token == TOKEN
        path.write_text(NEW)
        gate.reserve("h", 1)
        assert codec.csrf_token == NEW
        path.unlink()
        for _ in range(3):
            assert gate.reserve("h", 1) == 0  # with the last token
        assert codec.csrf_token == NEW
        (line,) = caplog.messages
        assert line.startswith("no new token, so the last one holds: csrf_token_file")
        path.write_text(NEWEST)
        gate.reserve("h", 1)
        assert codec.csrf_token == NEWEST

    def test_a_wait_reads_nothing(self, path, codec) -> None:
        given = Settings(csrf_token_file=path)
        gate = DialGate(DialBudget(None, 1), codec, lambda: given)
        gate.reserve("h", 1)
        path.write_text(NEW)
        assert gate.reserve("h", 1) > 0
        gate.block("other", 1, 5)
        assert 5 <= gate.reserve("other", 1) < 5.3
        assert codec.csrf_token == TOKEN


def tokens_of(venue) -> list[str]:
    return [one["csrf_token"] for one in venue.subscriptions]


def test_a_feeder_connects_again_with_the_new_token(feed_name, path, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        Venue(speed=None) as venue,
        feeder(feed_name, venue, csrf_token_file=str(path)),
    ):
        until(lambda: tokens_of(venue) == [TOKEN])
        path.write_text(NEW)
        venue.drop_connections()
        until(lambda: tokens_of(venue) == [TOKEN, NEW])
        # A reload notices a new token in the same file.
        path.write_text(NEWEST)
        assert tell(feed_name, "reload")["changed"] == ["csrf_token_file"]
        until(lambda: tokens_of(venue) == [TOKEN, NEW, NEWEST])
        assert tell(feed_name, "reload")["summary"] == "no change"
        path.unlink()
        with pytest.raises(
            BadArgumentError, match=r"csrf_token_file .* cannot be read"
        ):
            tell(feed_name, "reload")
        with shmfeed.attach(feed_name) as feed:
            assert feed.status()["state"] == "connected"
    assert "canary" not in caplog.text.replace(str(path), "")


def test_a_feeder_without_its_file_does_not_start(feed_name, path) -> None:
    path.unlink()
    with pytest.raises(BadArgumentError, match=r"csrf_token_file: .* cannot be read"):
        settings(feed_name, "ws://127.0.0.1:9", csrf_token_file=str(path))


class TestAManagerIsAsked:
    """A dial waits for a manager's token, within limits."""

    @pytest.fixture
    def gate(self):
        self.now, self.told = 100.0, 0

        def published() -> Settings:
            self.told += 1
            return Settings(ack_timeout=8)

        codec = get_codec("wealthai", "m", "")
        budget = DialBudget(None, 0)
        gate = DialGate(budget, codec, published, clock=lambda: self.now)
        gate.ask_manager("m", os.getpid())
        return gate

    def test_the_token_of_the_launch_serves_the_first_dials(self, gate) -> None:
        assert [gate.reserve("h", 1) for _ in range(5)] == [0.0] * 5
        assert gate.wanted == 0

    def test_a_dial_waits_for_the_answer(self, gate) -> None:
        self.now += TOKEN_SECONDS
        assert gate.reserve("h", 1) == RETRY_SECONDS
        assert (gate.wanted, gate.is_asking, self.told) == (1, True, 1)
        self.now += 7.9
        assert gate.reserve("h", 1) == RETRY_SECONDS
        gate.answered()
        assert [gate.reserve("h", 1) for _ in range(5)] == [0.0] * 5
        assert (gate.wanted, gate.is_asking) == (1, False)

    def test_without_an_answer_the_last_token_holds(self, gate, caplog) -> None:
        waits = []
        for _ in range(3):
            self.now += TOKEN_SECONDS
            begun = self.now
            while gate.reserve("h", 1):
                self.now += RETRY_SECONDS
            waits.append(self.now - begun)
        assert waits == pytest.approx(
            [8, SHORT_WAIT, SHORT_WAIT], abs=2 * RETRY_SECONDS
        )
        assert caplog.messages == ["no manager gave a token, so the last one holds"]
        self.now += TOKEN_SECONDS
        gate.reserve("h", 1)
        gate.answered()  # it is back, and waited for again
        self.now += TOKEN_SECONDS
        gate.reserve("h", 1)
        self.now += 7.9
        assert gate.reserve("h", 1) == RETRY_SECONDS

    def test_a_manager_that_has_ended_is_not_waited_for(self, gate, caplog) -> None:
        gate.forget_manager("m")
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as other:
            gate.ask_manager("other", other.pid)
            self.now += TOKEN_SECONDS
            assert gate.reserve("h", 1) == RETRY_SECONDS
            other.kill()
            other.wait()
            assert gate.reserve("h", 1) == 0.0  # it ended while it was asked
            self.now += TOKEN_SECONDS
            assert gate.reserve("h", 1) == 0.0
        assert (gate.wanted, gate.is_asking) == (1, False)
        assert caplog.messages == ["no manager gave a token, so the last one holds"]

    def test_one_in_another_container_is_waited_for(self, gate) -> None:
        gate.forget_manager("m")
        gate.ask_manager("other", 0)
        self.now += TOKEN_SECONDS
        assert gate.reserve("h", 1) == RETRY_SECONDS

    def test_one_that_has_no_function_any_more_is_not_asked(self, gate) -> None:
        gate.ask_manager("other", os.getpid())
        gate.forget_manager("m")
        self.now += TOKEN_SECONDS
        assert gate.reserve("h", 1) == RETRY_SECONDS  # the other one is asked
        gate.forget_manager("other")
        assert gate.reserve("h", 1) == 0.0


def test_a_token_that_was_asked_for_replaces_no_connection(feed_name) -> None:
    """It is for the next one; only a token that comes unasked replaces those in use."""
    with (
        Venue(speed=None) as venue,
        feeder(feed_name, venue, manager="m", csrf_token=TOKEN) as one,
    ):
        until(lambda: tokens_of(venue) == [TOKEN])
        one._gate.is_asking = True
        tell(feed_name, "token", token=NEW, asks=True)
        tell(feed_name, "token", token=NEWEST, asks=True)
        until(lambda: len(tokens_of(venue)) > 1)
        assert tokens_of(venue) == [TOKEN, NEWEST]
