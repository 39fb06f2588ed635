"""The rivals of multiprocessing: a Manager with its server, and a Connection."""

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

import harness
from harness import Sleeper
from sample_bars import WINDOWS, as_array, window

MANAGER, PIPE = "manager", "pipe"
_SPAWN = multiprocessing.get_context("spawn")


def missing() -> str | None:
    """Return why the rival cannot be measured here, or None."""
    return None


def _manager(end: ExitStack) -> SyncManager:
    manager = SyncManager(ctx=_SPAWN)
    manager.start()
    end.callback(manager.shutdown)
    return manager


def reading_calls(end: ExitStack) -> harness.Calls:
    held = _manager(end).dict({name: window(name) for name in WINDOWS})
    get = held.get
    calls: dict[str, harness.Call] = {}
    for name in WINDOWS:
        calls[f"copied {name}"] = lambda name=name: get(name)
        calls[f"array {name}"] = lambda name=name: as_array(get(name), name)
        calls[f"check {name}"] = lambda name=name: get(name).hex()
    return calls


def writing_calls(end: ExitStack) -> harness.Calls:
    held, bar = _manager(end).dict(), window("bar")
    return {"write": lambda: held.update(bar=bar)}


class QueueManager(BaseManager):
    """A manager that serves one queue to clients with its address and key."""


_queue: Queue[bytes] = Queue()


def _get_queue() -> Queue[bytes]:
    return _queue


QueueManager.register("bars", callable=_get_queue)


def sleeper(end: ExitStack) -> Sleeper[bytes]:
    manager = QueueManager(authkey=secrets.token_bytes(16), ctx=_SPAWN)
    manager.start()
    end.callback(manager.shutdown)
    key = bytes(manager._authkey).hex()  # type: ignore[attr-defined]
    get = manager.bars().get  # type: ignore[attr-defined]
    return Sleeper(json.dumps([manager.address, key]), lambda: get)


def waker(argument: str, end: ExitStack) -> Callable[[bytes], object]:
    address, key = json.loads(argument)
    manager: Any = QueueManager(address, bytes.fromhex(key))
    manager.connect()
    return manager.bars().put


def pipe_sleeper(end: ExitStack) -> Sleeper[bytes]:
    folder = end.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
    listener = Listener(str(Path(folder, "bars.sock")), "AF_UNIX")
    end.callback(listener.close)

    def accept() -> Callable[[], bytes]:
        connection = end.enter_context(listener.accept())
        return connection.recv_bytes

    return Sleeper(listener.address, accept)


def pipe_waker(address: str, end: ExitStack) -> Callable[[bytes], object]:
    connection = Client(address)
    end.callback(connection.close)
    return connection.send_bytes
