"""A function that returns history: called in the manager, asked by the feeder."""

import logging
import os
import signal
import threading
import time
from collections import namedtuple
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest
from support.feeding import MINUTE, T0, feeder, is_listening, managing, tell
from support.waiting import until

import shmfeed
from shmfeed.control.client import ask
from shmfeed.errors import BadArgumentError
from shmfeed.history import manager_source
from shmfeed.history.blocks import times_of
from shmfeed.history.interface import HistoryError, HistoryRequest
from shmfeed.manager import history
from shmfeed.manager.history import NotBarsError, rows_of
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue

KEY = ("BTCUSDT", "1m")
CANARY = "canary-of-the-function"
NAMES = ("open_time", "open", "high", "low", "close", "volume", "money")
VALUES = (T0, 1.0, 2.0, 0.5, 1.5, 10.0, 12.0)
LAST = T0 + 10 * MINUTE
Candle = namedtuple("Candle", NAMES[:6])  # noqa: PYI024 # as a user may have it


def bar(number: int = 0, **changed: object) -> dict[str, object]:
    values = dict(zip(NAMES, VALUES, strict=True))
    return values | {"open_time": T0 + number * MINUTE} | changed


class TestRows:
    @pytest.mark.parametrize(
        "one",
        [
            shmfeed.Bar(T0, T0 + MINUTE, *VALUES[1:]),
            SimpleNamespace(**bar()),
            bar(),
            VALUES,
            list(VALUES),
            np.array(VALUES),
            {**bar(), "open_time": np.int64(T0), "close": "1.5", "low": Decimal("0.5")},
            {**bar(), "open_time": float(T0), "volume": np.float32(10), "more": 7},
        ],
        ids=["Bar", "object", "dict", "tuple", "list", "array", "mixed", "floats"],
    )
    def test_the_forms_of_a_bar(self, one) -> None:
        assert rows_of([one], T0, LAST) == [VALUES]

    @pytest.mark.parametrize(
        "one",
        [
            Candle(*VALUES[:6]),
            VALUES[:6],
            bar(money=None),
            bar(money=float("nan")),
            shmfeed.Bar(T0, T0 + MINUTE, *VALUES[1:6]),
        ],
    )
    def test_money_may_lack(self, one) -> None:
        assert rows_of([one], T0, LAST) == [(*VALUES[:6], None)]

    @pytest.mark.parametrize("form", [list, tuple, iter])
    def test_bars_outside_the_range_are_left_out(self, form) -> None:
        rows = rows_of(form([bar(n) for n in range(-5, 20)]), T0, LAST)
        assert [row[0] for row in rows] == list(range(T0, LAST + 1, MINUTE))

    @pytest.mark.parametrize(
        ("bars", "words"),
        [
            (None, "None is no list of bars"),
            ("bars", "'bars' is no list of bars"),
            (b"bars", "is no list of bars"),
            (bar(), "is no list of bars"),
            (7, "7 is no list of bars"),
            ([None], "bar 1 is None; a bar is an object or a dict"),
            ([bar(), {"open": 1}], "bar 2 is {'open': 1}; a bar is"),
            ([VALUES[:5]], "bar 1 is "),
            ([(*VALUES, 1)], "bar 1 is "),
            (["abcdef"], "bar 1 is 'abcdef'"),
            ([bar(close="x")], "bar 1 has a value that is no number"),
            ([bar(close=True)], "bar 1 has a value that is no number"),
            ([bar(close=[])], "bar 1 has a value that is no number"),
            ([bar(open_time=T0 + 0.5)], "bar 1 has a value that is no number"),
            ([bar(open_time="1")], "bar 1 has a value that is no number"),
            ([bar(open_time=True)], "bar 1 has a value that is no number"),
            ([bar(close=10**400)], "bar 1 has a value that is no number"),
            ([bar(close=float("nan"))], "bar 1 has no finite values"),
            ([bar(volume=float("inf"))], "bar 1 has no finite values"),
            ([bar(close="nan")], "bar 1 has no finite values"),
            ([bar(1), bar(0)], f"bar 2 opens at {T0}, not after the bar before it"),
            ([bar(0), bar(0)], "bar 2 opens at"),
        ],
    )
    def test_what_is_no_history(self, bars, words) -> None:
        with pytest.raises(NotBarsError) as caught:
            rows_of(bars, T0, LAST)
        assert words in str(caught.value)

    def test_too_many_bars(self, monkeypatch) -> None:
        monkeypatch.setattr(history, "MAX_BARS", 100)
        endless = (bar(n) for n in iter(lambda n=[0]: n.append(0) or len(n), 0))
        with pytest.raises(NotBarsError, match="more than 100 bars"):
            rows_of(endless, T0, LAST)
        monkeypatch.setattr(history, "MAX_ROWS", 5)
        with pytest.raises(NotBarsError, match=r"11 bars from .* to .*, more than the"):
            rows_of([bar(n) for n in range(20)], T0, LAST)


