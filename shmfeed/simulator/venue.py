"""A venue in this process: its own thread, its own loop, loopback only by default."""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self, TypeVar

from shmfeed.bar import Bar, close_time
from shmfeed.simulator.frames import market_row, text_frame
from shmfeed.simulator.log import Record
from shmfeed.simulator.market import STEPS
from shmfeed.simulator.options import VenueOptions, venue_options

if TYPE_CHECKING:
    from shmfeed.simulator.server import VenueServer

_Result = TypeVar("_Result")
_CALL_TIMEOUT = 10.0


class Venue:
    """A local venue, to be used as a context manager or with start() and stop().

    The keywords are the fields of VenueOptions, as `venue_options` takes them. All
    methods may be called from any thread but the venue's own. What goes wrong is
    asked for by `faults`, and changed by `set_faults`, `mute` and `refuse`; what a test
    sends by itself (`send`, `send_bytes`, `push_bar`) is sent as it is.
    """

    def __init__(self, **options: Any) -> None:
        self.options: VenueOptions = venue_options(options)
        self.record = Record()
        self.port = self.options.port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: VenueServer | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Listen; OSError where the port is taken, BadArgumentError for a recording."""
        server_class = load_server()
        listening: Future[int] = Future()

        async def serve() -> None:
            try:
                self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
                self._server = server = server_class(self.options, self.record)
                listening.set_result(await server.start())
            except BaseException as error:  # noqa: BLE001  # start() raises it
                self._server = None
                listening.set_exception(error)
                return
            await self._stopping.wait()
            await server.stop()

        self._thread = threading.Thread(
            target=lambda: asyncio.run(serve()), name="venue", daemon=True
        )
        self._thread.start()
        try:
            self.port = listening.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def stop(self) -> None:
        """Close all connections and the port; idempotent."""
        if self._server is None:
            return
        self._server = None
        if self._loop and self._stopping and self._thread:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The endpoint to give to a client; a base URL where the protocol has many."""
        return venue_url(self.options, self.port)

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return self.record.connections

    @property
    def subscriptions(self) -> list[dict[str, Any]]:
        """Every subscription request so far, parsed, refused ones included.

        Of Binance: the messages, and {"method": "URL", "params", "path"}.
        """
        return list(self.record.asked)

    @property
    def received(self) -> list[str]:
        """Every text message that clients have sent so far."""
        return list(self.record.received)

    def wait_connections(self, count: int, timeout: float = 10.0) -> None:
        """Sleep until exactly `count` clients are connected; TimeoutError."""
        self.record.wait_for(
            f"{count} connections", lambda record: record.connections == count, timeout
        )

    def wait_subscribed(self, count: int = 1, timeout: float = 10.0) -> None:
        """Sleep until `count` subscription requests in all were accepted."""
        self.record.wait_for(
            f"{count} subscriptions", lambda record: record.accepted >= count, timeout
        )

    def wait_asked(self, count: int = 1, timeout: float = 10.0) -> None:
        """Sleep until there were `count` subscription requests, refused ones too."""
        self.record.wait_for(
            f"{count} requests", lambda record: record.requests >= count, timeout
        )

    def wait_received(self, count: int = 1, timeout: float = 10.0) -> None:
        """Sleep until clients have sent `count` messages in all."""
        self.record.wait_for(
            f"{count} messages", lambda record: record.messages >= count, timeout
        )

    def wait_sent(self, count: int, timeout: float = 10.0) -> None:
        """Sleep until `count` frames in all were handed to the sockets."""
        self.record.wait_for(
            f"{count} frames sent", lambda record: record.frames >= count, timeout
        )

    def drop_connections(self, code: int | None = None) -> int:
        """Cut every connection, or close it with a code: how many."""

        async def drop(server: "VenueServer") -> int:
            peers = list(server.peers)
            if code is None:
                for peer in peers:
                    peer.abort()
            else:
                for peer in peers:
                    peer.forget()
                await asyncio.gather(*(peer.close(code) for peer in peers))
            return len(peers)

        return self._call(drop)

    def send(self, text: str | bytes) -> int:
        """Send a text message to every client, whatever it says: to how many.

        Bytes need not be UTF-8. It goes out even while the venue is muted.
        """
        frame = text_frame(text.encode() if isinstance(text, str) else text)
        return self._do(
            lambda server: _each(server, lambda peer: peer.put(frame, said=True))
        )

    def send_bytes(self, data: bytes) -> int:
        """Write bytes past the WebSocket framing to every client: to how many."""
        return self._do(lambda server: _each(server, lambda peer: peer.write(data)))

    def mute(self, on: bool = True, *, pings: bool = False) -> None:
        """Say nothing more by itself, not even an acknowledgement; or speak again.

        What would have been said is lost. With `pings`, clients are not read either:
        their pings stay unanswered.
        """

        def mute(server: "VenueServer") -> None:
            server.mute(on, on and pings)

        self._do(mute)

    def refuse(self, on: bool | int = True) -> None:
        """Cut new connections at once, or answer them with an HTTP status; or not."""

        def refuse(server: "VenueServer") -> None:
            server.refusing = on

        self._do(refuse)

    def half_open(self, on: bool = True) -> None:
        """Leave those who are connected now as if a cable were pulled; or put it back.

        Nothing is read or written, TCP stays up, without a FIN. What was to be sent
        meanwhile is lost; what was received is read afterwards.
        """
        self._do(
            lambda server: _each(server, lambda peer: peer.condition.half_open(on)),
        )

    def set_faults(self, text: str) -> None:
        """From now on these go wrong, in place of those before; "": nothing does.

        Written as for `faults`; times count from now, and from their beginning for
        later connections. BadArgumentError, and nothing changes, for what is not
        accepted.
        """
        self._do(lambda server: server.set_faults(text))

    def push_bar(
        self,
        symbol: str,
        timeframe: str,
        open_time: int,
        open: float,  # noqa: A002  # a bar's value
        high: float,
        low: float,
        close: float,
        volume: float = 1.0,
        money: float = math.nan,
        *,
        closed: bool | None = None,
        every: bool = False,
    ) -> int:
        """Send a hand-made bar to its subscribers (`every`: to all): to how many.

        `closed` None leaves the flag out (of Binance: says false).
        """
        end = close_time(open_time, timeframe)
        bar = Bar(open_time, end, open, high, low, close, volume, money)
        return self._do(
            lambda venue: venue.producer.feed(symbol, timeframe, bar, closed, every)
        )

    def push_market(
        self, symbol: str, timeframe: str, open_time: int, step: int = STEPS
    ) -> int:
        """Send the market's own bar after `step` updates to its subscribers."""
        stream = symbol, timeframe
        end = close_time(open_time, timeframe)
        time = open_time + (end - open_time) * step // STEPS
        row = market_row(self.options.seed, stream, open_time, step, time)
        return self._do(
            lambda server: server.producer.publish([(stream, row)], said=True)
        )

    def _do(self, work: "Callable[[VenueServer], _Result]") -> _Result:
        async def call(server: "VenueServer") -> _Result:
            return work(server)

        return self._call(call)

    def _call(self, work: "Callable[[VenueServer], Awaitable[_Result]]") -> _Result:
        if self._server is None or self._loop is None:
            raise RuntimeError(
                "the venue is not running: start() it, or use it in a with block"
            )
        server = self._server

        async def call() -> _Result:
            return await work(server)

        future = asyncio.run_coroutine_threadsafe(call(), self._loop)
        return future.result(_CALL_TIMEOUT)


def _each(server: "VenueServer", act: "Callable[[Any], None]") -> int:
    for peer in server.peers:
        act(peer)
    return len(server.peers)


def venue_url(options: VenueOptions, port: int) -> str:
    """The endpoint of a venue that listens on this port."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    base = f"ws://{host}:{port}"
    return base + "/market_data" if options.protocol == "wealthai" else base


def load_server() -> "type[VenueServer]":
    """The server's class; ImportError that says what to install."""
    try:
        from shmfeed.simulator.server import VenueServer  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "websockets":
            raise
        raise ImportError(
            "the local venue needs websockets: pip install 'shmfeed[sim]'",
            name=error.name,
        ) from None
    return VenueServer
