"""The connections to a venue: every wanted stream over one of them, whatever happens.

    disconnected -> connecting -> connected <-> reconnecting
                        |                            |
                        +---------> error <----------+

The streams are spread over *groups*, as many as the venue's limit asks for. A group has
a *link*, or two with two lines: a chain of connections, each with its own backoff. One
poll waits for all sockets. The state is the worst of the groups' states.
`max_reconnect_attempts` failures in a row make it `error`; the link goes on trying.

A change of the wanted streams succeeds or fails as a whole: what one connection refuses
is rolled back on all.
"""

import random
import threading
from collections.abc import Callable, Iterable, Mapping

from shmfeed.bar import StreamKey
from shmfeed.codecs import Codec
from shmfeed.errors import BadArgumentError
from shmfeed.settings.model import Settings
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.channel import Dialer, DialLimit
from shmfeed.wire.connect import check_target, policy_of
from shmfeed.wire.connection import TICK
from shmfeed.wire.events import (
    ChangeRefused,
    ConnectionLost,
    Received,
    SessionEvent,
    SessionStatus,
    StatusChanged,
    Streams,
    Subscribed,
)
from shmfeed.wire.group import Group, rank
from shmfeed.wire.interface import Batches
from shmfeed.wire.link import NEW_SETTINGS, Link
from shmfeed.wire.poller import Poller, Ready
from shmfeed.wire.spread import spread

_CLOSE_SECONDS = 0.5  # s; for the servers' answers to our close


