"""A function that returns the token: called in the manager, for each dial."""

import itertools
import logging
import threading
import time
import traceback

import pytest
from support.feeding import QUICK, managing, tell
from support.waiting import until

from shmfeed.errors import WebSocketConnectionError
from shmfeed.manager import tokens
from shmfeed.manager.tokens import TokenSource
from shmfeed.simulator import Venue

CANARY = "canary-of-the-function"
LATER = 2.1  # s; a feeder uses the token of its launch for two


def taken(source: TokenSource) -> str:
    """Return the token once the function has returned."""
    found = []
    until(lambda: found.append(source.take()) or found[-1] is not None)
    return found[-1]


class TestTheSource:
    def test_a_fresh_token_serves_several_dials(self, monkeypatch) -> None:
        numbers = itertools.count(1)
        source = TokenSource(lambda: f"token-{next(numbers)}")
        assert [taken(source), taken(source)] == ["token-1"] * 2
        monkeypatch.setattr(tokens, "TOKEN_SECONDS", 0.0)
        assert taken(source) == "token-2"

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (5, "(its value is not shown) is not accepted"),
            (None, "is not accepted"),
            (f"{CANARY}\n", "is not accepted"),
            (CANARY * 999, "is not accepted"),
        ],
    )
    def test_what_is_no_token(self, value, words) -> None:
        source = TokenSource(lambda: value)
        with pytest.raises(WebSocketConnectionError) as caught:
            taken(source)
        assert "the csrf_token function has failed: csrf_token" in str(caught.value)
        assert words in str(caught.value)
        assert CANARY not in str(caught.value)

    def test_an_exception_is_named_by_its_class(self) -> None:
        def fail() -> str:
            raise KeyError(CANARY)

        source = TokenSource(fail)
        for _ in range(2):  # it is called again
            with pytest.raises(WebSocketConnectionError, match="failed: KeyError"):
                taken(source)
        try:
            taken(source)
        except WebSocketConnectionError:
            assert CANARY not in traceback.format_exc()

    def test_one_that_hangs(self, monkeypatch) -> None:
        monkeypatch.setattr(tokens, "LIMIT", 0.0)
        go_on, calls = threading.Event(), []

        def hang() -> str:
            calls.append(1)
            go_on.wait(20)
            return "late"

        source = TokenSource(hang)
        for _ in range(3):
            with pytest.raises(WebSocketConnectionError, match="has not returned"):
                taken(source)
        assert calls == [1]
        go_on.set()
        until(lambda: not source._thread.is_alive())
        assert source.take() == "late"

    def test_a_request_is_answered_once(self, caplog) -> None:
        source, sent = TokenSource(lambda: "x"), []
        for request in ((7, 0), (7, 1), (7, 1), (8, 1)):
            source.serve(request, sent.append)
            until(lambda: source._thread is None or not source._thread.is_alive())
            source.serve(request, sent.append)
        assert sent == ["x", "x"]
        source.function = lambda: 5
        source._token = None
        until(lambda: source.serve((9, 1), sent.append) or len(sent) == 3)
        assert sent[-1] == ""
        assert "feeder 9 keeps its last token" in caplog.text


@pytest.fixture
def venue():
    with Venue(speed=None) as running:
        yield running


def tokens_of(venue) -> list[str]:
    return [one["csrf_token"] for one in venue.subscriptions]


def test_the_feeder_asks_before_each_dial(
    feed_name, venue, monkeypatch, caplog
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(tokens, "TOKEN_SECONDS", 0.0)
    numbers = itertools.count(1)
    threads = set()

    def function() -> str:
        threads.add(threading.current_thread().name)
        return f"{CANARY}-{next(numbers)}"

    with managing(feed_name, venue, csrf_token=function) as manager:
        manager.start(timeout=20)
        assert tokens_of(venue) == [f"{CANARY}-1"]
        shown = [repr(manager), repr(vars(manager)), str(manager.get_status())]
        assert manager.get_status()["differs"] == []
        manager.start()  # nothing has changed
        assert len(tokens_of(venue)) == 1
        _reconnect(manager, venue)
        assert len(set(tokens_of(venue))) == 2
        shown.append(str(tell(feed_name, "status")))
    assert threads == {"shmfeed-token"}
    assert CANARY not in "".join(shown) + caplog.text


def _reconnect(manager, venue) -> None:
    """Have the feeder connect again, once its token is not fresh any more."""
    count, end = len(tokens_of(venue)), time.monotonic() + LATER
    until(lambda: time.monotonic() > end)
    venue.drop_connections()
    until(lambda: len(tokens_of(venue)) > count and manager.is_connected())


def test_a_function_that_fails_is_the_reason_of_a_failed_start(
    feed_name, venue
) -> None:
    def fail() -> str:
        raise OSError(CANARY)

    with managing(feed_name, venue, csrf_token=fail) as manager:
        with pytest.raises(WebSocketConnectionError) as caught:
            manager.start(timeout=2)
        assert "the csrf_token function has failed: OSError" in str(caught.value)
        assert "no feeder could be started in 5 attempts" in str(caught.value)
        assert CANARY not in str(caught.value)


def test_a_start_names_a_function_that_has_not_returned(feed_name, venue) -> None:
    returns = threading.Event()

    def wait() -> str:
        returns.wait(20)
        return CANARY

    with managing(feed_name, venue, csrf_token=wait) as manager:
        with pytest.raises(WebSocketConnectionError) as caught:
            manager.start(timeout=1.5)
        assert "the csrf_token function has not returned yet" in str(caught.value)
        returns.set()
        manager.start(timeout=20)
        assert manager.get_status()["last_error"] is None


def test_an_adopted_feeder_takes_the_token_of_the_function(feed_name, venue) -> None:
    with managing(feed_name, venue, csrf_token="first") as launcher:
        launcher.start(timeout=20)
        with managing(feed_name, venue, csrf_token=lambda: "second") as other:
            other.start(timeout=20)
            until(lambda: tokens_of(venue)[-1] == "second")
            assert other.get_status()["differs"] == []


def test_a_function_in_place_of_a_token_and_back(feed_name, venue) -> None:
    """The running feeder learns of both without a restart."""
    with managing(feed_name, venue, csrf_token="first") as manager:
        manager.start(timeout=20)
        pid = manager.get_status()["pid"]
        settings = {
            "symbols": ["BTCUSDT"],
            "resolutions": ["1m"],
            "history": 100,
            "endpoint": venue.url,
            **QUICK,
        }
        manager.configure(csrf_token=lambda: "second", **settings)
        manager.start(timeout=20)
        _reconnect(manager, venue)
        assert tokens_of(venue)[-1] == "second"
        manager.configure(csrf_token="third", **settings)
        manager.start(timeout=20)
        until(lambda: tokens_of(venue)[-1] == "third")
        assert manager.get_status()["pid"] == pid
