"""A rival: Redis over a Unix socket, its server started for this and ended after it."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import measure
from measure import Sleeper
from same_bytes import ROWS, array, window

REDIS = "redis"
CHANNEL = "bars"
PATIENCE = 10.0


def missing() -> str | None:
    if not find_spec("redis"):
        return "the package redis is not installed"
    return None if shutil.which("redis-server") else "there is no redis-server here"


def server(end: ExitStack) -> str:
    """The socket of a server that keeps nothing and listens on no port."""
    folder = end.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
    path = str(Path(folder, "redis.sock"))
    command = ["redis-server", "--port", "0", "--unixsocket", path, "--dir", folder]
    command += ["--unixsocketperm", "700", "--save", "", "--appendonly", "no"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = end.enter_context(subprocess.Popen(command, **quiet))
    end.callback(process.terminate)
    deadline = time.monotonic() + PATIENCE
    while not Path(path).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"redis-server does not listen: {command}")
        time.sleep(0.01)
    return path


def client(path: str) -> Any:
    import redis

    return redis.Redis(unix_socket_path=path)


def reading(end: ExitStack) -> measure.Calls:
    connection = client(server(end))
    end.callback(connection.close)
    calls: dict[str, measure.Call] = {}
    for name in ROWS:
        connection.set(name, window(name))
        calls[f"copied {name}"] = lambda name=name: connection.get(name)
        calls[f"array {name}"] = lambda name=name: array(connection.get(name), name)
        calls[f"check {name}"] = lambda name=name: connection.get(name).hex()
    return calls


def writing(end: ExitStack) -> measure.Calls:
    connection, bar = client(server(end)), window("bar")
    end.callback(connection.close)
    return {
        "write": lambda: connection.set("bar", bar),
        "publish": lambda: connection.publish(CHANNEL, bar),
    }


def sleeping(end: ExitStack) -> Sleeper[bytes]:
    path = server(end)
    connection = client(path)
    end.callback(connection.close)
    channel = connection.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(CHANNEL)
    end.callback(channel.close)
    channel.get_message(timeout=PATIENCE)  # that it is subscribed
    messages = channel.listen()  # it wakes sooner than get_message with a timeout

    def receive() -> bytes:
        return next(messages)["data"]

    return Sleeper(path, lambda: receive)


def waking(path: str, end: ExitStack) -> Callable[[bytes], object]:
    connection = client(path)
    end.callback(connection.close)
    return lambda bar: connection.publish(CHANNEL, bar)