UNASKED = {"warmup": 0, "repair_grace": 3600.0}  # the feeder asks for nothing itself


@pytest.fixture
def venue():
    with Venue(speed=None) as running:
        yield running


def bars_between(symbol, timeframe, start_ms, end_ms):
    """Return bars as a user's function does."""
    assert (symbol, timeframe) == KEY
    return [(one, *VALUES[1:]) for one in range(start_ms, end_ms + 1, MINUTE)]


def fetch(one, count=3):
    """Have a feeder ask for the first bars, as a thread of its own does."""
    page = one._history.source.fetch(HistoryRequest(KEY, T0, T0 + (count - 1) * MINUTE))
    return times_of(page.block).tolist()


def adopting(feed_name, venue, function):
    return managing(feed_name, venue, backfill=function, launch="never", **UNASKED)


def threads() -> list[str]:
    return [one.name for one in threading.enumerate()]


class TestAsked:
    def test_the_function_is_called_in_the_managers_process(
        self, feed_name, venue
    ) -> None:
        calls = []

        def function(*arguments):
            calls.append((os.getpid(), threading.current_thread().name, arguments))
            return bars_between(*arguments)

        with feeder(feed_name, venue, backfill="manager", **UNASKED) as one:
            with adopting(feed_name, venue, function) as manager:
                manager.start(timeout=20)
                assert fetch(one) == [T0, T0 + MINUTE, T0 + 2 * MINUTE]
                assert manager.get_status()["differs"] == []
                assert len(fetch(one, 2500)) == 1000  # a page
            assert "shmfeed-history" not in threads()
        assert calls[0] == (
            os.getpid(),
            "shmfeed-history",
            (*KEY, T0, T0 + 2 * MINUTE),
        )

    def test_another_function_takes_its_place(self, feed_name, venue) -> None:
        with feeder(feed_name, venue, backfill="manager", **UNASKED) as one:
            with adopting(feed_name, venue, lambda *_: []) as manager:
                manager.start(timeout=20)
                assert fetch(one) == []
                settings = {"symbols": ["BTCUSDT"], "resolutions": ["1m"]}
                manager.configure(
                    backfill=bars_between,
                    endpoint=venue.url,
                    history=100,
                    launch="never",
                    **settings,
                )
                manager.start(timeout=20)
                until(lambda: len(fetch(one)) == 3)

    def test_a_function_that_fails_is_named_by_class_and_line(
        self, feed_name, venue, caplog
    ) -> None:
        caplog.set_level(logging.DEBUG)

        def fail(*_):
            raise KeyError(CANARY)

        line = fail.__code__.co_firstlineno + 1
        with feeder(feed_name, venue, backfill="manager", **UNASKED) as one:
            with adopting(feed_name, venue, fail) as manager:
                manager.start(timeout=20)
                for _ in range(2):
                    with pytest.raises(HistoryError) as caught:
                        fetch(one)
        words = f"failed: KeyError at test_manager_history.py:{line}"
        assert str(caught.value) == f"the manager's backfill function {words}"
        assert caught.value.kind == "away"
        assert CANARY not in caplog.text
        told = [text for text in caplog.messages if words in text]
        assert told == [
            f"feed {feed_name}: the backfill function {words}, asked for BTCUSDT 1m"
        ]

    @pytest.mark.parametrize("rubbish", [None, "bars", [object()], [bar(), bar()]])
    def test_rubbish_is_malformed(self, feed_name, venue, rubbish) -> None:
        with feeder(feed_name, venue, backfill="manager", **UNASKED) as one:
            with adopting(feed_name, venue, lambda *_: rubbish) as manager:
                manager.start(timeout=20)
                with pytest.raises(HistoryError, match="returned no history") as caught:
                    fetch(one)
        assert caught.value.kind == "malformed"

    def test_one_that_hangs_delays_neither_feed_nor_stop(
        self, feed_name, venue, monkeypatch
    ) -> None:
        monkeypatch.setattr(manager_source, "ANSWER_SECONDS", 0.3)
        monkeypatch.setattr("shmfeed.manager.supervisor.CALLBACK_SECONDS", 0.2)
        returns = threading.Event()
        with feeder(feed_name, venue, backfill="manager", **UNASKED) as one:
            with adopting(feed_name, venue, lambda *_: returns.wait(20)) as manager:
                manager.start(timeout=20)
                with pytest.raises(HistoryError, match="has not returned within"):
                    until(lambda: fetch(one))
                assert tell(feed_name, "status")["state"] == "connected"
                begun = time.monotonic()
                manager.stop()
                assert time.monotonic() - begun < 5.0
            returns.set()
            until(lambda: "shmfeed-history" not in threads())

    def test_without_its_manager_history_cannot_be_asked(
        self, feed_name, venue, monkeypatch
    ) -> None:
        with feeder(feed_name, venue, backfill="manager", **UNASKED) as one:
            with adopting(feed_name, venue, bars_between) as manager:
                manager.start(timeout=20)
                assert len(fetch(one)) == 3
            monkeypatch.setattr(manager_source, "ANSWER_SECONDS", 0.2)
            with pytest.raises(HistoryError, match="cannot be asked") as caught:
                fetch(one)
            assert caught.value.kind == "away"
            monkeypatch.setattr(manager_source, "ANSWER_SECONDS", 10.0)
            with adopting(feed_name, venue, bars_between) as manager:
                manager.start(timeout=20)
                until(lambda: one._history.source._came)
                assert len(fetch(one)) == 3

    def test_a_feeder_with_another_source_takes_none(self, feed_name, venue) -> None:
        with feeder(feed_name, venue, backfill="off", **UNASKED) as one:
            with adopting(feed_name, venue, bars_between) as manager:
                manager.start(timeout=20)
                assert manager.get_status()["differs"] == ["backfill"]
                assert one._history.source is None
            with pytest.raises(BadArgumentError, match="takes no history from a func"):
                tell(feed_name, "history", wait=0.1)

    @pytest.mark.parametrize(
        "fields",
        [
            {"rows": [[T0, 1, 1, 1, 1, 1]]},
            {"rows": [[T0, None, 1, 1, 1, 1, 1]]},
            {"rows": [[0.5, 1, 1, 1, 1, 1, 1]]},
            {"rows": 7},
            {"wait": 1e9},
            {"wait": -1},
            {"failure": "x" * 2000},
            {"kind": "refused"},
        ],
    )
    def test_a_wrong_answer_is_refused(self, feed_name, venue, fields) -> None:
        with feeder(feed_name, venue, backfill="manager"):
            until(lambda: is_listening(feed_name))
            with pytest.raises(BadArgumentError, match="request is not accepted"):
                tell(feed_name, "history", number=1, **fields)

    def test_the_launched_feeder_asks_its_manager_again_after_a_kill(
        self, feed_name, venue
    ) -> None:
        """A feeder in a process of its own is replaced; the next one has answers."""
        with managing(feed_name, venue, backfill=bars_between) as manager:
            manager.start(timeout=20)
            pid = manager.get_status()["pid"]
            os.kill(pid, signal.SIGKILL)
            until(lambda: manager.is_connected() and manager.get_status()["pid"] != pid)
            responder = manager._supervisor._responder
            until(lambda: _waits(feed_name), what="the manager waits for a question")
            assert responder._thread.is_alive()
        until(lambda: "shmfeed-history" not in threads())


