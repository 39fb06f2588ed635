"""The server of the page: uvicorn, with limits of its connections, and a fast end."""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from shmfeed.observe.page.app import make_app
from shmfeed.observe.page.hub import Hub

MAX_CONNECTIONS = 512
REQUEST_SECONDS = 5.0  # in which a client has to send a request's head
STALLED_SECONDS = 15.0  # for which a client may read nothing of an answer
IDLE_SECONDS = 5  # between two requests of a connection
END_SECONDS = 1  # for answers that are under way when the server stops
MAX_HEAD = 16 * 1024  # bytes of a request's head
_BACKLOG = 256  # connections that are accepted in one turn


class _Deadline:
    """A time by which something has to happen, or else the connection is cut off."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self, transport: asyncio.Transport) -> None:
        """Start it, unless it runs already."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, transport.abort)

    def cancel(self) -> None:
        """Stop it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Connection(H11Protocol):
    """One connection, which is cut off if it holds resources and does nothing.

    uvicorn limits neither the time in which a request's head arrives, nor that in which
    an answer is read. Beyond its limit of connections it refuses the newest one, so
    slow clients would keep others out; here the slowest one gives way.

    Attributes:
        waiting_since: The time since which it waits for its client, None while an
            answer is under way.
    """

    waiting_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._request_is_due = _Deadline(REQUEST_SECONDS)
        self._reader_is_due = _Deadline(STALLED_SECONDS)
        self._request_is_due.start(self.transport)
        self._note_wait()
        if len(self.connections) > MAX_CONNECTIONS:
            _cut_off_one(self.connections)  # type: ignore[arg-type] # they are ours

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._request_is_due.cancel()
        elif not self.transport.is_closing():
            self._request_is_due.start(self.transport)
        self._note_wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # begins the next answer, if it can
        self._note_wait()

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        # The head was a good one, and its answer may be under way: it would fail with a
        # traceback in the log.
        if self.cycle is not None:
            self.cycle.disconnected = True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader_is_due.start(self.transport)
        self._note_wait()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reader_is_due.cancel()
        self._note_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_is_due.cancel()
        self._reader_is_due.cancel()
        super().connection_lost(exc)

    @property
    def host(self) -> str:
        """The address of its client."""
        return self.client[0] if self.client else ""

    def _note_wait(self) -> None:
        is_answered = self.cycle is None or self.cycle.response_complete
        if not (is_answered or self.flow.write_paused):
            self.waiting_since = None
        elif self.waiting_since is None:
            self.waiting_since = self.loop.time()


def _cut_off_one(connections: Iterable[Connection]) -> None:
    """Cut off the connection that has waited longest for its client.

    It is one of the client that keeps most connections waiting, so that no client can
    keep another one out. Connections whose answer is under way stay.
    """
    waiting = [
        (one.waiting_since, one)
        for one in connections
        if one.waiting_since is not None and not one.transport.is_closing()
    ]
    counts = Counter(one.host for _, one in waiting)
    _, victim = min(waiting, key=lambda found: (-counts[found[1].host], found[0]))
    victim.transport.abort()


class PageServer(uvicorn.Server):
    """A server that ends its event streams first when it is told to stop."""

    def __init__(self, hub: Hub, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._hub = hub
        self._ended = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT and SIGTERM; uvicorn would send itself the signal again."""
        loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
        is_main = threading.current_thread() is threading.main_thread()
        for number in signals if is_main else ():
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in signals if is_main else ():
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Stop serving. Call it in the event loop."""
        self._ended.set()

    async def run_until_stopped(self, listener: socket.socket) -> None:
        """Serve on a listening socket until `stop`, or until sampling fails."""
        sampling = asyncio.create_task(self._hub.run())
        ended = asyncio.create_task(self._ended.wait())
        serving = asyncio.create_task(self.serve(sockets=[listener]))
        try:
            await asyncio.wait(
                (sampling, ended, serving), return_when=asyncio.FIRST_COMPLETED
            )
            await self._hub.stop()
            self.should_exit = True
            await serving
        finally:
            ended.cancel()
            sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sampling  # raises what made it fail


def make_server(
    hub: Hub,
    *,
    is_local: bool,
    names: Sequence[str] = (),
    token: str | None = None,
) -> PageServer:
    """Return a server of the page of a hub, with a door as `Guard` has it."""
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # no line a bad request
    config = uvicorn.Config(
        make_app(hub, is_local=is_local, names=names, token=token),
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=END_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD,
    )
    return PageServer(hub, config)
