"""The session of a follower: a leader's rows through an engine, as events of a session.

It has the surface of `wire.session.Session`, and the same states. What it brings are
rows that the leader has decided: `LeaderNews`, which pass no codec and no clock.

    link: joined      Connected, Subscribed(streams)      the rings' rows follow
    link: current     Subscribed(covered)                 connected
    no news of the    ConnectionLost(uncovered)           reconnecting, until news come
    leader, or dead
    link: lost        ConnectionLost(uncovered)           it joins again

The streams are those that the settings name, else all that the leader carries. Streams
that are asked for beside these are requested of the leader.
"""

import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from shmfeed.bar import StreamKey
from shmfeed.identity import FeedIdentity
from shmfeed.relay.engine import Entry, Position
from shmfeed.relay.flush import Catalog, StreamMarks, carried_streams
from shmfeed.relay.leader_signs import LeaderSigns
from shmfeed.relay.link import (
    FollowerLink,
    LinkAnswer,
    LinkCurrent,
    LinkEntries,
    LinkFilled,
    LinkItem,
    LinkJoined,
    LinkLost,
    LinkRows,
    OpenEngine,
)
from shmfeed.relay.news import LeaderNews, with_absent
from shmfeed.settings.endpoint import redact
from shmfeed.settings.model import Settings
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.connection import TICK
from shmfeed.wire.events import (
    ChangeRefused,
    Connected,
    ConnectionLost,
    NextAttempt,
    SessionEvent,
    SessionStatus,
    StatusChanged,
    Streams,
    StreamsRefused,
    Subscribed,
)
from shmfeed.wire.poller import Poller

_MOST_ITEMS = 32  # that one batch takes
_SUBSCRIBED = StreamMarks()


