"""A rival: multiprocessing.Manager, whose server is a process of its own, and the pipe
of multiprocessing between two processes."""

import json
import multiprocessing
import secrets
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Client, Listener
from multiprocessing.managers import BaseManager, SyncManager
from pathlib import Path
from queue import Queue
from typing import Any

import measure
from measure import Sleeper
from same_bytes import ROWS, array, window

MANAGER, PIPE = "manager", "pipe"
_SPAWN = multiprocessing.get_context("spawn")


def missing() -> str | None:
    return None


def _manager(end: ExitStack) -> SyncManager:
    manager = SyncManager(ctx=_SPAWN)
    manager.start()
    end.callback(manager.shutdown)
    return manager


def reading(end: ExitStack) -> measure.Calls:
    held = _manager(end).dict({name: window(name) for name in ROWS})
    get = held.get
    calls: dict[str, measure.Call] = {}
    for name in ROWS:
        calls[f"copied {name}"] = lambda name=name: get(name)
        calls[f"array {name}"] = lambda name=name: array(get(name), name)
        calls[f"check {name}"] = lambda name=name: get(name).hex()
    return calls


def writing(end: ExitStack) -> measure.Calls:
    held, bar = _manager(end).dict(), window("bar")
    return {"write": lambda: held.update(bar=bar)}


class Bars(BaseManager):
    """A manager that serves one queue to whoever knows its address and key."""


_queue: Queue[bytes] = Queue()


def _the_queue() -> Queue[bytes]:
    return _queue


Bars.register("bars", callable=_the_queue)


def sleeping(end: ExitStack) -> Sleeper[bytes]:
    manager = Bars(authkey=secrets.token_bytes(16), ctx=_SPAWN)
    manager.start()
    end.callback(manager.shutdown)
    key = bytes(manager._authkey).hex()  # type: ignore[attr-defined]
    get = manager.bars().get  # type: ignore[attr-defined]
    return Sleeper(json.dumps([manager.address, key]), lambda: get)


def waking(argument: str, end: ExitStack) -> Callable[[bytes], object]:
    address, key = json.loads(argument)
    manager: Any = Bars(address, bytes.fromhex(key))
    manager.connect()
    return manager.bars().put


def sleeping_on_pipe(end: ExitStack) -> Sleeper[bytes]:
    folder = end.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
    listener = Listener(str(Path(folder, "bars.sock")), "AF_UNIX")
    end.callback(listener.close)

    def opened() -> Callable[[], bytes]:
        connection = end.enter_context(listener.accept())
        return connection.recv_bytes

    return Sleeper(listener.address, opened)


def waking_by_pipe(address: str, end: ExitStack) -> Callable[[bytes], object]:
    connection = Client(address)
    end.callback(connection.close)
    return connection.send_bytes
