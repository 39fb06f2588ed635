"""A rival: LMDB on tmpfs, written by one process and read by another."""

import os
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import measure
import report
from same_bytes import ROWS, array, window

LMDB, HOLDER, OBSERVER = "lmdb", "lmdb holder", "lmdb observer"
_ROOM = 16 << 20


def missing() -> str | None:
    if not Path("/dev/shm").is_dir():
        return "there is no tmpfs at /dev/shm"
    return None if find_spec("lmdb") else "the package lmdb is not installed"


def _open(folder: str, **options: Any) -> Any:
    import lmdb

    return lmdb.open(folder, map_size=_ROOM, max_readers=16, **options)


def _folder(end: ExitStack) -> str:
    folder = tempfile.TemporaryDirectory(prefix=f"bench-{os.getpid()}-", dir="/dev/shm")
    return end.enter_context(folder)


def _begun(end: ExitStack, party: str, folder: str) -> None:
    """The other process, with what it does first done."""
    other = measure.Party(__file__, party, folder)
    end.callback(other.close)
    other.ask(call="begin")


def reading(end: ExitStack) -> measure.Calls:
    """Reads of what another process has put there."""
    folder = _folder(end)
    _begun(end, HOLDER, folder)
    env = _open(folder, readonly=True)
    end.callback(env.close)

    def shared(key: bytes, name: str | None = None) -> object:
        # What it gives holds for the transaction only; the package keeps one spare.
        with env.begin(buffers=True) as transaction:
            data = transaction.get(key)
            return data if name is None else array(data, name)

    def copied(key: bytes) -> bytes:
        with env.begin() as transaction:
            return transaction.get(key)

    calls = {}
    for name in ROWS:
        key = name.encode()
        calls[f"shared {name}"] = lambda key=key: shared(key)
        calls[f"copied {name}"] = lambda key=key: copied(key)
        calls[f"array {name}"] = lambda key=key, name=name: shared(key, name)
        calls[f"array copy {name}"] = lambda key=key, n=name: array(copied(key), n)
        calls[f"check {name}"] = lambda key=key: copied(key).hex()
    return calls


def writing(end: ExitStack) -> measure.Calls:
    """Writes of a bar that another process can read; nothing is synced."""
    folder, bar = _folder(end), window("bar")
    env = _open(folder, writemap=True, sync=False)
    end.callback(env.close)
    _begun(end, OBSERVER, folder)

    def put() -> None:
        with env.begin(write=True) as transaction:
            transaction.put(b"bar", bar)

    return {"write": put}


def main() -> None:
    """The other process: it holds the windows, or has one open."""
    options = report.arguments(__doc__).parse_args()
    holds = options.party == HOLDER
    way = {"writemap": True, "sync": False} if holds else {"readonly": True}
    with _open(options.argument, **way) as env:

        def begin() -> None:
            with env.begin(write=holds) as transaction:
                for name in ROWS if holds else ():
                    transaction.put(name.encode(), window(name))

        measure.serve({"begin": begin})


if __name__ == "__main__":
    main()
