"""A follower's link to an engine: the thread that joins, follows and asks.

The thread alone uses the engine, whose calls block. It hands over what it gets in order
and wakes the main loop. Where the main loop is slow, the thread waits for it, and the
engine's log keeps the flushes.

    join -> rings -> follow, follow, .. -> lost -> wait -> join
"""

import logging
import queue
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import NamedTuple

from shmfeed.errors import ShmfeedError
from shmfeed.identity import FeedIdentity
from shmfeed.memory.words import boot_ns
from shmfeed.relay.engine import (
    Answer,
    Engine,
    EngineAwayError,
    EngineRefusedError,
    Entry,
    Joined,
    MustJoinError,
    Position,
    Request,
)
from shmfeed.relay.flush import Catalog, Head, RowsOfStreams
from shmfeed.settings.model import Settings
from shmfeed.wire.backoff import equal_jitter
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.events import Streams

OpenEngine = Callable[[Settings, str], Engine]
log = logging.getLogger(__name__)

FOLLOW_SECONDS = 0.25  # for which one call waits for an entry
ASK_SECONDS = 1.0  # between two tellings of a request that the leader has answered
MOST_DELAY = 5.0  # s between two attempts: no venue counts them
MOST_WAITING = 64  # items that the main loop has not taken
_END_SECONDS = 2.0


class LinkJoined(NamedTuple):
    """The state of the feed, before its rings; `at` is when it came, as below."""

    joined: Joined
    at: int
    address: str


class LinkRows(NamedTuple):
    """A piece of the rings; the rows' numbers are places in `streams`."""

    rows: RowsOfStreams
    streams: Streams


class LinkCurrent(NamedTuple):
    """All rings have come."""


class LinkFilled(NamedTuple):
    """All rows of these streams have come, as `fill` has asked."""

    streams: Streams


class LinkEntries(NamedTuple):
    """Flushes in order, and when they came: CLOCK_BOOTTIME ns."""

    entries: list[Entry]
    at: int


class LinkAnswer(NamedTuple):
    """The leader's answer about these streams."""

    streams: Streams
    answer: Answer


class LinkLost(NamedTuple):
    """The end of the link, or of an attempt to join.

    `joins_again` is True if the engine is there and only the position was lost. The
    next attempt comes at `next_at`, in seconds of CLOCK_BOOTTIME. `is_refused` is True
    if it is not expected to help.
    """

    reason: str
    address: str
    joins_again: bool = False
    is_refused: bool = False
    next_at: float = 0.0


LinkItem = (
    LinkJoined
    | LinkRows
    | LinkCurrent
    | LinkFilled
    | LinkEntries
    | LinkAnswer
    | LinkLost
)


class _MustReopenError(Exception):
    """The present engine is to be left, for this reason."""


