"""What a venue says by itself: made bars at its clock's pace, or a recording."""

import asyncio
import contextlib
import math
import time
from collections.abc import Iterable, Sequence

from shmfeed.bar import Bar, StreamKey, floor
from shmfeed.simulator.client import Peer
from shmfeed.simulator.faults import FaultSchedule
from shmfeed.simulator.frames import Row
from shmfeed.simulator.options import VenueOptions
from shmfeed.simulator.replay import Recording, read_recording
from shmfeed.simulator.schedule import Schedule, full_speed, history

_DAY = 86_400


class Producer:
    """One for all connections; every method belongs to the event loop's thread."""

    def __init__(self, options: VenueOptions) -> None:
        self.peers: set[Peer] = set()
        self.odds = FaultSchedule((), "")  # the venue's own
        self._options = options
        self._recording: Recording | None = None
        if options.replay is not None:
            self._recording = read_recording(options.replay)
        self._schedule = Schedule(options.seed)
        self._wake = asyncio.Event()
        self._replays: set[asyncio.Task[None]] = set()
        self._rate = options.speed or 1.0
        if self._rate == math.inf:
            self._rate = 1.0
        lead = 0.0 if self._rate == 1.0 else self._rate * _DAY
        now = int((time.time() - lead) * 1000)
        self._start = now if options.start is None else options.start
        self._began = time.monotonic()

    def now(self) -> int:
        """The venue's clock, ms UTC; as wrong as it is told to be."""
        passed = (time.monotonic() - self._began) * 1000 * self._rate
        skew = self.odds.meet("skew")
        return self._start + int(passed + (skew.fault.argument * 1000 if skew else 0))

    async def run(self) -> None:
        """Send what the clock makes due, until cancelled."""
        options = self._options
        if options.speed is None or options.fastest or self._recording is not None:
            return
        tick = time.monotonic()
        while True:
            self.publish(self._schedule.closings(now := self.now()))
            if (clock := time.monotonic()) >= tick:
                self.publish(self._schedule.updates(now))
                tick = clock + options.update_interval
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause(tick))

    def subscribe(self, peer: Peer, streams: Iterable[StreamKey]) -> None:
        """Make this the peer's whole subscription; what is new to it begins."""
        wanted = dict.fromkeys(streams)
        fresh = [stream for stream in wanted if stream not in peer.streams]
        first = not peer.streams
        dropped = [stream for stream in peer.streams if stream not in wanted]
        peer.streams = wanted
        self._forget(dropped)
        if self._recording is not None:
            if first:
                self._replay(peer, self._recording)
        elif self._options.fastest:
            peer.put_all(full_speed(self._options, peer.encode, fresh, self._start))
        else:
            self._begin(peer, fresh)

    def leave(self, peer: Peer) -> None:
        """The peer is gone."""
        self.peers.discard(peer)
        self._forget(peer.streams)

    def publish(
        self, told: Iterable[tuple[StreamKey, Row]], *, said: bool = False
    ) -> int:
        """Send the market's bars to whoever subscribed to them: how many times."""
        count = 0
        for stream, row in told:
            forms: dict[str, list[bytes]] = {}
            for peer in self.peers:
                if stream not in peer.streams:
                    continue
                count += 1
                if peer.faults is not None:
                    peer.put((stream, row), said=said)
                    continue
                form = peer.dialect.form
                if form not in forms:
                    forms[form] = peer.encode(stream, [row])
                for frame in forms[form]:
                    peer.put(frame, said=said)
        return count

    def feed(
        self, symbol: str, timeframe: str, bar: Bar, closed: bool | None, every: bool
    ) -> int:
        """Send a hand-made bar to its subscribers, or to everyone: to how many."""
        count = 0
        for peer in self.peers:
            stream = peer.dialect.stream(symbol, timeframe)
            if every or stream in peer.streams:
                peer.put(peer.dialect.fed(stream, bar, closed), said=True)
                count += 1
        return count

    def _pause(self, tick: float) -> float:
        wait = tick - time.monotonic()
        closing = self._schedule.next_closing()
        if closing is not None:
            wait = min(wait, (closing - self.now()) / 1000 / self._rate)
        return max(wait, 0.0) + 0.001  # the clock counts whole milliseconds

    def _begin(self, peer: Peer, fresh: Sequence[StreamKey]) -> None:
        now = self.now()
        if self._options.speed is None:  # nothing will follow the history
            opened = [(stream, floor(now, stream[1])) for stream in fresh]
        else:
            opened = [(stream, self._schedule.add(stream, now)) for stream in fresh]
        if self._options.history:
            peer.put_all(history(self._options, peer.encode, opened))
        self._wake.set()

    def _forget(self, streams: Iterable[StreamKey]) -> None:
        for stream in streams:
            if not any(stream in peer.streams for peer in self.peers):
                self._schedule.remove(stream)

    def _replay(self, peer: Peer, recording: Recording) -> None:
        if self._options.fastest:
            peer.put_all(recording.blobs(peer.recorded))
        elif self._options.speed is not None:
            task = asyncio.create_task(self._paced(peer, recording))
            self._replays.add(task)  # the loop itself keeps no task alive
            task.add_done_callback(self._replays.discard)

    async def _paced(self, peer: Peer, recording: Recording) -> None:
        began = time.monotonic()
        for seconds, payload in recording.frames:
            wait = seconds / self._rate - (time.monotonic() - began)
            if wait > 0:
                await asyncio.sleep(wait)
            if peer not in self.peers:
                return
            peer.put_recorded(payload)
