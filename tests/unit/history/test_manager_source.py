"""History that a manager is asked for: questions, answers, and managers that do not."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from support.waiting import until

from shmfeed.bar import close_time, floor, step
from shmfeed.history import manager_source
from shmfeed.history.blocks import times_of
from shmfeed.history.interface import HistoryError, HistoryRequest
from shmfeed.history.manager_source import (
    PAGE_BARS,
    ManagerAnswer,
    ManagerSource,
    Question,
)
from shmfeed.layout import COLUMNS

MINUTE = 60_000
T0 = 1_700_000_040_000
KEY = ("BTCUSDT", "1m")
NOTHING = ManagerAnswer(0)


def row(opened, money=None):
    return (opened, 1.0, 2.0, 0.5, 1.5, 10.0, money)


def rows_between(first, last, timeframe="1m"):
    opened = floor(first, timeframe)
    opened = opened if opened >= first else close_time(opened, timeframe)
    rows = []
    while opened <= last:
        rows.append(row(opened))
        opened = close_time(opened, timeframe)
    return rows


@contextmanager
def answering(source, function):
    """Answer each question in a thread, until the end of the block."""
    asked, ends = [], threading.Event()

    def run():
        answer = NOTHING
        while not ends.is_set():
            question = source.exchange(answer, lambda: True, 5.0)
            answer = NOTHING
            if question is not None:
                asked.append(question)
                answer = function(question)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield asked
    finally:
        ends.set()
        source.send_away()
        thread.join()


def all_between(question: Question) -> ManagerAnswer:
    _, _, timeframe, first, last = question
    return ManagerAnswer(question.number, rows_between(first, last, timeframe))


def fetch_all(source, request):
    """Return the open times of all pages."""
    times = []
    while request is not None:
        page = source.fetch(request)
        times = times_of(page.block).tolist() + times
        request = page.follows
    return times


def at(opened, timeframe="1m"):
    """Return a clock that stands in the middle of a bar."""
    return lambda: (opened + step(timeframe) / 2) / 1000


class TestPages:
    @pytest.mark.parametrize("count", [1, PAGE_BARS, PAGE_BARS + 1, 2500])
    def test_a_range_comes_whole_in_pages(self, count) -> None:
        source, last = ManagerSource(), T0 + (count - 1) * MINUTE
        with answering(source, all_between) as asked:
            times = fetch_all(source, HistoryRequest(KEY, T0, last))
        assert times == list(range(T0, last + 1, MINUTE))
        assert len(asked) == -(-count // PAGE_BARS)
        assert [one[1:3] for one in asked] == [KEY] * len(asked)
        assert (asked[-1].start_ms, asked[0].end_ms) == (T0, last)
        for one in asked:  # a function may rely on times of the grid
            assert one.start_ms % MINUTE == one.end_ms % MINUTE == 0
            assert one.end_ms - one.start_ms < PAGE_BARS * MINUTE

    @pytest.mark.parametrize("newest", [1, 999, 1000, 1001, 2500])
    @pytest.mark.parametrize("timeframe", ["1m", "1w"])
    def test_the_newest_that_have_closed(self, newest, timeframe) -> None:
        now = floor(T0, timeframe)
        source = ManagerSource(now=at(now, timeframe))
        request = HistoryRequest(("A", timeframe), 0, 0, newest)
        with answering(source, all_between):
            times = fetch_all(source, request)
        first = now - newest * step(timeframe)
        assert times == list(
            range(max(first, now % step(timeframe)), now, step(timeframe))
        )

    @pytest.mark.parametrize("newest", [1, 12, 100])
    def test_the_newest_months(self, newest) -> None:
        now = floor(T0, "1M")
        source = ManagerSource(now=lambda: T0 / 1000)
        with answering(source, all_between):
            times = fetch_all(source, HistoryRequest(("A", "1M"), 0, 0, newest))
        assert len(times) == newest
        assert close_time(times[-1], "1M") == now
        assert all(close_time(a, "1M") == b for a, b in itertools.pairwise(times))

    @pytest.mark.parametrize("phase", [0, 1, 2])
    def test_three_days_of_any_phase(self, phase) -> None:
        length, day = step("3d"), 86_400_000
        now = floor(T0, "3d") + 5 * length + 1000
        opens = [floor(T0, "3d") + phase * day + n * length for n in range(-20, 20)]

        def function(question):
            rows = [row(t) for t in opens if question.start_ms <= t <= question.end_ms]
            return ManagerAnswer(question.number, rows)

        source = ManagerSource(now=lambda: now / 1000)
        with answering(source, function):
            times = fetch_all(source, HistoryRequest(("A", "3d"), 0, 0, 10))
        assert times == [one for one in opens if one + length <= now][-10:]

    def test_history_that_ends_is_not_asked_for_for_ever(self) -> None:
        begin = T0 - 1500 * MINUTE
        source = ManagerSource(now=at(T0))

        def young(question):
            first = max(question.start_ms, begin)
            return ManagerAnswer(question.number, rows_between(first, question.end_ms))

        with answering(source, young) as asked:
            times = fetch_all(source, HistoryRequest(KEY, 0, 0, 50_000))
        assert times[0] == begin
        assert len(times) == 1500
        assert len(asked) == 3

    def test_rows_become_a_block(self) -> None:
        source, rows = ManagerSource(), [row(T0, 7.0), row(T0 + MINUTE)]
        with answering(source, lambda one: ManagerAnswer(one.number, rows)):
            page = source.fetch(HistoryRequest(KEY, T0, T0 + MINUTE))
        found = dict(zip(COLUMNS, page.block, strict=True))
        assert found["close"].tolist() == [1.5, 1.5]
        assert found["money"].tolist()[0] == 7.0
        assert np.isnan(found["money"][1])
        assert (page.venue_now, page.follows, source.is_own) == (0, None, False)

    def test_an_empty_range_asks_no_manager(self) -> None:
        page = ManagerSource().fetch(HistoryRequest(KEY, T0, T0 - 1))
        assert page.block.shape == (len(COLUMNS), 0)


BAD_ROWS = {
    "off the grid": ([row(T0 + 1)], "off the grid of 1m"),
    "not in order": ([row(T0 + MINUTE), row(T0)], "not after the row before it"),
    "twice": ([row(T0), row(T0)], "not after the row before it"),
    "impossible": ([(T0, 1.0, 0.5, 2.0, 1.0, 1.0, None)], "no bar can have"),
}


class TestFailures:
    @pytest.mark.parametrize("kind", BAD_ROWS)
    def test_rows_that_are_no_history(self, kind) -> None:
        rows, reason = BAD_ROWS[kind]
        source = ManagerSource()
        with answering(source, lambda one: ManagerAnswer(one.number, rows)):
            with pytest.raises(HistoryError, match=reason) as caught:
                source.fetch(HistoryRequest(KEY, T0, T0 + MINUTE))
        assert caught.value.kind == "malformed"

    def test_a_function_that_failed(self) -> None:
        def fail(question):
            return ManagerAnswer(question.number, (), "failed: KeyError", "away")

        source = ManagerSource()
        with answering(source, fail):
            with pytest.raises(HistoryError) as caught:
                source.fetch(HistoryRequest(KEY, T0, T0))
        assert str(caught.value) == "the manager's backfill function failed: KeyError"
        assert caught.value.kind == "away"

    def test_without_a_manager_the_second_failure_is_quick(self, monkeypatch) -> None:
        monkeypatch.setattr(manager_source, "ANSWER_SECONDS", 0.3)
        monkeypatch.setattr(manager_source, "SHORT_WAIT", 0.0)
        source = ManagerSource()
        for least in (0.3, 0.0):
            begun = time.monotonic()
            with pytest.raises(HistoryError, match="cannot be asked: no man") as caught:
                source.fetch(HistoryRequest(KEY, T0, T0))
            assert time.monotonic() - begun >= least
            assert caught.value.kind == "away"
        with answering(source, all_between):  # a manager comes back
            assert len(fetch_all(source, HistoryRequest(KEY, T0, T0))) == 1

    def test_a_function_that_hangs_and_returns_too_late(self, monkeypatch) -> None:
        monkeypatch.setattr(manager_source, "ANSWER_SECONDS", 0.2)
        source, returns = ManagerSource(), threading.Event()

        def hang(question):
            if question.number == 1:
                returns.wait(20)
                return ManagerAnswer(1, [row(T0 + 7 * MINUTE)])
            return all_between(question)

        with answering(source, hang) as asked:
            with pytest.raises(HistoryError, match=r"not returned within 0\.2 s"):
                source.fetch(HistoryRequest(KEY, T0, T0))
            with pytest.raises(HistoryError, match="or the function is still at work"):
                source.fetch(HistoryRequest(KEY, T0, T0))
            monkeypatch.setattr(manager_source, "ANSWER_SECONDS", 20.0)
            returns.set()  # its answer is to an old question
            until(lambda: source._came)
            assert fetch_all(source, HistoryRequest(KEY, T0, T0)) == [T0]
        assert [one.number for one in asked] == [1, 3]

    def test_a_manager_that_has_ended_takes_no_question(self, monkeypatch) -> None:
        source, ended = ManagerSource(), threading.Event()

        def is_there():
            ended.set()
            return False

        with ThreadPoolExecutor(2) as pool:
            dead = pool.submit(source.exchange, NOTHING, is_there, 20.0)
            fetched = pool.submit(source.fetch, HistoryRequest(KEY, T0, T0))
            assert ended.wait(20)
            assert dead.result(20) is None
            with answering(source, all_between):
                assert fetched.result(20).block.shape[1] == 1

    def test_close_ends_all_waits(self) -> None:
        source = ManagerSource()
        with ThreadPoolExecutor(6) as pool:
            asking = [
                pool.submit(source.fetch, HistoryRequest(KEY, T0, T0)) for _ in range(3)
            ]
            until(lambda: source._number == 1)
            taken = source.exchange(NOTHING, lambda: True, 20.0)
            assert taken is not None
            waiting = pool.submit(source.exchange, NOTHING, lambda: True, 20.0)
            source.close()
            for one in asking:
                with pytest.raises(HistoryError, match="is stopping"):
                    one.result(5)
            assert waiting.result(5) is None
        assert source.exchange(NOTHING, lambda: True, 20.0) is None

    def test_a_manager_that_leaves_is_sent_away(self) -> None:
        source = ManagerSource()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(source.exchange, NOTHING, lambda: True, 20.0)
            until(lambda: source.send_away() or waiting.done())
            assert waiting.result(0) is None

    def test_each_question_has_one_answer_of_many_managers(self) -> None:
        source = ManagerSource()
        with (
            answering(source, all_between) as first,
            answering(source, all_between) as second,
            ThreadPoolExecutor(4) as pool,
        ):
            requests = [HistoryRequest(KEY, T0, T0 + n * MINUTE) for n in range(40)]
            counts = [
                len(found)
                for found in pool.map(lambda one: fetch_all(source, one), requests)
            ]
        assert counts == list(range(1, 41))
        numbers = [one.number for one in (*first, *second)]
        assert sorted(numbers) == list(range(1, 41))
