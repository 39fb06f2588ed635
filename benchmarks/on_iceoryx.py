"""The rival iceoryx2, by its Python package: its blackboard and publish-subscribe.

Reader and writer are two processes. A blackboard read returns bytes; a received sample
is read in place, as an array over its memory.
"""

import ctypes
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import harness
import numpy as np
import report
from harness import Sleeper
from sample_bars import WINDOWS, as_array, window

ICEORYX, HOLDER, OBSERVER = "iceoryx2", "iceoryx2 holder", "iceoryx2 observer"
STOCK = 256  # samples queued in a subscriber
WAIT_MS = 10_000


def missing() -> str | None:
    """Return why the rival cannot be measured here, or None."""
    return None if find_spec("iceoryx2") else "the package iceoryx2 is not installed"


class Services:
    """The iceoryx2 services of this run, in a folder of its own."""

    def __init__(self, folder: str) -> None:
        import iceoryx2

        iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
        config = iceoryx2.config.default()
        config.global_cfg.root_path = iceoryx2.Path.new(f"{folder}/")
        prefix = f"{Path(folder).name}_"
        config.global_cfg.prefix = iceoryx2.FileName.new(prefix)
        builder = iceoryx2.NodeBuilder.new().config(config)
        self._node = builder.create(iceoryx2.ServiceType.Ipc)
        self._name = iceoryx2.ServiceName.new

    def _service(self, name: str) -> Any:
        return self._node.service_builder(self._name(name))

    def create_blackboard(self, values: dict[str, bytes]) -> Any:
        """Create the blackboard; return a writer's entries by name."""
        creator = self._service("board").blackboard_creator(ctypes.c_uint64)
        for number, data in enumerate(values.values()):
            creator = creator.add(ctypes.c_uint64(number), as_struct(data))
        writer = creator.create().writer_builder().create()
        return {
            name: writer.entry(ctypes.c_uint64(number), type(as_struct(data)))
            for number, (name, data) in enumerate(values.items())
        }

    def open_blackboard(self, values: dict[str, bytes]) -> Any:
        """Return a reader's entries by name."""
        opener = self._service("board").blackboard_opener(ctypes.c_uint64)
        reader = opener.open().reader_builder().create()
        return {
            name: reader.entry(ctypes.c_uint64(number), type(as_struct(data)))
            for number, (name, data) in enumerate(values.items())
        }

    def _topic(self, name: str, data: bytes) -> Any:
        service = self._service(name).publish_subscribe(type(as_struct(data)))
        return service.subscriber_max_buffer_size(STOCK).open_or_create()

    def publisher(self, name: str, data: bytes) -> Any:
        return self._topic(name, data).publisher_builder().create()

    def subscriber(self, name: str, data: bytes) -> Any:
        return self._topic(name, data).subscriber_builder().create()

    def notifier(self) -> Any:
        event = self._service("event").event().open_or_create()
        return event.notifier_builder().create()

    def listener(self) -> Any:
        event = self._service("event").event().open_or_create()
        return event.listener_builder().create()


_types: dict[int, Any] = {}


def as_struct(data: bytes) -> Any:
    """Return the bytes as a ctypes structure; one type for each size."""
    size = len(data) // 8
    if size not in _types:
        fields = [("words", ctypes.c_double * size)]
        _types[size] = type(f"Words{size}", (ctypes.Structure,), {"_fields_": fields})
    return _types[size].from_buffer_copy(data)


def _folder(end: ExitStack) -> str:
    folder = end.enter_context(
        tempfile.TemporaryDirectory(prefix=f"bench-{os.getpid()}-")
    )

    def sweep() -> None:
        for left in Path("/dev/shm").glob(f"{Path(folder).name}_*"):
            left.unlink()  # iceoryx2 leaves what its nodes share

    end.callback(sweep)
    return folder


def _start_other(end: ExitStack, name: str, folder: str) -> harness.Contender:
    other = harness.Contender(__file__, name, folder)
    end.callback(other.close)
    other.ask(call="begin")
    return other


