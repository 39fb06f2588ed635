"""The producer of a venue's frames: bars at its clock's pace, or a recording."""

import asyncio
import contextlib
import math
import time
from collections.abc import Iterable, Sequence

from shmfeed.bar import Bar, StreamKey
from shmfeed.simulator import grid
from shmfeed.simulator.faults import FaultSchedule
from shmfeed.simulator.market import BarState
from shmfeed.simulator.options import VenueOptions
from shmfeed.simulator.replay import Recording, read_recording
from shmfeed.simulator.schedule import Schedule, full_speed, history
from shmfeed.simulator.subscriber import Subscriber

_DAY = 86_400


class Producer:
    """Sends frames to all subscribers; used in the event loop's thread only.

    Attributes:
        subscribers: The clients connected now.
        venue_faults: The faults of the venue itself: its clock, new connections.
        speed: Venue seconds per wall second.
    """

    def __init__(self, options: VenueOptions) -> None:
        self.subscribers: set[Subscriber] = set()
        self.venue_faults = FaultSchedule((), "")
        self._options = options
        self._recording: Recording | None = None
        if options.replay is not None:
            self._recording = read_recording(options.replay)
        self._schedule = Schedule(options.seed, options.grid_phase, options.roll_up)
        self._wake = asyncio.Event()
        self._replays: set[asyncio.Task[None]] = set()
        self.speed = options.speed or 1.0
        if self.speed == math.inf:
            self.speed = 1.0
        lead = 0.0 if self.speed == 1.0 else self.speed * _DAY
        now = int((time.time() - lead) * 1000)
        self._start = now if options.start is None else options.start
        self._started = time.monotonic()

    def now(self) -> int:
        """Return the venue's time, ms UTC, shifted by a `skew` fault in force."""
        passed = (time.monotonic() - self._started) * 1000 * self.speed
        skew = self.venue_faults.due("skew")
        return self._start + int(passed + (skew.fault.argument * 1000 if skew else 0))

    async def run(self) -> None:
        """Send each state when the venue's clock makes it due, until cancelled."""
        options = self._options
        if options.speed is None or options.fastest or self._recording is not None:
            return
        next_update = time.monotonic()
        while True:
            self.publish(self._schedule.closings(now := self.now()))
            if (clock := time.monotonic()) >= next_update:
                self.publish(self._schedule.updates(now))
                next_update = clock + options.update_interval
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause(next_update))

    def subscribe(self, subscriber: Subscriber, keys: Iterable[StreamKey]) -> None:
        """Replace a client's subscription; streams new to it start with their history.

        The first subscription starts the recording, where there is one.
        """
        wanted = dict.fromkeys(keys)
        added = [key for key in wanted if key not in subscriber.keys]
        removed = [key for key in subscriber.keys if key not in wanted]
        is_first = not subscriber.keys
        subscriber.keys = wanted
        self._unschedule(removed)
        if self._recording is not None:
            if is_first:
                self._replay(subscriber, self._recording)
        elif self._options.fastest:
            batches = full_speed(self._options, subscriber.encode, added, self._start)
            subscriber.put_batches(batches)
        else:
            self._start_streams(subscriber, added)

    def remove(self, subscriber: Subscriber) -> None:
        """Forget a client whose connection is gone."""
        self.subscribers.discard(subscriber)
        self._unschedule(subscriber.keys)

    def publish(
        self, states: Iterable[tuple[StreamKey, BarState]], *, even_muted: bool = False
    ) -> int:
        """Send states of the market's bars to their subscribers; return how many."""
        count = 0
        for key, state in states:
            shared: dict[str, list[bytes]] = {}
            for subscriber in self.subscribers:
                if key not in subscriber.keys:
                    continue
                count += 1
                if subscriber.encodes_late:
                    subscriber.put_state(key, state, even_muted=even_muted)
                    continue
                encoding = subscriber.dialect.encoding
                if encoding not in shared:
                    shared[encoding] = subscriber.encode(key, [state])
                for frame in shared[encoding]:
                    subscriber.put(frame, even_muted=even_muted)
        return count

    def publish_bar(
        self,
        symbol: str,
        timeframe: str,
        bar: Bar,
        closed: bool | None,
        event_time: int | None,
        to_all: bool,
    ) -> int:
        """Send a hand-made bar to its subscribers, or to all; return how many."""
        count = 0
        for subscriber in self.subscribers:
            key = subscriber.dialect.stream_key(symbol, timeframe)
            if to_all or key in subscriber.keys:
                subscriber.put_bar(key, bar, closed, event_time)
                count += 1
        return count

    def _pause(self, next_update: float) -> float:
        wait = next_update - time.monotonic()
        closing = self._schedule.next_closing()
        if closing is not None:
            wait = min(wait, (closing - self.now()) / 1000 / self.speed)
        return max(wait, 0.0) + 0.001  # the clock counts whole milliseconds

    def _start_streams(self, subscriber: Subscriber, keys: Sequence[StreamKey]) -> None:
        now = self.now()
        if self._options.speed is None:  # nothing follows the history
            forming = [
                (key, grid.begin(now, *key, self._options.grid_phase)) for key in keys
            ]
        else:
            forming = [(key, self._schedule.add(key, now)) for key in keys]
        if self._options.history:
            batches = history(self._options, subscriber.encode, forming)
            subscriber.put_batches(batches)
        self._wake.set()

    def _unschedule(self, keys: Iterable[StreamKey]) -> None:
        for key in keys:
            if not any(key in subscriber.keys for subscriber in self.subscribers):
                self._schedule.remove(key)

    def _replay(self, subscriber: Subscriber, recording: Recording) -> None:
        if self._options.fastest:
            subscriber.put_batches(recording.batches(subscriber.edit_recorded))
        elif self._options.speed is not None:
            task = asyncio.create_task(self._replay_paced(subscriber, recording))
            self._replays.add(task)  # the loop itself keeps no task alive
            task.add_done_callback(self._replays.discard)

    async def _replay_paced(self, subscriber: Subscriber, recording: Recording) -> None:
        started = time.monotonic()
        for seconds, payload in recording.frames:
            wait = seconds / self.speed - (time.monotonic() - started)
            if wait > 0:
                await asyncio.sleep(wait)
            if subscriber not in self.subscribers:
                return
            subscriber.put_recorded(payload)
