"""The venue's server: it admits clients, hears them, and answers."""

import asyncio
import http
import logging
import time
from collections import deque

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from shmfeed.simulator.binance import BinanceDialect
from shmfeed.simulator.dialect import Answer, Dialect
from shmfeed.simulator.faults import Faults, parse_faults
from shmfeed.simulator.frames import text_frame
from shmfeed.simulator.house import HouseDialect
from shmfeed.simulator.options import VenueOptions
from shmfeed.simulator.peer import Peer
from shmfeed.simulator.producer import Producer
from shmfeed.simulator.record import Record

_PING_INTERVAL, _PING_TIMEOUT = 20.0, 60.0
_MAX_MESSAGE = 1 << 20
_CLOSE_TIMEOUT = 1.0
_GOING_AWAY, _TOO_FAST = 1001, 1008  # WebSocket close codes

# A port scan is no event of the venue's: the library's log goes nowhere.
_LOG = logging.getLogger("shmfeed.simulator.websockets")
_LOG.addHandler(logging.NullHandler())
_LOG.propagate = False


class _Connection(ServerConnection):
    """A connection that can be cut before the handshake."""

    refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.refused:
            self.transport.abort()


class VenueServer:
    """The server; every method belongs to the event loop's thread.

    `refusing` True cuts new connections at once; a number is the HTTP status that
    answers them.
    """

    def __init__(self, options: VenueOptions, record: Record) -> None:
        self.options = options
        self.record = record
        self.producer = Producer(options)
        self.refusing: bool | int = False
        self._muted = self._deaf = False
        self._server: Server | None = None
        self._producing: asyncio.Task[None] | None = None

    @property
    def peers(self) -> set[Peer]:
        """The clients that are connected now."""
        return self.producer.peers

    async def start(self) -> int:
        """Listen: the port. OSError where that is not possible."""
        self._server = await serve(
            self._handle,
            self.options.host,
            self.options.port,
            create_connection=self._connection,  # type: ignore[arg-type]  # makes one
            process_request=self._admit,
            compression=None,  # frames are written as they were built
            ping_interval=_PING_INTERVAL,
            ping_timeout=_PING_TIMEOUT,
            close_timeout=_CLOSE_TIMEOUT,
            max_size=_MAX_MESSAGE,
            server_header=None,
            logger=_LOG,
        )
        self._producing = asyncio.create_task(self.producer.run())
        return int(next(iter(self._server.sockets)).getsockname()[1])

    async def stop(self) -> None:
        """Close every connection and the port."""
        self.mute(on=False, deaf=False)
        if self._producing is not None:
            self._producing.cancel()
        if self._server is None:
            return
        self._server.close(close_connections=False)
        for peer in self.peers:
            peer.forget()
        await asyncio.gather(*(peer.close(_GOING_AWAY) for peer in self.peers))
        await self._server.wait_closed()

    def mute(self, on: bool, deaf: bool) -> None:
        """Say nothing by itself any more; `deaf`: nor read, nor answer pings."""
        self._muted, self._deaf = on, deaf
        for peer in self.peers:
            self._hush(peer)

    def _hush(self, peer: Peer) -> None:
        peer.muted = self._muted
        peer.hold(on=self._deaf)

    def _connection(self, *args: object, **kwargs: object) -> ServerConnection:
        connection = _Connection(*args, **kwargs)  # type: ignore[arg-type]  # passed on
        connection.refused = self.refusing is True
        return connection

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.refusing:
            number = 503 if self.refusing is True else self.refusing
            return connection.respond(http.HTTPStatus(number), "refused\n")
        if len(self.peers) >= self.options.max_connections:
            status = http.HTTPStatus.SERVICE_UNAVAILABLE
            return connection.respond(status, "too many clients\n")
        if self._dialect().opened(request.path) is None:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "no such path\n")
        return None

    def _dialect(self) -> Dialect:
        if self.options.protocol == "binance":
            return BinanceDialect(self.options)
        return HouseDialect(self.options)

    def _peer(self, connection: ServerConnection, dialect: Dialect) -> Peer:
        rates = parse_faults(self.options.faults)
        # Another seed each time: else a client would be cut at the same frame for ever.
        seed = self.options.seed + self.record.total
        faults = Faults(rates, seed) if rates else None
        return Peer(connection, dialect, self.record, faults)

    async def _handle(self, connection: ServerConnection) -> None:
        dialect = self._dialect()
        path = connection.request.path if connection.request else ""
        opened = dialect.opened(path) or Answer()  # None was not admitted
        peer = self._peer(connection, dialect)
        self.peers.add(peer)
        self._hush(peer)
        self.record.connected()
        sender = asyncio.create_task(peer.send_forever())
        try:
            await self._follow(peer, opened)
            await self._listen(peer, connection)
        except ConnectionClosed:
            pass
        finally:
            sender.cancel()
            self.producer.leave(peer)
            self.record.disconnected()

    async def _listen(self, peer: Peer, connection: ServerConnection) -> None:
        times: deque[float] = deque(maxlen=peer.dialect.max_rate)
        async for message in connection:
            text = message
            if isinstance(text, bytes):
                text = text.decode(errors="replace")
            self.record.heard(text)
            now = time.monotonic()
            if len(times) == times.maxlen and now - times[0] < 1.0:
                await peer.close(_TOO_FAST)
                return
            times.append(now)
            await self._follow(peer, peer.dialect.received(text))

    async def _follow(self, peer: Peer, answer: Answer) -> None:
        for reply in answer.replies:
            peer.put(text_frame(reply.encode()))
        accepted = answer.streams is not None and answer.close is None
        if accepted:
            self.producer.subscribe(peer, answer.streams or ())
        if answer.asked is not None:
            self.record.requested(answer.asked, accepted)
        if answer.close is not None:
            await peer.close(answer.close)