def reading_calls(end: ExitStack) -> harness.Calls:
    """Return reads of what another process wrote or sends."""
    folder = _folder(end)
    holder = _start_other(end, HOLDER, folder)
    values = {name: window(name) for name in WINDOWS}
    services = Services(folder)
    calls: dict[str, harness.Call | harness.Restocked] = {}
    for name, entry in services.open_blackboard(values).items():
        calls[f"copied {name}"] = lambda get=entry.get: get().data
        calls[f"array {name}"] = lambda get=entry.get, n=name: as_array(get().data, n)
        calls[f"check {name}"] = lambda get=entry.get: get().data.hex()
    for name, data in values.items():
        subscriber = services.subscriber(name, data)
        receive, type_ = subscriber.receive, ctypes.c_double * (len(data) // 8)

        def receive_array(name=name, receive=receive, type_=type_) -> object:
            sample = receive()
            block = type_.from_address(sample.payload_ptr)
            return as_array(block, name), sample

        calls[f"receive {name}"] = harness.Restocked(
            receive_array, lambda name=name: holder.ask(call=f"send {name}"), STOCK
        )
    return calls


def _holder_calls(folder: str, end: ExitStack) -> harness.Calls:
    values = {name: window(name) for name in WINDOWS}
    services = Services(folder)
    kept = services.create_blackboard(values)
    calls: dict[str, harness.Call] = {"begin": lambda: len(kept)}
    for name, data in values.items():
        publisher, sent = services.publisher(name, data), as_struct(data)

        def send(publisher=publisher, sent=sent) -> None:
            publisher.update_connections()
            for _ in range(STOCK):
                publisher.send_copy(sent)

        calls[f"send {name}"] = send
    return calls


def writing_calls(end: ExitStack) -> harness.Calls:
    """Return writes of a bar; another process has it open and is subscribed."""
    folder, bar = _folder(end), window("bar")
    services, value = Services(folder), as_struct(bar)
    entry = services.create_blackboard({"bar": bar})["bar"]
    publisher, notifier = services.publisher("bar", bar), services.notifier()
    _start_other(end, OBSERVER, folder)
    publisher.update_connections()
    type_ = type(value)
    floats = tuple(np.frombuffer(bar).tolist())

    def publish_and_notify() -> None:
        publisher.send_copy(value)
        notifier.notify()

    return {
        "write": lambda: entry.update_with_copy(value),
        "pack and write": lambda: entry.update_with_copy(type_(floats)),
        "publish": lambda: publisher.send_copy(value),
        "publish and notify": publish_and_notify,
    }


def _observer_calls(folder: str, end: ExitStack) -> harness.Calls:
    bar, services = window("bar"), Services(folder)
    kept = (
        services.open_blackboard({"bar": bar}),
        services.subscriber("bar", bar),
        services.listener(),
    )
    return {"begin": lambda: len(kept)}


def sleeper(end: ExitStack) -> Sleeper[bytes]:
    import iceoryx2

    folder, bar = _folder(end), window("bar")
    services = Services(folder)
    subscriber, listener = services.subscriber("bar", bar), services.listener()
    timeout = iceoryx2.Duration.from_millis(WAIT_MS)

    def receive() -> bytes:
        while True:
            sample = subscriber.receive()
            if sample is not None:
                return ctypes.string_at(sample.payload_ptr, len(bar))
            listener.timed_wait(timeout)

    return Sleeper(folder, lambda: receive)


def waker(folder: str, end: ExitStack) -> Callable[[bytes], object]:
    services = Services(folder)
    publisher, notifier = services.publisher("bar", window("bar")), services.notifier()

    def send(bar: bytes) -> None:
        publisher.send_copy(as_struct(bar))
        notifier.notify()

    return send


def main() -> None:
    """Serve as the other process."""
    options = report.argument_parser(__doc__).parse_args()
    sides = {HOLDER: _holder_calls, OBSERVER: _observer_calls}
    with ExitStack() as end:
        harness.serve(sides[options.contender](options.argument, end))
    os._exit(0)  # without cleanup: the other side sweeps what a node leaves


if __name__ == "__main__":
    main()