class Session:
    """The connections to a venue, to the first of `endpoints` that accepts `streams`.

    All methods belong to the thread that iterates `batches`, except `stop`: another
    thread may call it, and then writes to the pipe of `wake_fd`.

    Attributes:
        status: The status now; every change of it is also an event.
        acknowledged: The streams of the last change that the venue accepted as a whole;
            before that, the streams to subscribe.
        is_changing: True while a change of the subscription has no outcome.
    """

    def __init__(
        self,
        codec: Codec,
        settings: Settings,
        endpoints: list[str],
        streams: Streams,
        *,
        wake_fd: int | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = boot_seconds,
        tick: float = TICK,
        budget: DialLimit | None = None,
    ) -> None:
        """Check the endpoints, without touching the network.

        Args:
            codec: The venue's protocol.
            settings: Limits, delays and the policy of connections.
            endpoints: Complete URLs, as `codec.endpoints` returns them.
            streams: The streams to subscribe.
            wake_fd: The read end of a pipe; a byte in it ends every wait.
            rng: The source of random delays.
            clock: A clock in seconds that never goes back.
            tick: The longest time without a batch, in seconds.
            budget: The dials that all feeders of this user share; None for no limit.

        Raises:
            BadArgumentError: There is no endpoint, or one may not be used.
        """
        if not endpoints:
            raise BadArgumentError("a session needs at least one endpoint")
        for url in endpoints:
            check_target(url, policy_of(settings))
        self.status = SessionStatus()
        self.acknowledged = streams
        self.is_changing = False
        self._wanted = streams
        self._endpoints = endpoints
        rng = rng or random.Random()  # noqa: S311 - it spreads load, no secrets
        self._dialer = Dialer(codec, settings, rng, clock, budget)
        self._groups = [
            Group(self._dialer, endpoints, part)
            for part in spread(streams, self._most_streams())
        ]
        self._allow_parking()
        self._clock = clock
        self._tick = tick
        self._poller = Poller(wake_fd)
        self._ready: Ready = {}
        self._covered: frozenset[StreamKey] = frozenset()
        self._last_error = ""
        self._shown: dict[Link, SessionStatus] = {}  # the links' statuses taken so far
        self._events: list[SessionEvent] = []  # not handed over yet
        self._stopping = threading.Event()

    def batches(self) -> Batches:
        """Yield the events in order, a batch at a time, until `stop`. Call it once.

        An empty batch comes at least each `tick`, at each wake-up, and after a change
        of state before anything waits. The bars that came before an acknowledgement
        follow its Subscribed.
        """
        try:
            while not self._stopping.is_set():
                self._step()
                yield self._take_events()
                if not self._stopping.is_set():
                    self._wait()
                    if self._stopping.is_set():
                        yield self._take_events()
        finally:
            self._hang_up()

    def change(self, streams: Streams) -> None:
        """Replace the wanted streams; a change in progress is superseded.

        Live connections request them, else the next ones. The outcome is a
        ChangeRefused, or a Subscribed with `ends_change`.
        """
        self._wanted = streams
        self.is_changing = True
        present = [group.streams for group in self._groups]
        parts = spread(streams, self._most_streams(), present)
        for group, part in zip(self._groups, parts, strict=False):
            group.change(part)
        for part in parts[len(present) :]:
            group = Group(self._dialer, self._endpoints, part, is_joining=True)
            self._groups.append(group)
        self._allow_parking()

    def ask_again(self, streams: Iterable[StreamKey]) -> None:
        """Request streams again on their live connections, because they are mute."""
        asked = frozenset(streams)
        for link in self._links():
            link.ask_again(asked)

    def move(self, streams: Iterable[StreamKey]) -> None:
        """Carry streams over new connections, because they stay mute.

        Each connection that carries one of them is replaced; the old one goes on until
        the new one serves.
        """
        moved = frozenset(streams)
        for link in self._links():
            if not moved.isdisjoint(link.covered):
                link.replace("streams are mute on this connection")

    def forbid(self, refused: Mapping[StreamKey, str]) -> None:
        """Let no connection serve with these streams, for the reason of each.

        A connection that carries one ends, and the attempts that follow fail, until the
        wanted streams have none of them. An empty mapping allows all.
        """
        self._dialer.refused.clear()
        self._dialer.refused.update(refused)

    def replace_connections(self, settings: Settings | None = None) -> None:
        """Replace every connection, as the token or the settings have changed.

        Each old connection goes on until its new one serves.
        """
        if settings is not None:
            self.use_settings(settings)
        for link in self._links():
            link.replace(NEW_SETTINGS)

    def use_settings(self, settings: Settings) -> None:
        """Obey these delays and limits from now on; no connection is replaced."""
        self._dialer.settings = settings
        for link in self._links():
            link.use_settings()

    def retry(self) -> list[SessionEvent]:
        """Connect again at once, out of `error` or a pause, as if nothing had failed.

        Return the resulting events. Earlier failures do not count for this attempt.
        """
        for link in self._links():
            self._take(link.retry())
        self._refresh()
        return self._take_events()

    def stop(self) -> None:
        """End `batches` at its next turn; any thread may call it."""
        self._stopping.set()

    # Steps

    def _links(self) -> list[Link]:
        return [link for group in self._groups for link in group.links]

    def _most_streams(self) -> int:
        given = self._dialer.settings.max_streams_per_connection
        return self._dialer.codec.max_streams if given is None else given

    def _step(self) -> None:
        now = self._clock()
        for group in self._groups:
            for link in group.links:
                events = link.step(self._ready, now)
                if link.status is not self._shown.get(link):
                    self._refresh()
                if events:
                    self._take(events)
        if self.is_changing:
            self._check_change()

    def _wait(self) -> None:
        now, seconds = self._clock(), self._tick
        interests: list[tuple[int, int]] = []
        for group in self._groups:
            for link in group.links:
                seconds = min(seconds, link.await_in(interests, now))
        self._ready = self._poller.wait(interests, seconds)

    def _hang_up(self) -> None:
        links = self._links()
        seconds = _CLOSE_SECONDS / len(links) if self._stopping.is_set() else 0.0
        for link in links:
            link.close(seconds)
        self._show(self.status._replace(state="disconnected", phase="waiting"))

    # Events

    def _take(self, events: list[SessionEvent]) -> None:
        for event in events:
            if type(event) is Received:
                self._events.append(event)
            elif isinstance(event, Subscribed):
                self._subscribed()
            elif isinstance(event, ChangeRefused):
                self._refuse(event.message)
            elif isinstance(event, ConnectionLost):
                self._lost(event)
            else:
                self._events.append(event)

    def _subscribed(self) -> None:
        if self.is_changing and self._has_settled():
            self._settle()
            return
        covered = self._newly_covered()
        self._events.append(Subscribed(self.acknowledged, False, covered))

    def _lost(self, event: ConnectionLost) -> None:
        now = self._carried()
        uncovered = tuple(
            key for key in self.acknowledged if key in self._covered and key not in now
        )
        self._covered = now
        self._events.append(event._replace(uncovered=uncovered))

    def _carried(self) -> frozenset[StreamKey]:
        carried: set[StreamKey] = set()
        for link in self._links():
            carried |= link.covered
        return frozenset(carried).intersection(self.acknowledged)

    def _newly_covered(self) -> Streams:
        # Only the end of a connection uncovers: a change that is rolled back may take a
        # stream off a connection and put it back.
        new = self._carried() - self._covered
        self._covered = (self._covered | new).intersection(self.acknowledged)
        return tuple(key for key in self.acknowledged if key in new)

    # Changes

    def _has_settled(self) -> bool:
        return all(group.has_settled for group in self._groups)

    def _settle(self) -> None:
        self.is_changing = False
        self.acknowledged = self._wanted
        for group in self._groups:
            group.settle()
        self._drop(lambda group: not group.streams)
        covered = self._newly_covered()
        self._events.append(Subscribed(self.acknowledged, True, covered))
        self._refresh()

    def _refuse(self, message: str) -> None:
        if not self.is_changing:
            return
        self.is_changing = False
        self._wanted = self.acknowledged
        self._drop(lambda group: group.is_joining)
        for group in self._groups:
            group.roll_back()
        self._events.append(ChangeRefused(message))

    def _check_change(self) -> None:
        failed = [one.failure for one in self._groups if one.is_joining and one.failure]
        if failed:
            self._refuse(failed[0])

    def _drop(self, is_over: Callable[[Group], bool]) -> None:
        over = [group for group in self._groups if is_over(group)]
        if len(over) == len(self._groups):
            over = over[1:]  # one connection stays, though it carries nothing
        for group in over:
            self._groups.remove(group)
            group.close()
            for link in group.links:
                self._shown.pop(link, None)
        self._allow_parking()

    def _allow_parking(self) -> None:
        """Let links do without all streams, as long as other groups serve."""
        for link in self._links():
            link.may_park = len(self._groups) > 1

    # Status

    def _refresh(self) -> None:
        for link in self._links():
            old, new = self._shown.get(link), link.status
            if old is new:
                continue
            self._shown[link] = new
            if new.last_error != (old.last_error if old else ""):
                self._last_error = new.last_error
        present = [group for group in self._groups if not group.is_joining]
        served = [group.status for group in present if not group.is_parked]
        if served:
            worst = max(served, key=rank)
        else:  # the venue refuses every stream of the feed
            worst = present[0].status._replace(state="error")
        reconnects = sum(link.status.reconnects for link in self._links())
        self._show(worst._replace(reconnects=reconnects, last_error=self._last_error))

    def _show(self, status: SessionStatus) -> None:
        old, self.status = self.status, status
        if status != old:
            self._events.append(StatusChanged(old, status))

    def _take_events(self) -> list[SessionEvent]:
        events, self._events = self._events, []
        return events
