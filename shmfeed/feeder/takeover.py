"""Take the place of a running feeder: follow the venue beside it, then take its feed.

    running feeder   receives, writes ----------------| stops receiving; ends
    new feeder       connects | holds its messages ---|-- takes the segment, writes

The new feeder holds what its own connections bring from their acknowledgement on. It
asks for the hand-over a second later, so that each message that the running feeder has
not read reaches it too. A feeder that dies in between leaves the other one in service,
see `handover_channel`.
"""

import logging
import os
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from shmfeed.bar import StreamKey
from shmfeed.codecs.identity import identity_of
from shmfeed.control.client import ask, is_listening
from shmfeed.control.messages import ControlError
from shmfeed.errors import (
    BadArgumentError,
    FeedNotFoundError,
    SegmentError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feed import Feed
from shmfeed.feeder.handover_channel import (
    CONNECT_SECONDS,
    Taken,
    receive,
    socket_of,
)
from shmfeed.feeder.journal import Journal
from shmfeed.segment.identity import check_running
from shmfeed.segment.inventory import takeover_sockets
from shmfeed.segment.mapping import Place, place
from shmfeed.settings.model import Settings
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.events import (
    ConnectionLost,
    NextAttempt,
    Received,
    SessionEvent,
    StatusChanged,
    Streams,
    StreamsRefused,
    Subscribed,
)
from shmfeed.wire.interface import FeedSession

log = logging.getLogger(__name__)

OVERLAP_SECONDS = 1.0  # that both feeders are connected before the hand-over
SETTLE_SECONDS = 0.1  # that messages are still read which the former feeder has read
HELD_SECONDS = 10.0
MOST_HELD = 500_000  # messages, about 150 MB
_OP = "takeover"
_ANSWER_SECONDS = 15.0  # for the running feeder, which may be in a long turn
_STATUS_SECONDS = 5.0


def find_running(settings: Settings) -> Streams | None:
    """Return the streams of the feeder that runs, None if none runs.

    Raises:
        FeedBusyError: It is of another identity.
    """
    where, wanted = place(settings.feed), identity_of(settings)
    try:
        answer = ask(where.socket, "status", _STATUS_SECONDS)
        with Feed(where) as feed:
            streams = tuple(feed.streams())
    except (FeedNotFoundError, ControlError, SegmentError):
        return None
    check_running(where, answer, wanted)
    return streams


class HeldEvents:
    """The events of a session since all streams were acknowledged, bounded.

    Messages leave it after HELD_SECONDS: the running feeder has read them long since.
    """

    def __init__(self) -> None:
        self._events: deque[tuple[float, SessionEvent]] = deque()
        self._messages = 0

    def __iter__(self) -> Iterator[SessionEvent]:
        return (event for _, event in self._events)

    def add(self, event: SessionEvent, now: float) -> None:
        """Hold an event that came at `now`, in seconds of CLOCK_BOOTTIME."""
        self._events.append((now, event))
        if isinstance(event, Received):
            self._messages += len(event.events)

    def drop(self, now: float) -> None:
        """Drop the messages that are too old, or too many."""
        kept: list[tuple[float, SessionEvent]] = []
        events = self._events
        while events:
            at, event = events[0]
            if isinstance(event, Received):
                if at >= now - HELD_SECONDS and self._messages <= MOST_HELD:
                    break
                self._messages -= len(event.events)
            else:
                kept.append((at, event))
            events.popleft()
        events.extendleft(reversed(kept))

    def clear_messages(self) -> None:
        """Drop all messages: some after them may be lost."""
        kept = [one for one in self._events if not isinstance(one[1], Received)]
        self._events, self._messages = deque(kept), 0


class Follower:
    """A feeder's connections, while another feeder still writes the feed.

    Attributes:
        events: The events that came meanwhile.
        taken: The feed as the other feeder has handed it over, None before.
    """

    def __init__(
        self,
        settings: Settings,
        session: FeedSession,
        batches: Iterator[list[SessionEvent]],
        journal: Journal,
    ) -> None:
        self.events = HeldEvents()
        self.taken: Taken | None = None
        self._where = place(settings.feed)
        self._session = session
        self._batches = batches
        self._journal = journal
        self._covered: set[StreamKey] = set()
        self._left_out: set[StreamKey] = set()
        self._ready_at: float | None = None

    def follow(self, wake: Callable[[], None]) -> bool:
        """Connect, and have the other feeder hand the feed over.

        Return False if the session was stopped. After True, `taken` is None if there
        is no other feeder any more. `wake` ends the session's wait, from any thread.

        Raises:
            WebSocketConnectionError: No attempt to connect succeeded.
            WebSocketSubscriptionError: The venue refused.
            ShmfeedError: The other feeder goes on, for this reason.
        """
        handover: Future[Taken] | None = None
        done_at: float | None = None
        for batch in self._batches:
            now = boot_seconds()
            self._take(batch, now)
            if handover is None:
                self._check_failure()
                if self._is_ready(now):
                    handover = self._ask(wake)
            elif done_at is None and handover.done():
                done_at = now
            elif done_at is not None and now >= done_at + SETTLE_SECONDS:
                self._accept(handover)
                return True
        if handover is not None:
            self._give_back(handover)
        return False

    def close(self) -> None:
        """Give back what was handed over and not taken. Idempotent."""
        if self.taken is not None:
            self.taken.close()
            self.taken = None

    def _take(self, batch: list[SessionEvent], now: float) -> None:
        for event in batch:
            if not isinstance(event, Received):
                self._journal.take(event)
            if isinstance(event, Subscribed):
                self._covered.update(event.covered)
            elif isinstance(event, StreamsRefused):
                self._left_out.update(event.streams)
            elif isinstance(event, ConnectionLost):
                self._lost(event)
                if self._ready_at is None:
                    continue
            if not isinstance(event, StatusChanged | NextAttempt):
                self.events.add(event, now)
        self.events.drop(now)
        if self._journal.is_pending:
            self._journal.flush()

    def _lost(self, event: ConnectionLost) -> None:
        self._covered.difference_update(event.uncovered)
        if event.was_connected and self._ready_at is None:
            self.events.clear_messages()

    def _is_ready(self, now: float) -> bool:
        """Return True once all streams have been carried for a while."""
        session = self._session
        wanted = set(session.acknowledged) - self._left_out
        is_whole = session.status.state == "connected" and wanted <= self._covered
        if not is_whole:
            self._ready_at = None
        elif self._ready_at is None:
            self._ready_at = now
        return self._ready_at is not None and now >= self._ready_at + OVERLAP_SECONDS

    def _check_failure(self) -> None:
        status = self._session.status
        if status.state != "error":
            return
        said = f"{status.last_error}; the running feeder goes on"
        if status.error_kind == "subscription":
            raise WebSocketSubscriptionError(said)
        raise WebSocketConnectionError(said)

    def _ask(self, wake: Callable[[], None]) -> "Future[Taken]":
        answer: Future[Taken] = Future()

        def run() -> None:
            try:
                answer.set_result(ask_for_handover(self._where))
            except Exception as error:  # noqa: BLE001 # raised in the other thread
                answer.set_exception(error)
            wake()

        threading.Thread(target=run, name="shmfeed-takeover", daemon=True).start()
        return answer

    def _accept(self, handover: "Future[Taken]") -> None:
        try:
            self.taken = handover.result()
        except BadArgumentError as error:  # of an earlier version
            raise ControlError(
                f"the running feeder cannot hand its feed over: {error}; stop it, and"
                " start this one"
            ) from None
        except (FeedNotFoundError, ControlError, WebSocketConnectionError) as error:
            log.warning("feed %s: %s; it is taken if free", self._where.name, error)

    def _give_back(self, handover: "Future[Taken]") -> None:
        """Leave the feed to the other feeder: this one was stopped."""

        def close(done: Future[Taken]) -> None:
            if done.exception() is None:
                done.result().close()

        handover.add_done_callback(close)


def ask_for_handover(where: Place) -> Taken:
    """Have the running feeder hand its feed over.

    Raises:
        FeedNotFoundError: No feeder runs.
        ControlError: The feeder did not hand over, or ended meanwhile.
        ShmfeedError: The feeder's answer is this error.
    """
    _remove_leftovers(where)
    nonce = secrets.token_hex(8)
    path = socket_of(where, nonce)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(path))
        try:
            path.chmod(0o600)
            listener.listen(1)
            ask(where.socket, _OP, _ANSWER_SECONDS, nonce=nonce)
            listener.settimeout(CONNECT_SECONDS)
            connection, _ = listener.accept()
        except TimeoutError:
            raise ControlError(
                f"the feeder of {where.name!r} did not hand the feed over"
            ) from None
        finally:
            path.unlink(missing_ok=True)
    try:
        return receive(connection, where.name)
    except BaseException:
        connection.close()
        raise


def _remove_leftovers(where: Place) -> None:
    """Remove the sockets of feeders that were killed as they took over."""
    for path in takeover_sockets(where):
        if not is_listening(path):
            path.unlink(missing_ok=True)
