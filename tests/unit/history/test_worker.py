"""The order of requests, and what becomes of each job."""

import threading
from contextlib import contextmanager

import pytest
from support.loopback import within

from shmfeed.history.blocks import check_rows, times_of
from shmfeed.history.interface import (
    HistoryError,
    HistoryJob,
    HistoryPage,
    HistoryRequest,
    RateLimitError,
)
from shmfeed.history.worker import HistoryWorker

MINUTE = 60_000
START = 1_700_000_040_000
KEY = ("BTCUSDT", "1m")


def block(*minutes):
    rows = [(START + n * MINUTE, 0, 1, 2, 0.5, 1.5, 3, 4, 0) for n in minutes]
    return check_rows(rows, "1m")


class Source:
    """A source whose pages a test lets go, one by one."""

    name = "a test"
    is_own = True

    def __init__(self, *, free: bool = False) -> None:
        self.asked: list[HistoryRequest] = []
        self.answers = {}  # by the request's key and first
        self.gate = threading.Semaphore(1000 if free else 0)
        self.is_closed = False

    def fetch(self, request):
        self.asked.append(request)
        self.gate.acquire()
        if self.is_closed:
            raise HistoryError("closed", "away")
        answer = self.answers.get(request.first, HistoryPage(block(0), START, None))
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def symbols(self, wanted):
        return None

    def close(self):
        self.is_closed = True
        self.gate.release(1000)


@contextmanager
def worker_of(source, threads=1):
    woken = threading.Event()
    worker = HistoryWorker(source, woken.set, threads=threads)
    try:
        yield worker, woken
    finally:
        worker.close()
        assert not [t for t in threading.enumerate() if "history" in t.name]


def job(purpose, first=0, last=0, key=KEY, newest=0):
    return HistoryJob(HistoryRequest(key, first, last, newest), purpose)


def outcomes_of(worker, woken, count):
    found = []
    while len(found) < count:
        assert woken.wait(5)
        woken.clear()
        found += worker.drain()
    return found


def test_an_answer():
    source = Source(free=True)
    with worker_of(source) as (worker, woken):
        asked = job("hole")._replace(token="mine")
        worker.ask(asked)
        (outcome,) = outcomes_of(worker, woken, 1)
        assert outcome.job is asked
        assert outcome.error is None
        assert times_of(outcome.answer.block).tolist() == [START]
        assert outcome.answer.is_own
        assert outcome.answer.venue_now == START
        assert worker.pending == 0


def test_the_urgent_overtake():
    source = Source()
    with worker_of(source) as (worker, woken):
        worker.ask(job("warmup", 1))
        assert within(5, lambda: source.asked)
        jobs = [
            job("retry", 2, 2),
            job("warmup", 3, 3),
            job("hole", 4, 9),
            job("hole", 8, 9),
            job("hole", 4, 5),
            job("confirm", 5, 5),
            job("poll", 6, 6),
            job("reconnect", 7, 7),
        ]
        for one in jobs:
            worker.ask(one)
        source.gate.release(len(jobs) + 1)
        outcomes_of(worker, woken, len(jobs) + 1)
        asked = [(r.first, r.last) for r in source.asked[1:]]
        assert asked == [(7, 7), (6, 6), (8, 9), (4, 9), (4, 5), (5, 5), (3, 3), (2, 2)]


def test_a_hole_overtakes_a_warmup_between_its_pages():
    source = Source()
    follows = HistoryRequest(KEY, 2, 0)
    source.answers = {
        1: HistoryPage(block(5, 6), START, follows),
        2: HistoryPage(block(1, 2), START + 1, None),
    }
    with worker_of(source) as (worker, woken):
        worker.ask(job("warmup", 1))
        assert within(5, lambda: source.asked)
        worker.ask(job("hole", 9, 9))
        source.gate.release(3)
        hole, warmup = outcomes_of(worker, woken, 2)
        assert [request.first for request in source.asked] == [1, 9, 2]
        assert hole.job.purpose == "hole"
        times = [START + n * MINUTE for n in (1, 2, 5, 6)]
        assert times_of(warmup.answer.block).tolist() == times
        assert warmup.answer.venue_now == START + 1