class RelaySession:
    """A follower's session. The methods belong to the thread that iterates `batches`.

    `stop` alone may be called by another one.

    Attributes:
        status: The status now; every change of it is also an event.
        acknowledged: The streams that the feed carries.
        is_changing: True while a change of the subscription has no outcome.
        followed: Those of them that are carried because the leader carries them; () if
            the settings name the streams.
    """

    def __init__(
        self,
        open_engine: OpenEngine,
        addresses: Sequence[str],
        settings: Settings,
        identity: FeedIdentity,
        streams: Streams,
        *,
        follower: str,
        wake: Callable[[], None],
        wake_fd: int,
    ) -> None:
        """Take the parts, without touching the network.

        Args:
            open_engine: Returns the engine at an address, which carries the feed.
            addresses: Those to try in turn.
            settings: Delays and limits. Without streams all of the leader's are
                followed.
            identity: The identity of this feed, which the leader must have.
            streams: The streams to begin with.
            follower: The name of this follower: host:pid.
            wake: Makes `wake_fd` readable, from any thread.
            wake_fd: The read end of a pipe; a byte in it ends every wait.
        """
        self.status = SessionStatus()
        self.acknowledged = streams
        self.is_changing = False
        self.followed: Streams = ()
        self._settings = settings
        self._follows_all = not settings.streams
        self._asked: Streams = () if self._follows_all else streams
        self._before: Streams = ()  # asked for, before the change in progress
        self._change_until = 0.0
        self._endpoint = redact(addresses[0])
        self._link = FollowerLink(
            open_engine, addresses, settings, identity, follower, wake
        )
        self._link.ask(self._asked)
        self._poller = Poller(wake_fd)
        self._stopping = threading.Event()
        self._events: list[SessionEvent] = []
        self._number = 0  # of the present link, counted from 1
        self._attempts = self._reconnects = 0
        self._is_current = False  # all rings of the present link have come
        self._covered: frozenset[StreamKey] = frozenset()
        self._is_covered = False  # no stream is to be added to those
        self._carried: Streams = ()  # by the leader
        self._filling: frozenset[StreamKey] = frozenset()  # their rows are to come
        self._refused: frozenset[StreamKey] = frozenset()  # told already
        self._catalog = Catalog((), 0)
        self._marks: dict[int, StreamMarks] = {}
        self._signs = LeaderSigns()
        self._joined: LinkJoined | None = None
        self._with_rows: set[int] = set()  # of the rings that have come
        self._position: Position | None = None

    # The surface of a session

    def batches(self) -> Generator[list[SessionEvent]]:
        """Yield the events in order, a batch at a time, until `stop`. Call it once."""
        self._link.start()
        self._show(state="connecting", phase="connecting", endpoint=self._endpoint)
        try:
            while not self._stopping.is_set():
                has_more = self._step()
                yield self._take_events()
                if not self._stopping.is_set():
                    is_due = has_more or self._may_settle()
                    self._poller.wait([], 0.0 if is_due else TICK)
                    if self._stopping.is_set():
                        yield self._take_events()
        finally:
            self._link.close()
            self._show(state="disconnected", phase="waiting", next_attempt_at=0.0)

    def change(self, streams: Streams) -> None:
        """Replace the wanted streams; a change in progress is superseded."""
        if not self.is_changing:
            self._before = self._asked
        followed = frozenset(self.followed)
        self._asked = tuple(key for key in streams if key not in followed)
        self.is_changing = True
        self._change_until = boot_seconds() + self._settings.ack_timeout
        self._link.ask(self._asked)

    def claim(self, streams: Streams) -> None:
        """Ask for streams that are wanted already, until the leader carries them."""
        followed = frozenset(self.followed)
        self._asked = tuple(key for key in streams if key not in followed)
        self._link.ask(self._asked)
        self._acknowledge(self._asked)
        self._events.append(Subscribed(self.acknowledged))

    def follow_named(self) -> None:
        """Follow only streams that are asked for by name, which `claim` tells."""
        self._follows_all, self.followed = False, ()

    def ask_again(self, streams: Iterable[StreamKey]) -> None:
        """Do nothing: the leader's feeder asks for its mute streams."""

    def move(self, streams: Iterable[StreamKey]) -> None:
        """Do nothing, as for `ask_again`."""

    def forbid(self, refused: Mapping[StreamKey, str]) -> None:
        """Do nothing: the leader's feeder knows the venue's symbols."""

    def replace_connections(self, settings: Settings | None = None) -> None:
        """Join again, with other settings if they are given."""
        if settings is not None:
            self.use_settings(settings)
        self._link.reopen("all rows are asked for again")

    def use_settings(self, settings: Settings) -> None:
        """Obey these delays and limits from now on."""
        self._settings = self._link.settings = settings

    def retry(self) -> list[SessionEvent]:
        """Connect again at once, out of a pause; return the resulting events."""
        self._attempts = 0
        self._link.retry()
        return self._take_events()

    def stop(self) -> None:
        """End `batches` at its next turn; any thread may call it."""
        self._stopping.set()
        self._link.stop()

    def relay(self) -> dict[str, Any]:
        """Return the status of the link: the status key `relay`."""
        head, position = self._signs.head, self._position
        return {
            "role": "follower",
            "leader": "" if head is None else head.leader,
            "epoch": 0 if position is None else position.epoch,
            "since": 0 if head is None else head.since,
            "lag": self._signs.lag(is_away=not self._is_covered),
            "behind": self._link.behind,
            "error": "" if self.status.state == "connected" else self._said(),
        }

    # Steps

    def _step(self) -> bool:
        """Take what the link has brought. Return True if there may be more."""
        taken = 0
        while taken < _MOST_ITEMS:
            item = self._link.take()
            if item is None:
                break
            self._take(item)
            taken += 1
        self._judge_leader()
        if self.is_changing:
            self._check_change()
        return taken == _MOST_ITEMS

    def _take(self, item: LinkItem) -> None:
        match item:
            case LinkJoined():
                self._take_joined(item)
            case LinkRows(rows, streams):
                numbers = tuple(np.unique(rows.numbers).tolist())
                self._with_rows.update(numbers)
                self._tell(streams, closed=rows, whole=numbers)
            case LinkCurrent():
                self._take_current()
            case LinkFilled(streams):
                self._filling -= frozenset(streams)
                self._is_covered = False
            case LinkEntries(entries, at):
                for entry in entries:
                    self._take_entry(entry, at)
            case LinkAnswer(streams, answer):
                if streams == self._asked:
                    self._take_refused(answer.refused)
            case LinkLost():
                self._take_lost(item)

    def _take_joined(self, item: LinkJoined) -> None:
        joined, self._endpoint = item.joined, redact(item.address)
        self._joined, self._position = item, joined.position
        self._catalog, self._marks = joined.catalog, dict(joined.marks)
        self._with_rows.clear()
        self._filling = frozenset()
        self._signs.join(joined, item.at)
        is_reconnect = self._number > 0
        self._number += 1
        self._reconnects += is_reconnect
        self._attempts = 0
        self._events.append(
            Connected(is_reconnect, self._number, endpoint=self._endpoint)
        )
        self._carry()

    def _take_current(self) -> None:
        """Begin to follow: the rows of all streams have been told."""
        if self._joined is None:
            return
        joined = self._joined.joined
        self._joined = None
        numbers = set(range(len(self._catalog.streams)))
        self._tell(
            whole=tuple(numbers - self._with_rows),  # they have no row
            forming=with_absent(joined.forming, len(numbers)),
            marks=joined.marks,
            head=joined.head,
        )
        self._is_current = True
        self._signs.take_rings()
        self._change_until = boot_seconds() + self._settings.ack_timeout

    def _take_entry(self, entry: Entry, at: int) -> None:
        flush = entry.flush
        self._position = entry.position
        self._signs.hear(at, entry.delay)
        must_carry = flush.catalog is not None
        if flush.catalog is not None:
            self._renumber(flush.catalog)
        if flush.head is not None:
            self._signs.head = flush.head
        for number, marks in flush.marks.items():
            before = self._marks.get(number, _SUBSCRIBED)
            must_carry = must_carry or before.subscribed != marks.subscribed
        self._marks.update(flush.marks)
        if must_carry:
            streams = self._catalog.streams
            told = (streams[n] for n in flush.whole if n < len(streams))
            self._carry(frozenset(told))
        self._tell(
            closed=flush.closed,
            forming=flush.forming,
            whole=flush.whole,
            marks=flush.marks,
            head=flush.head,
            sent=flush.sent,
        )

    def _renumber(self, catalog: Catalog) -> None:
        """Take another catalog; marks go with their streams."""
        old = self._catalog.streams
        marks = {old[n]: one for n, one in self._marks.items() if n < len(old)}
        self._catalog = catalog
        self._marks = {
            number: marks[key]
            for number, key in enumerate(catalog.streams)
            if key in marks
        }

    def _take_lost(self, lost: LinkLost) -> None:
        was_connected, self._is_current = self._is_current, False
        self._endpoint = redact(lost.address)
        self._joined = None
        self._uncover(lost.reason, was_connected=was_connected)
        most = self._settings.max_reconnect_attempts
        self._attempts += not (lost.joins_again or was_connected)
        state = "reconnecting" if self._number else "connecting"
        if lost.is_refused or (most is not None and self._attempts >= max(1, most)):
            state = "error"
        if not lost.joins_again:
            seconds = max(0.0, lost.next_at - boot_seconds())
            self._events.append(NextAttempt(seconds, lost.reason, self._endpoint))
        self._show(
            state=state,
            phase="waiting",
            endpoint=self._endpoint,
            attempts=self._attempts,
            last_error=lost.reason,
            error_kind="connection",
            next_attempt_at=0.0 if lost.joins_again else lost.next_at,
        )

    # The leader

    def _judge_leader(self) -> None:
        """Show what the leader's state, or its silence, means for the streams."""
        head, away = self._signs.head, self._signs.why_away()
        if not self._is_current or head is None:
            return
        if away:
            self._uncover(away, was_connected=True)
            self._show(state="reconnecting", phase="waiting", last_error=away)
            return
        if not self._is_covered:
            self._cover()
        state, error = head.state, self._said()
        if state not in ("connected", "error"):
            state = "reconnecting"
        self._show(
            state=state,
            phase="streaming",
            endpoint=self._endpoint,
            attempts=0,
            reconnects=self._reconnects,
            last_error=error or self.status.last_error,
            error_kind="connection" if error else "",
            next_attempt_at=0.0,
        )

    def _said(self) -> str:
        """Return the error in force, "" for none."""
        if not self._is_current or self._signs.head is None:
            return self.status.last_error
        return self._signs.error()

    # Streams

    def _carry(self, brought: frozenset[StreamKey] = frozenset()) -> None:
        """Find and tell the streams that the feed carries from now on.

        The rows of those `brought` come of themselves.
        """
        before = frozenset(self._carried)
        self._carried = carried_streams(self._catalog, self._marks)
        carried, asked = self._carried, frozenset(self._asked)
        if self._follows_all:
            self.followed = tuple(key for key in carried if key not in asked)
        known = before.intersection(self.acknowledged)
        self._acknowledge(self._before if self.is_changing else self._asked)
        self._covered &= frozenset(carried)
        self._events.append(Subscribed(self.acknowledged))
        self._fill(known | brought)

    def _fill(self, known: frozenset[StreamKey]) -> None:
        """Bring the rows of streams that are carried, beside those that were."""
        here = frozenset(self.acknowledged) - known
        new = tuple(key for key in self._carried if key in here)
        if self._is_current and new:
            self._filling |= frozenset(new)
            self._link.fill(new)

    def _acknowledge(self, asked: Streams) -> None:
        self._is_covered = False
        self.acknowledged = tuple(dict.fromkeys((*self.followed, *asked)))
        self._covered &= frozenset(self.acknowledged)

    def _cover(self, ends_change: bool = False) -> None:
        """Tell the streams that the link brings with all rows, and did not before."""
        self._is_covered = not self._signs.why_away()
        carried = frozenset(self._carried if self._is_covered else ())
        carried = carried.intersection(self.acknowledged) - self._filling
        added = carried - self._covered
        new = tuple(key for key in self.acknowledged if key in added)
        if new or ends_change:
            self._covered = carried
            self._events.append(Subscribed(self.acknowledged, ends_change, new))

    def _uncover(self, reason: str, was_connected: bool) -> None:
        lost = tuple(key for key in self.acknowledged if key in self._covered)
        self._is_covered = False
        if not lost and not was_connected:
            self._events.append(
                ConnectionLost(False, False, reason=reason, endpoint=self._endpoint)
            )
        elif lost:
            self._covered = frozenset()
            told = True, False, self._number, lost, False, reason, self._endpoint
            self._events.append(ConnectionLost(*told))

    def _check_change(self) -> None:
        """End the change in progress, with the leader's streams or without them."""
        if not self._is_current:
            return  # the next link asks for it
        if self._may_settle():
            self.is_changing = False
            known = frozenset(self.acknowledged)
            self._acknowledge(self._asked)
            self._fill(known)
            self._cover(ends_change=True)
        elif boot_seconds() >= self._change_until:
            self._refuse(
                f"the leader does not carry {' '.join(min(self._missing()))} after"
                f" {self._settings.ack_timeout:g} s; nothing was changed"
            )

    def _may_settle(self) -> bool:
        """Return True if the leader carries all that a change asks for."""
        return self.is_changing and self._is_current and not self._missing()

    def _missing(self) -> frozenset[StreamKey]:
        """Return the streams that a change adds, and that the leader lacks."""
        return frozenset(self._asked).difference(self._before, self._carried)

    def _take_refused(self, refused: Mapping[StreamKey, str]) -> None:
        """Take the leader's answer about the streams that are asked for."""
        new = {key: why for key, why in refused.items() if key not in self._before}
        if self.is_changing and new:
            self._refuse("; ".join(dict.fromkeys(new.values())))
            return
        for key in refused.keys() - self._refused:
            self._events.append(StreamsRefused((key,), refused[key]))
        self._refused = frozenset(refused)

    def _refuse(self, message: str) -> None:
        self.is_changing = False
        self._asked = self._before
        self._link.ask(self._asked)
        self._events.append(ChangeRefused(message))

    # Events

    def _tell(self, streams: Streams | None = None, **news: Any) -> None:
        """Tell news as of now; rows may be of other `streams` than the catalog's."""
        epoch = 0 if self._position is None else self._position.epoch
        streams = self._catalog.streams if streams is None else streams
        signs = self._signs
        self._events.append(
            LeaderNews(epoch, streams, signs.made_at, signs.heard_at, **news)
        )

    def _show(self, **changes: Any) -> None:
        old, new = self.status, self.status._replace(**changes)
        if new != old:
            self.status = new
            self._events.append(StatusChanged(old, new))

    def _take_events(self) -> list[SessionEvent]:
        events, self._events = self._events, []
        return events
