"""The venue's server: it admits clients, and handles their messages."""

import asyncio
import contextlib
import http
import logging
import time
from collections import deque
from collections.abc import Iterable
from email.utils import formatdate
from typing import cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from shmfeed.errors import BadArgumentError
from shmfeed.simulator.admission import Admission
from shmfeed.simulator.archive import Archive
from shmfeed.simulator.binance import BinanceDialect
from shmfeed.simulator.connection import FaultyConnection
from shmfeed.simulator.dialect import Dialect, Outcome
from shmfeed.simulator.faults import ConnectionFaults, FaultSchedule, StreamFaults
from shmfeed.simulator.faults.bars import BarFaults
from shmfeed.simulator.faults.rest import Answer, RestFaults
from shmfeed.simulator.http_port import HttpPort
from shmfeed.simulator.log import VenueLog
from shmfeed.simulator.options import VenueOptions, check_faults, venue_url
from shmfeed.simulator.producer import Producer
from shmfeed.simulator.recorder import FrameRecorder
from shmfeed.simulator.rest import BinanceRest
from shmfeed.simulator.subscriber import Subscriber
from shmfeed.simulator.wealthai import WealthaiDialect

_PING_INTERVAL, _PING_TIMEOUT = 20.0, 60.0
_MAX_MESSAGE = 1 << 20
_CLOSE_TIMEOUT = 1.0
_OPEN_TIMEOUT = 60.0  # for a handshake, also one that a fault leaves unanswered
_UNAVAILABLE = http.HTTPStatus.SERVICE_UNAVAILABLE
_GOING_AWAY, _POLICY_VIOLATION = 1001, 1008  # WebSocket close codes

# The library logs every port scan; its log is discarded.
_LOG = logging.getLogger("shmfeed.simulator.websockets")
_LOG.addHandler(logging.NullHandler())
_LOG.propagate = False