def test_an_error():
    source = Source(free=True)
    source.answers[0] = HistoryError("no", "refused")
    with worker_of(source) as (worker, woken):
        worker.ask(job("hole"))
        (outcome,) = outcomes_of(worker, woken, 1)
        assert outcome.answer is None
        assert outcome.error.kind == "refused"


def test_an_answer_that_breaks_off_has_its_pages():
    source = Source(free=True)
    source.answers = {
        0: HistoryPage(block(0, 1), START, HistoryRequest(KEY, 2, 9)),
        2: HistoryError("gone", "away"),
    }
    with worker_of(source) as (worker, woken):
        worker.ask(job("hole"))
        (outcome,) = outcomes_of(worker, woken, 1)
        assert outcome.answer.block.shape[1] == 2
        assert str(outcome.error) == "gone"


def test_an_error_of_the_source_itself_is_told(caplog):
    source = Source(free=True)
    source.answers[0] = ZeroDivisionError("oops")
    with worker_of(source) as (worker, woken):
        worker.ask(job("hole"))
        (outcome,) = outcomes_of(worker, woken, 1)
        assert outcome.error.kind == "away"
        assert "oops" in str(outcome.error)
        worker.ask(job("hole", 1))  # the thread lives
        assert outcomes_of(worker, woken, 1)[0].answer
    assert "a test failed" in caplog.text


def test_the_rate_limit_makes_all_wait_and_the_urgent_go_first():
    source = Source(free=True)
    source.answers[1] = [
        RateLimitError("wait", 0.2),
        HistoryPage(block(1), START, None),
    ]
    with worker_of(source) as (worker, woken):
        worker.ask(job("warmup", 1))
        assert within(5, lambda: worker.pause == "wait")
        worker.ask(job("hole", 2))
        assert [one.job.purpose for one in outcomes_of(worker, woken, 2)] == [
            "hole",
            "warmup",
        ]
        assert [request.first for request in source.asked] == [1, 2, 1]
        assert worker.pause == ""


@pytest.mark.parametrize("state", ["waiting", "running", "done"])
def test_a_cancelled_stream_has_no_outcome(state):
    source = Source()
    with worker_of(source) as (worker, woken):
        other = ("ETHUSDT", "1m")
        if state == "waiting":
            worker.ask(job("hole", 1, key=other))
            assert within(5, lambda: source.asked)
        worker.ask(job("hole", 2))
        if state == "running":
            assert within(5, lambda: source.asked)
        if state == "done":
            source.gate.release()
            assert woken.wait(5)
        worker.cancel(KEY)
        source.gate.release(2)
        worker.ask(job("hole", 3, key=other))
        assert within(5, lambda: worker.pending == 0)
        assert {one.job.request.key for one in worker.drain()} == {other}


def test_requests_go_out_together():
    source = Source()
    with worker_of(source, threads=3) as (worker, woken):
        for number in range(5):
            worker.ask(job("hole", number))
        assert within(5, lambda: len(source.asked) == 3)
        source.gate.release(5)
        assert len(outcomes_of(worker, woken, 5)) == 5


def test_closing_ends_a_request_under_way():
    source = Source()
    with worker_of(source, threads=2) as (worker, _):
        worker.ask(job("hole"))
        assert within(5, lambda: source.asked)
        worker.close()
        assert worker.drain() == []
        worker.ask(job("hole"))
        assert worker.pending == 0


def test_a_host_without_room_for_a_thread_is_a_failure_of_the_job(monkeypatch) -> None:
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    woken = threading.Event()
    worker = HistoryWorker(Source(free=True), woken.set)
    job = HistoryJob(HistoryRequest(KEY, START, START), "hole")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        worker.ask(job)
    (outcome,) = worker.drain()
    assert woken.is_set()
    assert (outcome.job, outcome.answer) == (job, None)
    assert outcome.error.kind == "away"
    assert "a test: this host can start no thread" in str(outcome.error)
    woken.clear()
    worker.ask(job)  # there is room again
    assert woken.wait(5)
    assert worker.drain()[0].error is None
    worker.close()
