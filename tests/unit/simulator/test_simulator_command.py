"""`shmfeed simulate`: its output, its end by a signal, and its errors."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from websockets.sync.client import connect

COMMAND = (sys.executable, "-W", "error", "-m", "shmfeed.simulator")
REQUEST = '{"type":"CONNECT","request_id":"1","symbols":["A"],"resolutions":["1s"]}'
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=pipe, stderr=pipe, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        with process:  # closes its pipes and reaps it
            pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_prints_counts(start, number):
    process = start("--speed", "60", "--symbols", "A,B", "--history", "3")
    line = process.stdout.readline()
    found = re.fullmatch(r"listening on (ws://127\.0\.0\.1:\d+/market_data)\n", line)
    with connect(found[1]) as connection:
        connection.send(REQUEST)
        assert json.loads(connection.recv(timeout=5))["type"] == "CONNECTED"
        process.send_signal(number)
        output, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert errors == ""
    assert re.fullmatch(r"1 connection, 1 request, \d+ frames?\n", output)


def test_json_has_url_port_and_pid(start):
    process = start("--json", "--protocol", "binance", "--speed", "max", "--bars", "2")
    printed = json.loads(process.stdout.readline())
    assert printed["pid"] == process.pid
    assert printed["url"] == f"ws://127.0.0.1:{printed['port']}"
    with connect(printed["url"] + "/ws/a@kline_1m") as connection:
        for _ in range(16):
            connection.recv(timeout=5)
    process.terminate()
    output, _ = process.communicate(timeout=10)
    assert json.loads(output) == {"connections": 1, "requests": 1, "frames": 16}


def test_it_ends_cleanly_when_its_output_is_closed(start):
    process = start()
    process.stdout.readline()
    process.stdout.close()
    process.terminate()
    assert process.wait(10) == 0
    assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--no-closed-flag", "--speed", "60"], "speed 1"),
        (["--speed", "fast"], "fast"),
        (["--symbols", "no symbol"], "no symbol"),
        (["--resolutions", "7m"], "7m"),
        (["--replay", "/no/such/file"], "/no/such/file"),
        (["--port", "x"], "--port"),
        (["--faults", "wrong:1"], "wrong"),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(start, arguments, text):
    process = start(*arguments)
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, output) == (2, "")
    assert text in errors
    assert "Traceback" not in errors


def test_a_taken_port_is_an_error(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start("--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "in use" in errors
    assert "Traceback" not in errors


def test_without_websockets_the_error_says_what_to_install(tmp_path):
    (tmp_path / "websockets.py").write_text("raise ModuleNotFoundError(name=__name__)")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        COMMAND, env=environment, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert "pip install websockets" in done.stderr
    assert "Traceback" not in done.stderr
