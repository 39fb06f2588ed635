"""Changes of what a feeder carries: one at a time, each answered by the venue.

A manager's wish becomes part of the union when its turn comes, is put to the venue over
the connection that lives, and is taken back when the venue refuses it or the connection
is lost before the answer. So every question ends, at the latest with the session's
patience for an acknowledgement, and whoever asked knows what is carried.

Who wants which streams of a feeder: it carries the union of all.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from shmfeed.bar import StreamKey
from shmfeed.control.peer import process_start
from shmfeed.errors import (
    ShmfeedError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feeder.commands import Command
from shmfeed.wire.session import ChangeRefused, Subscribed

Streams = tuple[StreamKey, ...]


class Want(NamedTuple):
    """One manager's wish: its process, and the streams."""

    pid: int
    started: int  # of that process, by the kernel's count: a pid can be given again
    streams: Streams


class Subscriptions:
    """The wishes of all managers, by the name that each gave itself."""

    def __init__(self) -> None:
        self._wants: dict[str, Want] = {}

    def put(self, manager: str, pid: int, streams: Streams) -> Want:
        """Replace what this manager wants; without streams it wants nothing more."""
        want = Want(pid, process_start(pid) or 0, streams)
        if streams:
            self._wants[manager] = want
        else:
            self.drop(manager)
        return want

    def drop(self, manager: str) -> None:
        self._wants.pop(manager, None)

    def get(self, manager: str) -> Want | None:
        return self._wants.get(manager)

    def take_back(self, manager: str, refused: Want, before: Want | None) -> None:
        """Put back what `get` gave before a `put` that was refused.

        Only while the refused want still stands: a manager may have left meanwhile.
        """
        if self._wants.get(manager) is not (refused if refused.streams else None):
            return
        if before is None:
            self.drop(manager)
        else:
            self._wants[manager] = before

    def union(self) -> Streams:
        """All streams, once each, in the order in which they were wanted."""
        every = (names for want in self._wants.values() for names in want.streams)
        return tuple(dict.fromkeys(every))

    def alive(self) -> bool:
        """Whether any manager that wants something still runs.

        A feeder outlives its managers: a dead one's streams go on, but it does not
        keep a live one from stopping the feeder.
        """
        return any(
            want.started and process_start(want.pid) == want.started
            for want in self._wants.values()
        )


class Line(Protocol):
    """What a session is to this module."""

    state: str
    last_error: str

    def change(self, streams: Streams) -> None: ...


class SubscriptionQueue:
    """The way of wishes to the venue and back. For the main loop alone.

    `admit` raises a ShmfeedError for a union that the feed has no room for. `fed` is
    what the venue acknowledged last.
    """

    def __init__(
        self, wants: Subscriptions, line: Line, admit: Callable[[Streams], None]
    ) -> None:
        self.fed: Streams = ()
        self._wants = wants
        self._line = line
        self._admit = admit
        self._queue: deque[tuple[Command, Streams]] = deque()
        self._asked: Streams | None = None  # the union that the venue is asked for
        self._open: tuple[Command, Want, Want | None] | None = None  # who asked
        self._left = False  # somebody left: the union may be smaller

    def subscribe(self, command: Command, streams: Streams) -> None:
        """Want these for the command's manager; the command is answered later."""
        if self._line.state != "connected":
            why = self._line.last_error
            command.fail(
                WebSocketConnectionError(
                    "the feeder is not connected now, so nothing was changed"
                    + (f"; its last error: {why}" if why else "")
                )
            )
            return
        self._queue.append((command, streams))
        self._go_on()

    def leave(self, manager: str) -> None:
        """This manager wants nothing more; nobody waits for what that changes."""
        self._wants.drop(manager)
        for waiting in [w for w in self._queue if w[0].request.manager == manager]:
            self._queue.remove(waiting)
            error = WebSocketConnectionError("its manager left; nothing was changed")
            waiting[0].fail(error)
        self._left = True
        self._go_on()

    def settle(self, outcome: Subscribed | ChangeRefused) -> None:
        """The venue has answered."""
        if isinstance(outcome, Subscribed):
            self.fed = outcome.streams
            if self._asked is None or set(self._asked) != set(outcome.streams):
                return  # a new connection, for what was wanted when it began
            asking, self._open, self._asked = self._open, None, None
            if asking is not None:
                asking[0].finish(streams=len(outcome.streams))
        elif self._asked is None:
            return  # of a question that was given up
        else:
            self._refuse(WebSocketSubscriptionError(outcome.message))
        self._go_on()

    def lost(self) -> None:
        """The connection is gone, and with it every answer that was to come."""
        error = WebSocketConnectionError(
            "the connection was lost before the venue answered; nothing was changed"
        )
        if self._open is not None:
            self._refuse(error)
            self._line.change(self._wants.union())
        while self._queue:
            self._queue.popleft()[0].fail(error)

    def end(self) -> None:
        """The feeder stops."""
        error = WebSocketConnectionError("the feeder is stopping")
        if self._open is not None:
            self._refuse(error)
        while self._queue:
            self._queue.popleft()[0].fail(error)

    def _refuse(self, error: ShmfeedError) -> None:
        asking, self._open, self._asked = self._open, None, None
        if asking is not None:
            command, want, before = asking
            self._wants.take_back(command.request.manager, want, before)
            command.fail(error)

    def _go_on(self) -> None:
        while self._asked is None and self._queue:
            self._ask(*self._queue.popleft())
        if self._asked is None and self._left:
            self._left = False
            union = self._wants.union()
            if set(union) != set(self.fed):
                self._asked = union
                self._line.change(union)

    def _ask(self, command: Command, streams: Streams) -> None:
        manager = command.request.manager
        before = self._wants.get(manager)
        want = self._wants.put(manager, command.request.pid, streams)
        union = self._wants.union()
        try:
            self._admit(union)
        except ShmfeedError as error:
            self._wants.take_back(manager, want, before)
            command.fail(error)
            return
        if set(union) == set(self.fed):
            command.finish(streams=len(union))
            return
        self._open = command, want, before
        self._asked = union
        self._line.change(union)
