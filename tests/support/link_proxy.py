"""A link between two hosts: a TCP proxy that a test cuts, stalls or slows."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Self

PASS, CUT, STALL, SLOW = "pass", "cut", "stall", "slow"
SLOW_SECONDS = 0.05  # added to each read of at most 64 KiB, in both directions
_READ = 1 << 16


class LinkProxy:
    """A proxy before a server, in a thread of its own: a context manager.

    Args:
        port: The server's port on loopback.

    Attributes:
        port: The proxy's own.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self._server_port = port
        self._mode = PASS
        self._loop = asyncio.new_event_loop()
        self._passes = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = threading.Event()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def set(self, mode: str) -> None:
        """Put a mode in force: PASS, CUT, STALL (TCP stays up) or SLOW."""
        self._call(lambda: self._set(mode))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._call(self._ending.set)
        self._thread.join()

    def _call(self, function: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(function)

    def _set(self, mode: str) -> None:
        self._mode = mode
        if mode == STALL:
            self._passes.clear()
        else:
            self._passes.set()
        if mode == CUT:
            self._abort()

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._passes.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._ending.wait()
        server.close()
        self._abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._carry(reader, writer)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._mode == CUT:
            return
        from_server, to_server = await asyncio.open_connection(
            "127.0.0.1", self._server_port
        )
        ends = {writer, to_server}
        self._writers |= ends
        pumps = [
            asyncio.ensure_future(self._pump(reader, to_server)),
            asyncio.ensure_future(self._pump(from_server, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            to_server.transport.abort()
            self._writers -= ends

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(_READ):
            if self._mode == SLOW:
                await asyncio.sleep(SLOW_SECONDS)
            await self._passes.wait()
            writer.write(data)
            await writer.drain()