def _waits(feed: str) -> bool:
    """Return True if a question would be taken from this feeder's socket."""
    return ask(place(feed).socket, "history", 5.0, wait=0.0) == {"number": 0}


@pytest.mark.parametrize("value", [7, object(), {"a": 1}, True])
def test_what_is_no_source(value) -> None:
    manager = shmfeed.WebSocketManager()
    with pytest.raises(BadArgumentError, match="backfill"):
        manager.configure(symbols=["A"], resolutions=["1m"], backfill=value)


class TestRepair:
    """A launched feeder repairs its rows by the function of its manager."""

    def rows(self, feed):
        return feed.ring(*KEY).snapshot(50)

    def settings(self, venue, function, **more):
        return {"backfill": function, "warmup": 5, "repair_grace": 1.0, **more}

    def test_a_start_and_a_hole_are_filled(self, feed_name, venue) -> None:
        key, asked = ("BTCUSDT", "1s"), []

        def function(symbol, timeframe, start_ms, end_ms):
            assert (symbol, timeframe) == key
            asked.append((start_ms, end_ms))
            return [(t, *VALUES[1:]) for t in range(start_ms, end_ms + 1, 1000)]

        settings = self.settings(venue, function, resolutions=["1s"])
        with managing(feed_name, venue, **settings) as manager:
            manager.start(timeout=20)
            with shmfeed.attach(feed_name) as feed:
                ring = feed.ring(*key)
                until(lambda: ring.count >= 5)
                rows = ring.snapshot(50)
                last = int(rows.open_time[-1])
                assert flags_of(rows, 0) == ["backfilled"]
                until(lambda: time.time() * 1000 > last + 4000)
                venue.push_bar(*key, last + 4000, *VALUES[1:6], closed=True)
                until(lambda: ring.count and ring.view(1).open_time[0] == last + 4000)
                until(lambda: len(ring.snapshot(50)) >= 9)
                assert np.all(np.diff(ring.snapshot(50).open_time) == 1000)
                assert feed.gaps() == []
                assert feed.status()["gaps"] == 0
        assert any(a <= last + 1000 and b >= last + 3000 for a, b in asked)

    def test_a_function_that_fails_leaves_the_live_feed_alone(
        self, feed_name, venue
    ) -> None:
        works = threading.Event()

        def function(*arguments):
            if not works.is_set():
                raise OSError(CANARY)
            return bars_between(*arguments)

        settings = self.settings(venue, function)
        with managing(feed_name, venue, **settings) as manager:
            manager.start(timeout=20)
            with shmfeed.attach(feed_name) as feed:
                now = int(time.time() * 1000) // MINUTE * MINUTE - 10 * MINUTE
                for opened in (now, now + 3 * MINUTE):
                    venue.push_bar(*KEY, opened, *VALUES[1:6], closed=True)
                until(lambda: len(self.rows(feed)) == 2)
                (hole,) = feed.gaps()
                assert (hole.missing, hole.state) == (2, "open")
                assert "OSError" in str(manager.get_status()["last_error"])
                works.set()
                until(lambda: feed.gaps() == [], timeout=40)
                assert np.all(np.diff(self.rows(feed).open_time) == MINUTE)


def flags_of(rows, number):
    return shmfeed.flag_names(int(rows["flags"][number]))
