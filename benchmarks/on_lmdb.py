"""The rival LMDB: a database on tmpfs, written by one process and read by another."""

import os
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import harness
import report
from sample_bars import WINDOWS, as_array, window

LMDB, HOLDER, OBSERVER = "lmdb", "lmdb holder", "lmdb observer"
_MAP_SIZE = 16 << 20


def missing() -> str | None:
    """Return why the rival cannot be measured here, or None."""
    if not Path("/dev/shm").is_dir():
        return "there is no tmpfs at /dev/shm"
    return None if find_spec("lmdb") else "the package lmdb is not installed"


def _open(folder: str, **options: Any) -> Any:
    import lmdb

    return lmdb.open(folder, map_size=_MAP_SIZE, max_readers=16, **options)


def _folder(end: ExitStack) -> str:
    folder = tempfile.TemporaryDirectory(prefix=f"bench-{os.getpid()}-", dir="/dev/shm")
    return end.enter_context(folder)


def _start_other(end: ExitStack, name: str, folder: str) -> None:
    """Start the other process, and wait until it has begun."""
    other = harness.Contender(__file__, name, folder)
    end.callback(other.close)
    other.ask(call="begin")


def reading_calls(end: ExitStack) -> harness.Calls:
    """Return reads of what another process has written."""
    folder = _folder(end)
    _start_other(end, HOLDER, folder)
    env = _open(folder, readonly=True)
    end.callback(env.close)

    def shared(key: bytes, name: str | None = None) -> object:
        # A buffer is valid within its transaction only; the package caches one.
        with env.begin(buffers=True) as transaction:
            data = transaction.get(key)
            return data if name is None else as_array(data, name)

    def copied(key: bytes) -> bytes:
        with env.begin() as transaction:
            return transaction.get(key)

    calls = {}
    for name in WINDOWS:
        key = name.encode()
        calls[f"shared {name}"] = lambda key=key: shared(key)
        calls[f"copied {name}"] = lambda key=key: copied(key)
        calls[f"array {name}"] = lambda key=key, name=name: shared(key, name)
        calls[f"array copy {name}"] = lambda key=key, n=name: as_array(copied(key), n)
        calls[f"check {name}"] = lambda key=key: copied(key).hex()
    return calls


def writing_calls(end: ExitStack) -> harness.Calls:
    """Return writes of a bar that another process can read; nothing is synced."""
    folder, bar = _folder(end), window("bar")
    env = _open(folder, writemap=True, sync=False)
    end.callback(env.close)
    _start_other(end, OBSERVER, folder)

    def put() -> None:
        with env.begin(write=True) as transaction:
            transaction.put(b"bar", bar)

    return {"write": put}


def main() -> None:
    """Serve as the other process, which holds the data or has the database open."""
    options = report.argument_parser(__doc__).parse_args()
    holds = options.contender == HOLDER
    mode = {"writemap": True, "sync": False} if holds else {"readonly": True}
    with _open(options.argument, **mode) as env:

        def begin() -> None:
            with env.begin(write=holds) as transaction:
                for name in WINDOWS if holds else ():
                    transaction.put(name.encode(), window(name))

        harness.serve({"begin": begin})


if __name__ == "__main__":
    main()
