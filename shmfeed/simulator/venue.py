"""A venue in this process, with its own thread and event loop; loopback by default."""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self, TypeVar

from shmfeed.bar import Bar, check_timeframe
from shmfeed.simulator import grid
from shmfeed.simulator.admission import refusal
from shmfeed.simulator.faults import Ending
from shmfeed.simulator.frames import text_frame
from shmfeed.simulator.log import RestRequest, VenueLog
from shmfeed.simulator.market import STEPS, bar_state
from shmfeed.simulator.options import VenueOptions, venue_options, venue_url
from shmfeed.text import counted

if TYPE_CHECKING:
    from shmfeed.simulator.server import VenueServer

_Result = TypeVar("_Result")
_CALL_TIMEOUT = 10.0
_GOING_AWAY = 1001  # WebSocket close code


class Venue:
    """A local venue: a context manager, or use start() and stop().

    The venue misbehaves as `faults`, `set_faults`, `mute`, `half_open` and `refuse`
    say. Faults do not change what a test sends itself by `send`, `send_bytes` and
    `push_bar`.

    Args:
        **options: The fields of VenueOptions. `speed` may be "max", `symbols` and
            `resolutions` may be comma-separated.

    Attributes:
        options: The checked options.
        log: Counters and the last requests.
        port: The port that the venue listens on, once started.

    Raises:
        BadArgumentError: An option is unknown or its value is not accepted.

    Thread safety:
        Every method may be called from any thread but the venue's own.
    """

    def __init__(self, **options: Any) -> None:
        self.options: VenueOptions = venue_options(options)
        self.log = VenueLog()
        self.port = self.options.port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: VenueServer | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Listen, and return this venue.

        Raises:
            OSError: The port is taken.
            BadArgumentError: The recording to replay cannot be read.
            ImportError: The package websockets is not installed.
        """
        server_class = load_server()
        listening: Future[int] = Future()

        async def serve() -> None:
            try:
                self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
                self._server = server = server_class(self.options, self.log)
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
        """Close all connections and the port. Idempotent."""
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
        """The endpoint for a client; Binance has many URLs below it."""
        return venue_url(self.options, self.port)

    @property
    def rest_url(self) -> str:
        """The base URL of the venue's REST, which the binance protocol has."""
        return self.url.replace("ws", "http", 1).removesuffix("/market_data")

    @property
    def rest_requests(self) -> list[RestRequest]:
        """The last 10,000 requests to REST, with their weights."""
        return list(self.log.last_rest)

    @property
    def connections(self) -> int:
        """The number of clients connected now."""
        return self.log.open_connections

    @property
    def subscriptions(self) -> list[dict[str, Any]]:
        """The subscription requests so far, parsed, including refused ones.

        A Binance subscription by URL is {"method": "URL", "params", "path"}.
        """
        return list(self.log.last_requests)

    @property
    def received(self) -> list[str]:
        """The text messages that clients sent so far."""
        return list(self.log.last_messages)

    def wait_connections(self, count: int, timeout: float = 10.0) -> None:
        """Sleep until exactly `count` clients are connected; raise TimeoutError."""
        self.log.wait_for(
            counted(count, "connection"),
            lambda log: log.open_connections == count,
            timeout,
        )

    def wait_subscribed(self, count: int = 1, timeout: float = 10.0) -> None:
        """Sleep until `count` requests in all were accepted; raise TimeoutError."""
        self.log.wait_for(
            counted(count, "subscription"), lambda log: log.accepted >= count, timeout
        )

    def wait_asked(self, count: int = 1, timeout: float = 10.0) -> None:
        """Sleep until `count` requests came, even refused ones; raise TimeoutError."""
        self.log.wait_for(
            counted(count, "request"), lambda log: log.requests >= count, timeout
        )

    def wait_received(self, count: int = 1, timeout: float = 10.0) -> None:
        """Sleep until clients sent `count` messages in all; raise TimeoutError."""
        self.log.wait_for(
            counted(count, "message"), lambda log: log.messages >= count, timeout
        )

    def wait_sent(self, count: int, timeout: float = 10.0) -> None:
        """Sleep until `count` frames in all went to the sockets; raise TimeoutError."""
        self.log.wait_for(
            counted(count, "frame") + " sent", lambda log: log.frames >= count, timeout
        )

    def wait_rest(self, count: int = 1, timeout: float = 10.0) -> None:
        """Sleep until `count` REST requests in all came; raise TimeoutError."""
        self.log.wait_for(
            counted(count, "REST request"),
            lambda log: log.rest_requests >= count,
            timeout,
        )

    def truth(self, symbol: str, timeframe: str, first: int, last: int) -> list[Bar]:
        """Return the closed bars of a stream as REST finally has them.

        Args:
            symbol: The bars' symbol, in the case in which the venue lists it.
            timeframe: Their timeframe.
            first: The earliest open time, ms UTC.
            last: The latest open time, ms UTC.

        Returns:
            The bars that are closed by now, oldest first.
        """
        key = symbol, check_timeframe(timeframe)
        return self._do(
            lambda server: server.archive.closed(
                key, first, last, server.producer.now()
            )
        )

    def correct(self, symbol: str, timeframe: str, *bars: Bar) -> None:
        """Have REST say these bars in place of the market's, once they are closed.

        The socket goes on sending the market's.
        """
        key = symbol, check_timeframe(timeframe)
        self._do(lambda server: server.archive.correct(key, bars))

    def take_out(self, symbol: str, timeframe: str, *open_times: int) -> None:
        """Have REST lack the bars of these open times."""
        key = symbol, check_timeframe(timeframe)
        self._do(lambda server: server.archive.take_out(key, open_times))

    def now(self) -> int:
        """Return the venue's time, ms UTC."""
        return self._do(lambda server: server.producer.now())

    def drop_connections(self, code: int | None = None) -> int:
        """Cut every connection, or close it with a close code.

        Returns:
            The number of connections.
        """

        async def drop(server: "VenueServer") -> int:
            subscribers = list(server.subscribers)
            if code is None:
                for subscriber in subscribers:
                    subscriber.abort()
            else:
                for subscriber in subscribers:
                    subscriber.discard_queue()
                await asyncio.gather(*(one.close(code) for one in subscribers))
            return len(subscribers)

        return self._call(drop)

    def announce_end(self, notice: float = 2.0) -> int:
        """Announce the end of every present connection, and close them later.

        Binance only: its message is `serverShutdown`. New connections are admitted.

        Args:
            notice: Seconds from the announcement to the close.

        Returns:
            The number of connections.
        """
        ending = Ending(0.0, _GOING_AWAY, notice)
        return self._do(
            lambda server: _for_each(
                server, lambda subscriber: subscriber.end_later(ending)
            )
        )

    def send(self, text: str | bytes) -> int:
        """Send any text message to every client, even while the venue is muted.

        Args:
            text: The message; bytes need not be UTF-8.

        Returns:
            The number of clients.
        """
        frame = text_frame(text.encode() if isinstance(text, str) else text)
        return self._do(
            lambda server: _for_each(
                server, lambda subscriber: subscriber.put(frame, even_muted=True)
            )
        )

    def send_bytes(self, data: bytes) -> int:
        """Write raw bytes to every client without framing; return how many clients."""
        return self._do(
            lambda server: _for_each(server, lambda subscriber: subscriber.write(data))
        )

    def mute(self, on: bool = True, *, pings: bool = False) -> None:
        """Drop the venue's own frames, acknowledgements included, until `mute(False)`.

        Args:
            on: Mute, or speak again.
            pings: Also stop reading, so that clients' pings stay unanswered.
        """

        def mute(server: "VenueServer") -> None:
            server.mute(on, on and pings)

        self._do(mute)

    def refuse(
        self, on: bool | int = True, *, wait: float = 0.0, body: str | None = None
    ) -> None:
        """Refuse new connections until `refuse(False)`.

        Args:
            on: True aborts them, an int answers them with this HTTP status, False
                admits them.
            wait: Seconds that `Retry-After` asks the client to wait, rounded up; 0
                sends no such header.
            body: The body of the answer; None: the venue's own words.
        """
        made = refusal(0 if on is True else on, wait) if on else None
        if made is not None and body is not None:
            made = made._replace(body=body)

        def refuse(server: "VenueServer") -> None:
            server.admission.refusal = made

        self._do(refuse)

    def half_open(self, on: bool = True) -> None:
        """Neither read nor write on the present connections, as if a cable were pulled.

        TCP stays up, without a FIN. Frames sent meanwhile are lost; what clients sent
        is read after `half_open(False)`.
        """
        self._do(
            lambda server: _for_each(
                server, lambda subscriber: subscriber.state.half_open(on)
            )
        )

    def set_faults(self, text: str) -> None:
        """Replace the faults in force; "" ends them all.

        Args:
            text: Faults, written as for the option `faults`. Times count from now, and
                for later connections from their beginning.

        Raises:
            BadArgumentError: A fault is not accepted; nothing changes.
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
        event_time: int | None = None,
        every: bool = False,
    ) -> int:
        """Send a hand-made bar to its subscribers.

        Args:
            symbol: The bar's symbol.
            timeframe: The bar's timeframe.
            open_time: ms UTC.
            open: Price.
            high: Price.
            low: Price.
            close: Price.
            volume: Base volume.
            money: Quote turnover; NaN is sent as no turnover.
            closed: The closed flag; None omits it (on Binance: false).
            event_time: When the venue made the message, ms UTC; None omits it (on
                Binance: the bar's end if it is closed, else its start).
            every: Send to all clients, subscribed or not.

        Returns:
            The number of clients.
        """
        end = grid.end(open_time, check_timeframe(timeframe))
        bar = Bar(open_time, end, open, high, low, close, volume, money)
        return self._do(
            lambda server: server.producer.publish_bar(
                symbol, timeframe, bar, closed, event_time, every
            )
        )

    def push_market(
        self, symbol: str, timeframe: str, open_time: int, step: int = STEPS
    ) -> int:
        """Send the market's bar after `step` updates; return the number of clients."""
        key = symbol, check_timeframe(timeframe)
        end = grid.end(open_time, check_timeframe(timeframe))
        time = open_time + (end - open_time) * step // STEPS
        state = bar_state(self.options.seed, key, open_time, step, time)
        return self._do(
            lambda server: server.producer.publish([(key, state)], even_muted=True)
        )

    def _do(self, work: "Callable[[VenueServer], _Result]") -> _Result:
        async def call(server: "VenueServer") -> _Result:
            return work(server)

        return self._call(call)

    def _call(self, work: "Callable[[VenueServer], Awaitable[_Result]]") -> _Result:
        if self._server is None or self._loop is None:
            raise RuntimeError(
                "the venue is not running; call start(), or use it in a with block"
            )
        server = self._server

        async def call() -> _Result:
            return await work(server)

        future = asyncio.run_coroutine_threadsafe(call(), self._loop)
        return future.result(_CALL_TIMEOUT)


def _for_each(server: "VenueServer", act: "Callable[[Any], None]") -> int:
    for subscriber in server.subscribers:
        act(subscriber)
    return len(server.subscribers)


def load_server() -> "type[VenueServer]":
    """Return the server's class; raise an ImportError that says what to install."""
    try:
        from shmfeed.simulator.server import VenueServer  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "websockets":
            raise
        raise ImportError(
            "the local venue needs websockets: pip install websockets",
            name=error.name,
        ) from None
    return VenueServer
