import os
import select
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.loopback import within

from shmfeed.control.messages import Request
from shmfeed.errors import BadArgumentError, WebSocketConnectionError
from shmfeed.feeder.commands import Commands


def request(number=1):
    return Request(v=1, id=number, op="status")


@pytest.fixture
def commands():
    commands = Commands()
    yield commands
    commands.close()


def awake(commands, timeout=10.0):
    return select.select([commands.wake_fd], [], [], timeout)[0] != []


def test_an_asker_gets_what_the_loop_answers(commands):
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(commands.ask, request())
        assert awake(commands)
        (command,) = commands.drain()
        assert command.request == request()
        command.finish(answer=42)
        assert asked.result(10) == {"answer": 42}

        asked = pool.submit(commands.ask, request())
        assert awake(commands)
        while not (found := list(commands.drain())):
            pass
        found[0].fail(BadArgumentError("no"))
        with pytest.raises(BadArgumentError, match="no"):
            asked.result(10)


def test_commands_come_in_their_order(commands):
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(commands.ask, request(n)) for n in range(8)]
        seen = []
        while len(seen) < 8:
            for command in commands.drain():
                seen.append(command.request.id)
                command.finish(id=command.request.id)
        assert sorted(seen) == list(range(8))
        assert [one.result(10)["id"] for one in asked] == list(range(8))
    assert list(commands.drain()) == []


def test_who_asks_on_and_on_does_not_keep_the_loop(commands):
    drained = 0
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(commands.ask, request())]
        assert awake(commands)
        for command in commands.drain():
            drained += 1
            if drained < 10:
                asked.append(pool.submit(commands.ask, request()))
                # Answered only when the next one is there.
                assert within(10, lambda: commands._queue.qsize() == 1)
            command.finish()
        assert drained == 1
        assert awake(commands)
        (left,) = commands.drain()
        left.finish()
        assert [one.result(10) for one in asked] == [{}, {}]


def test_nobody_waits_for_a_loop_that_has_ended(commands):
    with ThreadPoolExecutor() as pool:
        before = pool.submit(commands.ask, request())
        assert awake(commands)
        commands.end()
        after = pool.submit(commands.ask, request())
        for asked in (before, after):
            with pytest.raises(WebSocketConnectionError, match="stopping"):
                asked.result(10)


def test_asking_while_the_loop_ends_is_always_answered():
    for _ in range(50):
        commands = Commands()
        go = threading.Barrier(2)

        def ask(commands=commands, go=go):
            go.wait()
            with pytest.raises(WebSocketConnectionError):
                commands.ask(request())

        with ThreadPoolExecutor() as pool:
            asked = pool.submit(ask)
            go.wait()
            commands.end()
            asked.result(10)
        commands.close()


def test_a_full_pipe_is_awake_enough(commands):
    for _ in range(70_000):
        commands.wake()
    assert awake(commands, 0)


def test_a_signal_after_the_end_does_nothing():
    commands = Commands()
    before = signal.signal(signal.SIGUSR1, lambda *_: commands.wake())
    try:
        commands.close()
        taken = os.pipe()  # has the numbers that were let go
        os.kill(os.getpid(), signal.SIGUSR1)
        assert select.select([taken[0]], [], [], 0.05)[0] == []
    finally:
        signal.signal(signal.SIGUSR1, before)
        for fd in taken:
            os.close(fd)
