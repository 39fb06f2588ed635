"""The rival Redis: a server of its own, over a Unix socket."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import harness
from harness import Sleeper
from sample_bars import WINDOWS, as_array, window

REDIS = "redis"
CHANNEL = "bars"
TIMEOUT_SECONDS = 10.0


def missing() -> str | None:
    """Return why the rival cannot be measured here, or None."""
    if not find_spec("redis"):
        return "the package redis is not installed"
    return None if shutil.which("redis-server") else "redis-server is not installed"


def start_server(end: ExitStack, port: int = 0) -> str:
    """Start a server without persistence; return its socket's path.

    It listens on TCP too, on loopback, if a port is given.
    """
    folder = end.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
    path = str(Path(folder, "redis.sock"))
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--unixsocket", path, "--dir", folder]
    command += ["--unixsocketperm", "700", "--save", "", "--appendonly", "no"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = end.enter_context(subprocess.Popen(command, **quiet))
    end.callback(process.terminate)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not Path(path).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"redis-server did not start: {command}")
        time.sleep(0.01)
    return path


def start_tcp_server(end: ExitStack) -> int:
    """Start a server as above; return its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    start_server(end, port)
    return port


def client(path: str) -> Any:
    import redis

    return redis.Redis(unix_socket_path=path)


def reading_calls(end: ExitStack) -> harness.Calls:
    connection = client(start_server(end))
    end.callback(connection.close)
    calls: dict[str, harness.Call] = {}
    for name in WINDOWS:
        connection.set(name, window(name))
        calls[f"copied {name}"] = lambda name=name: connection.get(name)
        calls[f"array {name}"] = lambda name=name: as_array(connection.get(name), name)
        calls[f"check {name}"] = lambda name=name: connection.get(name).hex()
    return calls


def writing_calls(end: ExitStack) -> harness.Calls:
    connection, bar = client(start_server(end)), window("bar")
    end.callback(connection.close)
    return {
        "write": lambda: connection.set("bar", bar),
        "publish": lambda: connection.publish(CHANNEL, bar),
    }


def sleeper(end: ExitStack) -> Sleeper[bytes]:
    path = start_server(end)
    connection = client(path)
    end.callback(connection.close)
    channel = connection.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(CHANNEL)
    end.callback(channel.close)
    channel.get_message(timeout=TIMEOUT_SECONDS)  # the confirmation of the subscription
    messages = channel.listen()  # this wakes sooner than get_message with a timeout

    def receive() -> bytes:
        return next(messages)["data"]

    return Sleeper(path, lambda: receive)


def waker(path: str, end: ExitStack) -> Callable[[bytes], object]:
    connection = client(path)
    end.callback(connection.close)
    return lambda bar: connection.publish(CHANNEL, bar)
