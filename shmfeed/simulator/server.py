"""The venue's server: one event loop, one producer, any number of clients."""

import asyncio
import contextlib
import http
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterable

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from shmfeed.bar import Bar, floor
from shmfeed.simulator.binance import BinanceDialect
from shmfeed.simulator.dialect import Answer, Dialect
from shmfeed.simulator.feeds import full_speed, history
from shmfeed.simulator.frames import Row, Stream, text_frame
from shmfeed.simulator.house import HouseDialect
from shmfeed.simulator.options import VenueOptions
from shmfeed.simulator.peer import Peer
from shmfeed.simulator.record import Record
from shmfeed.simulator.replay import Recording, read_recording
from shmfeed.simulator.schedule import Schedule

_DAY = 86_400
_PING_INTERVAL, _PING_TIMEOUT = 20.0, 60.0
_MAX_MESSAGE = 1 << 20
_CLOSE_TIMEOUT = 1.0
_TOO_FAST = 1008

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
    """The server; every method but `__init__` belongs to the event loop's thread."""

    def __init__(self, options: VenueOptions, record: Record) -> None:
        self.options = options
        self.record = record
        self._muted = self._deaf = False
        self.refusing: bool | int = False
        self.peers: set[Peer] = set()
        self._recording: Recording | None = None
        if options.replay is not None:
            self._recording = read_recording(options.replay)
        self._schedule = Schedule(options.seed)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Server | None = None
        self._began = 0.0
        self._start = 0

    async def start(self) -> int:
        """Listen: the port. OSError where that is not possible."""
        options = self.options
        self._began = time.monotonic()
        self._start = options.start if options.start is not None else self._first_time()
        self._server = await serve(
            self._handle,
            options.host,
            options.port,
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
        if options.speed is not None and not options.fastest and not options.replay:
            self._spawn(self._produce())
        return int(next(iter(self._server.sockets)).getsockname()[1])

    async def stop(self) -> None:
        """Close every connection, then the port."""
        assert self._server is not None  # noqa: S101  # only after start
        self.mute(on=False, deaf=False)
        self._server.close()
        await self._server.wait_closed()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def mute(self, on: bool, deaf: bool) -> None:
        """Say nothing by itself any more; `deaf`: nor read, nor answer pings."""
        self._muted, self._deaf = on, deaf
        for peer in self.peers:
            self._hush(peer)

    def now(self) -> int:
        """The venue's clock, ms UTC."""
        options = self.options
        speed = 1.0 if options.speed is None or options.fastest else options.speed
        return self._start + int((time.monotonic() - self._began) * 1000 * speed)

    def _first_time(self) -> int:
        speed = self.options.speed
        lead = 0.0 if speed in {None, 1.0} or self.options.fastest else speed or 0.0
        return int((time.time() - lead * _DAY) * 1000)

    # -- what a client does

    def _connection(self, *args: object, **kwargs: object) -> ServerConnection:
        connection = _Connection(*args, **kwargs)  # type: ignore[arg-type]  # passed on
        connection.refused = self.refusing is True
        return connection

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.refusing:
            status = http.HTTPStatus(int(self.refusing) if self.refusing > 1 else 503)
            return connection.respond(status, "refused\n")
        if len(self.peers) >= self.options.max_connections:
            status = http.HTTPStatus.SERVICE_UNAVAILABLE
            return connection.respond(status, "too many connections\n")
        if self._dialect().opened(request.path) is None:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "no such path\n")
        return None

    def _dialect(self) -> Dialect:
        if self.options.protocol == "binance":
            return BinanceDialect(self.options)
        return HouseDialect(self.options)

    async def _handle(self, connection: ServerConnection) -> None:
        dialect = self._dialect()
        assert connection.request is not None  # noqa: S101  # after the handshake
        opened = dialect.opened(connection.request.path)
        assert opened is not None  # noqa: S101  # else it was not admitted
        peer = Peer(connection, dialect, self.record)
        self.peers.add(peer)
        self._hush(peer)
        self.record.connected()
        sender = self._spawn(peer.send_forever())
        try:
            await self._follow(peer, opened)
            await self._listen(peer, connection)
        except ConnectionClosed:
            pass
        finally:
            sender.cancel()
            self.peers.discard(peer)
            self._forget(list(peer.streams))
            self.record.disconnected()

    def _hush(self, peer: Peer) -> None:
        peer.muted = self._muted
        peer.hold(on=self._deaf)

    async def _listen(self, peer: Peer, connection: ServerConnection) -> None:
        times: deque[float] = deque(maxlen=peer.dialect.max_rate)
        async for message in connection:
            text = (
                message
                if isinstance(message, str)
                else message.decode(errors="replace")
            )
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
        if accepted and answer.streams is not None:
            self._subscribe(peer, answer.streams)
        if answer.asked is not None:
            self.record.requested(answer.asked, accepted)
        if answer.close is not None:
            await peer.close(answer.close)

    def _subscribe(self, peer: Peer, streams: Iterable[Stream]) -> None:
        wanted = dict.fromkeys(streams)
        fresh = [stream for stream in wanted if stream not in peer.streams]
        first = not peer.streams
        dropped = [stream for stream in peer.streams if stream not in wanted]
        peer.streams = wanted
        self._forget(dropped)
        if self._recording is not None:
            if first:
                self._replay(peer, self._recording)
        elif self.options.fastest:
            blobs = full_speed(self.options, peer.dialect, fresh, self._start)
            peer.put_all(blobs)
        else:
            opened = [(stream, self._forming(stream)) for stream in fresh]
            if self.options.history:
                peer.put_all(history(self.options, peer.dialect, opened))
            self._wake.set()

    def _forming(self, stream: Stream) -> int:
        if self.options.speed is None:  # nothing will follow it
            return floor(self.now(), stream[1])
        return self._schedule.add(stream, self.now())

    def _forget(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            if not any(stream in peer.streams for peer in self.peers):
                self._schedule.remove(stream)

    # -- what is sent

    def _replay(self, peer: Peer, recording: Recording) -> None:
        if self.options.fastest:
            peer.put_all(recording.blobs())
        elif self.options.speed is not None:
            self._spawn(self._paced(peer, recording, self.options.speed))

    async def _paced(self, peer: Peer, recording: Recording, speed: float) -> None:
        began = time.monotonic()
        for seconds, payload in recording.frames:
            wait = seconds / speed - (time.monotonic() - began)
            if wait > 0:
                await asyncio.sleep(wait)
            if peer not in self.peers:
                return
            peer.put(text_frame(payload))

    async def _produce(self) -> None:
        speed = self.options.speed or 1.0
        interval = self.options.update_interval
        tick = time.monotonic()
        while True:
            now, clock = self.now(), time.monotonic()
            self.publish(self._schedule.closings(now))
            if clock >= tick:
                self.publish(self._schedule.updates(now))
                tick = clock + interval
            wait = tick - clock
            closing = self._schedule.next_closing()
            if closing is not None:
                wait = min(wait, max(0.0, (closing - self.now()) / 1000 / speed))
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait + 0.001)

    def publish(self, told: Iterable[tuple[Stream, Row]], *, said: bool = False) -> int:
        """Send the market's bars to whoever subscribed to them: how many frames."""
        count = 0
        for stream, row in told:
            forms: dict[str, bytes] = {}
            for peer in self.peers:
                if stream not in peer.streams:
                    continue
                frame = forms.get(peer.dialect.form)
                if frame is None:
                    frame = peer.dialect.encode(stream, [row])[0]
                    forms[peer.dialect.form] = frame
                peer.put(frame, said=said)
                count += 1
        return count

    def feed(
        self, symbol: str, timeframe: str, bar: Bar, closed: bool | None, every: bool
    ) -> int:
        """Send a hand-made bar to its subscribers, or to everyone: how many frames."""
        count = 0
        for peer in self.peers:
            stream = peer.dialect.stream(symbol, timeframe)
            if every or stream in peer.streams:
                peer.put(peer.dialect.fed(stream, bar, closed), said=True)
                count += 1
        return count

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
