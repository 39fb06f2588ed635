"""A rival: iceoryx2's Python package, its blackboard and its publish-subscribe.

Reader and writer are two processes. A blackboard read gives bytes; a sample that was
received is read where it lies, as an array over its memory.
"""

import ctypes
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import measure
import numpy as np
import report
from measure import Sleeper
from same_bytes import ROWS, array, window

ICEORYX, HOLDER, OBSERVER = "iceoryx2", "iceoryx2 holder", "iceoryx2 observer"
STOCK = 256  # samples that wait in a subscriber
PATIENCE_MS = 10_000


def missing() -> str | None:
    return None if find_spec("iceoryx2") else "the package iceoryx2 is not installed"


class Place:
    """Where the two processes meet: a folder and names that are this run's own."""

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

    def blackboard(self, values: dict[str, bytes]) -> Any:
        """A writer's entries, by name; the blackboard is made."""
        creator = self._service("board").blackboard_creator(ctypes.c_uint64)
        for number, data in enumerate(values.values()):
            creator = creator.add(ctypes.c_uint64(number), words(data))
        writer = creator.create().writer_builder().create()
        return {
            name: writer.entry(ctypes.c_uint64(number), type(words(data)))
            for number, (name, data) in enumerate(values.items())
        }

    def seen(self, values: dict[str, bytes]) -> Any:
        """A reader's entries, by name."""
        opener = self._service("board").blackboard_opener(ctypes.c_uint64)
        reader = opener.open().reader_builder().create()
        return {
            name: reader.entry(ctypes.c_uint64(number), type(words(data)))
            for number, (name, data) in enumerate(values.items())
        }

    def _topic(self, name: str, data: bytes) -> Any:
        service = self._service(name).publish_subscribe(type(words(data)))
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


def words(data: bytes) -> Any:
    """The same bytes as a ctypes structure, one type a size."""
    size = len(data) // 8
    if size not in _types:
        fields = [("words", ctypes.c_double * size)]
        _types[size] = type(f"Words{size}", (ctypes.Structure,), {"_fields_": fields})
    return _types[size].from_buffer_copy(data)


def _folder(end: ExitStack) -> str:
    folder = end.enter_context(
        tempfile.TemporaryDirectory(prefix=f"bench-{os.getpid()}-")
    )

    def swept() -> None:
        for left in Path("/dev/shm").glob(f"{Path(folder).name}_*"):
            left.unlink()  # iceoryx2 leaves what all nodes share

    end.callback(swept)
    return folder


def _other(end: ExitStack, party: str, folder: str) -> measure.Party:
    other = measure.Party(__file__, party, folder)
    end.callback(other.close)
    other.ask(call="begin")
    return other


def reading(end: ExitStack) -> measure.Calls:
    """Reads of what another process wrote, or sends."""
    folder = _folder(end)
    holder = _other(end, HOLDER, folder)
    values = {name: window(name) for name in ROWS}
    place = Place(folder)
    calls: dict[str, measure.Call | measure.Stocked] = {}
    for name, entry in place.seen(values).items():
        calls[f"copied {name}"] = lambda get=entry.get: get().data
        calls[f"array {name}"] = lambda get=entry.get, n=name: array(get().data, n)
        calls[f"check {name}"] = lambda get=entry.get: get().data.hex()
    for name, data in values.items():
        subscriber = place.subscriber(name, data)
        receive, type_ = subscriber.receive, ctypes.c_double * (len(data) // 8)

        def sample(name=name, receive=receive, type_=type_) -> object:
            held = receive()
            block = type_.from_address(held.payload_ptr)
            return array(block, name), held

        calls[f"receive {name}"] = measure.Stocked(
            sample, lambda name=name: holder.ask(call=f"send {name}"), STOCK
        )
    return calls


def _holding(folder: str, end: ExitStack) -> measure.Calls:
    values = {name: window(name) for name in ROWS}
    place = Place(folder)
    kept = place.blackboard(values)
    calls: dict[str, measure.Call] = {"begin": lambda: len(kept)}
    for name, data in values.items():
        publisher, sent = place.publisher(name, data), words(data)

        def send(publisher=publisher, sent=sent) -> None:
            publisher.update_connections()
            for _ in range(STOCK):
                publisher.send_copy(sent)

        calls[f"send {name}"] = send
    return calls


def writing(end: ExitStack) -> measure.Calls:
    """Writes of a bar; another process has it open, and is subscribed."""
    folder, bar = _folder(end), window("bar")
    place, value = Place(folder), words(bar)
    entry = place.blackboard({"bar": bar})["bar"]
    publisher, notifier = place.publisher("bar", bar), place.notifier()
    _other(end, OBSERVER, folder)
    publisher.update_connections()
    type_ = type(value)
    floats = tuple(np.frombuffer(bar).tolist())

    def notified() -> None:
        publisher.send_copy(value)
        notifier.notify()

    return {
        "write": lambda: entry.update_with_copy(value),
        "pack and write": lambda: entry.update_with_copy(type_(floats)),
        "publish": lambda: publisher.send_copy(value),
        "publish and notify": notified,
    }


def _observing(folder: str, end: ExitStack) -> measure.Calls:
    bar, place = window("bar"), Place(folder)
    kept = place.seen({"bar": bar}), place.subscriber("bar", bar), place.listener()
    return {"begin": lambda: len(kept)}


def sleeping(end: ExitStack) -> Sleeper[bytes]:
    import iceoryx2

    folder, bar = _folder(end), window("bar")
    place = Place(folder)
    subscriber, listener = place.subscriber("bar", bar), place.listener()
    patience = iceoryx2.Duration.from_millis(PATIENCE_MS)

    def receive() -> bytes:
        while True:
            sample = subscriber.receive()
            if sample is not None:
                return ctypes.string_at(sample.payload_ptr, len(bar))
            listener.timed_wait(patience)

    return Sleeper(folder, lambda: receive)


def waking(folder: str, end: ExitStack) -> Callable[[bytes], object]:
    place = Place(folder)
    publisher, notifier = place.publisher("bar", window("bar")), place.notifier()

    def send(bar: bytes) -> None:
        publisher.send_copy(words(bar))
        notifier.notify()

    return send


def main() -> None:
    """The other process."""
    options = report.arguments(__doc__).parse_args()
    sides = {HOLDER: _holding, OBSERVER: _observing}
    with ExitStack() as end:
        measure.serve(sides[options.party](options.argument, end))
    os._exit(0)  # at once: what is left of a node is swept by the other side


if __name__ == "__main__":
    main()
