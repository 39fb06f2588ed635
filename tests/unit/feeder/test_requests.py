import os
import select
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.loopback import within

from shmfeed.control.messages import ControlRequest
from shmfeed.errors import BadArgumentError, WebSocketConnectionError
from shmfeed.feeder.requests import RequestQueue


def request(number=1):
    return ControlRequest(v=1, id=number, op="status")


@pytest.fixture
def requests():
    requests = RequestQueue()
    yield requests
    requests.close()


def awake(requests, timeout=10.0):
    return select.select([requests.wake_fd], [], [], timeout)[0] != []


def test_a_sender_gets_the_answer_of_the_loop(requests):
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(requests.ask, request())
        assert awake(requests)
        (pending,) = requests.drain()
        assert pending.request == request()
        pending.finish(answer=42)
        assert asked.result(10) == {"answer": 42}

        asked = pool.submit(requests.ask, request())
        assert awake(requests)
        while not (found := list(requests.drain())):
            pass
        found[0].fail(BadArgumentError("no"))
        with pytest.raises(BadArgumentError, match="no"):
            asked.result(10)


def test_requests_come_in_their_order(requests):
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(requests.ask, request(n)) for n in range(8)]
        seen = []
        while len(seen) < 8:
            for pending in requests.drain():
                seen.append(pending.request.id)
                pending.finish(id=pending.request.id)
        assert sorted(seen) == list(range(8))
        assert [one.result(10)["id"] for one in asked] == list(range(8))
    assert list(requests.drain()) == []


def test_endless_requests_do_not_hold_the_loop(requests):
    drained = 0
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(requests.ask, request())]
        assert awake(requests)
        for pending in requests.drain():
            drained += 1
            if drained < 10:
                asked.append(pool.submit(requests.ask, request()))
                # Answered only when the next one is there.
                assert within(10, lambda: requests._queue.qsize() == 1)
            pending.finish()
        assert drained == 1
        assert awake(requests)
        (left,) = requests.drain()
        left.finish()
        assert [one.result(10) for one in asked] == [{}, {}]


def test_a_request_after_the_end_is_answered(requests):
    with ThreadPoolExecutor() as pool:
        before = pool.submit(requests.ask, request())
        assert awake(requests)
        requests.end()
        after = pool.submit(requests.ask, request())
        for asked in (before, after):
            with pytest.raises(WebSocketConnectionError, match="stopping"):
                asked.result(10)


def test_asking_while_the_loop_ends_is_always_answered():
    for _ in range(50):
        requests = RequestQueue()
        go = threading.Barrier(2)

        def ask(requests=requests, go=go):
            go.wait()
            with pytest.raises(WebSocketConnectionError):
                requests.ask(request())

        with ThreadPoolExecutor() as pool:
            asked = pool.submit(ask)
            go.wait()
            requests.end()
            asked.result(10)
        requests.close()


def test_a_full_pipe_still_wakes(requests):
    for _ in range(70_000):
        requests.wake()
    assert awake(requests, 0)


def test_a_signal_after_the_end_does_nothing():
    requests = RequestQueue()
    before = signal.signal(signal.SIGUSR1, lambda *_: requests.wake())
    try:
        requests.close()
        taken = os.pipe()  # reuses the closed descriptors
        os.kill(os.getpid(), signal.SIGUSR1)
        assert select.select([taken[0]], [], [], 0.05)[0] == []
    finally:
        signal.signal(signal.SIGUSR1, before)
        for fd in taken:
            os.close(fd)


def test_the_pipe_is_not_closed_under_a_thread_that_wakes(monkeypatch):
    """Its number may be another file's at once, which would be written to."""
    requests = RequestQueue()
    write, closed = os.write, threading.Event()

    def close():
        requests.close()
        closed.set()

    def write_late(fd, data):
        thread.start()
        assert not closed.wait(0.2)
        return write(fd, data)

    thread = threading.Thread(target=close)
    monkeypatch.setattr(os, "write", write_late)
    requests.wake()
    thread.join()
    monkeypatch.undo()
    requests.wake()  # does nothing