class FollowerLink:
    """The link of one follower. The main loop calls its methods.

    Attributes:
        settings: The settings in force; may be replaced at any time.
    """

    def __init__(
        self,
        open_engine: OpenEngine,
        addresses: Sequence[str],
        settings: Settings,
        identity: FeedIdentity,
        follower: str,
        wake: Callable[[], None],
        rng: random.Random | None = None,
    ) -> None:
        """Take the parts; nothing is asked before `start`.

        Args:
            open_engine: Returns the engine at an address, by the settings in force.
            addresses: Those to try in turn.
            settings: The delays between attempts, and the way to the engine.
            identity: The identity that the leader must have.
            follower: This follower's name: host:pid.
            wake: Called by the thread when there is something to take.
            rng: The source of random delays.
        """
        self.settings = settings
        self._open_engine = open_engine
        self._addresses = deque(addresses)
        self._identity = identity
        self._follower = follower
        self._wake = wake
        self._rng = rng or random.Random()  # noqa: S311 - it spreads load, no secrets
        self._items: queue.Queue[LinkItem] = queue.Queue(MOST_WAITING)
        self._handed = self._taken = 0  # entries
        self._stopping = False
        self._reopen_reason = ""  # for which the present engine is to be left
        self._history = 0  # of the leader's rings
        self._to_fill: deque[Streams] = deque()
        self._poke = threading.Event()  # ends the wait before an attempt
        self._asked: Streams = ()
        self._told: Streams = ()  # as of the last request
        self._answered: Answer | None = None
        self._ask_at = 0.0
        self._failures = 0
        self._has_followed = False  # entries have come since the join
        self._thread = threading.Thread(
            target=self._run, name="shmfeed-link", daemon=True
        )

    def start(self) -> None:
        """Begin to join."""
        self._thread.start()

    def stop(self) -> None:
        """End soon. Any thread may call it."""
        self._stopping = True
        self._poke.set()

    def close(self) -> None:
        """End the thread, and wait for that unless the engine holds it."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)

    def ask(self, streams: Streams) -> None:
        """Ask the leader for these streams from now on; () for none."""
        self._asked, self._answered = streams, None
        self._ask_at = 0.0

    def fill(self, streams: Streams) -> None:
        """Bring all rows of these streams, which the leader carries already."""
        self._to_fill.append(streams)

    def retry(self) -> None:
        """Make the next attempt at once."""
        self._failures = 0
        self._poke.set()

    def reopen(self, reason: str) -> None:
        """Join by another engine, which knows the settings in force."""
        self._reopen_reason = reason

    @property
    def behind(self) -> int:
        """The entries that were handed over and not taken yet."""
        return self._handed - self._taken

    def take(self) -> LinkItem | None:
        """Return the oldest item that was handed over, None without one."""
        try:
            item = self._items.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, LinkEntries):
            self._taken += len(item.entries)
        return item

    # The thread

    def _run(self) -> None:
        while not self._stopping:
            self._attempt()

    def _attempt(self) -> None:
        """Follow until the engine is away; wait as long as the reason asks for."""
        try:
            # A password may have changed, or another host have the name.
            with closing(self._open_engine(self.settings, self._address)) as engine:
                while not self._stopping:
                    self._join_and_follow(engine)
        except _MustReopenError as error:
            self._lose(str(error), 0.0, joins_again=True)
            return
        except EngineAwayError as error:
            self._lose(str(error), self._first_delay())
        except ShmfeedError as error:
            self._lose(str(error), MOST_DELAY, is_refused=True)
        except Exception as error:  # a bug here must not end the link for ever
            log.exception("the link to the leader failed")
            self._lose(f"the link failed: {error!r}", MOST_DELAY)
        self._addresses.rotate(-1)

    def _join_and_follow(self, engine: Engine) -> None:
        try:
            position = self._join(engine)
            while not self._stopping:
                position = self._follow(engine, position)
        except MustJoinError as error:
            self._lose(str(error), self._first_delay(), joins_again=True)

    def _join(self, engine: Engine) -> Position:
        self._to_fill.clear()  # all rows come
        joined, at = engine.join(), boot_ns()
        self._check(joined.head)
        self._hand(LinkJoined(joined, at, self._address))
        self._history = joined.catalog.history
        self._read_rings(engine, joined.catalog)
        self._hand(LinkCurrent())
        self._has_followed = False
        self._ask_at = 0.0
        return joined.position

    def _read_rings(self, engine: Engine, catalog: Catalog) -> None:
        for rows in engine.rings(catalog):
            if self._stopping:
                break
            self._hand(LinkRows(rows, catalog.streams))

    def _follow(self, engine: Engine, position: Position) -> Position:
        if self._reopen_reason:
            reason, self._reopen_reason = self._reopen_reason, ""
            raise _MustReopenError(reason)
        if self._asked or self._told:
            self._request(engine)
        to_fill = len(self._to_fill)
        entries, at = engine.follow(position, FOLLOW_SECONDS), boot_ns()
        if not entries:
            return position
        for entry in entries:
            if entry.flush.head is not None:
                self._check(entry.flush.head)
        for _ in range(to_fill):
            self._fill(engine, self._to_fill.popleft())
        self._has_followed, self._failures = True, 0
        self._handed += len(entries)
        self._hand(LinkEntries(entries, at))
        return entries[-1].position

    def _fill(self, engine: Engine, streams: Streams) -> None:
        """Hand over all rows of streams, before the entries that have just come.

        A leader writes an entry, then its rows to the rings, then the next entry. So
        the rings have the rows of all entries that were handed over.
        """
        self._read_rings(engine, Catalog(streams, self._history))
        self._hand(LinkFilled(streams))

    def _request(self, engine: Engine) -> None:
        now, asked = boot_seconds(), self._asked
        if now < self._ask_at:
            return
        if asked != self._told:
            self._answered = None
        answer = engine.request(Request(self._follower, asked))
        self._told = asked
        if answer is None:
            return  # asked again at the next turn
        self._ask_at = now + ASK_SECONDS
        if answer != self._answered:
            self._answered = answer
            self._hand(LinkAnswer(asked, answer))

    def _check(self, head: Head) -> None:
        """Raise EngineRefusedError for a leader of another identity."""
        if not head.identity.matches(self._identity):
            raise EngineRefusedError(
                f"the leader {head.leader} has the identity {head.identity}, and this"
                f" feed holds bars of {self._identity}: follow another name, use"
                " another feed name, or restart this feeder with --replace, which drops"
                " those bars"
            )

    @property
    def _address(self) -> str:
        return self._addresses[0]

    def _first_delay(self) -> float:
        """Return the wait after a loss: none if the link has brought entries."""
        if self._has_followed:
            self._has_followed = False
            return 0.0
        return self._delay()

    def _delay(self) -> float:
        base = self.settings.reconnect_delay_base
        most = min(MOST_DELAY, self.settings.reconnect_delay_max)
        self._failures += 1
        return equal_jitter(self._rng, base, most, self._failures - 1)

    def _lose(self, reason: str, delay: float, **how: bool) -> None:
        self._poke.clear()
        next_at = boot_seconds() + delay
        self._hand(LinkLost(reason, self._address, next_at=next_at, **how))
        if not self._stopping:
            self._poke.wait(delay)

    def _hand(self, item: LinkItem) -> None:
        while not self._stopping:
            try:
                self._items.put(item, timeout=FOLLOW_SECONDS)
            except queue.Full:
                continue
            self._wake()
            return