class VenueServer:
    """The server of one venue; used in the event loop's thread only.

    Attributes:
        admission: The decision about new connections.
        archive: The bars that REST reads.
    """

    def __init__(self, options: VenueOptions, log: VenueLog) -> None:
        self.options = options
        self.log = log
        self.producer = Producer(options)
        self.archive = Archive(options.seed, options.grid_phase, options.roll_up)
        self._rest = BinanceRest(options, self.archive, log)
        self._http = HttpPort(self._answer, self._rest_time)
        self.admission = Admission(log)
        self._muted = self._reading_paused = False
        self._unanswered: set[ServerConnection] = set()
        self.set_faults(options.faults)
        self._server: Server | None = None
        self._producing: asyncio.Task[None] | None = None
        self._recorder: FrameRecorder | None = None

    @property
    def subscribers(self) -> set[Subscriber]:
        """The clients connected now."""
        return self.producer.subscribers

    async def start(self) -> int:
        """Listen, and return the port. Raise OSError if that is not possible."""
        self._server = await serve(
            self._handle,
            self.options.host,
            self.options.port,
            create_connection=self._accept_connection,  # type: ignore[arg-type]  # a factory
            process_request=self._admit,
            process_response=self._date,
            compression=None,  # frames are written as they were built
            ping_interval=_PING_INTERVAL,
            ping_timeout=_PING_TIMEOUT,
            close_timeout=_CLOSE_TIMEOUT,
            open_timeout=_OPEN_TIMEOUT,
            max_size=_MAX_MESSAGE,
            server_header=None,
            logger=_LOG,
        )
        port = int(next(iter(self._server.sockets)).getsockname()[1])
        if self.options.record is not None:
            try:
                self._begin_recording(self.options.record, port)
            except BadArgumentError:
                self._server.close()
                raise
        self._producing = asyncio.create_task(self.producer.run())
        return port

    def _begin_recording(self, path: str, port: int) -> None:
        url = venue_url(self.options, port)
        self._recorder = FrameRecorder(path, url, self.options.protocol)

    async def stop(self) -> None:
        """Close every connection and the port."""
        self.mute(on=False, pause_reading=False)
        self.set_faults("")
        for subscriber in self.subscribers:
            subscriber.state.half_open(on=False)
        if self._producing is not None:
            self._producing.cancel()
        if self._server is None:
            return
        self._server.close(close_connections=False)
        await self._http.stop()
        for connection in self._unanswered:
            connection.transport.abort()
        for subscriber in self.subscribers:
            subscriber.discard_queue()
        await asyncio.gather(
            *(subscriber.close(_GOING_AWAY) for subscriber in self.subscribers)
        )
        await self._server.wait_closed()
        if self._recorder is not None:
            self._recorder.close()

    def mute(self, on: bool, pause_reading: bool) -> None:
        """Lose the venue's own frames; with `pause_reading` read no client either."""
        self._muted, self._reading_paused = on, pause_reading
        for subscriber in self.subscribers:
            subscriber.state.mute(on, pause_reading)

    def set_faults(self, text: str) -> None:
        """Replace the faults, on open connections too; raise BadArgumentError."""
        self._faults = check_faults(self.options, text)
        seed = f"{self.options.seed} venue"
        faults = FaultSchedule(self._faults, seed)
        self.producer.venue_faults = self.admission.faults = faults
        self._stream_faults = StreamFaults(faults)
        self._rest.faults = RestFaults(faults)
        producer = self.producer
        self.archive.faults = BarFaults(
            self._faults, self.options.seed, producer.now(), producer.speed
        )
        for subscriber in self.subscribers:
            subscriber.set_faults(self._faults_of(subscriber))

    def _faults_of(self, subscriber: Subscriber) -> ConnectionFaults | None:
        if not self._faults:
            return None
        return ConnectionFaults(
            self._faults,
            self.options.seed,
            subscriber.number,
            subscriber.dialect.encode,
            subscriber.dialect.encode_copy,
            self._stream_faults.muted_on(subscriber.number),
            self.archive.faults.is_hole if self.archive.faults.has_holes else None,
        )

    def _accept_connection(self, *args: object, **kwargs: object) -> asyncio.Protocol:
        if self.options.has_rest:
            return self._http.front(lambda: self._create_connection(*args, **kwargs))
        return self._create_connection(*args, **kwargs)

    def _answer(self, method: str, target: str) -> Answer:
        answer = self._rest.answer(method, target, self.producer.now())
        if self._recorder is not None:
            self._recorder.answered(target, answer, int(self._rest_time()))
        return answer

    def _rest_time(self) -> float:
        """Return the time of an answer in seconds, that of the venue's bars."""
        return self.producer.now() / 1000

    def _skew(self) -> float:
        """Return by how many seconds the venue's clock is wrong."""
        skew = self.producer.venue_faults.due("skew")
        return skew.fault.argument if skew is not None else 0.0

    def _create_connection(self, *args: object, **kwargs: object) -> ServerConnection:
        connection = FaultyConnection(*args, **kwargs)  # type: ignore[arg-type]  # passed on
        connection.refusal = self.admission.decide()
        return connection

    def _date(
        self, connection: ServerConnection, _request: Request, response: Response
    ) -> None:
        """State the venue's time: where it has REST, that of its bars and events.

        Without event times a clock that runs too fast would refuse bars as too early:
        the date is the host's then, unless the venue's clock is wrong.
        """
        has_own = self.options.has_rest
        moment = self._rest_time() if has_own else time.time() + self._skew()
        cast("FaultyConnection", connection).stated_time = int(moment)
        del response.headers["Date"]
        response.headers["Date"] = formatdate(moment, usegmt=True)

    async def _admit(
        self, connection: ServerConnection, request: Request
    ) -> Response | None:
        refusal = cast("FaultyConnection", connection).refusal
        if refusal is not None:
            response = connection.respond(_UNAVAILABLE, refusal.body)
            if refusal.status:  # HTTPStatus lacks some, such as 520
                response.status_code = refusal.status
                response.reason_phrase = refusal.phrase
            response.headers.update(refusal.headers)
            return response
        if len(self.subscribers) >= self.options.max_connections:
            return connection.respond(_UNAVAILABLE, "too many clients\n")
        if self._dialect().connect(request.path) is None:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "no such path\n")
        faults = self.producer.venue_faults
        slow = faults.due("slow-handshake")
        if faults.due("unanswered") or slow is not None:
            self._unanswered.add(connection)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(slow.fault.argument if slow else None):
                    await connection.wait_closed()
            self._unanswered.discard(connection)
        return None

    def _dialect(self) -> Dialect:
        if self.options.protocol == "binance":
            return BinanceDialect(self.options, self._refused)
        return WealthaiDialect(self.options, self._refused)

    def _refused(self, symbols: Iterable[str]) -> list[str]:
        return self._stream_faults.refused(symbols)

    async def _handle(self, connection: ServerConnection) -> None:
        dialect = self._dialect()
        path = connection.request.path if connection.request else ""
        outcome = dialect.connect(path) or Outcome()  # None was not admitted
        self.log.add_connection()
        accepted = cast("FaultyConnection", connection)
        recorder = self._recorder
        subscriber = Subscriber(accepted, dialect, self.log, recorder)
        if recorder is not None:
            recorder.opened(subscriber.number, accepted.stated_time)
        subscriber.state.mute(self._muted, self._reading_paused)
        subscriber.set_faults(self._faults_of(subscriber))
        self.subscribers.add(subscriber)
        sender = asyncio.create_task(subscriber.send_forever())
        try:
            await self._act(subscriber, outcome)
            await self._receive(subscriber, connection)
        except ConnectionClosed:
            pass
        finally:
            sender.cancel()
            subscriber.state.cancel_timers()
            self.producer.remove(subscriber)
            if recorder is not None:
                recorder.closed(subscriber.number)
            self.log.remove_connection()

    async def _receive(
        self, subscriber: Subscriber, connection: ServerConnection
    ) -> None:
        times: deque[float] = deque(maxlen=subscriber.dialect.max_rate)
        async for message in connection:
            text = message
            if isinstance(text, bytes):
                text = text.decode(errors="replace")
            self.log.add_message(text)
            now = time.monotonic()
            if len(times) == times.maxlen and now - times[0] < 1.0:
                await subscriber.close(_POLICY_VIOLATION)
                return
            times.append(now)
            await self._act(subscriber, subscriber.dialect.receive(text))

    async def _act(self, subscriber: Subscriber, outcome: Outcome) -> None:
        for reply in outcome.replies:
            subscriber.reply(reply, to_subscription=outcome.request is not None)
        accepted = outcome.keys is not None and outcome.close_code is None
        if accepted:
            self._accept(subscriber, outcome)
        if outcome.request is not None:
            self.log.add_request(outcome.request, accepted)
        if outcome.close_code is not None:
            await subscriber.close(outcome.close_code, outcome.reason)

    def _accept(self, subscriber: Subscriber, outcome: Outcome) -> None:
        keys = outcome.keys or ()
        if self._recorder is not None:
            market = str((outcome.request or {}).get("market_type", ""))
            self._recorder.subscribed(subscriber.number, keys, market)
        self._stream_faults.take_request(
            keys if outcome.asked is None else outcome.asked
        )
        self.producer.subscribe(subscriber, keys)
        for symbol in self._stream_faults.refused_later(keys):
            error = subscriber.dialect.error(f"no data for {symbol}")
            subscriber.reply(error, to_subscription=False)
