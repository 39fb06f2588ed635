"""The venue's server: it admits clients, hears them, and answers."""

import asyncio
import http
import logging
import time
from collections import deque
from typing import cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from shmfeed.simulator.binance import BinanceDialect
from shmfeed.simulator.client import Peer
from shmfeed.simulator.connection import Connection
from shmfeed.simulator.dialect import Answer, Dialect
from shmfeed.simulator.faults import ConnectionFaults, FaultSchedule
from shmfeed.simulator.log import Record
from shmfeed.simulator.options import VenueOptions, checked_faults
from shmfeed.simulator.producer import Producer
from shmfeed.simulator.wealthai import HouseDialect

_PING_INTERVAL, _PING_TIMEOUT = 20.0, 60.0
_MAX_MESSAGE = 1 << 20
_CLOSE_TIMEOUT = 1.0
_OPEN_TIMEOUT = 60.0  # for a handshake, ours to a client that gets no answer included
_UNAVAILABLE = http.HTTPStatus.SERVICE_UNAVAILABLE
_GOING_AWAY, _TOO_FAST = 1001, 1008  # WebSocket close codes

# A port scan is no event of the venue's: the library's log goes nowhere.
_LOG = logging.getLogger("shmfeed.simulator.websockets")
_LOG.addHandler(logging.NullHandler())
_LOG.propagate = False


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
        self._attempts = 0
        self._unanswered: set[ServerConnection] = set()
        self.set_faults(options.faults)
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
            open_timeout=_OPEN_TIMEOUT,
            max_size=_MAX_MESSAGE,
            server_header=None,
            logger=_LOG,
        )
        self._producing = asyncio.create_task(self.producer.run())
        return int(next(iter(self._server.sockets)).getsockname()[1])

    async def stop(self) -> None:
        """Close every connection and the port."""
        self.mute(on=False, deaf=False)
        self.set_faults("")
        for peer in self.peers:
            peer.condition.half_open(on=False)
        if self._producing is not None:
            self._producing.cancel()
        if self._server is None:
            return
        self._server.close(close_connections=False)
        for connection in self._unanswered:
            connection.transport.abort()
        for peer in self.peers:
            peer.forget()
        await asyncio.gather(*(peer.close(_GOING_AWAY) for peer in self.peers))
        await self._server.wait_closed()

    def mute(self, on: bool, deaf: bool) -> None:
        """Say nothing by itself any more; `deaf`: nor read, nor answer pings."""
        self._muted, self._deaf = on, deaf
        for peer in self.peers:
            peer.condition.hush(on, deaf)

    def set_faults(self, text: str) -> None:
        """From now on these go wrong, on open connections too; BadArgumentError."""
        self._faults = checked_faults(self.options, text)
        self.producer.odds = FaultSchedule(self._faults, f"{self.options.seed} venue")
        for peer in self.peers:
            peer.condition.suffer(self._faults_of(peer))

    def _faults_of(self, peer: Peer) -> ConnectionFaults | None:
        if not self._faults:
            return None
        seed = self.options.seed
        return ConnectionFaults(self._faults, seed, peer.number, peer.dialect.encode)

    def _connection(self, *args: object, **kwargs: object) -> ServerConnection:
        connection = Connection(*args, **kwargs)  # type: ignore[arg-type]  # passed on
        met = self.producer.odds.meet("refuse")
        status = int(met.fault.argument) or True if met else False
        connection.refusal = self.refusing or status
        return connection

    async def _admit(
        self, connection: ServerConnection, request: Request
    ) -> Response | None:
        refusal = cast("Connection", connection).refusal
        if refusal:
            response = connection.respond(_UNAVAILABLE, "refused\n")
            if refusal is not True:  # some, such as 520, have no name in HTTPStatus
                response.status_code, response.reason_phrase = refusal, "Refused"
            return response
        if len(self.peers) >= self.options.max_connections:
            return connection.respond(_UNAVAILABLE, "too many clients\n")
        if self._dialect().opened(request.path) is None:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "no such path\n")
        if self.producer.odds.meet("unanswered"):
            self._unanswered.add(connection)
            await connection.wait_closed()
            self._unanswered.discard(connection)
        return None

    def _dialect(self) -> Dialect:
        if self.options.protocol == "binance":
            return BinanceDialect(self.options)
        return HouseDialect(self.options)

    async def _handle(self, connection: ServerConnection) -> None:
        dialect = self._dialect()
        path = connection.request.path if connection.request else ""
        opened = dialect.opened(path) or Answer()  # None was not admitted
        self.record.connected()
        peer = Peer(cast("Connection", connection), dialect, self.record)
        peer.condition.hush(self._muted, self._deaf)
        peer.condition.suffer(self._faults_of(peer))
        self.peers.add(peer)
        sender = asyncio.create_task(peer.send_forever())
        try:
            await self._follow(peer, opened)
            await self._listen(peer, connection)
        except ConnectionClosed:
            pass
        finally:
            sender.cancel()
            peer.condition.leave()
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
            peer.answer(reply, subscribed=answer.asked is not None)
        accepted = answer.streams is not None and answer.close is None
        if accepted:
            self.producer.subscribe(peer, answer.streams or ())
        if answer.asked is not None:
            self.record.requested(answer.asked, accepted)
        if answer.close is not None:
            await peer.close(answer.close)
