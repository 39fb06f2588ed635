"""A process that serves another one: its lines are logged, and it is started again."""

import logging
import os
import time

import pytest
from support.waiting import until

from shmfeed import supervised_process
from shmfeed.supervised_process import SupervisedProcess

CHILD = """
import os, socket, sys
inbox = socket.socket(fileno=0)
first = inbox.recv(1000).decode()
inbox.send(f"INFO {first} {os.getpid()}".encode())
while True:
    said = inbox.recv(1000)
    if said == b"die":
        os._exit(3)
    if not said:
        break
    inbox.send(said)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "supervised_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(supervised_process, "FIRST_RESTART", 0.02)
    return "supervised_child"


@pytest.fixture
def process(module, caplog):
    caplog.set_level(logging.DEBUG, "shmfeed.supervised_process")
    process = SupervisedProcess(module, "spot", "child", b"hello")
    process.start()
    yield process
    process.close(20)
    assert not process._thread.is_alive()


def lines(caplog, begin):
    return [text for text in caplog.messages if text.startswith(begin)]


def test_its_lines_are_logged_at_their_level(process, caplog) -> None:
    until(lambda: lines(caplog, "feed spot: child: hello"), what="its first line")
    process.send(b"ERROR no disk")
    process.send(b"just words")
    until(lambda: lines(caplog, "feed spot: child: just words"), what="its last line")
    levels = {record.getMessage(): record.levelname for record in caplog.records}
    assert levels["feed spot: child: no disk"] == "ERROR"
    assert levels["feed spot: child: just words"] == "WARNING"


def test_it_is_started_again_and_gets_the_same_first_datagram(process, caplog) -> None:
    for count in (1, 2, 3):
        until(lambda n=count: len(lines(caplog, "feed spot: child: hello")) == n)
        process.send(b"die")
    until(lambda: len(lines(caplog, "feed spot: child ended with code 3")) == 3)
    pids = [text.split()[-1] for text in lines(caplog, "feed spot: child: hello")]
    assert len(set(pids)) >= 3


def test_delays_grow_up_to_a_limit(module, caplog, monkeypatch) -> None:
    process = SupervisedProcess(module, "spot", "child", b"hello")
    delays = []

    def wait(seconds):
        delays.append(seconds)
        return len(delays) == 9

    monkeypatch.setattr(process, "_begin", lambda: None)
    monkeypatch.setattr(process._closing, "wait", wait)
    process._supervise()
    assert delays[:4] == [0.02, 0.04, 0.08, 0.16]
    assert delays[-1] == supervised_process.LONGEST_RESTART


def test_it_ends_with_its_supervisor(process, caplog) -> None:
    until(lambda: lines(caplog, "feed spot: child: hello"))
    pid = int(lines(caplog, "feed spot: child: hello")[0].split()[-1])
    began = time.monotonic()
    process.close(20)
    assert time.monotonic() - began < 15
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(BrokenPipeError):
        process.send(b"x")
    assert not lines(caplog, "feed spot: child ended")


def test_one_that_was_just_started_again_ends_too(module) -> None:
    """Its supervisor was closed between the end of the last one and this start."""
    process = SupervisedProcess(module, "spot", "child", b"hello")
    process.close()
    process._begin()
    assert process._process.wait(20) == 0
    process.disown()


def test_one_that_cannot_be_started_is_told(module, caplog, monkeypatch) -> None:
    def refuse(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(supervised_process.subprocess, "Popen", refuse)
    process = SupervisedProcess(module, "spot", "child", b"hello")
    process.start()
    said = "feed spot: child cannot be started: Too many open files"
    until(lambda: caplog.messages.count(said) >= 2, what="two attempts")
    process.close(20)
